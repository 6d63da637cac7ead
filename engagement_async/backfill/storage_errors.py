"""SQLite's and the operating system's errors, made `JobDiskError` and `JobCorruptError`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engagement_async.errors import JobCorruptError, JobDiskError

__all__ = ["disk_errors", "sqlite_errors"]

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK = {
    sqlite3.SQLITE_FULL: "no space is left: make room, and run it again",
    sqlite3.SQLITE_READONLY: "it is read-only for this user: let it be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: let this user read and write it",
    sqlite3.SQLITE_PERM: "it cannot be opened: let this user read and write it",
    sqlite3.SQLITE_IOERR: "the disk failed: full, over a quota, or broken",
    sqlite3.SQLITE_BUSY: "another process holds its lock for too long",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """SQLite's errors made ours, by their code."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None  # the upper bits only say more exactly what failed
        if primary in _DISK:
            raise JobDiskError(f"{path}: {_DISK[primary]} ({error})") from None
        if primary in _CORRUPT or (isinstance(error, sqlite3.DatabaseError) and not _is_ours(error)):
            raise JobCorruptError(f"{path}: the journal is damaged: {error}") from None
        raise


def _is_ours(error: sqlite3.Error) -> bool:
    """Wrong use of the library is a bug of ours, not damage."""
    return isinstance(error, (sqlite3.ProgrammingError, sqlite3.NotSupportedError))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """The operating system's errors made ours."""
    try:
        yield
    except OSError as error:
        raise JobDiskError(f"{error.filename or path}: {error.strerror or error}") from None
