"""`python -m engagement_async` is the command `engagement`."""

from engagement_async.cli import main

main()
