"""Exit codes: what a scheduler may act on, and which error means which. Pure."""

from __future__ import annotations

import errno
import traceback
from typing import Final

from engagement_async.errors import AuthError, EngagementError, RequestRefusedError, ServerRefusedError, UsageError

__all__ = [
    "BROKEN_PIPE",
    "BUG",
    "CORRUPT",
    "CREDENTIALS",
    "HANGUP",
    "INCOMPLETE",
    "INTERRUPTED",
    "LOCKED",
    "OK",
    "OTHER_JOB",
    "RESOURCE",
    "SOME_FAILED",
    "TERMINATED",
    "USAGE",
    "CommandError",
    "Interrupted",
    "exit_code_of",
    "message_of",
]

OK: Final = 0
"""All IDs are accounted for."""
BUG: Final = 1
USAGE: Final = 2
"""Usage, input or configuration: nothing was asked, or the API refuses the request itself."""
SOME_FAILED: Final = 3
"""Done, but some IDs failed or some lines were no IDs; they are listed."""
CREDENTIALS: Final = 4
INCOMPLETE: Final = 5
"""Stopped before the end; resume it."""
RESOURCE: Final = 6
"""Disk, memory or another resource of this machine."""
LOCKED: Final = 11
OTHER_JOB: Final = 12
CORRUPT: Final = 13
HANGUP: Final = 129
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""Who read the output went away: as a shell reports SIGPIPE."""
TERMINATED: Final = 143


class CommandError(Exception):
    """A command cannot go on: its text is for the user, its code for the scheduler."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """A signal came. Whoever lets it through has put everything away and told what was done."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error means."""
    match error:
        case CommandError() | Interrupted():
            return error.exit_code
        case KeyboardInterrupt():
            return INTERRUPTED
        case AuthError():
            return CREDENTIALS
        case UsageError() | RequestRefusedError() | ServerRefusedError():
            return USAGE
        case EngagementError():
            return INCOMPLETE
        case BrokenPipeError():
            return BROKEN_PIPE
        case OSError() | MemoryError():
            return RESOURCE
        case _:
            return BUG


def message_of(error: BaseException) -> str:
    """What to tell the user: never a traceback, and of an unforeseen error never its text, which may hold anything."""
    match error:
        case CommandError() | EngagementError():
            return str(error)
        case KeyboardInterrupt() | Interrupted():
            return "interrupted"
        case OSError():
            where = f"{error.filename}: " if error.filename is not None else ""
            mend = ": make room and run it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            return f"{where}{error.strerror or type(error).__name__}{mend}"
        case MemoryError():
            return "out of memory: ask fewer IDs at once"
        case _:
            frames = traceback.extract_tb(error.__traceback__)
            where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
            return (
                f"this is a bug: {type(error).__name__}{where}. Please report it with the command that you gave; "
                "ENGAGEMENT_DEBUG=1 shows the traceback"
            )
