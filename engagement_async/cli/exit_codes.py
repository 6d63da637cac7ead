"""Exit codes: what a scheduler can act on, and which error means which. Pure."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, TypeVar

from engagement_async.errors import (
    AuthError,
    EngagementError,
    ProxyError,
    RequestRefusedError,
    ServerRefusedError,
    UsageError,
)

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
    "errors_as_exit_codes",
    "exit_code_of",
    "message_of",
]

OK: Final = 0
"""All IDs are accounted for."""
BUG: Final = 1
USAGE: Final = 2
"""Usage, input or configuration: nothing was sent, or the API refuses the request itself."""
SOME_FAILED: Final = 3
"""Done, but some IDs failed or some lines were not IDs; they are listed."""
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
"""The reader of stdout closed the pipe; shells report SIGPIPE with this code."""
TERMINATED: Final = 143

_Command = TypeVar("_Command", bound=Callable[..., Any])


class CommandError(Exception):
    """A command cannot continue: its message is for the user, its code for the scheduler."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def errors_as_exit_codes(
    family: type[Exception], codes: Iterable[tuple[type[Exception], int]], *, otherwise: int
) -> Callable[[_Command], _Command]:
    """Return a decorator of commands: errors of a family become the exit code of the first class that they are of."""
    of_kinds = tuple(codes)

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return command(*args, **kwargs)
            except family as error:
                code = next((code for kind, code in of_kinds if isinstance(error, kind)), otherwise)
                raise CommandError(str(error), code) from None

        return wrapped  # type: ignore[return-value]

    return decorate


class Interrupted(BaseException):
    """A signal came. By the time this propagates, cleanup is done and the user has been informed."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    match error:
        case CommandError() | Interrupted():
            return error.exit_code
        case KeyboardInterrupt():
            return INTERRUPTED
        case AuthError():
            return CREDENTIALS
        case UsageError() | RequestRefusedError() | ServerRefusedError() | ProxyError():
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
    """Return the message for the user: no traceback, and not the text of an unforeseen error, which may contain secrets."""
    match error:
        case CommandError() | EngagementError():
            return str(error)
        case KeyboardInterrupt() | Interrupted():
            return "interrupted"
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return "this process may open no more files: raise its limit (ulimit -n 4096), or lower --concurrency"
        case OSError(errno=errno.EBADF, filename=None):
            return "stdout is closed: redirect it to a file, or name one with --output"
        case OSError():
            where = f"{error.filename}: " if error.filename is not None else ""
            fix = ": make room and run it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            return f"{where}{error.strerror or type(error).__name__}{fix}"
        case MemoryError():
            return "out of memory: request fewer IDs at once"
        case _:
            frames = traceback.extract_tb(error.__traceback__)
            where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
            return (
                f"this is a bug: {type(error).__name__}{where}. Please report it together with the command; "
                "ENGAGEMENT_DEBUG=1 shows the traceback"
            )
