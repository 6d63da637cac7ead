"""A damaged journal made whole again, out of the rows of which the checksum is right.

What cannot be read is left out: an answer is asked again, IDs must be added again. The damaged journal is kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch
from engagement_async._core.query import Query
from engagement_async.backfill.codec import EncodedAnswer, decode_answer
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.journal_rows import DamagedRowError, read_answer, read_batch, read_document, read_query
from engagement_async.backfill.responses import ResponseReader
from engagement_async.backfill.sqlite_pages import rows_of_pages
from engagement_async.backfill.storage_errors import disk_errors
from engagement_async.backfill.totals import JobTotals
from engagement_async.errors import JobCorruptError

__all__ = ["Repaired", "repair"]

_ANSWER_VALUES = 10, 11
"""Without a place for a response, and with one."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did. What is lost is counted as far as is known."""

    totals: JobTotals
    kept_as: str | None = None
    """The damaged journal's new name; None if it was not damaged."""
    lost_answers: int = 0
    """Answers that cannot be read: their IDs are pending again."""
    lost_batches: int = 0
    lost_ids: int | None = 0
    """IDs that cannot be read; None if nothing says any more how many there were."""
    lost_documents: int = 0
    """What the journal remembered of runs, inputs or options, and cannot be read."""


@dataclass(slots=True)
class _Found:
    """The rows of which the checksum is right."""

    documents: dict[str, Any] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)
    answers: dict[int, EncodedAnswer] = field(default_factory=dict)
    parts: dict[int, EncodedAnswer] = field(default_factory=dict)

    def take(self, rowid: int | None, values: tuple[Any, ...]) -> None:
        """Take a row in, if it is one of a journal and as it was written."""
        if rowid is None and len(values) == 3:
            self._take_document(values)
        elif rowid is not None and len(values) in (3, 4):
            for number in _near(rowid):
                try:
                    self.batches.setdefault(number, read_batch((number, *values[1:])))
                except DamagedRowError:
                    continue
                return
        elif rowid is not None and len(values) in _ANSWER_VALUES:
            self._take_answer(rowid, values)

    def _take_document(self, values: tuple[Any, ...]) -> None:
        try:
            name, value = read_document(values)
        except DamagedRowError:
            return
        self.documents.setdefault(name, value)

    def _take_answer(self, rowid: int, values: tuple[Any, ...]) -> None:
        for table, rows in (("answer", self.answers), ("part", self.parts)):
            for number in _near(rowid):
                try:
                    rows.setdefault(number, read_answer((number, *values[1:]), table))
                except (DamagedRowError, TypeError):
                    continue
                return

    @property
    def totals(self) -> JobTotals | None:
        """What the job had in all; None if that is damaged."""
        known = self.documents.get("totals")
        return None if known is None else JobTotals.from_document(known)

    @property
    def has_owners(self) -> bool:
        """Whether the Tweets have owners: the options remember it if no batch is left to say so."""
        if self.batches:
            return any(batch.owner is not None for batch in self.batches.values())
        return "owner_column" in (self.documents.get("options") or {})

    @property
    def inputs(self) -> list[str]:
        """The names of the documents that tell of inputs, in order."""
        return sorted(name for name in self.documents if name.startswith("input "))

    @property
    def is_whole(self) -> bool:
        """Whether it is certain that all batches were found: the last ones leave no gap among the numbers."""
        if sorted(self.batches) != list(range(len(self.batches))):
            return False
        if self.totals is not None:
            return len(self.batches) == self.totals.batches
        return self.ids_before() == sum(len(batch.tweet_ids) for batch in self.batches.values())

    def ids_before(self) -> int | None:
        """Return how many IDs the job had: by its totals, else by its inputs; None if those are damaged too."""
        if self.totals is not None:
            return self.totals.ids
        names = self.inputs
        added = sum(self.documents[name]["new_ids"] for name in names)
        has_all = bool(names) and names == [f"input {number:06}" for number in range(len(names))]
        return added if has_all and added >= sum(len(batch.tweet_ids) for batch in self.batches.values()) else None


def _near(rowid: int) -> Iterator[int]:
    """Yield the number of a row, then those that differ from it in one bit: the checksum says which it had."""
    yield rowid
    for bit in range(40):
        yield rowid ^ 1 << bit


def repair(directory: JobDirectory) -> Repaired:
    """Make the journal whole, if it is not. Raise `JobCorruptError` when not even its query can be read."""
    directory.must_exist()
    with directory.locked():
        try:
            return Repaired(directory.verify())
        except JobCorruptError:
            pass
        with disk_errors(directory.journal_path):
            data = directory.journal_path.read_bytes()
        found = _Found()
        for rowid, values in rows_of_pages(data):
            found.take(rowid, values)
        return _rebuild(directory, found)


def _rebuild(directory: JobDirectory, found: _Found) -> Repaired:
    try:
        query = read_query(found.documents.get("query"))
    except DamagedRowError:
        raise JobCorruptError(
            f"{directory.journal_path}: not even the query of the job can be read any more: restore it from a copy, or "
            "start anew"
        ) from None
    before = found.totals or JobTotals(batches=max(found.batches, default=-1) + 1)
    ids_before = found.ids_before()
    directory.discard_start()
    try:
        with Journal.create(directory.starting_path, query, has_owners=found.has_owners) as journal:
            _write(journal, found, query)
            kept_as = _free_name(directory.journal_path)
            with disk_errors(directory.journal_path):
                _keep(directory.journal_path, kept_as)
            journal.publish(directory.journal_path)
            totals = journal.totals
    except BaseException:
        directory.discard_start()
        raise
    lost_ids = None if ids_before is None else max(0, ids_before - totals.ids)
    if not lost_ids and found.totals is None:
        lost_ids = None  # an input that was added last may be gone with all of its batches
    return Repaired(
        totals,
        kept_as.name,
        lost_answers=max(0, before.answers - totals.answers),
        lost_batches=max(0, before.batches - totals.batches),
        lost_ids=lost_ids,
        lost_documents=max(0, before.documents - totals.documents),
    )


def _write(journal: Journal, found: _Found, query: Query) -> None:
    """Write what was found into a new journal. Batches move together where some are lost."""
    numbers = sorted(found.batches)
    inputs, is_whole = found.inputs, found.is_whole
    spans, reader = len(query.spans()), ResponseReader(query)
    journal.restore_batches(found.batches[number] for number in numbers)
    for new, old in enumerate(numbers):
        batch = found.batches[old]
        if old in found.answers and (answer := _readable(found.answers[old], batch, reader)) is not None:
            answer.batch_number = new
            journal.restore("answer", journal.encode(answer))
        for span in range(spans if spans > 1 else 0):
            part = found.parts.get(old * spans + span)
            if part is not None and (answer := _readable(part, batch, reader)) is not None:
                answer.batch_number = new * spans + span
                journal.restore("part", journal.encode(answer, batch.tweet_ids))
    for name, value in found.documents.items():
        if name in inputs and not is_whole:
            # What is lost must be found to be new when the same files are read again. Together they brought what is left.
            new_ids = journal.totals.ids if name == inputs[0] else 0
            value = {**value, "fingerprint": "", "files": [], "new_ids": new_ids}
        if name not in ("query", "format", "totals"):
            journal.put_document(name, value)
    journal.restore_rejected(sum(found.documents[name]["rejected"] for name in inputs))


def _readable(encoded: EncodedAnswer, batch: Batch, reader: ResponseReader) -> Answer | None:
    try:
        answer = decode_answer(encoded, batch.tweet_ids, reader.groupings)
        answer.groupings  # noqa: B018 - those of a response are read when they are wanted
    except ValueError:
        return None
    return answer if sum(encoded.outcomes) + encoded.pending == len(answer.tweet_ids) else None


def _keep(path: Path, kept_as: Path) -> None:
    """Give a file a second name, so that at no moment there is none."""
    try:
        os.link(path, kept_as)
    except OSError:  # a file system without links
        shutil.copy2(path, kept_as)


def _free_name(path: Path) -> Path:
    """Return a name beside the journal that is free."""
    for number in range(1, 1000):
        free = path.with_name(f"journal.damaged-{number}.sqlite")
        if not free.exists():
            return free
    raise JobCorruptError(f"{path}: was repaired a thousand times: remove the damaged copies beside it")
