"""Where IDs are read from: files, folders of parts, standard input."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from engagement_async.errors import UsageError

__all__ = ["STANDARD_INPUT", "files_of", "name_of", "open_source"]

STANDARD_INPUT = "-"
_STEP_S = 0.25
_SELECT_LIMIT = 1024
"""File descriptors from here on are too large for select()."""


def name_of(path: str | Path) -> str:
    """Return how messages call a source."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def files_of(paths: Sequence[str | Path]) -> Iterator[str | Path]:
    """Yield the files of all paths in order; a folder's in the order of their names, also those of folders within.

    Files whose names begin with `.` or `_` are no parts, as `_SUCCESS`. Raise `UsageError` for a folder without a part.
    """
    for path in paths:
        if str(path) == STANDARD_INPUT or not os.path.isdir(path):
            yield path
            continue
        is_empty = True
        for file in _parts(Path(path)):
            is_empty = False
            yield file
        if is_empty:
            raise UsageError(f"{path}: a folder without a file (names that begin with . or _ do not count)")


def _parts(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    for name in names:
        if name.startswith((".", "_")):
            continue
        path = folder / name
        if path.is_dir():
            yield from _parts(path)
        else:
            yield path


def open_source(path: str | Path, stdin: BinaryIO | None) -> AbstractContextManager[BinaryIO]:
    """Return the source's bytes, unbuffered; standard input stays open."""
    if str(path) == STANDARD_INPUT:
        return nullcontext(stdin if stdin is not None else _InterruptibleFile(0, closefd=False))
    try:
        return _InterruptibleFile(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{name_of(path)}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{path!r}: {error}") from None


class _InterruptibleFile(FileIO):
    """A file whose `read` waits for bytes in short steps, so that a signal ends the wait for a pipe that stays silent.

    CPython runs signal handlers between bytecodes. A signal that comes right before a system call is not handled until the
    call returns, and `read` may never return. See https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
    """

    def __init__(self, file: str | Path | int, *, closefd: bool = True) -> None:
        super().__init__(file, closefd=closefd)
        number = self.fileno()
        is_regular = stat.S_ISREG(os.fstat(number).st_mode)
        self._may_wait = not is_regular and number < _SELECT_LIMIT and os.name != "nt"

    def read(self, size: int | None = -1) -> bytes:
        while self._may_wait and not select.select([self], [], [], _STEP_S)[0]:
            pass
        return super().read(size)
