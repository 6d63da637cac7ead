"""What SQLite and the system say, in our words."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from engagement_async.backfill.storage_errors import JournalBusyError, disk_errors, sqlite_errors
from engagement_async.errors import JobCorruptError, JobDiskError


def error(kind: type[sqlite3.Error], code: int | None, text: str = "x") -> sqlite3.Error:
    made = kind(text)
    if code is not None:
        made.sqlite_errorcode = code
    return made


@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        (error(sqlite3.OperationalError, sqlite3.SQLITE_FULL), JobDiskError, "no space is left"),
        (error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR | 3 << 8), JobDiskError, "disk failed"),
        (error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY), JournalBusyError, "another process"),
        (error(sqlite3.OperationalError, sqlite3.SQLITE_CANTOPEN), JobDiskError, "cannot be opened"),
        (error(sqlite3.OperationalError, 1032), JobDiskError, "moved or removed"),
        (error(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT), JobCorruptError, "damaged"),
        (error(sqlite3.DatabaseError, sqlite3.SQLITE_NOTADB), JobCorruptError, "damaged"),
        (error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT), JobCorruptError, "damaged"),
        (
            error(sqlite3.OperationalError, sqlite3.SQLITE_ERROR, "no such table: answer"),
            JobCorruptError,
            "no such table",
        ),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), JobCorruptError, "no text"),
        (error(sqlite3.ProgrammingError, None), sqlite3.ProgrammingError, "x"),
    ],
)
def test_errors_of_sqlite(tmp_path: Path, raised: Exception, expected: type[Exception], says: str) -> None:
    with pytest.raises(expected, match=says), sqlite_errors(tmp_path / "journal.sqlite"):
        raise raised


@pytest.mark.parametrize(("may_write", "expected"), [(True, JobCorruptError), (False, JobDiskError)])
def test_what_forbids_to_write_is_the_system_or_a_bent_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_write: bool, expected: type[Exception]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: may_write)
    with pytest.raises(expected), sqlite_errors(tmp_path):
        raise error(sqlite3.OperationalError, sqlite3.SQLITE_READONLY)


def test_errors_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(JobDiskError, match=r"x: No space left"), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "x")
    with pytest.raises(JobDiskError, match=str(tmp_path)), disk_errors(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
