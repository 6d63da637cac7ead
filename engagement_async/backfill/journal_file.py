"""The journal's SQLite file: opening, its header, transactions, and its rows, each checked when it is read.

All SQL is here. What the rows add up to is known by `journal.Journal`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from engagement_async._core.batches import Batch
from engagement_async._export.files import publish
from engagement_async.backfill.codec import EncodedAnswer
from engagement_async.backfill.journal_rows import (
    ANSWER_COLUMNS,
    APPLICATION_ID,
    COUNT_COLUMNS,
    OLDER_SCHEMA,
    OWNED,
    SCHEMA,
    SCHEMA_OWNED,
    TABLES,
    WITHOUT_RESPONSES,
    DamagedRowError,
    answer_row,
    batch_row,
    document_row,
    read_answer,
    read_batch,
    read_document,
)
from engagement_async.backfill.storage_errors import corrupt_error, disk_errors, sqlite_errors
from engagement_async.errors import JobCorruptError, OtherJobError

__all__ = ["JournalFile"]

_BUSY_S = 5.0
_QUICK_CHECK_BYTES = 2**28


class JournalFile:
    """An open file, used by one thread at a time. Its errors are `JobError`s."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, schema: int = SCHEMA) -> None:
        self.path = path
        self.connection = connection
        self.schema = schema
        """The version of its tables."""

    @property
    def has_owners(self) -> bool:
        """Whether each batch has an owner."""
        return self.schema in OWNED

    @property
    def keeps_responses(self) -> bool:
        """Whether an answer may have its response."""
        return self.schema not in WITHOUT_RESPONSES

    @property
    def _batch_columns(self) -> tuple[str, ...]:
        columns = "batch.number", "batch.ids", "batch.sha256"
        return (*columns, "batch.owner") if self.has_owners else columns

    @property
    def _answer_columns(self) -> str:
        return f"{ANSWER_COLUMNS}, response" if self.keeps_responses else ANSWER_COLUMNS

    # --- opening and closing ---

    @classmethod
    def create(cls, path: Path, *, has_owners: bool = False) -> Self:
        """Make a file with empty tables, in a transaction that `publish` commits."""
        with disk_errors(path):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        file = cls(path, _connect(path, "rw"), schema=SCHEMA_OWNED if has_owners else SCHEMA)
        with file.errors():
            # Nothing is lost when this ends early: the job was not started.
            file.connection.executescript("PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
            header = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={file.schema};"
            file.connection.executescript(f"{header}{TABLES[file.schema]}")
            file.connection.execute("BEGIN")
        return file

    @classmethod
    def open(cls, path: Path, *, read_only: bool) -> Self:
        """Open a file, and check its header; before it is written to, its pages too.

        Even a reader opens it for writing where it may: after a crash, what was half-written must be rolled back.
        """
        mode = "ro" if read_only and not os.access(path, os.W_OK) else "rw"
        file = cls(path, _connect(path, mode))
        try:
            with file.errors():
                file._check_header()
                if not read_only:
                    file.connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
                    file.connection.execute("PRAGMA synchronous=FULL")
                    file._check_pages()
        except BaseException:
            file.close()
            raise
        return file

    def publish(self, target: Path) -> None:
        """Commit, close, and make it the file at that path, whole on the disk."""
        with self.errors():
            self.connection.execute("COMMIT")
            self.connection.close()
        with disk_errors(target):
            publish(self.path, target)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _check_header(self) -> None:
        with self.reading():
            application, version = self._pragma("application_id"), self._pragma("user_version")
            size = self._pragma("page_size") * self._pragma("page_count")
            held = self.path.stat().st_size
            if not held or size != held:
                raise DamagedRowError(f"it is cut: {held:,} bytes of {size:,} are there")
            schema = self._schema()
            if application == APPLICATION_ID and version in TABLES and schema in (None, version):
                self.schema = version
                return
        # What the header says may be a flipped bit; what a checksum covers is not.
        if schema in TABLES or (schema is None and application == APPLICATION_ID):
            raise self.corrupt("its header is not as it was written")
        if schema is None:
            raise OtherJobError(f"{self.path}: is a database of something else: name another folder")
        if schema > SCHEMA_OWNED:
            raise OtherJobError(
                f"{self.path}: was made by a newer version (schema {schema}, this one reads {SCHEMA_OWNED}): upgrade"
            )
        raise OtherJobError(
            f"{self.path}: was made by an older version (schema {schema}, this one reads {OLDER_SCHEMA} and later): "
            "finish and export it with the version that started it"
        )

    def _schema(self) -> int | None:
        """Return the schema that the journal was made with; None when it does not say."""
        try:
            value = self.document("format")
            return None if value is None else int(value["schema"])
        except (JobCorruptError, KeyError, TypeError, ValueError):
            return None

    def _check_pages(self) -> None:
        """Look for damage that a write would spread, as long as that takes no second."""
        if self.path.stat().st_size <= _QUICK_CHECK_BYTES:
            found = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise DamagedRowError(found)

    def check_all_pages(self) -> None:
        """Raise `JobCorruptError` if SQLite finds anything wrong in the whole file."""
        with self.errors():
            found = self.connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise DamagedRowError(found)

    def _pragma(self, name: str) -> int:
        value: int = self.connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    # --- errors and transactions ---

    def corrupt(self, what: str) -> JobCorruptError:
        """Return the error of a journal that is not as it was written."""
        return corrupt_error(self.path, what)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise SQLite's errors, and those of damaged rows, as ours."""
        try:
            with sqlite_errors(self.path):
                yield
        except DamagedRowError as error:
            raise self.corrupt(str(error)) from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Make the reads of the block see one state."""
        with self.errors():
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Commit everything in the block, or nothing of it."""
        with self.errors():
            self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self.errors():
                self.connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
            raise

    # --- documents ---

    def document(self, name: str) -> Any:
        """Return a small JSON document; None when there is none."""
        with self.errors():
            row = self.connection.execute("SELECT name, value, sha256 FROM document WHERE name = ?", (name,)).fetchone()
            return None if row is None else read_document(row)[1]

    def documents(self) -> list[tuple[str, Any]]:
        """Return the names and values of all documents."""
        with self.errors():
            rows = self.connection.execute("SELECT name, value, sha256 FROM document").fetchall()
            return list(map(read_document, rows))

    def put_document(self, name: str, value: Any, table: str = "document") -> None:
        """Write a small JSON document."""
        with self.errors():
            self.connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", document_row(name, value))  # noqa: S608

    # --- batches ---

    def batch_range(self) -> tuple[int, int, int]:
        """Return how many batches there are, and the first and the last of their numbers: 0 and -1 of none."""
        with self.errors():
            count, first, last = self.connection.execute(
                "SELECT count(*), coalesce(min(number), 0), coalesce(max(number), -1) FROM batch"
            ).fetchone()
            return count, first, last

    def add_batches(self, batches: Iterable[tuple[int, Any, str | None]]) -> None:
        """Write batches: numbers, IDs, and owners or None."""
        rows = list(map(batch_row, batches))
        places = ", ".join("?" * len(self._batch_columns))
        with self.errors():
            self.connection.executemany(f"INSERT INTO batch VALUES ({places})", rows)  # noqa: S608

    def batch(self, number: int) -> Batch:
        """Return one batch."""
        with self.errors():
            row = self.connection.execute(
                f"SELECT {', '.join(self._batch_columns)} FROM batch WHERE number = ?",  # noqa: S608
                (number,),
            ).fetchone()
            if row is None:
                raise DamagedRowError(f"batch {number} is missing")
            return read_batch(row)

    def batches(self, first: int, end: int) -> list[Batch]:
        """Return all batches from `first` up to `end`."""
        with self.errors():
            rows = self.connection.execute(
                f"SELECT {', '.join(self._batch_columns)} FROM batch WHERE number >= ? AND number < ? ORDER BY number",  # noqa: S608
                (first, end),
            ).fetchall()
            return _whole(map(read_batch, rows), first, end)

    def batches_and_answers(self, first: int, end: int, is_wanted: bytes) -> list[tuple[Batch, EncodedAnswer | None]]:
        """Return the batches from `first` up to `end`, with the answers of those of which the byte is not 0."""
        columns = self._batch_columns
        width = len(columns)
        with self.errors():
            rows = self.connection.execute(
                f"SELECT {', '.join(columns)}, answer.* FROM batch LEFT JOIN "  # noqa: S608
                "answer ON answer.number = batch.number "
                "WHERE batch.number >= ? AND batch.number < ? ORDER BY batch.number",
                (first, end),
            ).fetchall()
            batches = _whole((read_batch(row[:width]) for row in rows), first, end)
            page: list[tuple[Batch, EncodedAnswer | None]] = []
            for batch, row in zip(batches, rows, strict=True):
                if not is_wanted[batch.number]:
                    page.append((batch, None))
                elif row[width] is None:
                    raise DamagedRowError(f"the answer to batch {batch.number} is missing")
                else:
                    page.append((batch, read_answer(row[width:])))
        return page

    def owners(self) -> Iterator[str]:
        """Yield the owners of all batches, in order."""
        with self.errors():
            for (owner,) in self.connection.execute("SELECT owner FROM batch ORDER BY number"):
                yield owner

    def counts_by_owner(self) -> list[tuple[Any, ...]]:
        """Return of each owner: name, first batch, IDs, those by outcome, and the first batch with failed ones."""
        with self.errors():
            return self.connection.execute(
                "SELECT owner, min(batch.number), sum(length(ids) / 8), ifnull(sum(answered), 0), "
                "ifnull(sum(unavailable), 0), ifnull(sum(unsupported), 0), ifnull(sum(forbidden), 0), "
                "ifnull(sum(failed), 0), min(CASE WHEN failed > 0 THEN batch.number END) "
                "FROM batch LEFT JOIN answer ON answer.number = batch.number GROUP BY owner ORDER BY 2"
            ).fetchall()

    # --- answers, and parts of answers ---

    def counts(self, table: str) -> Iterator[tuple[int, ...]]:
        """Return the `COUNT_COLUMNS` of each row, in order: to be read at once, in `errors`."""
        with self.errors():
            return self.connection.execute(f"SELECT {COUNT_COLUMNS} FROM {table} ORDER BY number")  # noqa: S608

    def settled(self, first: int, end: int) -> int:
        """Return how many batches from `first` up to `end` have an answer for all their IDs."""
        with self.errors():
            found: int = self.connection.execute(
                "SELECT count(*) FROM answer WHERE number >= ? AND number < ? AND pending = 0", (first, end)
            ).fetchone()[0]
            return found

    def answer(self, table: str, number: int) -> EncodedAnswer:
        """Return one answer, or one part."""
        with self.errors():
            row = self.connection.execute(
                f"SELECT {self._answer_columns} FROM {table} WHERE number = ?",  # noqa: S608
                (number,),
            ).fetchone()
            if row is None:
                raise DamagedRowError(f"{table} {number} is missing")
            return read_answer(row, table)

    def put_answer(self, table: str, answer: EncodedAnswer) -> None:
        """Write one answer, or one part, in the place of one that may be there."""
        columns = self._answer_columns
        row = answer_row(answer, table)
        if not self.keeps_responses:
            *row, response = row  # type: ignore[assignment]
            if response is not None:
                raise ValueError(f"{self.path}: keeps no responses")
        with self.errors():
            self.connection.execute(
                f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608
                row,
            )

    def drop_parts(self, first: int, end: int) -> None:
        """Remove the parts from `first` up to `end`."""
        with self.errors():
            self.connection.execute("DELETE FROM part WHERE number >= ? AND number < ?", (first, end))


def _whole(batches: Iterable[Batch], first: int, end: int) -> list[Batch]:
    found = list(batches)
    if [batch.number for batch in found] != list(range(first, end)):
        raise DamagedRowError(f"a batch between {first} and {end} is missing")
    return found


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    with sqlite_errors(path):
        connection = sqlite3.connect(
            address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        # A flipped bit may make a text no text: it must come as far as its checksum.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            connection.executescript("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA cache_size=-4000;")
        except BaseException:
            connection.close()
            raise
    return connection
