"""One limit of a contract that processes share: the tokens that were answered, by the time of their return. Pure.

They lie in a ring of counters, each for a quantum of a 500th of the window, and come back at its end: later than the rule
of `rate_limit.py` asks, so its proof holds. What comes back later than the ring reaches (aborted requests) is kept apart.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator

from engagement_async._core.rate_limit import PACE, RateLimit
from engagement_async._core.shared_block import RING, Block, Bucket

__all__ = [
    "add_cap",
    "begin",
    "capped_until",
    "counted_back",
    "counts",
    "cross_boot",
    "expire",
    "nth_return",
    "return_later",
    "returns",
    "take_over",
]

QUANTA = 500
UNWRITTEN_S = 45.0
"""When power is lost, the disk may lack what was written in the last seconds: Linux writes a changed page after 30 s, and
looks every 5 s (https://docs.kernel.org/admin-guide/sysctl/vm.html)."""


def begin(bucket: Bucket, limit: RateLimit, now: float) -> None:
    """Make an empty bucket for requests of that endpoint and period."""
    ctypes.memset(ctypes.addressof(bucket), 0, ctypes.sizeof(bucket))
    bucket.endpoint, bucket.period = (limit.endpoint or "").encode(), limit.period
    bucket.window_s = limit.window_s
    bucket.quantum_s = limit.window_s / QUANTA
    bucket.paced_at = bucket.least_paced_at = -math.inf
    bucket.cursor = _index_at(bucket, now)


def counts(bucket: Bucket, endpoint: str | None) -> bool:
    """Return whether requests of that endpoint count in this bucket."""
    return not bucket.endpoint or (endpoint is not None and bucket.endpoint == endpoint.encode())


def _index_at(bucket: Bucket, now: float) -> int:
    """Return the number of the last quantum that is over: the largest with `number * quantum_s <= now`."""
    index = math.floor(now / bucket.quantum_s)
    return index + 1 if (index + 1) * bucket.quantum_s <= now else index


def expire(bucket: Bucket, now: float) -> None:
    """Take back what has returned by now."""
    cursor = _index_at(bucket, now)
    if cursor > bucket.cursor:
        if bucket.in_ring:
            ring = bucket.ring
            returned = 0
            for index in range(bucket.cursor + 1, min(cursor, bucket.cursor + RING) + 1):
                if count := ring[index % RING]:
                    returned += count
                    ring[index % RING] = 0
            bucket.in_ring -= min(bucket.in_ring, returned)
            bucket.returned += returned
        bucket.cursor = cursor
    if bucket.in_late:
        for late in bucket.late:
            if late.count and late.returns_at <= now:
                bucket.returned += late.count
                bucket.in_late -= min(bucket.in_late, late.count)
                late.count = 0


def return_later(bucket: Bucket, returns_at: float, count: int) -> None:
    """Have so many tokens come back at that instant, or a little later."""
    index = math.ceil(returns_at / bucket.quantum_s)
    if index <= bucket.cursor:
        bucket.returned += count
    elif index - bucket.cursor < RING:
        bucket.ring[index % RING] += count
        bucket.in_ring += count
    else:
        _add_late(bucket, returns_at, count)


def _add_late(bucket: Bucket, returns_at: float, count: int) -> None:
    """Keep what returns later than the ring reaches; where there is no room, with the next one that returns after it."""
    bucket.in_late += count
    for late in bucket.late:
        if late.count and late.returns_at == returns_at:
            late.count += count
            return
    for late in bucket.late:
        if not late.count:
            late.returns_at, late.count = returns_at, count
            return
    after = min(bucket.late, key=lambda late: (late.returns_at < returns_at, abs(late.returns_at - returns_at)))
    after.returns_at = max(after.returns_at, returns_at)
    after.count += count


def counted_back(bucket: Bucket) -> int:
    """Return how many tokens were answered and have not come back."""
    return bucket.in_ring + bucket.in_late


def nth_return(bucket: Bucket, nth: int) -> float:
    """Return when so many of them have come back, 1 being the next; `inf` when there are not so many."""
    ordered = returns(bucket) if not bucket.in_late else sorted(returns(bucket))
    for returns_at, count in ordered:
        nth -= count
        if nth <= 0:
            return returns_at
    return math.inf


def returns(bucket: Bucket) -> Iterator[tuple[float, int]]:
    """Yield when tokens come back, and how many: those of the ring in order, then those beyond it."""
    left = bucket.in_ring
    index = bucket.cursor
    while left > 0 and index < bucket.cursor + RING:
        index += 1
        if count := bucket.ring[index % RING]:
            left -= count
            yield index * bucket.quantum_s, count
    if bucket.in_late:
        for late in bucket.late:
            if late.count:
                yield late.returns_at, late.count


# --- what the server says ---


def add_cap(bucket: Bucket, remaining: int, now: float, until: float, generation: int) -> None:
    """Take another word of the server. The tightest ones are kept."""
    room = min(bucket.caps, key=lambda cap: (cap.until > now, cap.remaining, -cap.until))
    for cap in bucket.caps:
        if cap.until > now and cap.remaining <= remaining and cap.until >= until:
            return
        if cap.until > now and remaining <= cap.remaining and until >= cap.until:
            room = cap
    if room.until > now:  # no room: the later of the two ends holds for the fewer of the two
        remaining, until = min(remaining, room.remaining), max(until, room.until)
    room.until, room.remaining, room.generation = until, remaining, generation


def capped_until(bucket: Bucket, now: float, ahead: int = 0) -> float:
    """Return until when the server's word allows no more than `ahead` requests; `-inf` when it does."""
    return max((cap.until for cap in bucket.caps if cap.until > now and cap.remaining <= ahead), default=-math.inf)


# --- what another bucket or another boot knew ---


def cross_boot(bucket: Bucket, then: float, now: float, ago_s: float, lost_s: float) -> None:
    """Take over a bucket of an earlier boot, whose clock said `then`, `ago_s` seconds before this one's says `now`.

    What the disk does not know counts as answered when this boot began: as much as may have been granted in the last
    `UNWRITTEN_S`, and `lost_s` before that.
    """
    expire(bucket, then)
    known = list(returns(bucket))
    ctypes.memset(bucket.ring, 0, ctypes.sizeof(bucket.ring))
    ctypes.memset(bucket.late, 0, ctypes.sizeof(bucket.late))
    bucket.in_ring = bucket.in_late = 0
    bucket.cursor = _index_at(bucket, now)
    shift_s = now - then - ago_s
    for returns_at, count in known:
        return_later(bucket, returns_at + shift_s, count)
    for cap in bucket.caps:
        cap.until += shift_s
    bucket.paced_at += shift_s
    bucket.least_paced_at = -math.inf
    most = bucket.most_burst + math.ceil((UNWRITTEN_S + lost_s) * bucket.most_requests / bucket.window_s * PACE)
    return_later(bucket, bucket.window_s, min(bucket.most_requests, most))


def take_over(block: Block, number: int, now: float) -> None:
    """Count in a new bucket what others know of its requests: those of the longest window, an endpoint."""
    new = block.buckets[number]
    sources: dict[bytes, int] = {}
    for known in range(number):
        bucket = block.buckets[known]
        if not new.endpoint or bucket.endpoint in (b"", new.endpoint):
            longest = sources.setdefault(bucket.endpoint, known)
            if bucket.window_s > block.buckets[longest].window_s:
                sources[bucket.endpoint] = known
    if b"" in sources:
        sources = {b"": sources[b""]}
    for known in sources.values():
        bucket = block.buckets[known]
        expire(bucket, now)
        for returns_at, count in list(returns(bucket)):
            return_later(new, returns_at - bucket.window_s + new.window_s, count)
        is_broader = not bucket.endpoint and bool(new.endpoint)
        for slot in block.slots[: block.slot_count]:
            if is_broader:  # not all of them are this bucket's: none will be settled in it
                if count := slot.in_flight[known]:
                    return_later(new, now + slot.quarantine_s + new.window_s, count)
            else:
                slot.in_flight[number] += slot.in_flight[known]
