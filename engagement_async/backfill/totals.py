"""The sums over the journal, and what holds them against its rows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from engagement_async._core.batches import Batch
from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill.codec import EncodedAnswer
from engagement_async.backfill.journal_rows import DamagedRowError

__all__ = ["PENDING", "UNANSWERED", "Audit", "JobTotals", "Snapshot", "parts_of", "state_of", "states_of"]

UNANSWERED: Final = 0
ANSWERED: Final = 1
FAILED: Final = 2
PENDING: Final = 4
"""The state of a batch, one byte each: `ANSWERED`, with `FAILED` if some of its IDs failed, and with `PENDING` if some of
them are still to be asked."""


@dataclass(frozen=True, slots=True)
class JobTotals:
    """The sums over the journal: written with what they count, so that no row can go missing unseen.

    `batches` and `ids` are what the job has in all, `outcomes` where the IDs that are done ended.
    """

    batches: int = 0
    """Batches of the job."""
    ids: int = 0
    """Distinct IDs of the job."""
    answers: int = 0
    """Batches that have an answer."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    """IDs by outcome; the others are pending."""
    size: int = 0
    """Bytes of all answers' JSON."""
    unsettled: int = 0
    """IDs of batches with an answer that are still to be asked."""
    parts: int = 0
    """Answers to single spans of batches that are not complete."""
    part_size: int = 0
    """Bytes of their JSON."""
    rejected: int = 0
    """Lines of the inputs that are no IDs."""
    window_starts: tuple[float, float] | None = None
    """Epoch seconds at which the first and the last of the answers' windows begin, of endpoints that choose the window."""
    documents: int = 0
    """Small documents, the totals among them."""
    completions: int = 0
    """Raised when an answer takes the place of one that lacked some IDs."""
    revision: int = 0
    """Raised when something that was there is changed or added to, not by an answer that comes in."""

    def with_windows(self, starts: tuple[float, float] | None) -> JobTotals:
        """Return the totals with one more answer, whose windows begin between the two `starts` (seconds since the epoch)."""
        if starts is None:
            return self
        known = self.window_starts or starts
        return replace(self, window_starts=(min(known[0], starts[0]), max(known[1], starts[1])))

    def windows_differ(self, by_s: float = 0.0) -> tuple[str, str] | None:
        """Return where the first and the last windows begin, if that differs by more than `by_s` seconds."""
        if self.window_starts is None or self.window_starts[1] - self.window_starts[0] <= by_s:
            return None
        first, last = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in self.window_starts)
        return first, last

    def has_other_answers_than(self, earlier: JobTotals) -> bool:
        """Return whether an answer that was there earlier has another in its place now.

        Args:
            earlier: Totals of the same journal, from before.
        """
        return (self.revision, self.completions) != (earlier.revision, earlier.completions)

    @property
    def pending(self) -> int:
        """IDs that have no outcome yet."""
        return self.ids - sum(self.outcomes)

    def to_document(self) -> dict[str, Any]:
        """Return the totals as JSON has them."""
        return asdict(self)

    @classmethod
    def from_document(cls, value: dict[str, Any]) -> JobTotals:
        """Return the totals of a document: a `value` of `to_document`."""
        starts = value["window_starts"]
        return cls(
            **{
                **value,
                "outcomes": Outcomes(*value["outcomes"]),
                "window_starts": None if starts is None else tuple(starts),
            }
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The journal at one moment: its totals, and the state of each batch."""

    totals: JobTotals
    states: bytes

    def is_answered(self, number: int) -> bool:
        """Whether that batch had an answer."""
        return self.states[number] != UNANSWERED


class Audit:
    """Counts what a pass over all batches sees, and holds it against the totals."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.totals = snapshot.totals
        self.revision = snapshot.totals.revision
        """When the pass began."""
        self._ids = self._answers = self._unsettled = self._size = 0
        self._by_outcomes: Counter[Outcomes] = Counter()  # most batches have the same ones
        self._uneven: int | None = None

    def add(self, batch: Batch, encoded: EncodedAnswer | None) -> None:
        """Count one batch."""
        self._ids += len(batch.tweet_ids)
        if encoded is None:
            return
        if sum(encoded.outcomes) + encoded.pending != len(batch.tweet_ids):
            self._uneven = batch.number
        self._answers += 1
        self._unsettled += encoded.pending
        self._size += encoded.size
        self._by_outcomes[encoded.outcomes] += 1

    def against(self, snapshot: Snapshot) -> None:
        """Hold what was seen against a later snapshot."""
        self.totals = snapshot.totals

    @property
    def difference(self) -> str | None:
        """What does not add up; None when all does."""
        totals = self.totals
        if self._uneven is not None:
            return f"the outcomes of batch {self._uneven} do not add up"
        seen = self._ids, self._answers, self._unsettled, self._size
        if seen != (totals.ids, totals.answers, totals.unsettled, totals.size):
            return "its rows do not add up to its totals"
        if _sum(self._by_outcomes) != totals.outcomes:
            return "the outcomes of its rows do not add up to its totals"
        return None


def state_of(outcomes: Outcomes | tuple[int, ...], pending: int) -> int:
    """Return the state of a batch with an answer."""
    return ANSWERED | (FAILED if outcomes[-1] else 0) | (PENDING if pending else 0)


def states_of(answers: Iterable[tuple[int, ...]], totals: JobTotals) -> bytearray:
    """Return a state for each batch. `answers`: the `COUNT_COLUMNS` of each, in order."""
    states = bytearray(totals.batches)
    last, count, size, unsettled = -1, 0, 0, 0
    by_counts: Counter[tuple[int, ...]] = Counter()  # most batches have the same ones
    for row in answers:
        number, *counts, pending, bytes_ = _integers(row)
        if not last < number < totals.batches:
            raise DamagedRowError(f"an answer to batch {number} is where none can be")
        outcomes = tuple(counts)
        by_counts[outcomes] += 1
        states[number] = state_of(outcomes, pending)
        last, count, size, unsettled = number, count + 1, size + bytes_, unsettled + pending
    if count != totals.answers:
        raise DamagedRowError(f"{totals.answers:,} answers were written, {count:,} are there")
    if (_sum(by_counts), size, unsettled) != (totals.outcomes, totals.size, totals.unsettled):
        raise DamagedRowError("the outcomes of its rows do not add up to its totals")
    return states


def parts_of(rows: Iterable[tuple[int, ...]], totals: JobTotals, spans: int) -> dict[int, dict[int, int]]:
    """Return, of batches that have parts, which spans are answered, and how many of their IDs are pending."""
    parts: dict[int, dict[int, int]] = {}
    count = size = 0
    last = -1
    for row in rows:
        unit, *_, pending, bytes_ = _integers(row)
        if not last < unit < totals.batches * spans:
            raise DamagedRowError(f"part {unit} is where none can be")
        parts.setdefault(unit // spans, {})[unit % spans] = pending
        last, count, size = unit, count + 1, size + bytes_
    if (count, size) != (totals.parts, totals.part_size):
        raise DamagedRowError(f"{totals.parts:,} parts were written, {count:,} are there")
    return parts


def _sum(counted: Mapping[Any, int]) -> Outcomes:
    """Return the sum of outcomes, each of which is counted so many times."""
    columns = zip(*([times * each for each in outcomes] for outcomes, times in counted.items()), strict=True)
    return Outcomes(*map(sum, columns))


_INTEGERS = {int}


def _integers(row: tuple[int, ...]) -> tuple[int, ...]:
    if set(map(type, row)) != _INTEGERS:
        raise DamagedRowError("a count is no number")
    return row
