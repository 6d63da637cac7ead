"""SQLite's and the operating system's errors, made `JobDiskError`, `JournalBusyError` and `JobCorruptError`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engagement_async.errors import JobCorruptError, JobDiskError

__all__ = ["JournalBusyError", "JournalMovedError", "corrupt_error", "disk_errors", "sqlite_errors"]

_DISK = {
    sqlite3.SQLITE_FULL: "no space is left: make room, and run it again",
    sqlite3.SQLITE_READONLY: "it is read-only for this user: let it be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: let this user read and write it",
    sqlite3.SQLITE_PERM: "it cannot be opened: let this user read and write it",
    sqlite3.SQLITE_IOERR: "the disk failed: full, over a quota, or broken",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
_MOVED = 1032
"""SQLITE_READONLY_DBMOVED, which the module names from Python 3.11 on some SQLites alone."""


class JournalBusyError(JobDiskError):
    """Another process reads the journal in a transaction of its own: a write must wait for it."""


class JournalMovedError(JobDiskError):
    """The journal's file was moved or removed while it was open: what is written to it is lost."""


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as ours, by their code."""
    try:
        yield
    except sqlite3.Error as error:
        raise _error_of(error, path) from None
    except UnicodeDecodeError:  # the text of an error that quotes what is damaged
        raise corrupt_error(path, "what it holds is no text") from None


def _error_of(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None  # the upper bits only say more exactly what failed
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalBusyError(f"{path}: another process holds the journal for too long: end it ({error})")
    if code == _MOVED:
        return JournalMovedError(f"{path}: was moved or removed while it was open: run it again where it is now")
    if primary == sqlite3.SQLITE_READONLY and code == primary and os.access(path, os.W_OK):
        return corrupt_error(path, "its header forbids to write")
    if primary in _DISK:
        return JobDiskError(f"{path}: {_DISK[primary]} ({error})")
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.NotSupportedError)):
        return error  # wrong use of the library is a bug of ours, not damage
    if isinstance(error, sqlite3.DatabaseError):
        return corrupt_error(path, str(error))
    return error


def corrupt_error(path: Path, what: str) -> JobCorruptError:
    """Return the error of a journal that is not as it was written."""
    return JobCorruptError(
        f"{path}: the journal is damaged: {what}. `engagement backfill verify --repair` saves what is intact"
    )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise the operating system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise JobDiskError(f"{error.filename or path}: {error.strerror or error}") from None
