"""What a run asks, and how the answers get into the journal. Called on the journal's thread.

A query over more than four weeks is asked span by span. A batch has an answer once all of its spans have one; until then
they are parts in the journal, so that whatever stops a run, what was paid for is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby, islice
from typing import Any, Protocol

from engagement_async._core.accounting import in_input_order
from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch, SpanBatch
from engagement_async._core.merging import merge_parts, split_off_tainted_sums
from engagement_async.backfill.codec import NOT_ASKED, EncodedAnswer, pending_ids
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.retry_failed import RetryBatch, failed_ids, pack_failed, patch

__all__ = ["FailedWork", "PendingWork", "Work"]

_PAGE = 256
"""Batches that are read ahead: half a megabyte."""


class Work(Protocol):
    """See this module."""

    def next_page(self, journal: Journal) -> list[SpanBatch]:
        """Return the next batches to ask; nothing when there are no more as long as no answer comes."""

    def refused_owners(self, journal: Journal) -> frozenset[str]:
        """Return the owners whose credentials were of no use the last time that such batches of theirs were asked."""

    def write(self, journal: Journal, answers: list[Answer], documents: dict[str, Any]) -> None:
        """Commit the answers to such batches, and documents, in one transaction."""

    def is_done(self, journal: Journal) -> bool:
        """Whether nothing is left to ask, at the end of a run."""


class PendingWork:
    """Asks the IDs that have no outcome."""

    def __init__(self) -> None:
        self._after = -1
        self._turns: Iterator[int] | None = None
        self._batch_ids: dict[int, tuple[str, ...]] = {}
        """Of batches that were handed out and of which nothing came yet."""
        self._again: list[SpanBatch] = []

    def next_page(self, journal: Journal) -> list[SpanBatch]:
        """See `Work`."""
        page, self._again = self._again, []
        while not page and (numbers := self._next(journal)):
            for batch in journal.batches_of(numbers):
                page += self._requests(journal, batch)
        return page

    def _next(self, journal: Journal) -> list[int]:
        """Return the next batches: in their order, or where they have owners, in turns of those."""
        if journal.has_owners:
            if self._turns is None:
                self._turns = journal.batches_in_turns()
            return list(islice(self._turns, _PAGE))
        numbers = journal.unsettled(self._after, _PAGE)
        self._after = numbers[-1] if numbers else self._after
        return numbers

    def refused_owners(self, journal: Journal) -> frozenset[str]:
        """See `Work`."""
        return frozenset(journal.refused_owners())

    def _requests(self, journal: Journal, batch: Batch) -> Iterator[SpanBatch]:
        number = batch.number
        if journal.spans > 1:
            yield from _open_spans(journal, batch)
        elif journal.has_answer(number):
            yield SpanBatch(number, pending_ids(journal.answer(number)), 0, batch.owner)
        else:
            self._batch_ids[number] = batch.tweet_ids
            yield SpanBatch(number, batch.tweet_ids, 0, batch.owner)

    def write(self, journal: Journal, answers: list[Answer], documents: dict[str, Any]) -> None:
        """See `Work`."""
        if journal.spans == 1:
            completed = _completed(journal, answers, self._batch_ids)
            journal.write(list(map(journal.encode, completed.values())), documents)
            for answer in answers:
                self._batch_ids.pop(answer.batch_number, None)  # the journal has them, for whatever comes later
            return
        parts = _Parts(journal, answers, lambda number: journal.batch(number).tweet_ids)
        merged = list(map(journal.encode, parts.finished.values()))
        journal.write(merged, documents, parts=parts.unfinished(), finished=parts.finished)
        self._again += parts.again

    def is_done(self, journal: Journal) -> bool:
        """See `Work`."""
        return not journal.totals.pending


class FailedWork:
    """Asks the IDs that failed once more, packed. Pages advance by batch: an ID that fails again is not asked again."""

    def __init__(self) -> None:
        self._after = -1
        self._by_owner: Iterator[int] | None = None
        self._number = 0
        self._asked: dict[int, RetryBatch] = {}
        self._left: dict[int, set[str]] = {}
        """The IDs of batches that were handed out, by their numbers, as far as they are not answered."""
        self._again: list[SpanBatch] = []
        self._reopened: dict[int, frozenset[str]] = {}
        """The IDs that failed in parts of an earlier retry, which was stopped, until an answer to such a part comes."""

    def next_page(self, journal: Journal) -> list[SpanBatch]:
        """See `Work`."""
        page, self._again = self._again, []
        while not page and (numbers := self._next(journal)):
            page += self._packed(journal, numbers) if journal.spans == 1 else self._by_span(journal, numbers)
        return page

    def _next(self, journal: Journal) -> list[int]:
        """Return the next batches: in their order, or where they have owners, those of small owners first."""
        if journal.has_owners:
            if self._by_owner is None:
                self._by_owner = journal.failed_by_owner()
            return list(islice(self._by_owner, _PAGE))
        numbers = journal.failed(self._after, _PAGE)
        self._after = numbers[-1] if numbers else self._after
        return numbers

    def refused_owners(self, journal: Journal) -> frozenset[str]:
        """See `Work`."""
        return frozenset(owner for owner, its in journal.owners().items() if its.error is not None)

    def _packed(self, journal: Journal, numbers: Iterable[int]) -> Iterator[SpanBatch]:
        for owner, answers in groupby(map(journal.answer, numbers), lambda answer: answer.owner):
            for packed in pack_failed(answers, journal.query):
                self._asked[self._number] = packed
                self._left[self._number] = set(packed.tweet_ids)
                yield SpanBatch(self._number, packed.tweet_ids, 0, owner)
                self._number += 1

    def _by_span(self, journal: Journal, numbers: Iterable[int]) -> Iterator[SpanBatch]:
        for number in numbers:
            answer = journal.answer(number)
            ids = failed_ids(answer)
            self._left[number] = set(ids)
            yield from _open_spans(journal, Batch(number, ids, answer.owner), self._reopened)

    def write(self, journal: Journal, answers: list[Answer], documents: dict[str, Any]) -> None:
        """See `Work`."""
        query = journal.query
        if journal.spans == 1:
            journal.write(list(map(journal.encode, self._patched(journal, answers))), documents)
            self._forget(answers)
            return
        parts = _Parts(journal, answers, lambda number: failed_ids(journal.answer(number)), self._reopened)
        patched = [
            journal.encode(patch(journal.answer(number), new, frozenset(new.tweet_ids), query))
            for number, new in parts.finished.items()
        ]
        journal.write(patched, documents, parts=parts.unfinished(), finished=parts.finished)
        for number in parts.finished:
            self._left.pop(number, None)
        self._again += parts.again

    def is_done(self, journal: Journal) -> bool:
        """See `Work`. The journal alone does not say it: an ID that failed again is as one that was not asked."""
        return not self._left and not self.next_page(journal)

    def _patched(self, journal: Journal, answers: Iterable[Answer]) -> Iterable[Answer]:
        """Return the answers of the batches that these IDs came from, with their new values."""
        patched: dict[int, Answer] = {}
        for answer in answers:
            answered = frozenset(answer.tweet_ids).difference(pending_ids(answer))  # the others stay as they were
            for number, origin_ids in self._asked[answer.batch_number].origins:
                if ids := origin_ids & answered:
                    old = patched.get(number) or journal.answer(number)
                    patched[number] = patch(old, answer, ids, journal.query)
        return patched.values()

    def _forget(self, answers: Iterable[Answer]) -> None:
        """Forget the batches that are answered whole."""
        for answer in answers:
            if (left := self._left.get(answer.batch_number)) is not None:
                left.difference_update(frozenset(answer.tweet_ids).difference(pending_ids(answer)))
                if not left:
                    del self._asked[answer.batch_number], self._left[answer.batch_number]


class _Parts:
    """The parts of some batches: those in the journal, and the answers that came now.

    `ids_asked` returns the IDs that are asked of a batch, `reopened` has those of parts that failed and are asked again.
    """

    def __init__(
        self,
        journal: Journal,
        answers: Iterable[Answer],
        ids_asked: Callable[[int], tuple[str, ...]],
        reopened: dict[int, frozenset[str]] | None = None,
    ) -> None:
        self._journal = journal
        self._ids_asked = ids_asked
        self._reopened = {} if reopened is None else reopened
        self._spans = journal.spans
        self._new: dict[int, dict[int, Answer]] = {}
        self.finished: dict[int, Answer] = {}
        """Batches that are complete with these answers, each with the answer to all of its spans."""
        self.again: list[SpanBatch] = []
        """What must be asked once more, because sums hold a Tweet that is out in another span."""
        for answer in answers:
            if len(pending_ids(answer)) < len(answer.tweet_ids):  # else nobody was answered
                self._add(answer)
        for number in self._new:
            if self._is_complete(number):
                self._finish(number)

    def _add(self, answer: Answer) -> None:
        number, span = divmod(answer.batch_number, self._spans)
        new = self._new.setdefault(number, {})
        if span not in new and span in self._journal.parts_of(number):  # some of its IDs were answered before
            part = self._journal.part(number, span)
            pending = dict.fromkeys(self._reopened.pop(answer.batch_number, ()), NOT_ASKED)
            new[span] = replace(part, failed_tweet_ids={**part.failed_tweet_ids, **pending})
        if span in new:
            ids = frozenset(pending_ids(new[span])).intersection(answer.tweet_ids)
            new[span] = patch(new[span], answer, ids, self._journal.query)
        else:
            new[span] = _with_pending(answer, answer.batch_number, self._ids_asked(number))

    def _is_complete(self, number: int) -> bool:
        pending = {**self._journal.parts_of(number)}
        pending |= {s: 1 for s in pending if number * self._spans + s in self._reopened}
        pending |= {span: len(pending_ids(answer)) for span, answer in self._new[number].items()}
        return len(pending) == self._spans and not any(pending.values())

    def _finish(self, number: int) -> None:
        """Merge the spans of a complete batch, unless some must be asked once more."""
        new, query = self._new[number], self._journal.query
        parts = [(new.get(span) or self._journal.part(number, span), span) for span in range(self._spans)]
        batch = self._journal.batch(number)
        tweet_ids = in_input_order(batch.tweet_ids, {i for answer, _ in parts for i in answer.tweet_ids})
        kept, again = split_off_tainted_sums(parts, query)
        if not again:
            self.finished[number] = merge_parts(number, tweet_ids, [answer for answer, _ in kept], query)
            return
        answers = {span: answer for answer, span in kept}
        for span, ids in again:
            answer = answers[span]
            unit = number * self._spans + span
            self.again.append(SpanBatch(unit, ids, span, batch.owner))
            pending = dict.fromkeys(ids, NOT_ASKED)
            new[span] = replace(
                answer,
                batch_number=unit,
                tweet_ids=in_input_order(tweet_ids, {*answer.tweet_ids, *ids}),
                failed_tweet_ids={**answer.failed_tweet_ids, **pending},
            )

    def unfinished(self) -> list[EncodedAnswer]:
        """Return the parts that came now of batches that are not finished."""
        return [
            self._journal.encode(answer, self._journal.batch(number).tweet_ids)
            for number, spans in self._new.items()
            if number not in self.finished
            for answer in spans.values()
        ]


def _completed(
    journal: Journal, answers: Iterable[Answer], batch_ids: Mapping[int, tuple[str, ...]]
) -> dict[int, Answer]:
    """Return the answers to whole batches, as far as they are known with these: other IDs are pending.

    `batch_ids` are the IDs of batches, as far as they are at hand.
    """
    completed: dict[int, Answer] = {}
    for answer in answers:
        number = answer.batch_number
        if len(pending_ids(answer)) == len(answer.tweet_ids):
            continue  # nobody was answered: all of them stay pending
        old = completed.get(number)
        if old is None and journal.has_answer(number):
            old = journal.answer(number)
        if old is None:
            tweet_ids = batch_ids.get(number) or journal.batch(number).tweet_ids
            completed[number] = _with_pending(answer, number, tweet_ids)
        elif ids := frozenset(pending_ids(old)).intersection(answer.tweet_ids):
            completed[number] = patch(old, answer, ids, journal.query)
    return completed


def _with_pending(answer: Answer, number: int, tweet_ids: tuple[str, ...]) -> Answer:
    """Return the answer as one to all of these IDs: those that it does not speak of are pending."""
    if answer.tweet_ids == tweet_ids:
        return answer
    missing = frozenset(tweet_ids).difference(answer.tweet_ids)
    pending = {i: NOT_ASKED for i in tweet_ids if i in missing}
    return replace(
        answer,
        batch_number=number,
        tweet_ids=tweet_ids,
        failed_tweet_ids={**answer.failed_tweet_ids, **pending},
    )


def _open_spans(
    journal: Journal, batch: Batch, reopened: dict[int, frozenset[str]] | None = None
) -> Iterator[SpanBatch]:
    """Yield the spans of a batch that are not answered for all IDs; with `reopened`, those too in which some failed.

    These IDs are noted there.
    """
    parts = journal.parts_of(batch.number)
    for span in range(journal.spans):
        unit = batch.number * journal.spans + span
        if span not in parts:
            yield SpanBatch(unit, batch.tweet_ids, span, batch.owner)
        elif parts[span] or reopened is not None:
            part = journal.part(batch.number, span)
            pending = pending_ids(part)
            if reopened is not None and (failed := frozenset(part.failed_tweet_ids).difference(pending)):
                reopened[unit] = failed
                pending = in_input_order(part.tweet_ids, failed.union(pending))
            if pending:
                yield SpanBatch(unit, pending, span, batch.owner)
