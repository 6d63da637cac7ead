"""What a run asks, and how the answers get into the journal. Called on the journal's thread.

A query over more than four weeks is asked span by span. A batch has an answer once all of its spans have one; until then
they are parts in the journal, so that whatever stops a run, what was paid for is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from engagement_async._core.batches import Batch, SpanBatch
from engagement_async._core.merging import unite
from engagement_async._core.parsing import Answer
from engagement_async.backfill.codec import EncodedAnswer, encode_answer, pending_ids
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.retry_failed import RetryBatch, failed_ids, pack_failed, patch, retries_whole_batches

__all__ = ["FailedWork", "PendingWork", "Work"]

_PAGE = 256
"""Batches that are read ahead: half a megabyte."""


class Work(Protocol):
    """See this module."""

    def next_page(self, journal: Journal) -> list[SpanBatch]:
        """Return the next batches to ask; nothing when there are no more."""

    def write(self, journal: Journal, answers: list[Answer], documents: dict[str, Any]) -> None:
        """Commit the answers to such batches, and documents, in one transaction."""


class PendingWork:
    """Asks the IDs that have no outcome."""

    def __init__(self) -> None:
        self._after = -1

    def next_page(self, journal: Journal) -> list[SpanBatch]:
        """See `Work`."""
        page: list[SpanBatch] = []
        while not page and (numbers := journal.unsettled(self._after, _PAGE)):
            self._after = numbers[-1]
            for number in numbers:
                page += self._requests(journal, number)
        return page

    def _requests(self, journal: Journal, number: int) -> Iterator[SpanBatch]:
        batch = journal.batch(number)
        if journal.spans > 1:
            yield from _open_spans(journal, batch)
        elif journal.has_answer(number):
            yield SpanBatch(number, pending_ids(journal.answer(number)), 0)
        else:
            yield SpanBatch(number, batch.tweet_ids, 0)

    def write(self, journal: Journal, answers: list[Answer], documents: dict[str, Any]) -> None:
        """See `Work`."""
        types = journal.query.engagement_types
        if journal.spans == 1:
            encoded = [encode_answer(answer, types) for answer in _completed(journal, answers)]
            journal.write(encoded, documents)
            return
        parts = _Parts(journal, answers)
        merged = [encode_answer(parts.merged(number), types) for number in parts.finished]
        journal.write(merged, documents, parts=parts.unfinished(), finished=parts.finished)


class FailedWork:
    """Asks the IDs that failed once more, packed. Pages advance by batch: an ID that fails again is not asked again."""

    def __init__(self) -> None:
        self._after = -1
        self._number = 0
        self._asked: dict[int, RetryBatch] = {}

    def next_page(self, journal: Journal) -> list[SpanBatch]:
        """See `Work`."""
        numbers = journal.failed(self._after, _PAGE)
        if numbers:
            self._after = numbers[-1]
        if journal.spans > 1:
            return [each for number in numbers for each in _open_spans(journal, _failed_batch(journal, number))]
        page: list[SpanBatch] = []
        for packed in pack_failed(map(journal.answer, numbers), journal.query):
            self._asked[self._number] = packed
            page.append(SpanBatch(self._number, packed.tweet_ids, 0))
            self._number += 1
        return page

    def write(self, journal: Journal, answers: list[Answer], documents: dict[str, Any]) -> None:
        """See `Work`."""
        types = journal.query.engagement_types
        if journal.spans == 1:
            journal.write([encode_answer(answer, types) for answer in self._patched(journal, answers)], documents)
            return
        parts = _Parts(journal, answers)
        patched = [
            encode_answer(_patched_by(journal, journal.answer(number), parts.merged(number), with_sums=True), types)
            for number in parts.finished
        ]
        journal.write(patched, documents, parts=parts.unfinished(), finished=parts.finished)

    def _patched(self, journal: Journal, answers: Iterable[Answer]) -> Iterable[Answer]:
        """Return the answers of the batches that these IDs came from, with their new values."""
        patched: dict[int, Answer] = {}
        for answer in answers:
            unanswered = frozenset(pending_ids(answer))  # they stay as they were
            with_sums = True
            for number, ids in self._asked.pop(answer.number).origins:
                if not ids <= unanswered:
                    old = patched.get(number) or journal.answer(number)
                    patched[number] = patch(old, answer, ids - unanswered, journal.query, with_sums=with_sums)
                    with_sums = False
        return patched.values()


class _Parts:
    """The parts of some batches: those in the journal, and the answers that came now."""

    def __init__(self, journal: Journal, answers: Iterable[Answer]) -> None:
        self._journal = journal
        self._spans = journal.spans
        self._new: dict[int, dict[int, Answer]] = {}
        for answer in answers:
            if len(pending_ids(answer)) == len(answer.tweet_ids):
                continue  # nobody was answered
            number, span = divmod(answer.number, self._spans)
            if span in journal.parts_of(number):  # it had been answered for some of its IDs
                old = journal.part(number, span)
                answer = patch(old, answer, frozenset(answer.tweet_ids), journal.query, with_sums=True)
            self._new.setdefault(number, {})[span] = answer
        self.finished = [number for number in self._new if self._is_finished(number)]
        """Batches that are complete with them."""

    def _is_finished(self, number: int) -> bool:
        pending = {**self._journal.parts_of(number)}
        pending |= {span: len(pending_ids(answer)) for span, answer in self._new[number].items()}
        return len(pending) == self._spans and not any(pending.values())

    def merged(self, number: int) -> Answer:
        """Return the answer to all spans of a finished batch."""
        new = self._new[number]
        answers = [new[span] if span in new else self._journal.part(number, span) for span in range(self._spans)]
        return unite(number, answers[0].tweet_ids, answers, self._journal.query)

    def unfinished(self) -> list[EncodedAnswer]:
        """Return the parts that came now of batches that are not finished."""
        types = self._journal.query.engagement_types
        return [
            encode_answer(answer, types, batch_ids=self._journal.batch(number).tweet_ids)
            for number, spans in self._new.items()
            if number not in self.finished
            for answer in spans.values()
        ]


def _completed(journal: Journal, answers: Iterable[Answer]) -> Iterator[Answer]:
    """Yield the answers to whole batches: of those that some IDs were answered of before, with these."""
    for answer in answers:
        unanswered = pending_ids(answer)
        if len(unanswered) == len(answer.tweet_ids):
            continue  # nobody was answered: all of them stay pending
        if journal.has_answer(answer.number):
            yield _patched_by(journal, journal.answer(answer.number), answer, with_sums=True)
        else:
            yield answer


def _patched_by(journal: Journal, old: Answer, new: Answer, *, with_sums: bool) -> Answer:
    return patch(old, new, frozenset(new.tweet_ids), journal.query, with_sums=with_sums)


def _failed_batch(journal: Journal, number: int) -> Batch:
    """Return what is asked of a batch in which IDs failed, span by span."""
    answer = journal.answer(number)
    if retries_whole_batches(journal.query):
        return Batch(number, answer.tweet_ids)
    return Batch(number, failed_ids(answer))


def _open_spans(journal: Journal, batch: Batch) -> Iterator[SpanBatch]:
    """Yield the spans of a batch that are not answered for all IDs."""
    parts = journal.parts_of(batch.number)
    for span in range(journal.spans):
        unit = batch.number * journal.spans + span
        if span not in parts:
            yield SpanBatch(unit, batch.tweet_ids, span)
        elif parts[span]:
            yield SpanBatch(unit, pending_ids(journal.part(batch.number, span)), span)
