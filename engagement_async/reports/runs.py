"""The numbers behind the pictures of a job's runs: requests against the contract, latencies, retries. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final, NamedTuple

from engagement_async._core.rate_limit import RateLimit
from engagement_async.backfill.traffic import Slot, seconds_of

__all__ = [
    "MOST_BINS",
    "PERCENTILES",
    "LatencyBin",
    "RateBin",
    "TroubleBin",
    "bin_length_s",
    "is_mostly_pause",
    "latencies_of",
    "percentile_s",
    "rates_of",
    "stretches_of",
    "troubles_of",
]

MOST_BINS: Final = 240
"""Points of one line."""
PERCENTILES: Final = (50, 90, 99)
_LENGTHS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_MINUTE_S: Final = 60
_PAUSE_S: Final = 600
_PAUSES: Final = 4
"""Times that all the time may be longer than the work."""


class RateBin(NamedTuple):
    """How fast requests were sent in one span."""

    at: datetime
    ends_at: datetime
    per_minute: float
    """The most in any period of the contract that ends in it, as requests a minute."""


class LatencyBin(NamedTuple):
    """How long responses of one span took to begin."""

    at: datetime
    ends_at: datetime
    responses: int
    percentiles_s: tuple[float, ...]
    """The `PERCENTILES`, in seconds."""


class TroubleBin(NamedTuple):
    """What went wrong in one span."""

    at: datetime
    ends_at: datetime
    retries: int
    limited: int
    """Refusals for the rate (429)."""
    refused: int
    """Responses with another status that is an error."""
    unanswered: int
    """Requests without a response."""


def stretches_of(slots: Sequence[Slot]) -> list[list[Slot]]:
    """Return the stretches of work: slots with no long pause between them, in order of time."""
    stretches: list[list[Slot]] = []
    for slot in slots:
        if stretches and slot.at - (stretches[-1][-1].at + stretches[-1][-1].length_s) < _PAUSE_S:
            stretches[-1].append(slot)
        else:
            stretches.append([slot])
    return stretches


def is_mostly_pause(stretches: Sequence[Sequence[Slot]]) -> bool:
    """Return whether so little of the time was work that a picture of all of it would show nothing."""
    ends = [(stretch[0].at, stretch[-1].at + stretch[-1].length_s) for stretch in stretches]
    return sum(end - at for at, end in ends) * _PAUSES < ends[-1][1] - ends[0][0]


def bin_length_s(slots: Sequence[Slot]) -> int:
    """Return how long the bins of these slots are: as short as there are not too many, and no shorter than they."""
    span = slots[-1].at + slots[-1].length_s - slots[0].at
    shortest = min(slot.length_s for slot in slots)
    return next((s for s in _LENGTHS_S if s >= shortest and span <= s * MOST_BINS), _LENGTHS_S[-1])


def rates_of(slots: Sequence[Slot], contract: RateLimit | None) -> list[RateBin]:
    """Return the rate over time: every bin from the first to the last.

    The contract counts any period, so that is what is compared with it: the requests of the period that ends with each
    slot, and of a bin the most of them. Where a slot is longer than the period, it is the slot's mean.
    """
    if not slots:
        return []
    length, period = bin_length_s(slots), _MINUTE_S if contract is None else contract.period
    most: dict[int, float] = {}
    first, sent = 0, 0
    slots = list(_with_pauses(slots, period))
    for slot in slots:
        end = slot.at + slot.length_s
        sent += slot.sent
        while slots[first].at < end - max(period, slot.length_s):
            sent -= slots[first].sent
            first += 1
        begin = slot.at // length * length
        most[begin] = max(most.get(begin, 0.0), sent * _MINUTE_S / max(period, slot.length_s))
    bins = range(min(most), max(most) + length, length)
    return [RateBin(_instant(at), _instant(at + length), most.get(at, 0.0)) for at in bins]


def _with_pauses(slots: Sequence[Slot], period_s: float) -> Iterator[Slot]:
    """Yield the slots, and after each one empty ones for as long as a period that ends there reaches back to it."""
    for slot, after in zip_longest(slots, slots[1:]):
        yield slot
        at = slot.at + slot.length_s
        end = at + period_s if after is None else min(at + period_s, after.at)
        while after is not None and at + slot.length_s <= end:
            yield Slot(at, slot.length_s)
            at += slot.length_s


def latencies_of(slots: Sequence[Slot]) -> list[LatencyBin]:
    """Return the latencies over time, of the bins in which there were responses."""
    merged: dict[int, Counter[int]] = {}
    length = bin_length_s(slots) if slots else 0
    for slot in slots:
        if slot.latencies:
            merged.setdefault(slot.at // length * length, Counter()).update(slot.latencies)
    return [
        LatencyBin(
            _instant(at),
            _instant(at + length),
            counts.total(),
            tuple(percentile_s(counts, percent) for percent in PERCENTILES),
        )
        for at, counts in sorted(merged.items())
    ]


def troubles_of(slots: Sequence[Slot]) -> list[TroubleBin]:
    """Return retries, refusals and lost requests over time: every bin from the first to the last, if there were any."""
    if not any(slot.retries or slot.limited or slot.refused or slot.unanswered for slot in slots):
        return []
    length = bin_length_s(slots)
    counts: dict[int, list[int]] = {}
    for slot in slots:
        its = counts.setdefault(slot.at // length * length, [0, 0, 0, 0])
        for place, number in enumerate((slot.retries, slot.limited, slot.refused, slot.unanswered)):
            its[place] += number
    bins = range(min(counts), max(counts) + length, length)
    return [TroubleBin(_instant(at), _instant(at + length), *counts.get(at, (0, 0, 0, 0))) for at in bins]


def percentile_s(counts: Counter[int] | Iterable[Counter[int]], percent: float) -> float:
    """Return the latency that so many percent of the responses were not above, in seconds."""
    if not isinstance(counts, Counter):
        merged: Counter[int] = Counter()
        for each in counts:
            merged.update(each)
        counts = merged
    wanted, before = counts.total() * percent / 100, 0
    for bucket, count in sorted(counts.items()):
        before += count
        if before >= wanted:
            return seconds_of(bucket)
    raise ValueError("there are no responses")


def _instant(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
