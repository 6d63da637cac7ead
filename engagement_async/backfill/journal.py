"""The journal: one SQLite file that knows all of a job. Synchronous; the job keeps it on a thread of its own.

Rules of this file. What belongs together is written in one transaction: answers, the totals over them, what was spent.
A row is checked whenever it is read (journal_rows.py). What the totals say is held against the rows, so that no row is
missed, and against the journal before each write, so that a second writer is noticed whatever its lock does. Readers
of other processes never hold a lock for longer than one page of rows. Nothing here knows of the network, and no secret
comes here.
"""

from __future__ import annotations

import os
import re
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch
from engagement_async._core.outcomes import BatchOutcomes
from engagement_async._core.query import Query
from engagement_async._core.unique_ids import UniqueIds
from engagement_async._export.files import publish
from engagement_async.backfill.codec import EncodedAnswer, decode_answer
from engagement_async.backfill.inputs import Fingerprint, SourceRecord
from engagement_async.backfill.journal_rows import (
    ANSWER_COLUMNS,
    APPLICATION_ID,
    COUNT_COLUMNS,
    SCHEMA,
    TABLES,
    DamagedRowError,
    answer_row,
    batch_row,
    document_row,
    query_document,
    read_answer,
    read_batch,
    read_document,
    read_query,
)
from engagement_async.backfill.storage_errors import corrupt_error, disk_errors, sqlite_errors
from engagement_async.backfill.totals import (
    PENDING,
    UNANSWERED,
    Audit,
    JobTotals,
    Snapshot,
    parts_of,
    state_of,
    states_of,
)
from engagement_async.errors import JobCorruptError, JobLockedError, OtherJobError

__all__ = ["Journal"]

_PAGE = 64
"""Rows that are read at once: some hundred kilobytes."""
_BUSY_S = 5.0
_QUICK_CHECK_BYTES = 2**28
_SAMPLED = 8
_ANSWERED = re.compile(rb"[\x01\x03\x05\x07]")
_UNSETTLED, _FAILED = re.compile(rb"[\x00\x05\x07]"), re.compile(rb"[\x03\x07]")
"""States of batches: see `state_of`."""


class Journal:
    """An open journal. Close it; used by one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._db = connection
        self._documents: dict[str, Any] = {}
        self._states = bytearray()
        self._parts: dict[int, dict[int, int]] = {}
        self._changed_states: dict[int, int] = {}  # by the open transaction
        self._changed_parts: dict[int, dict[int, int]] = {}
        self.query: Query
        self.spans = 1
        """Spans of at most four weeks that the query is asked in."""
        self.totals = JobTotals()
        """As of the last time that this object wrote or looked."""
        self.largest_row = 0
        """Bytes of the largest answer that this object wrote."""

    # --- opening and closing ---

    @classmethod
    def create(cls, path: Path, query: Query) -> Self:
        """Make a new journal that is not a job yet: `publish` makes it one."""
        with disk_errors(path):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        journal = cls(path, _connect(path, "rw"))
        with journal._errors():
            # Nothing is lost when this ends early: the job was not started.
            journal._db.executescript("PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
            journal._db.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA};{TABLES}")
            journal._db.execute("BEGIN")
        journal.query, journal.spans = query, len(query.spans())
        journal.put_document("query", query_document(query))
        journal.put_document("format", {"schema": SCHEMA})
        with journal._errors():  # a second copy, for without it nothing could be repaired
            row = document_row("query", query_document(query))
            journal._db.execute("INSERT INTO document_copy VALUES (?, ?, ?)", row)
        return journal

    # --- a journal made of another one's rows ---

    def restore_batches(self, batches: Iterable[Sequence[str]]) -> None:
        """Write batches into a new journal, numbered anew."""
        for number, tweet_ids in enumerate(batches):
            self._add_batches(number, array("q", map(int, tweet_ids)), max(1, len(tweet_ids)))
            self.totals = replace(self.totals, batches=number + 1, ids=self.totals.ids + len(tweet_ids))

    def restore(self, table: str, answer: EncodedAnswer) -> None:
        """Write an answer, or a part of one, into a new journal."""
        if table == "answer":
            self._replace(answer)
        else:
            self._replace_part(answer)

    def restore_rejected(self, count: int) -> None:
        """Take over how many lines of the inputs are no IDs."""
        self.totals = replace(self.totals, rejected=count, revision=self.totals.revision + 1)

    def publish(self, target: Path) -> None:
        """Make it the journal at that path, whole on the disk, and close it."""
        self.put_document("totals", self.totals.to_document())
        with self._errors():
            self._db.execute("COMMIT")
            self._db.close()
        with disk_errors(target):
            publish(self._path, target)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open a journal, checked as far as it can be at once: header, schema, documents, numbers of rows.

        Even a reader opens it for writing where it may: after a crash, what was half-written must be rolled back.
        """
        mode = "ro" if read_only and not os.access(path, os.W_OK) else "rw"
        journal = cls(path, _connect(path, mode))
        try:
            with journal._errors():
                journal._check_header()
                if not read_only:
                    journal._db.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
                    journal._db.execute("PRAGMA synchronous=FULL")
                    journal._check_pages()
            journal.refresh()
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_header(self) -> None:
        with self._read_transaction():
            application, version = self._pragma("application_id"), self._pragma("user_version")
            size = self._pragma("page_size") * self._pragma("page_count")
            held = self._path.stat().st_size
            if not held or size != held:
                raise DamagedRowError(f"it is cut: {held:,} bytes of {size:,} are there")
            if (application, version) == (APPLICATION_ID, SCHEMA):
                return
            schema = self._schema()
        # What the header says may be a flipped bit; what a checksum covers is not.
        if schema == SCHEMA or (schema is None and application == APPLICATION_ID):
            raise self._corrupt("its header is not as it was written")
        if schema is None:
            raise OtherJobError(f"{self._path}: is a database of something else: name another folder")
        if schema > SCHEMA:
            raise OtherJobError(
                f"{self._path}: was made by a newer version (schema {schema}, this one reads {SCHEMA}): upgrade"
            )
        raise OtherJobError(
            f"{self._path}: was made by an older version (schema {schema}, this one reads {SCHEMA}): finish and "
            "export it with the version that started it"
        )

    def _schema(self) -> int | None:
        """Return the schema that the journal was made with; None when it does not say."""
        try:
            row = self._db.execute("SELECT name, value, sha256 FROM document WHERE name = 'format'").fetchone()
            return int(read_document(row)[1]["schema"])
        except (sqlite3.Error, DamagedRowError, KeyError, TypeError, ValueError):
            return None

    def _check_pages(self) -> None:
        """Look for damage that a write would spread, as long as that takes no second."""
        if self._path.stat().st_size <= _QUICK_CHECK_BYTES:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise DamagedRowError(found)

    def _pragma(self, name: str) -> int:
        value: int = self._db.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    # --- what it knows as a whole ---

    def refresh(self) -> JobTotals:
        """Return the totals as they are now, held against the rows."""
        return self.snapshot().totals

    def snapshot(self) -> Snapshot:
        """Read documents, totals and the state of each batch, all of one moment, and hold them against each other."""
        with self._read_transaction():
            rows = self._db.execute("SELECT name, value, sha256 FROM document").fetchall()
            batches = self._db.execute("SELECT count(*), min(number), max(number) FROM batch").fetchone()
            answers = self._db.execute(f"SELECT {COUNT_COLUMNS} FROM answer ORDER BY number")  # noqa: S608 - a constant
            parts = self._db.execute(f"SELECT {COUNT_COLUMNS} FROM part ORDER BY number")  # noqa: S608 - a constant
            documents = dict(map(read_document, rows))
            totals = self._totals_of(documents, len(rows))
            if batches != (totals.batches, 0, totals.batches - 1):
                raise DamagedRowError(f"{totals.batches:,} batches were written, {batches[0]:,} are there")
            states = states_of(answers, totals)
            query = read_query(documents.get("query"))
            spans = len(query.spans())
            held_parts = parts_of(parts, totals, spans)
        self._documents, self._states, self._parts, self.totals = documents, states, held_parts, totals
        self.query, self.spans = query, spans
        return Snapshot(totals, bytes(states))

    def _totals_of(self, documents: dict[str, Any], rows: int) -> JobTotals:
        if "totals" not in documents:
            raise DamagedRowError("its totals are missing")
        totals = JobTotals.from_document(documents["totals"])
        if not rows == len(documents) == totals.documents:
            raise DamagedRowError(f"{totals.documents:,} documents were written, {len(documents):,} are there")
        return totals

    def document(self, name: str) -> Any:
        """Return a small JSON document; None when there is none."""
        return self._documents.get(name)

    def documents(self, prefix: str) -> list[Any]:
        """Return all documents whose names begin so, in the order of their names."""
        return [value for name, value in sorted(self._documents.items()) if name.startswith(prefix)]

    def put_document(self, name: str, value: Any) -> None:
        """Write a small JSON document. In a transaction of the caller's."""
        if name not in self._documents:
            self.totals = replace(self.totals, documents=self.totals.documents + 1)
            if name == "totals":
                value = self.totals.to_document()
        self._documents[name] = value
        with self._errors():
            self._db.execute("INSERT OR REPLACE INTO document VALUES (?, ?, ?)", document_row(name, value))

    # --- inputs ---

    def add_ids(self, chunks: Iterable[Iterable[int]], known: UniqueIds[int]) -> tuple[str, int, int]:
        """Add the IDs that `known` does not hold, as batches. In a transaction of the caller's.

        Return their fingerprint, how many were read, and how many were new.
        """
        size = self.query.endpoint.ids_per_request
        fingerprint = Fingerprint()
        waiting = array("q")
        number, new_ids = self.totals.batches, 0
        for chunk in chunks:
            waiting.extend(known.add_new(fingerprint.update(chunk)))
            full = len(waiting) // size * size
            number = self._add_batches(number, waiting[:full], size)
            new_ids += full
            del waiting[:full]
        number = self._add_batches(number, waiting, size)
        new_ids += len(waiting)
        self.totals = replace(
            self.totals, batches=number, ids=self.totals.ids + new_ids, revision=self.totals.revision + 1
        )
        return fingerprint.hexdigest(), fingerprint.ids, new_ids

    def _add_batches(self, number: int, ids: array[int], size: int) -> int:
        rows = [batch_row((number + n, ids[at : at + size])) for n, at in enumerate(range(0, len(ids), size))]
        with self._errors():
            self._db.executemany("INSERT INTO batch VALUES (?, ?, ?)", rows)
        self._states.extend(bytes(len(rows)))
        return number + len(rows)

    def add_source(self, record: SourceRecord, options: Mapping[str, Any]) -> None:
        """Remember what was read, and with which options. In a transaction of the caller's."""
        count = len(self.documents("input "))
        self.put_document(f"input {count:06}", asdict(record))
        self.put_document("options", dict(options))
        self.totals = replace(self.totals, rejected=self.totals.rejected + record.rejected)

    def sources(self) -> list[SourceRecord]:
        """Return all that was read into this job."""
        return [SourceRecord(**value) for value in self.documents("input ")]

    def known_ids(self) -> UniqueIds[int]:
        """Return all IDs of the job, to add to them."""
        known: UniqueIds[int] = UniqueIds()
        for batch in self.batches():
            known.add_new([int(i) for i in batch.tweet_ids])
        return known

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything in the block, or nothing of it; the totals go with it.

        Raise `JobLockedError` if somebody else wrote since this object last did: then neither may go on.
        """
        before = self.totals, dict(self._documents)
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            self._check_single_writer()
            yield
            self.put_document("totals", self.totals.to_document())
            with self._errors():
                self._db.execute("COMMIT")
            for number, state in self._changed_states.items():
                self._states[number] = state
            for number, spans in self._changed_parts.items():
                self._parts[number] = spans
                if not spans:
                    del self._parts[number]
        except BaseException:
            self.totals, self._documents = before
            del self._states[self.totals.batches :]
            with suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise
        finally:
            self._changed_states.clear()
            self._changed_parts.clear()

    def _check_single_writer(self) -> None:
        with self._errors():
            row = self._db.execute("SELECT name, value, sha256 FROM document WHERE name = 'totals'").fetchone()
            if row is None:
                raise DamagedRowError("its totals are missing")
            totals = JobTotals.from_document(read_document(row)[1])
        if totals != self.totals:
            raise JobLockedError(f"{self._path}: another process writes to this journal: let only one run the job")

    # --- batches and answers ---

    def write(
        self,
        answers: Sequence[EncodedAnswer],
        documents: Mapping[str, Any],
        *,
        parts: Sequence[EncodedAnswer] = (),
        finished: Iterable[int] = (),
    ) -> None:
        """Commit answers, parts of answers, and documents, in one transaction.

        An answer takes the place of one that the batch may have had; so does a part. The parts of `finished` batches
        are dropped.
        """
        with self.transaction():
            revised = completed = False
            for answer in answers:
                was_pending = bool(self._states[answer.number] & PENDING)
                had_answer = self._replace(answer)
                completed |= had_answer and was_pending
                revised |= had_answer and not was_pending
            for part in parts:
                self._replace_part(part)
            for number in finished:
                self._drop_parts(number)
            self.totals = replace(
                self.totals,
                revision=self.totals.revision + revised,
                completions=self.totals.completions + completed,
            )
            for name, value in documents.items():
                self.put_document(name, value)

    def _replace(self, answer: EncodedAnswer) -> bool:
        """Write the answer to a batch; return whether it had one."""
        number = answer.number
        had_answer = self.has_answer(number)
        totals = self.totals
        if had_answer:
            old = self._encoded("answer", number)
            totals = replace(
                totals,
                answers=totals.answers - 1,
                outcomes=totals.outcomes - old.outcomes,
                unsettled=totals.unsettled - old.pending,
                size=totals.size - old.size,
            )
        self._insert("answer", answer)
        self.totals = replace(
            totals,
            answers=totals.answers + 1,
            outcomes=totals.outcomes + answer.outcomes,
            unsettled=totals.unsettled + answer.pending,
            size=totals.size + answer.size,
        )
        if not self.query.endpoint.takes_bounds:
            self.totals = self.totals.with_windows(answer.window_starts)
        self._changed_states[number] = state_of(answer.outcomes, answer.pending)
        return had_answer

    def _replace_part(self, part: EncodedAnswer) -> None:
        number, span = divmod(part.number, self.spans)
        spans = dict(self.parts_of(number))
        totals = self.totals
        if span in spans:
            old = self._encoded("part", part.number)
            totals = replace(totals, parts=totals.parts - 1, part_size=totals.part_size - old.size)
        self._insert("part", part)
        self.totals = replace(totals, parts=totals.parts + 1, part_size=totals.part_size + part.size)
        self._changed_parts[number] = {**spans, span: part.pending}

    def _drop_parts(self, number: int) -> None:
        spans = self.parts_of(number)
        size = sum(self._encoded("part", number * self.spans + span).size for span in spans)
        first = number * self.spans
        with self._errors():
            self._db.execute("DELETE FROM part WHERE number >= ? AND number < ?", (first, first + self.spans))
        self.totals = replace(self.totals, parts=self.totals.parts - len(spans), part_size=self.totals.part_size - size)
        self._changed_parts[number] = {}

    def _insert(self, table: str, answer: EncodedAnswer) -> None:
        self.largest_row = max(self.largest_row, len(answer.body))
        with self._errors():
            self._db.execute(
                f"INSERT OR REPLACE INTO {table} ({ANSWER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                answer_row(answer, table),
            )

    def unsettled(self, after: int, count: int) -> list[int]:
        """Return the numbers of the next batches after that one in which IDs are still to be asked."""
        return self._next(_UNSETTLED, after, count)

    def failed(self, after: int, count: int) -> list[int]:
        """Return the numbers of the next batches after that one in which IDs failed."""
        return self._next(_FAILED, after, count)

    def _next(self, states: re.Pattern[bytes], after: int, count: int) -> list[int]:
        return [match.start() for match in islice(states.finditer(self._states, after + 1), count)]

    def sample_ids(self) -> list[str]:
        """Return some Tweets that were answered, then some from far apart that are still to be asked."""
        answered = [match.start() for match in islice(_ANSWERED.finditer(self._states), 2000)]
        numbers = answered[:: max(1, len(answered) // _SAMPLED)][:_SAMPLED]
        found = [i for number in numbers for i in _answered_ids(self.answer(number), self.query)[:1]]
        unsettled = [match.start() for match in islice(_UNSETTLED.finditer(self._states), 2000)]
        places = {unsettled[0], unsettled[len(unsettled) // 2], unsettled[-1]} if unsettled else set()
        found += [self.batch(number).tweet_ids[-1] for number in places]
        return list(dict.fromkeys(found))

    def has_answer(self, number: int) -> bool:
        """Whether that batch has an answer."""
        return bool(self._states[number] != UNANSWERED)

    def parts_of(self, number: int) -> Mapping[int, int]:
        """Return the spans of a batch that have a part, each with how many of its IDs are pending."""
        if number in self._changed_parts:
            return self._changed_parts[number]
        return self._parts.get(number, {})

    def part(self, number: int, span: int) -> Answer:
        """Return the answer to one span of a batch that has one."""
        return self.decode(self._encoded("part", number * self.spans + span), self.batch(number))

    def batch(self, number: int) -> Batch:
        """Return one batch."""
        with self._errors():
            row = self._db.execute("SELECT number, ids, sha256 FROM batch WHERE number = ?", (number,)).fetchone()
            if row is None:
                raise DamagedRowError(f"batch {number} is missing")
            return read_batch(row)

    def has_answers(self, first: int, end: int) -> bool:
        """Whether all batches from `first` up to `end` are answered now."""
        with self._errors():
            row = self._db.execute(
                "SELECT count(*) FROM answer WHERE number >= ? AND number < ? AND pending = 0", (first, end)
            ).fetchone()
        return int(row[0]) == end - first

    def batches(self) -> Iterator[Batch]:
        """Yield all batches in order."""
        for first in range(0, self.totals.batches, _PAGE):
            end = min(first + _PAGE, self.totals.batches)
            with self._errors():
                rows = self._db.execute(
                    "SELECT number, ids, sha256 FROM batch WHERE number >= ? AND number < ? ORDER BY number",
                    (first, end),
                ).fetchall()
                batches = _whole(map(read_batch, rows), first, end)
            yield from batches

    def answers(
        self, snapshot: Snapshot, first: int = 0, end: int | None = None
    ) -> Iterator[tuple[Batch, EncodedAnswer | None]]:
        """Yield every batch from `first` up to `end` with the answer that it had in the snapshot: a page at a time.

        Raise `JobCorruptError` for a row that is missing, and `JobLockedError` when the job was changed meanwhile.
        """
        end = snapshot.totals.batches if end is None else end
        for page in range(first, end, _PAGE):
            yield from self._page(snapshot, page, min(page + _PAGE, end))

    def _page(self, snapshot: Snapshot, first: int, end: int) -> list[tuple[Batch, EncodedAnswer | None]]:
        with self._errors():
            rows = self._db.execute(
                "SELECT batch.number, batch.ids, batch.sha256, answer.* FROM batch LEFT JOIN "
                "answer ON answer.number = batch.number "
                "WHERE batch.number >= ? AND batch.number < ? ORDER BY batch.number",
                (first, end),
            ).fetchall()
            batches = _whole((read_batch(row[:3]) for row in rows), first, end)
            page: list[tuple[Batch, EncodedAnswer | None]] = []
            for batch, row in zip(batches, rows, strict=True):
                if not snapshot.is_answered(batch.number):
                    page.append((batch, None))  # one that came meanwhile is not in the snapshot
                elif row[3] is None:
                    raise DamagedRowError(f"the answer to batch {batch.number} is missing")
                else:
                    page.append((batch, read_answer(row[3:])))
        return page

    def answer(self, number: int) -> Answer:
        """Return the answer to one batch that has one."""
        return self.decode(self._encoded("answer", number), self.batch(number))

    def decode(self, encoded: EncodedAnswer, batch: Batch) -> Answer:
        """Return the answer of its bytes."""
        try:
            return decode_answer(encoded, batch.tweet_ids)
        except ValueError as error:
            raise self._corrupt(f"the answer to batch {batch.number} cannot be read: {error}") from None

    def _encoded(self, table: str, number: int) -> EncodedAnswer:
        with self._errors():
            row = self._db.execute(f"SELECT {ANSWER_COLUMNS} FROM {table} WHERE number = ?", (number,)).fetchone()  # noqa: S608
            if row is None:
                raise DamagedRowError(f"{table} {number} is missing")
            return read_answer(row, table)

    # --- looking it over ---

    def verify(self) -> JobTotals:
        """Read everything again, checksum by checksum. Raise `JobCorruptError` with the first thing that is wrong."""
        with self._errors():
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise self._corrupt(found)
        snapshot = self.snapshot()
        audit = Audit(snapshot)
        for batch, encoded in self.answers(snapshot):
            if encoded is not None:
                self.decode(encoded, batch)
            audit.add(batch, encoded)
        self.check(audit)
        for number, spans in sorted(self._parts.items()):
            for span in spans:
                self.part(number, span)
        return snapshot.totals

    def check(self, audit: Audit) -> None:
        """Raise `JobCorruptError` if what a pass over the journal saw is not what the totals say."""
        if audit.difference is not None:
            raise self._corrupt(audit.difference)

    # --- small things ---

    def _corrupt(self, what: str) -> JobCorruptError:
        return corrupt_error(self._path, what)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with sqlite_errors(self._path):
                yield
        except DamagedRowError as error:
            raise self._corrupt(str(error)) from None

    @contextmanager
    def _read_transaction(self) -> Iterator[None]:
        """Make the reads of the block see one state."""
        with self._errors():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                if self._db.in_transaction:
                    self._db.execute("COMMIT")


def _answered_ids(answer: Answer, query: Query) -> list[str]:
    """Return the IDs that have values."""
    outcomes = BatchOutcomes.of(answer)
    out = outcomes.without_any_value(query.engagement_types).union(
        outcomes.unavailable, outcomes.forbidden, outcomes.failed
    )
    return [i for i in answer.tweet_ids if i not in out]


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
