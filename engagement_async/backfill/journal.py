"""The journal: one SQLite file that knows all of a job. Synchronous; the job keeps it on a thread of its own.

Rules of this file. What belongs together is written in one transaction: answers, the totals over them, what was spent.
A row is checked whenever it is read (journal_file.py). What the totals say is held against the rows, so that no row is
missed, and against the journal before each write, so that a second writer is noticed whatever its lock does. Readers
of other processes never hold a lock for longer than one page of rows. Nothing here knows of the network, and no secret
comes here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

from engagement_async._core.answer import Answer, ReceivedAnswer
from engagement_async._core.batches import AnsweredTweets, Batch, OwnedTweet
from engagement_async._core.groupings import Grouping
from engagement_async._core.outcomes import BatchOutcomes, Outcomes, is_about_credentials
from engagement_async._core.owned_batches import Claims
from engagement_async._core.query import Query
from engagement_async._core.structs import WholeAnswer
from engagement_async._core.unique_ids import UniqueIds
from engagement_async.backfill.batch_states import BatchStates
from engagement_async.backfill.codec import EncodedAnswer, decode_answer, encode_answer
from engagement_async.backfill.inputs import Fingerprint, OwnedChunk, SourceRecord
from engagement_async.backfill.journal_file import JournalFile
from engagement_async.backfill.journal_rows import DamagedRowError, query_document, read_query
from engagement_async.backfill.owner_records import PREFIX, OwnerRecord, read_owner_records
from engagement_async.backfill.owners import BatchOwners, OwnerStatus, in_turns, smallest_first
from engagement_async.backfill.responses import ResponseReader
from engagement_async.backfill.totals import Audit, JobTotals, Snapshot, parts_of, state_of, states_of
from engagement_async.errors import JobCorruptError, JobLockedError, UsageError

__all__ = ["Journal"]

_PAGE = 64
"""Rows that are read at once: some hundred kilobytes."""
_SAMPLED = 8
_BATCHES_AT_ONCE = 400
"""Batches whose IDs are remembered at once: many IDs in one go take a fifth of the time."""


class Journal:
    """An open journal. Close it; used by one thread at a time."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._documents: dict[str, Any] = {}
        self._states = BatchStates()
        self._owners: BatchOwners | None = None
        self.query: Query
        self.spans = 1
        """Spans of at most four weeks, each of which is requested apart."""
        self.totals = JobTotals()
        """As of the last time that this object wrote or looked."""
        self.largest_row = 0
        """Bytes of the largest answer that this object wrote."""

    @cached_property
    def _responses(self) -> ResponseReader:
        return ResponseReader(self.query)

    # --- opening and closing ---

    @classmethod
    def create(cls, path: Path, query: Query, *, has_owners: bool = False) -> Self:
        """Make a new journal that is not a job yet: `publish` makes it one."""
        journal = cls(JournalFile.create(path, has_owners=has_owners))
        journal.query, journal.spans = query, len(query.spans())
        document = query_document(query)
        journal.put_document("query", document)
        journal.put_document("format", {"schema": journal._file.schema})
        journal._file.put_document("query", document, "document_copy")  # without it nothing could be repaired
        return journal

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Open a journal, checked as far as it can be at once: header, schema, documents, numbers of rows."""
        journal = cls(JournalFile.open(path, read_only=read_only))
        try:
            journal.refresh()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def glance(cls, path: Path) -> Self:
        """Open a journal to read what its documents say alone: totals, query, runs. Not held against its rows: so it takes
        no longer for millions of them.
        """
        journal = cls(JournalFile.open(path, read_only=True))
        try:
            with journal._file.reading():
                documents = journal._file.documents()
                journal._documents = dict(documents)
                journal.totals = _totals_of(journal._documents, len(documents))
                journal.query = read_query(journal._documents.get("query"))
        except BaseException:
            journal.close()
            raise
        return journal

    def publish(self, target: Path) -> None:
        """Make it the journal at that path, whole on the disk, and close it."""
        self.put_document("totals", self.totals.to_document())
        self._file.publish(target)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- a journal made of another one's rows ---

    def restore_batches(self, batches: Iterable[Batch]) -> None:
        """Write batches into a new journal, numbered anew."""
        for number, (_, tweet_ids, owner) in enumerate(batches):
            self._add([(number, array("q", map(int, tweet_ids)), owner)])
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

    # --- what it knows as a whole ---

    def refresh(self) -> JobTotals:
        """Return the totals as they are now, held against the rows."""
        return self.snapshot().totals

    def snapshot(self) -> Snapshot:
        """Read documents, totals and the state of each batch, all of one moment, and hold them against each other."""
        file = self._file
        with file.reading():
            rows = file.documents()
            documents = dict(rows)
            totals = _totals_of(documents, len(rows))
            batches = file.batch_range()
            if batches != (totals.batches, 0, totals.batches - 1):
                raise DamagedRowError(f"{totals.batches:,} batches were written, {batches[0]:,} are there")
            states = states_of(file.counts("answer"), totals)
            query = read_query(documents.get("query"))
            spans = len(query.spans())
            parts = parts_of(file.counts("part"), totals, spans)
        self._documents, self._states, self.totals = documents, BatchStates(states, parts), totals
        self.query, self.spans = query, spans
        return Snapshot(totals, bytes(states))

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
        self._file.put_document(name, value)

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

    def add_owned_ids(self, chunks: Iterable[OwnedChunk], claims: Claims[int]) -> tuple[str, int, int]:
        """Add the IDs that nobody has yet by `claims`, as batches of one owner each. In a transaction of the caller's.

        An owner's IDs become a batch as soon as they fill it, and at the end. Return as `add_ids`.
        """
        size = self.query.endpoint.ids_per_request
        fingerprint = Fingerprint()
        waiting: list[array[int]] = []
        number, new_ids = self.totals.batches, 0
        for owners, ids in chunks:
            fingerprint.update(ids)
            fingerprint.update_owners(owners)
            full: list[tuple[int, array[int], str | None]] = []
            numbers = [claims.number_of(owner) for owner in owners]
            waiting += (array("q") for _ in range(len(claims.names) - len(waiting)))
            for tweet_id, owner in claims.new(ids, numbers):
                gathered = waiting[owner]
                gathered.append(tweet_id)
                new_ids += 1
                if len(gathered) == size:
                    full.append((number, gathered, claims.names[owner]))
                    waiting[owner] = array("q")
                    number += 1
            self._add(full)
        rest = [(ids, name) for ids, name in zip(waiting, claims.names, strict=False) if ids]
        self._add([(number + n, ids, name) for n, (ids, name) in enumerate(rest)])
        self.totals = replace(
            self.totals,
            batches=number + len(rest),
            ids=self.totals.ids + new_ids,
            revision=self.totals.revision + 1,
        )
        self._owners = None
        return fingerprint.hexdigest(), fingerprint.ids, new_ids

    def _add_batches(self, number: int, ids: array[int], size: int) -> int:
        batches = [(number + n, ids[at : at + size], None) for n, at in enumerate(range(0, len(ids), size))]
        self._add(batches)
        return number + len(batches)

    def _add(self, batches: Sequence[tuple[int, array[int], str | None]]) -> None:
        self._file.add_batches(batches)
        self._states.add(len(batches))

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
        batches = self.batches()
        while some := list(islice(batches, _BATCHES_AT_ONCE)):
            known.add_new([int(i) for batch in some for i in batch.tweet_ids])
        return known

    def claims(self, *, first_owner: bool) -> Claims[int]:
        """Return the owners of all IDs of the job, to add to them."""
        claims: Claims[int] = Claims(first_owner=first_owner)
        for batch in self.batches():
            owner = claims.number_of(batch.owner or "")
            claims.new(map(int, batch.tweet_ids), [owner] * len(batch.tweet_ids))
        return claims

    # --- owners ---

    @property
    def has_owners(self) -> bool:
        """Whether the Tweets have owners, so that each batch is of one."""
        return self._file.has_owners

    def owner_records(self) -> dict[str, OwnerRecord]:
        """Return what is known of owners beside their batches, by owner."""
        return read_owner_records(self.documents(PREFIX))

    def refused_owners(self) -> dict[str, int]:
        """Return the owners whose Tweets are pending because their credentials were of no use: requests that this took."""
        return {owner: its.requests for owner, its in self.owner_records().items() if its.error is not None}

    def batches_in_turns(self) -> Iterator[int]:
        """Return the batches in which IDs are still to be asked: one of each owner, then the next of each.

        Owners whose credentials were of no use come last, those first that were asked least: a run with a budget must get
        to the others, and several of them to all.
        """
        unsettled = self.unsettled(-1, self.totals.batches)
        return iter(in_turns(unsettled, self._batch_owners, weights=self.owner_weights, last=self.refused_owners()))

    @property
    def owner_weights(self) -> dict[str, int]:
        """How many batches owners have at each turn, who do not have one."""
        return self.document("weights") or {}

    def owner_weights_with(self, weights: Mapping[str, int]) -> dict[str, int]:
        """Return `owner_weights` with these in the place of the old ones of the same owners.

        Raise `UsageError` for an owner that has no Tweets in this job.
        """
        if weights and not self.has_owners:
            raise UsageError("the Tweets of this job have no owners, so owners have no weights")
        names = frozenset(self._batch_owners.names) if weights else frozenset()
        if unknown := [owner for owner in weights if owner not in names]:
            raise UsageError(f"the weight of owner {unknown[0]!r}: this job has no Tweets of an owner of that name")
        return {owner: weight for owner, weight in {**self.owner_weights, **weights}.items() if weight > 1}

    def failed_by_owner(self) -> Iterator[int]:
        """Return the batches in which IDs failed, owner by owner, those with few of them first."""
        return iter(smallest_first(self.failed(-1, self.totals.batches), self._batch_owners))

    @property
    def _batch_owners(self) -> BatchOwners:
        if self._owners is None or len(self._owners.numbers) != self.totals.batches:
            self._owners = BatchOwners(self._file.owners())
        return self._owners

    def owners(self) -> dict[str, OwnerStatus]:
        """Return what became of each owner, in the order of their first batches; nothing where there are none.

        Raise `JobCorruptError` if they do not add up to the totals of the same moment.
        """
        if not self.has_owners:
            return {}
        with self._file.reading():
            totals = JobTotals.from_document(self._file.document("totals"))
            rows = self._file.counts_by_owner()
            outcomes = [Outcomes(*row[3:8]) for row in rows]
            if (sum(row[2] for row in rows), sum(outcomes, Outcomes())) != (totals.ids, totals.outcomes):
                raise DamagedRowError("the owners of its rows do not add up to its totals")
            records = read_owner_records(v for name, v in self._file.documents() if name.startswith(PREFIX))
            owners: dict[str, OwnerStatus] = {}
            for row, its in zip(rows, outcomes, strict=True):
                requests, error = records.get(row[0], OwnerRecord())
                if row[2] == sum(its):
                    error = None  # it was of before
                if row[8] is not None:
                    error = self._credentials_error(row[8]) or error
                owners[row[0]] = OwnerStatus(row[2], its, error, requests)
            return owners

    def _credentials_error(self, number: int) -> str | None:
        failed = self.answer(number).failed_tweet_ids.values()
        return next(filter(is_about_credentials, failed), None)

    # --- writing ---

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything in the block, or nothing of it; the totals go with it.

        Raise `JobLockedError` if somebody else wrote since this object last did: then neither may go on.
        """
        before = self.totals, dict(self._documents)
        try:
            with self._file.writing():
                self._check_single_writer()
                yield
                self.put_document("totals", self.totals.to_document())
        except BaseException:
            self.totals, self._documents = before
            self._states.roll_back()
            raise
        self._states.commit()

    def _check_single_writer(self) -> None:
        value = self._file.document("totals")
        if value is None:
            raise self._file.corrupt("its totals are missing")
        if JobTotals.from_document(value) != self.totals:
            raise JobLockedError(f"{self._file.path}: another process writes to this journal: let only one run the job")

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
                was_pending = self._states.is_pending(answer.number)
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
            old = self._file.answer("answer", number)
            totals = replace(
                totals,
                answers=totals.answers - 1,
                outcomes=totals.outcomes - old.outcomes,
                unsettled=totals.unsettled - old.pending,
                size=totals.size - old.size,
            )
        self._put("answer", answer)
        self.totals = replace(
            totals,
            answers=totals.answers + 1,
            outcomes=totals.outcomes + answer.outcomes,
            unsettled=totals.unsettled + answer.pending,
            size=totals.size + answer.size,
        )
        if not self.query.endpoint.takes_bounds:
            self.totals = self.totals.with_windows(answer.window_starts)
        self._states.answered(number, state_of(answer.outcomes, answer.pending))
        return had_answer

    def _replace_part(self, part: EncodedAnswer) -> None:
        number, span = divmod(part.number, self.spans)
        spans = dict(self.parts_of(number))
        totals = self.totals
        if span in spans:
            old = self._file.answer("part", part.number)
            totals = replace(totals, parts=totals.parts - 1, part_size=totals.part_size - old.size)
        self._put("part", part)
        self.totals = replace(totals, parts=totals.parts + 1, part_size=totals.part_size + part.size)
        self._states.set_parts(number, {**spans, span: part.pending})

    def _drop_parts(self, number: int) -> None:
        spans = self.parts_of(number)
        first = number * self.spans
        size = sum(self._file.answer("part", first + span).size for span in spans)
        self._file.drop_parts(first, first + self.spans)
        self.totals = replace(self.totals, parts=self.totals.parts - len(spans), part_size=self.totals.part_size - size)
        self._states.set_parts(number, {})

    def _put(self, table: str, answer: EncodedAnswer) -> None:
        self.largest_row = max(self.largest_row, len(answer.body) + len(answer.response or b""))
        self._file.put_answer(table, answer)

    # --- batches and answers ---

    def unsettled(self, after: int, count: int) -> list[int]:
        """Return the numbers of the next batches after that one in which IDs are still to be asked."""
        return self._states.unsettled(after, count)

    def failed(self, after: int, count: int) -> list[int]:
        """Return the numbers of the next batches after that one in which IDs failed."""
        return self._states.failed(after, count)

    def sample_ids(self) -> tuple[list[AnsweredTweets], list[OwnedTweet]]:
        """Return some Tweets that were answered, and some from far apart that are still to be asked.

        The answered ones have values, unless no Tweet has.
        """
        answered, unsettled = self._states.sample(_SAMPLED)
        answers = list(map(self.answer, answered))
        answers += [self.part(number, span) for number in unsettled for span in self.parts_of(number)]
        known = [AnsweredTweets(ids, each.owner) for each in answers if (ids := _answered_ids(each, self.query))]
        if not known:
            known = [AnsweredTweets(ids, each.owner) for each in answers if (ids := _settled_ids(each))]
        others = [OwnedTweet(batch.tweet_ids[-1], batch.owner) for batch in map(self.batch, unsettled)]
        return known, others

    def has_answer(self, number: int) -> bool:
        """Whether that batch has an answer."""
        return self._states.has_answer(number)

    def has_answers(self, first: int, end: int) -> bool:
        """Whether all batches from `first` up to `end` are answered now."""
        return self._file.settled(first, end) == end - first

    def parts_of(self, number: int) -> Mapping[int, int]:
        """Return the spans of a batch that have a part, each with how many of its IDs are pending."""
        return self._states.parts_of(number)

    def part(self, number: int, span: int) -> Answer:
        """Return the answer to one span of a batch that has one."""
        return self.decode(self._file.answer("part", number * self.spans + span), self.batch(number))

    def batch(self, number: int) -> Batch:
        """Return one batch."""
        return self._file.batch(number)

    def batches_of(self, numbers: Sequence[int]) -> list[Batch]:
        """Return these batches, in their order: at once, if they follow each other."""
        first = numbers[0]
        if list(numbers) == list(range(first, first + len(numbers))):
            return self._file.batches(first, first + len(numbers))
        return list(map(self.batch, numbers))

    def batches(self) -> Iterator[Batch]:
        """Yield all batches in order."""
        for first in range(0, self.totals.batches, _PAGE):
            yield from self._file.batches(first, min(first + _PAGE, self.totals.batches))

    def answers(
        self, snapshot: Snapshot, first: int = 0, end: int | None = None
    ) -> Iterator[tuple[Batch, EncodedAnswer | None]]:
        """Yield every batch from `first` up to `end` with the answer that it had in the snapshot: a page at a time.

        Raise `JobCorruptError` for a row that is missing.
        """
        end = snapshot.totals.batches if end is None else end
        for page in range(first, end, _PAGE):  # an answer that came meanwhile is not in the snapshot
            yield from self._file.batches_and_answers(page, min(page + _PAGE, end), snapshot.states)

    def answer(self, number: int) -> Answer:
        """Return the answer to one batch that has one."""
        return self.decode(self._file.answer("answer", number), self.batch(number))

    def decode(self, encoded: EncodedAnswer, batch: Batch) -> Answer:
        """Return the answer of its bytes."""
        try:
            answer = decode_answer(encoded, batch.tweet_ids, partial(self._read_response, batch.number))
        except ValueError as error:
            raise self._file.corrupt(f"the answer to batch {batch.number} cannot be read: {error}") from None
        answer.owner = batch.owner
        return answer

    def encode(self, answer: Answer, batch_ids: tuple[str, ...] | None = None) -> EncodedAnswer:
        """Return an answer as this journal holds it; see `encode_answer`."""
        types, keep_response = self.query.engagement_types, self._file.keeps_responses and self.spans == 1
        return encode_answer(answer, types, batch_ids=batch_ids, keep_response=keep_response)

    def whole_answer(self, answer: Answer) -> WholeAnswer | None:
        """Return what an answer's response holds, without a dict for each Tweet; None if that are not all its values."""
        if not isinstance(answer, ReceivedAnswer) or answer.response is None or answer.values is None:
            return None
        try:
            return self._responses.whole(answer.response, answer.tweet_ids)
        except ValueError as error:
            raise self._file.corrupt(f"the response to batch {answer.batch_number} cannot be read: {error}") from None

    def _read_response(self, number: int, response: bytes) -> dict[str, Grouping]:
        try:
            return self._responses.groupings(response)
        except ValueError as error:
            raise self._file.corrupt(f"the response to batch {number} cannot be read: {error}") from None

    # --- looking it over ---

    def verify(self) -> JobTotals:
        """Read everything again, checksum by checksum; return the totals.

        Raise `JobCorruptError` with the first thing that is wrong. Another process may run the job meanwhile: what it
        changes is held against totals of its own.
        """
        self._file.check_all_pages()
        snapshot = self.snapshot()
        audit = Audit(snapshot)
        for batch, encoded in self.answers(snapshot):
            if encoded is not None:
                self.decode(encoded, batch).groupings  # noqa: B018 - made when they are wanted
            audit.add(batch, encoded)
        self._verify_parts()
        now = self.refresh()
        if not now.has_other_answers_than(snapshot.totals):  # else the refresh held them against the totals
            self.check(audit)
        return now

    def _verify_parts(self) -> None:
        for number, spans in sorted(self._states.parts.items()):
            for span in spans:
                try:
                    self.part(number, span)
                except JobCorruptError:
                    self.refresh()  # a batch that was completed meanwhile has no parts any more
                    if span in self.parts_of(number):
                        self.part(number, span)

    def check(self, audit: Audit) -> None:
        """Raise `JobCorruptError` if what a pass over the journal saw is not what the totals say."""
        if audit.difference is not None:
            raise self._file.corrupt(audit.difference)


def _totals_of(documents: Mapping[str, Any], rows: int) -> JobTotals:
    if "totals" not in documents:
        raise DamagedRowError("its totals are missing")
    totals = JobTotals.from_document(documents["totals"])
    if not rows == len(documents) == totals.documents:
        raise DamagedRowError(f"{totals.documents:,} documents were written, {len(documents):,} are there")
    return totals


def _settled_ids(answer: Answer) -> tuple[str, ...]:
    """Return the IDs that the API answered for, be it that there is no such Tweet."""
    return tuple(i for i in answer.tweet_ids if i not in answer.failed_tweet_ids)


def _answered_ids(answer: Answer, query: Query) -> tuple[str, ...]:
    """Return the IDs that have values."""
    outcomes = BatchOutcomes.of(answer)
    out = outcomes.without_any_value(query.engagement_types).union(
        outcomes.unavailable, outcomes.forbidden, outcomes.failed
    )
    return tuple(i for i in answer.tweet_ids if i not in out)
