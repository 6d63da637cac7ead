"""The command `engagement`: its entry point and nothing else, so that it can say which extra is missing."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line of this process and exit with one of the codes of `engagement_async.cli.exit_codes`."""
    if sys.platform == "win32":
        _refuse("this command runs on Linux and macOS; on Windows use WSL, the Windows Subsystem for Linux")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `run` handles it: Ctrl-C makes no traceback of imports
    from engagement_async.cli.streams import finish_streams, prepare_streams

    prepare_streams()
    try:
        from engagement_async.cli.app import run
        from engagement_async.cli.exit_codes import RESOURCE
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        _refuse("the command line needs an extra: pip install 'engagement-async[cli]'")
    sys.exit(finish_streams(run(sys.argv[1:]), RESOURCE))


def _refuse(why: str) -> NoReturn:
    sys.stderr.write(f"engagement: {why}\n")
    sys.exit(2)
