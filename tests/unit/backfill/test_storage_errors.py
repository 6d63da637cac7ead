"""Errors of SQLite and of the disk become the two that a job knows; wrong use of a library stays what it is."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from engagement_async.backfill import JobCorruptError, JobDiskError
from engagement_async.backfill.storage_errors import disk_errors, sqlite_errors

JOURNAL = Path("job/journal.sqlite")


def of_sqlite(code: int | None, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    error = kind("its own words")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (sqlite3.SQLITE_FULL, "make room"),
        (sqlite3.SQLITE_READONLY, "let it be written to"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "let it be written to"),
        (sqlite3.SQLITE_CANTOPEN, "let this user read and write it"),
        (sqlite3.SQLITE_PERM, "let this user read and write it"),
        (sqlite3.SQLITE_IOERR_WRITE, "the disk failed"),
        (sqlite3.SQLITE_BUSY, "another process holds the journal for too long"),
        (sqlite3.SQLITE_NOMEM, "no memory"),
    ],
)
def test_a_disk_that_fails_says_what_to_do(code: int, fix: str) -> None:
    with pytest.raises(JobDiskError, match=rf"job/journal.sqlite: .*{fix}.*\(its own words\)"), sqlite_errors(JOURNAL):
        raise of_sqlite(code)


@pytest.mark.parametrize(
    "error",
    [
        of_sqlite(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError),
        of_sqlite(sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.DatabaseError),
        of_sqlite(sqlite3.SQLITE_NOTADB, sqlite3.DatabaseError),
        of_sqlite(sqlite3.SQLITE_CONSTRAINT, sqlite3.IntegrityError),
        of_sqlite(None, sqlite3.DatabaseError),
    ],
)
def test_anything_else_of_the_database_is_damage(error: sqlite3.Error) -> None:
    with pytest.raises(JobCorruptError, match=r"job/journal\.sqlite: the journal is damaged"), sqlite_errors(JOURNAL):
        raise error


@pytest.mark.parametrize("kind", [sqlite3.ProgrammingError, sqlite3.NotSupportedError])
def test_wrong_use_of_the_library_is_no_damage(kind: type[sqlite3.Error]) -> None:
    with pytest.raises(kind), sqlite_errors(JOURNAL):
        raise of_sqlite(None, kind)


def test_the_operating_systems_errors_name_their_file() -> None:
    with pytest.raises(JobDiskError, match=r"other\.csv: No space left"), disk_errors(JOURNAL):
        raise OSError(errno.ENOSPC, "No space left on device", "other.csv")
    with pytest.raises(JobDiskError, match=r"journal.sqlite: Input/output"), disk_errors(JOURNAL):
        raise OSError(errno.EIO, "Input/output error")
