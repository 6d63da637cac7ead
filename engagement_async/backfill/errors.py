"""What may be wrong with a job's folder, as errors. Each is one thing that a scheduler of jobs can act on.

EngagementError
└── JobError
    ├── JobLockedError       another process runs this job
    ├── OtherJobError        the folder, its query or its IDs are not those of this job
    ├── JobCorruptError      a checksum, or SQLite itself, says that the journal is damaged
    ├── JobDiskError         full, read-only or failing disk; the job can go on once that is mended
    └── JobIncompleteError   IDs are still to be asked
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engagement_async.errors import EngagementError

__all__ = [
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "OtherJobError",
    "disk_errors",
    "sqlite_errors",
]


class JobError(EngagementError):
    """The base of every error about a job's folder."""


class JobLockedError(JobError):
    """Another process runs this job."""


class OtherJobError(JobError):
    """The folder holds something else, or a job of another query, of other IDs or of another version of the journal."""


class JobCorruptError(JobError):
    """The journal is damaged: nothing in it is to be trusted unseen."""


class JobDiskError(JobError):
    """The disk is full, read-only or failing. What was committed is safe; the job goes on once that is mended."""


class JobIncompleteError(JobError):
    """IDs are still to be asked: run the job again."""


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
