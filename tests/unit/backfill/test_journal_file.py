"""The journal's file: transactions are whole, rows are checked, and what was killed is rolled back by whoever reads."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engagement_async.backfill.journal_file import JournalFile
from engagement_async.errors import JobCorruptError, JobDiskError


def made(path: Path) -> JournalFile:
    """Return a file with one document and one batch, opened for writing."""
    file = JournalFile.create(path.with_name("starting.sqlite"))
    file.put_document("format", {"schema": file.schema})
    file.add_batches([(0, [1, 2, 3], None)])
    file.publish(path)
    return JournalFile.open(path, read_only=False)


def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    file = made(tmp_path / "journal.sqlite")
    file.close()

    assert (tmp_path / "journal.sqlite").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["journal.sqlite"]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "starting.sqlite").touch()

    with pytest.raises(JobDiskError, match="exists"):
        JournalFile.create(tmp_path / "starting.sqlite")


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    file = made(tmp_path / "journal.sqlite")

    def broken() -> None:
        with file.writing():
            file.put_document("a", 1)
            file.drop_parts(0, 9)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert file.document("a") is None
    with file.writing():
        file.put_document("a", 1)
    file.close()
    with closing(JournalFile.open(tmp_path / "journal.sqlite", read_only=True)) as again:
        assert again.document("a") == 1


def test_a_row_that_was_changed_is_told_with_its_place(tmp_path: Path) -> None:
    file = made(tmp_path / "journal.sqlite")
    file.connection.execute("UPDATE batch SET ids = zeroblob(24)")
    with pytest.raises(JobCorruptError, match="checksum of batch 0"):
        file.batch(0)
    with pytest.raises(JobCorruptError, match="answer 0 is missing"):
        file.answer("answer", 0)
    file.close()


def test_a_reader_needs_no_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "journal.sqlite").close()
    monkeypatch.setattr("os.access", lambda *_: False)  # to root, whom no mode keeps out, too
    with closing(JournalFile.open(tmp_path / "journal.sqlite", read_only=True)) as file:
        assert file.batch_range() == (1, 0, 0)
        with pytest.raises(JobDiskError, match="read-only"):
            file.put_document("a", 1)


def test_a_transaction_that_was_killed_is_rolled_back_by_the_next_who_reads(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    file = made(path)
    before = path.read_bytes()
    file.connection.execute("PRAGMA cache_size=1")  # so that pages spill into the file before the commit
    file.connection.execute("BEGIN IMMEDIATE")
    for number in range(200):
        file.put_document(f"a {number}", "x" * 3000)
    pages, journal = path.read_bytes(), path.with_name("journal.sqlite-journal").read_bytes()
    file.connection.execute("ROLLBACK")
    file.close()
    assert pages != before
    path.write_bytes(pages)  # as a kill at that moment had left both
    path.with_name("journal.sqlite-journal").write_bytes(journal)
    with closing(JournalFile.open(path, read_only=True)) as again:
        assert again.document("a 0") is None
        assert again.batch(0).tweet_ids == ("1", "2", "3")


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(JobCorruptError, match="not a database"):
        JournalFile.open(tmp_path / "journal.sqlite", read_only=True)


def test_who_reads_for_long_is_told_as_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_async.backfill.journal_file._BUSY_S", 0.01)
    file = made(tmp_path / "journal.sqlite")
    reader = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM document").fetchall()

    def write() -> None:
        with file.writing():
            file.put_document("a", 1)

    with pytest.raises(JobDiskError, match="holds the journal for too long"):
        write()
    reader.close()
    write()
    assert file.document("a") == 1
    file.close()
