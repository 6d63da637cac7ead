"""The command `engagement`: its entry point and nothing else, so that it can say which extra is missing."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command line of this process and exits with one of the codes of `engagement_async.cli.exit_codes`."""
    try:
        from engagement_async.cli.app import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("engagement: the command line needs an extra: pip install 'engagement-async[cli]'")
    sys.exit(run(sys.argv[1:]))
