"""The traffic of a run, by the second at first and by the minute later: requests, retries, 429s and latencies.

The journal keeps it as small documents beside those of the runs, and is complete without them. Pure, but for the clocks that
are passed in.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from engagement_async._core.events import CallBegan, Event, Observe, Received, Sent
from engagement_async._core.rate_limit import RateLimit
from engagement_async.errors import NotSentError, ProxyError

__all__ = ["PREFIX", "Slot", "Traffic", "TrafficRecorder", "bucket_of", "read_traffic", "seconds_of", "slot_length_s"]

PREFIX: Final = "traffic "
"""The names of the documents begin so: then the run, then the part."""
_FORMAT: Final = 1
"""Of the documents. Those of another format are skipped: nothing but reports is made of them."""
_SLOTS_A_PART: Final = 20
"""Slots of one document: it is written again with each commit until it is full."""
_LENGTHS: Final = ((120, 1), (1200, 10))
_LONGEST_S: Final = 60
_GROWTH: Final = 1.1
"""From one bucket of latencies to the next: a latency that is read from a bucket is at most 5 percent off."""
_SHORTEST_S: Final = 0.001


@dataclass(slots=True)
class Slot:
    """What happened in one slot of time."""

    at: int
    """When it begins, in seconds since the epoch."""
    length_s: int
    sent: int = 0
    """Requests that were sent, retries among them."""
    retries: int = 0
    """Requests that were sent once more."""
    answered: int = 0
    """Requests whose response came in this slot, whatever its status."""
    unanswered: int = 0
    """Requests that ended in this slot without a response."""
    limited: int = 0
    """Those of the answered that the API refused for the rate (429)."""
    refused: int = 0
    """Those of the answered with another status that is an error."""
    latencies: Counter[int] = field(default_factory=Counter)
    """Bucket of the latency to the number of responses, as `seconds_of` reads it."""

    def to_json(self) -> list[Any]:
        """Return the slot as the journal has it."""
        counts = [self.sent, self.retries, self.answered, self.unanswered, self.limited, self.refused]
        return [self.at, self.length_s, *counts, sorted(self.latencies.items())]

    @classmethod
    def of_json(cls, value: Sequence[Any]) -> Slot:
        """Return the slot of what `to_json` returned."""
        at, length_s, sent, retries, answered, unanswered, limited, refused, latencies = value
        buckets = Counter({int(bucket): int(count) for bucket, count in latencies})
        return cls(at, length_s, sent, retries, answered, unanswered, limited, refused, buckets)


def slot_length_s(elapsed_s: float) -> int:
    """Return how long the slots are so many seconds after a run began: the resolution is finer for short runs."""
    return next((length for until, length in _LENGTHS if elapsed_s < until), _LONGEST_S)


def bucket_of(seconds: float) -> int:
    """Return the bucket of a latency."""
    return max(0, round(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _GROWTH)))


def seconds_of(bucket: int) -> float:
    """Return the latency in the middle of a bucket."""
    return float(_SHORTEST_S * _GROWTH**bucket)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of a job, as its journal has it."""

    slots: Sequence[Slot] = ()
    """Those of all runs, in order of time."""
    contracts: Sequence[RateLimit] = ()
    """The limits of the runs: distinct, in the order of the runs."""


def read_traffic(documents: Iterable[Mapping[str, Any]]) -> Traffic:
    """Return what these documents hold, given in the order of their names."""
    slots: list[Slot] = []
    contracts: dict[RateLimit, None] = {}
    for document in documents:
        if document["format"] != _FORMAT:
            continue
        slots += map(Slot.of_json, document["slots"])
        if document["contract"] is not None:
            requests, period = document["contract"]
            contracts[RateLimit(requests, period)] = None
    return Traffic(tuple(sorted(slots, key=lambda slot: slot.at)), tuple(contracts))


class TrafficRecorder:
    """Counts what one run sends, for the journal.

    Args:
        contract: The limit that a reader compares it with.
        wall_clock: Returns seconds since the epoch.
        monotonic: Returns seconds that never go back, for latencies.
    """

    def __init__(
        self,
        contract: RateLimit | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contract = None if contract is None else [contract.requests, contract.period]
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._slots: list[Slot] = []
        self._first = 0
        """The first slot that is not in the journal for good."""
        self._reopened = sys.maxsize
        """The first slot that was changed although it may be in the journal for good."""
        self._rewritten = sys.maxsize
        """The first of such slots in the documents that are not acknowledged yet."""
        self._open: dict[int, int] = {}  # by request: the slot in which it was sent

    def begin(self, _call: CallBegan) -> Observe:
        """Observe a call: an `Observer`."""
        return self.hear

    def hear(self, event: Event) -> None:
        """Count an attempt that begins or ends."""
        match event:
            case Sent(request):
                slot = self._slot()
                slot.sent += 1
                slot.retries += request.attempts > 1
                self._open[id(request)] = len(self._slots) - 1
            case Received(request, seconds, status, error):
                sent_in = self._open.pop(id(request), None)
                if status is not None:
                    self._answered(status, seconds)
                elif isinstance(error, NotSentError | ProxyError):
                    self._take_back(sent_in, is_retry=request.attempts > 1)
                else:
                    self._slot().unanswered += 1

    def _answered(self, status: int, seconds: float) -> None:
        slot = self._slot()
        slot.answered += 1
        slot.limited += status == HTTPStatus.TOO_MANY_REQUESTS
        slot.refused += status >= HTTPStatus.BAD_REQUEST and status != HTTPStatus.TOO_MANY_REQUESTS
        slot.latencies[bucket_of(seconds)] += 1

    def _take_back(self, sent_in: int | None, *, is_retry: bool) -> None:
        """No longer count a request that provably never left."""
        if sent_in is not None:
            self._slots[sent_in].sent -= 1
            self._slots[sent_in].retries -= is_retry
            self._reopened = min(self._reopened, sent_in)

    def documents(self, run: int) -> tuple[dict[str, Any], int]:
        """Return the documents that are to be written, by name, and a mark to `acknowledge` once they are."""
        self._rewritten, self._reopened = min(self._rewritten, self._reopened), sys.maxsize
        first = min(self._first, self._rewritten)
        parts = range(first // _SLOTS_A_PART, -(-len(self._slots) // _SLOTS_A_PART))
        found = {
            f"{PREFIX}{run:06} {part:05}": {
                "format": _FORMAT,
                "contract": self._contract,
                "slots": [slot.to_json() for slot in self._slots[part * _SLOTS_A_PART : (part + 1) * _SLOTS_A_PART]],
            }
            for part in parts
        }
        return found, max(0, len(self._slots) - 1)

    def acknowledge(self, mark: int) -> None:
        """Note that the documents with this mark were written: slots before it do not change any more."""
        self._first = mark
        self._rewritten = sys.maxsize

    def _slot(self) -> Slot:
        now = self._wall_clock()
        last = self._slots[-1] if self._slots else None
        if last is not None and last.at <= now < last.at + last.length_s:
            return last
        length_s = slot_length_s(self._monotonic() - self._began_s)
        at = int(now // length_s * length_s)
        end = at + length_s
        if last is not None and at < last.at + last.length_s <= now:  # the first long slot after short ones
            at = last.at + last.length_s
        self._slots.append(Slot(at, end - at))
        return self._slots[-1]
