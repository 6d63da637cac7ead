"""The journal: one SQLite file that knows all of a job. Synchronous; the job keeps it on a thread of its own.

Rules of this file. What belongs together is written in one transaction: answers, the tally over them, what was spent.
Every row carries a checksum that covers its place, and is looked at whenever the row is read. Readers of other processes
never hold a lock for longer than one page of rows. Nothing here knows of the network, and no secret comes here.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import orjson

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch
from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.query import Query
from engagement_async.backfill.codec import (
    Outcomes,
    StoredAnswer,
    checksum,
    decode_answer,
    pack_ids,
    unpack_ids,
)
from engagement_async.backfill.known_unavailable import KnownIds
from engagement_async.backfill.storage_errors import disk_errors, sqlite_errors
from engagement_async.errors import JobCorruptError, JobLockedError, OtherJobError, UsageError

__all__ = ["SCHEMA", "Folder", "Input", "Journal", "Tally", "query_document"]

SCHEMA = 1
"""Raised by every change that an older or newer reader would misread."""
_APPLICATION = 0x454E4741  # "ENGA": what `file` shows of a SQLite database
_PAGE = 64
"""Rows that are read at once: some hundred kilobytes."""
_BUSY_S = 60.0

_TABLES = """
CREATE TABLE document (name TEXT PRIMARY KEY, value BLOB NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (number INTEGER PRIMARY KEY, ids BLOB NOT NULL, sha256 BLOB NOT NULL);
CREATE TABLE answer (
    number INTEGER PRIMARY KEY, answered INTEGER NOT NULL, unavailable INTEGER NOT NULL, unsupported INTEGER NOT NULL,
    forbidden INTEGER NOT NULL, failed INTEGER NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL, body BLOB NOT NULL
);
CREATE INDEX answer_failed ON answer (number) WHERE failed > 0;
"""
_ANSWER = "number, answered, unavailable, unsupported, forbidden, failed, size, sha256, body"


@dataclass(frozen=True, slots=True)
class Tally:
    """The sums over the journal: written with what they count, so that no row can go missing unseen."""

    batches: int = 0
    ids: int = 0
    answers: int = 0
    """Batches that are answered."""
    counts: Outcomes = field(default_factory=Outcomes)
    size: int = 0
    """Bytes of all answers' JSON."""
    rejected: int = 0
    """Lines of the inputs that were no IDs."""
    revision: int = 0
    """Raised when something that was there is changed or added to, not by an answer that comes in."""

    @property
    def pending(self) -> int:
        """IDs that are still to be asked."""
        return self.ids - sum(self.counts)


@dataclass(frozen=True, slots=True)
class Input:
    """One reading of IDs: by what it is known again."""

    fingerprint: str
    """SHA-256 over the IDs as they came, duplicates and all."""
    ids_read: int
    new_ids: int
    rejected: int
    files: list[dict[str, Any]] = field(default_factory=list)
    """Name, size and times of each file, so that an unchanged one need not be read again."""


class Folder:
    """The folder of a job: `journal.sqlite`, `lock`, perhaps `rejects.jsonl`; its owner's alone."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.journal = self.path / "journal.sqlite"
        self.starting = self.path / "starting.sqlite"
        self.rejects = self.path / "rejects.jsonl"
        self._lock = self.path / "lock"
        self._ours = {file.name for file in (self.journal, self.starting, self.rejects, self._lock)}

    @property
    def is_started(self) -> bool:
        return self.journal.exists()

    def check(self) -> None:
        """Raises `UsageError` or `OtherJobError` where a job cannot be: never touches what it does not know."""
        if self.path.name in ("", "..") or self.path.parts[-1:] == ("..",):
            raise UsageError(f"{self.path}: name the job's folder itself, as jobs/totals-2026-05")
        with disk_errors(self.path):
            if self.path.is_symlink() and not self.path.exists():
                raise UsageError(f"{self.path}: is a link to nothing")
            if self.path.exists() and not self.path.is_dir():
                raise OtherJobError(f"{self.path}: is a file: a job is a folder, name another")
            others = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        others = [name for name in others if name not in self._ours and not name.endswith("-journal")]
        if others:
            raise OtherJobError(f"{self.path}: holds {others[0]!r}, which is no part of a job: name an empty folder")

    def make(self) -> None:
        """Makes the folder, mode 0700, and the folders above it."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)

    def must_exist(self) -> None:
        """Raises `UsageError` when no job was started here."""
        self.check()
        if not self.is_started:
            raise UsageError(f"{self.path}: no job was started here: `backfill run` starts one")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the job for this process. Raises `JobLockedError` when another one has it.

        flock, not lockf: POSIX locks are lost when any descriptor of the file is closed.
        """
        with disk_errors(self._lock):
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobLockedError(f"{self.path}: another process runs this job: let it finish, or stop it") from None
            yield
        finally:
            os.close(descriptor)

    @property
    def is_locked(self) -> bool:
        """Whether a process runs this job now."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def remove_unstarted(self) -> None:
        """Removes a folder in which no job began."""
        self.discard()
        with suppress(OSError):
            if not self.is_started and not self.is_locked:
                self._lock.unlink(missing_ok=True)
                self.path.rmdir()

    def discard(self) -> None:
        """Removes what a start left behind that did not come to its end."""
        for path in (self.starting, self.starting.with_name(f"{self.starting.name}-journal")):
            with suppress(OSError):
                path.unlink()


class Journal:
    """An open journal. Close it; used by one thread at a time."""

    def __init__(self, folder: Folder, path: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._path = path
        self._db = connection
        self.query: Query
        self.tally = Tally()
        """As of the last time that this object wrote or looked."""

    # --- opening and closing ---

    @classmethod
    def create(cls, folder: Folder, query: Query) -> Self:
        """A journal that is not a job yet: `publish` makes it one. What an earlier attempt left is discarded."""
        folder.discard()
        with disk_errors(folder.path):
            os.close(os.open(folder.starting, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        journal = cls(folder, folder.starting, _connect(folder.starting, "rw"))
        with journal._errors():
            # Nothing is lost when this ends early: the job was not started.
            journal._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
            journal._db.executescript(f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={SCHEMA};{_TABLES}")
            journal._db.execute("BEGIN")
        journal.query = query
        journal._write_document("query", query_document(query))
        return journal

    def publish(self) -> None:
        """Makes it the folder's journal, whole on the disk."""
        self._write_document("tally", asdict(self.tally))
        with self._errors():
            self._db.execute("COMMIT")
            self._db.close()
        with disk_errors(self.folder.path):
            for path in (self._path, self.folder.path):
                if path == self.folder.path:
                    self._path.rename(self.folder.journal)
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    @classmethod
    def open(cls, folder: Folder, *, read_only: bool = False) -> Self:
        """The folder's journal, checked as far as it can be at once: header, schema, documents, row counts.

        Even a reader opens it for writing where it may: after a crash, what was half-written must be rolled back.
        """
        path = folder.journal
        mode = "ro" if read_only and not os.access(path, os.W_OK) else "rw"
        journal = cls(folder, path, _connect(path, mode))
        try:
            with journal._errors():
                journal._check_header()
                if not read_only:
                    journal._db.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
                    journal._db.execute("PRAGMA synchronous=FULL")
            journal.query = _query_of(journal.document("query"), path)
            journal.refresh()
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_header(self) -> None:
        with self._reading():
            application, version = self._pragma("application_id"), self._pragma("user_version")
            size = self._pragma("page_size") * self._pragma("page_count")
            held = self._path.stat().st_size
        if not held or size != held:
            raise JobCorruptError(f"{self._path}: the journal is cut: {held:,} bytes of {size:,} are there")
        if application != _APPLICATION:
            raise OtherJobError(f"{self._path}: is a database of something else: name another folder")
        if version > SCHEMA:
            raise OtherJobError(
                f"{self._path}: was made by a newer version (schema {version}, this one reads {SCHEMA}): upgrade"
            )
        if version < SCHEMA:
            raise OtherJobError(
                f"{self._path}: was made by an older version (schema {version}, this one reads {SCHEMA}): finish and "
                "export it with the version that started it"
            )

    def _pragma(self, name: str) -> int:
        value: int = self._db.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    # --- documents ---

    def document(self, name: str) -> Any:
        """A small JSON document; None when there is none."""
        with self._errors():
            row = self._db.execute("SELECT value, sha256 FROM document WHERE name = ?", (name,)).fetchone()
        return None if row is None else self._opened(name, *row)

    def documents(self, prefix: str) -> list[Any]:
        """All whose names begin so, in the order of their names."""
        with self._errors():
            rows = self._db.execute(
                "SELECT name, value, sha256 FROM document WHERE name >= ? AND name < ? ORDER BY name",
                (prefix, f"{prefix}\U0010ffff"),
            ).fetchall()
        return [self._opened(*row) for row in rows]

    def _opened(self, name: str, value: bytes, digest: bytes) -> Any:
        if not isinstance(value, bytes) or checksum(name.encode(), value) != digest:
            raise self._corrupt(f"the checksum of {name!r} is wrong")
        return orjson.loads(value)

    def _write_document(self, name: str, value: Any) -> None:
        raw = orjson.dumps(value, default=tuple)  # Outcomes is a tuple of a class of its own
        with self._errors():
            self._db.execute(
                "INSERT OR REPLACE INTO document VALUES (?, ?, ?)", (name, raw, checksum(name.encode(), raw))
            )

    def refresh(self) -> Tally:
        """The tally as it is now, held against the rows."""
        with self._reading():
            value = self.document("tally")
            batches = self._db.execute("SELECT count(*), min(number), max(number) FROM batch").fetchone()
            answers, failed = self._db.execute("SELECT count(*), total(failed) FROM answer").fetchone()
        if value is None:
            raise self._corrupt("its tally is missing")
        self.tally = Tally(**{**value, "counts": Outcomes(*value["counts"])})
        if batches != (self.tally.batches, 0, self.tally.batches - 1):
            raise self._corrupt(f"{self.tally.batches:,} batches were written, {batches[0]:,} are there")
        if (answers, failed) != (self.tally.answers, self.tally.counts.failed):
            raise self._corrupt(f"{self.tally.answers:,} answers were written, {answers:,} are there")
        return self.tally

    # --- inputs ---

    def add_ids(self, chunks: Iterable[Iterable[int]], known: KnownIds) -> tuple[str, int, int]:
        """Adds the IDs that `known` does not hold, as batches. In a transaction of the caller's.

        Returns their fingerprint, how many were read, and how many were new.
        """
        size = self.query.endpoint.ids_per_request
        fingerprint = Fingerprint()
        waiting = array("q")
        before = self.tally.batches
        number, new_ids = before, 0
        for chunk in chunks:
            waiting.extend(known.add_new(fingerprint.over(chunk)))
            full = len(waiting) // size * size
            number = self._add_batches(number, waiting[:full], size)
            new_ids += full
            del waiting[:full]
        number = self._add_batches(number, waiting, size)
        new_ids += len(waiting)
        self.tally = replace(self.tally, batches=number, ids=self.tally.ids + new_ids, revision=self.tally.revision + 1)
        return fingerprint.hexdigest(), fingerprint.ids, new_ids

    def _add_batches(self, number: int, ids: array[int], size: int) -> int:
        rows = []
        for at in range(0, len(ids), size):
            packed = pack_ids(ids[at : at + size])
            rows.append((number, packed, checksum(f"batch {number}".encode(), packed)))
            number += 1
        with self._errors():
            self._db.executemany("INSERT INTO batch VALUES (?, ?, ?)", rows)
        return number

    def add_input(self, told: Input, options: Mapping[str, Any]) -> None:
        """Remembers what was read, and with which options. In a transaction of the caller's."""
        count = len(self.documents("input "))
        self._write_document(f"input {count:06}", asdict(told))
        self._write_document("options", dict(options))
        self.tally = replace(self.tally, rejected=self.tally.rejected + told.rejected)

    def inputs(self) -> list[Input]:
        """All that was read into this job."""
        return [Input(**value) for value in self.documents("input ")]

    def known_ids(self) -> KnownIds:
        """All IDs of the job, to add to them."""
        known = KnownIds()
        for batch in self.batches():
            known.add_new(map(int, batch.tweet_ids))
        return known

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in the block, or nothing of it; the tally goes with it."""
        before = self.tally
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._write_document("tally", asdict(self.tally))
            with self._errors():
                self._db.execute("COMMIT")
        except BaseException:
            self.tally = before
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise

    # --- batches and answers ---

    def write(self, answers: Sequence[StoredAnswer], documents: Mapping[str, Any]) -> None:
        """Commits answers to batches that had none, and documents, in one transaction."""
        with self.transaction():
            self._insert(answers)
            counts, size = self.tally.counts, self.tally.size
            for answer in answers:
                counts += answer.counts
                size += answer.size
            self.tally = replace(self.tally, answers=self.tally.answers + len(answers), counts=counts, size=size)
            for name, value in documents.items():
                self._write_document(name, value)

    def rewrite(self, answers: Sequence[StoredAnswer], documents: Mapping[str, Any]) -> None:
        """Commits better answers to batches that had some."""
        with self.transaction():
            counts, size = self.tally.counts, self.tally.size
            for answer in answers:
                old = self._answer(answer.number)
                counts = counts - old.counts + answer.counts
                size += answer.size - old.size
                with self._errors():
                    self._db.execute("DELETE FROM answer WHERE number = ?", (answer.number,))
            self._insert(answers)
            revision = self.tally.revision + bool(answers)
            self.tally = replace(self.tally, counts=counts, size=size, revision=revision)
            for name, value in documents.items():
                self._write_document(name, value)

    def _insert(self, answers: Sequence[StoredAnswer]) -> None:
        with self._errors():
            self._db.executemany(
                f"INSERT INTO answer ({_ANSWER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
                [(answer.number, *answer.counts, answer.size, answer.checksum, answer.body) for answer in answers],
            )

    def pending(self, after: int, count: int) -> list[Batch]:
        """The next unanswered batches after that number."""
        with self._errors():
            rows = self._db.execute(
                "SELECT number, ids, sha256 FROM batch WHERE number > ? AND NOT EXISTS "
                "(SELECT 1 FROM answer WHERE answer.number = batch.number) ORDER BY number LIMIT ?",
                (after, count),
            ).fetchall()
        return [self._batch(*row) for row in rows]

    def failed(self, after: int, count: int) -> list[Answer]:
        """The next answers after that number in which IDs failed."""
        with self._errors():
            rows = self._db.execute(
                "SELECT number FROM answer WHERE failed > 0 AND number > ? ORDER BY number LIMIT ?", (after, count)
            ).fetchall()
        return [self.answer(number) for (number,) in rows]

    def answered_before(self, end: int) -> int:
        """How many of the first batches are answered."""
        with self._errors():
            row = self._db.execute("SELECT count(*) FROM answer WHERE number < ?", (end,)).fetchone()
        return int(row[0])

    def batches(self) -> Iterator[Batch]:
        """All batches in order, none missing."""
        number = 0
        while number < self.tally.batches:
            with self._errors():
                rows = self._db.execute(
                    "SELECT number, ids, sha256 FROM batch WHERE number >= ? ORDER BY number LIMIT ?", (number, _PAGE)
                ).fetchall()
            for row in rows:
                if row[0] != number:
                    break
                yield self._batch(*row)
                number += 1
            if not rows or row[0] != number - 1:
                raise self._corrupt(f"batch {number} is missing")

    def answers(self, first: int = 0, end: int | None = None) -> Iterator[tuple[Batch, StoredAnswer | None]]:
        """Every batch from `first` up to `end` with its answer, if it has one: a page at a time, checksums looked at."""
        number = first
        end = self.tally.batches if end is None else end
        while number < end:
            upto = min(number + _PAGE, end)
            with self._errors():
                rows = self._db.execute(
                    "SELECT batch.number, batch.ids, batch.sha256, answer.* FROM batch LEFT JOIN "
                    "answer ON answer.number = batch.number "
                    "WHERE batch.number >= ? AND batch.number < ? ORDER BY batch.number",
                    (number, upto),
                ).fetchall()
            if [row[0] for row in rows] != list(range(number, upto)):
                raise self._corrupt(f"a batch between {number} and {upto} is missing")
            for row in rows:
                yield self._batch(*row[:3]), None if row[3] is None else self._stored(row[3:])
            number = upto

    def answer(self, number: int) -> Answer:
        """The answer to one batch that has one."""
        with self._errors():
            row = self._db.execute("SELECT number, ids, sha256 FROM batch WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise self._corrupt(f"batch {number} is missing")
        return self.decoded(self._answer(number), self._batch(*row))

    def decoded(self, stored: StoredAnswer, batch: Batch) -> Answer:
        """The answer of a stored one."""
        try:
            return decode_answer(stored, batch.tweet_ids)
        except ValueError as error:
            raise self._corrupt(f"the answer to batch {batch.number} cannot be read: {error}") from None

    def _answer(self, number: int) -> StoredAnswer:
        with self._errors():
            row = self._db.execute(f"SELECT {_ANSWER} FROM answer WHERE number = ?", (number,)).fetchone()  # noqa: S608
        if row is None:
            raise self._corrupt(f"the answer to batch {number} is missing")
        return self._stored(row)

    def _batch(self, number: int, packed: bytes, digest: bytes) -> Batch:
        if not isinstance(packed, bytes) or checksum(f"batch {number}".encode(), packed) != digest:
            raise self._corrupt(f"the checksum of batch {number} is wrong")
        return Batch(number, unpack_ids(packed))

    def _stored(self, row: tuple[Any, ...]) -> StoredAnswer:
        number, *counts, size, digest, body = row
        stored = StoredAnswer(number, Outcomes(*counts), size, body)
        if not isinstance(body, bytes) or stored.checksum != digest:
            raise self._corrupt(f"the checksum of the answer to batch {number} is wrong")
        return stored

    # --- looking it over ---

    def verify(self) -> Tally:
        """Reads everything again, checksum by checksum. Raises `JobCorruptError` with the first thing that is wrong."""
        with self._errors():
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise self._corrupt(found)
        tally = self.refresh()
        self.documents("")
        ids = answers = size = 0
        counts = Outcomes()
        for batch, stored in self.answers():
            ids += len(batch.tweet_ids)
            if stored is None:
                continue
            self.decoded(stored, batch)
            if sum(stored.counts) != len(batch.tweet_ids):
                raise self._corrupt(f"the outcomes of batch {batch.number} does not add up")
            answers += 1
            size += stored.size
            counts += stored.counts
        if self.refresh() == tally and (ids, answers, counts, size) != (
            tally.ids,
            tally.answers,
            tally.counts,
            tally.size,
        ):
            raise self._corrupt("the tally does not add up")
        return tally

    # --- small things ---

    def _corrupt(self, what: str) -> JobCorruptError:
        return JobCorruptError(f"{self._path}: the journal is damaged: {what}. Restore it from a copy, or start anew")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with sqlite_errors(self._path):
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Several reads of one state."""
        with self._errors():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                if self._db.in_transaction:
                    self._db.execute("COMMIT")


class Fingerprint:
    """SHA-256 over IDs as they come."""

    def __init__(self) -> None:
        from hashlib import sha256

        self._sha256 = sha256()
        self.ids = 0

    def over(self, chunk: Iterable[int]) -> array[int]:
        """Takes the IDs in, and gives them on."""
        ids = array("q", chunk)
        self._sha256.update(pack_ids(ids))
        self.ids += len(ids)
        return ids

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def file_stamp(path: str | Path) -> dict[str, Any]:
    """By what a file is known to be unchanged without being read: nobody can set its ctime."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return {"name": str(path)}
    return {"name": str(path), "size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    with sqlite_errors(path):
        connection = sqlite3.connect(
            address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.executescript("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA cache_size=-4000;")
        except BaseException:
            connection.close()
            raise
    return connection


def query_document(query: Query) -> dict[str, Any]:
    """A query as the journal keeps it, and as events show it."""
    return {
        "endpoint": query.endpoint.name,
        "engagement_types": query.engagement_types,
        "groupings": query.groupings,
        "start": query.start,
        "end": query.end,
    }


def _query_of(value: Any, path: Path) -> Query:
    if value is None:
        raise JobCorruptError(f"{path}: the journal is damaged: its query is missing")
    return Query(
        ENDPOINTS[value["endpoint"]],
        engagement_types=value["engagement_types"],
        groupings=value["groupings"],
        start=value["start"],
        end=value["end"],
    )
