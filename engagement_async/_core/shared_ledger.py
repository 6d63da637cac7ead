"""The ledger's rule for several processes, over one block of memory that they share. Pure: whoever calls it holds a lock.

The rule is that of `rate_limit.py`, and its names are. What differs is where the numbers are: a block of fixed size, in
which each process has a slot of its own. What a process has in flight lies in its slot, so that it can be taken over when
the process is killed. Tokens that were answered lie in a ring of counters by the time of their return, rounded up to a
quantum of a 500th of the window: later than the rule asks, so the proof holds.

Processes may state different limits. Each request is counted in every bucket of the block that concerns its endpoint,
whoever asked for that bucket; each process enforces its own limits on those counts. Slots take turns by stride
scheduling, as lanes do within a process: a slot that waits, and whose time has come, goes before those served more.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engagement_async._core.rate_limit import RECOVERY_INTERVAL_S, RECOVERY_S, RateLimit
from engagement_async.errors import UsageError

__all__ = ["GRACE_S", "SLOTS", "SharedLedger", "SharedToken", "block_bytes", "check_limits"]

MAGIC = 0x45_4E_47_41_47_45_30_31
"""Of this layout: another one is another ledger."""
SLOTS = 64
"""Processes (or event loops) that may spend one contract at the same time."""
BUCKETS = 8
RING = 512
QUANTA = 500
LATE = 16
CAPS = 4
ENDPOINT_BYTES = 32
GRACE_S = 0.02
"""What is kept for a slot whose turn has come is kept for so long: event loops are late."""


class _Cap(ctypes.Structure):
    _fields_ = [("until", ctypes.c_double), ("generation", ctypes.c_uint64), ("remaining", ctypes.c_int64)]
    until: float
    generation: int
    remaining: int


class _Late(ctypes.Structure):
    _fields_ = [("returns_at", ctypes.c_double), ("count", ctypes.c_uint64)]
    returns_at: float
    count: int


class _Bucket(ctypes.Structure):
    _fields_ = [
        ("endpoint", ctypes.c_char * ENDPOINT_BYTES),
        ("period", ctypes.c_double),
        ("window_s", ctypes.c_double),
        ("quantum_s", ctypes.c_double),
        ("paced_at", ctypes.c_double),
        ("least_paced_at", ctypes.c_double),
        ("returned", ctypes.c_uint64),
        ("cursor", ctypes.c_int64),
        ("in_ring", ctypes.c_uint64),
        ("in_late", ctypes.c_uint64),
        ("caps", _Cap * CAPS),
        ("late", _Late * LATE),
        ("ring", ctypes.c_uint32 * RING),
    ]
    endpoint: bytes
    period: float
    window_s: float
    quantum_s: float
    paced_at: float
    least_paced_at: float
    returned: int
    cursor: int
    in_ring: int
    in_late: int
    caps: ctypes.Array[_Cap]
    late: ctypes.Array[_Late]
    ring: ctypes.Array[ctypes.c_uint32]


class _Slot(ctypes.Structure):
    _fields_ = [
        ("owner", ctypes.c_uint64),
        ("quarantine_s", ctypes.c_double),
        ("pass_value", ctypes.c_double),
        ("ready_at", ctypes.c_double),
        ("in_flight", ctypes.c_uint32 * BUCKETS),
    ]
    owner: int
    quarantine_s: float
    pass_value: float
    ready_at: float
    in_flight: ctypes.Array[ctypes.c_uint32]


class _Block(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_uint64),
        ("boot", ctypes.c_char * 40),
        ("written_at", ctypes.c_double),
        ("written_wall", ctypes.c_double),
        ("generation", ctypes.c_uint64),
        ("held_until", ctypes.c_double),
        ("not_before", ctypes.c_double),
        ("recovers_at", ctypes.c_double),
        ("virtual_time", ctypes.c_double),
        ("slot_count", ctypes.c_uint32),
        ("bucket_count", ctypes.c_uint32),
        ("slots", _Slot * SLOTS),
        ("buckets", _Bucket * BUCKETS),
    ]
    magic: int
    boot: bytes
    written_at: float
    written_wall: float
    generation: int
    held_until: float
    not_before: float
    recovers_at: float
    virtual_time: float
    slot_count: int
    bucket_count: int
    slots: ctypes.Array[_Slot]
    buckets: ctypes.Array[_Bucket]


def block_bytes() -> int:
    """Return the size of the block."""
    return ctypes.sizeof(_Block)


def used_bytes(block: _Block) -> int:
    """Return how much of the block is in use: the rest need not be copied."""
    return ctypes.sizeof(_Block) - (BUCKETS - block.bucket_count) * ctypes.sizeof(_Bucket)


def check_limits(limits: Sequence[RateLimit]) -> None:
    """Raise `UsageError` for limits that a block cannot hold."""
    keys = {(limit.endpoint, limit.period) for limit in limits}
    if len(keys) > BUCKETS // 2:
        raise UsageError(
            f"a contract that is shared between processes has at most {BUCKETS // 2} limits, not {len(keys)}"
        )
    for endpoint, _ in keys:
        if len((endpoint or "").encode()) >= ENDPOINT_BYTES:
            raise UsageError(f"RateLimit has no endpoint {endpoint!r}")


@dataclass(slots=True, eq=False)
class SharedToken:
    """The right to send one request, of one slot's owner."""

    endpoint: str | None
    owner: int
    generation: int
    returned: int
    is_out: bool = True


# --- one bucket ---


def _index_at(bucket: _Bucket, now: float) -> int:
    """Return the number of the last quantum that is over: the largest with `number * quantum_s <= now`."""
    index = math.floor(now / bucket.quantum_s)
    return index + 1 if (index + 1) * bucket.quantum_s <= now else index


def _expire(bucket: _Bucket, now: float) -> None:
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
            bucket.in_ring -= returned
            bucket.returned += returned
        bucket.cursor = cursor
    if bucket.in_late:
        for late in bucket.late:
            if late.count and late.returns_at <= now:
                bucket.returned += late.count
                bucket.in_late -= late.count
                late.count = 0


def _return_later(bucket: _Bucket, returns_at: float, count: int) -> None:
    """Have so many tokens come back at that instant, or a little later."""
    index = math.ceil(returns_at / bucket.quantum_s)
    if index <= bucket.cursor:
        bucket.returned += count
    elif index - bucket.cursor < RING:
        bucket.ring[index % RING] += count
        bucket.in_ring += count
    else:
        _add_late(bucket, returns_at, count)


def _add_late(bucket: _Bucket, returns_at: float, count: int) -> None:
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


def _counted_back(bucket: _Bucket) -> int:
    """Return how many tokens were answered and have not come back."""
    return bucket.in_ring + bucket.in_late


def _nth_return(bucket: _Bucket, nth: int) -> float:
    """Return when so many of them have come back, 1 being the next; `inf` when there are not so many."""
    returns = _returns(bucket) if not bucket.in_late else sorted(_returns(bucket))
    for returns_at, count in returns:
        nth -= count
        if nth <= 0:
            return returns_at
    return math.inf


def _returns(bucket: _Bucket) -> Iterator[tuple[float, int]]:
    left = bucket.in_ring
    index = bucket.cursor
    while left > 0:
        index += 1
        if count := bucket.ring[index % RING]:
            left -= count
            yield index * bucket.quantum_s, count
    if bucket.in_late:
        for late in bucket.late:
            if late.count:
                yield late.returns_at, late.count


def _clear(bucket: _Bucket, now: float) -> None:
    """Forget what was answered, from `now` on."""
    ctypes.memset(bucket.ring, 0, ctypes.sizeof(bucket.ring))
    ctypes.memset(bucket.late, 0, ctypes.sizeof(bucket.late))
    bucket.in_ring = bucket.in_late = 0
    bucket.cursor = _index_at(bucket, now)


def _capped_until(bucket: _Bucket, now: float) -> float:
    return max((cap.until for cap in bucket.caps if cap.until > now and cap.remaining <= 0), default=-math.inf)


def _counts(bucket: _Bucket, endpoint: str | None) -> bool:
    """Whether requests of that endpoint count in this bucket."""
    return not bucket.endpoint or (endpoint is not None and bucket.endpoint == endpoint.encode())


class SharedLedger:
    """One process's part in the block, which is in `buffer`: its limits and its slot. To be used under the lock of all.

    `slot` is the number of the slot that this process holds, and `owner` the random number by which it knows that the slot
    is still its own.
    """

    def __init__(self, limits: Sequence[RateLimit], buffer: bytearray) -> None:
        self.limits = tuple(limits)
        self.owner = 0
        self.slot = -1
        self._block = _Block.from_buffer(buffer)
        self._mine: tuple[tuple[RateLimit, int], ...] = ()  # this process's limits, and the numbers of their buckets

    @property
    def used_bytes(self) -> int:
        return used_bytes(self._block)

    # --- the block's life ---

    def is_valid(self) -> bool:
        """Whether the memory holds a ledger of this version."""
        block = self._block
        return (
            block.magic == MAGIC
            and block.slot_count <= SLOTS
            and block.bucket_count <= BUCKETS
            and all(
                bucket.quantum_s > 0 and bucket.window_s > 0 and not math.isnan(bucket.paced_at)
                for bucket in block.buckets[: block.bucket_count]
            )
        )

    def begin(self, boot: str, now: float, wall: float) -> None:
        """Make an empty ledger."""
        ctypes.memset(ctypes.addressof(self._block), 0, ctypes.sizeof(self._block))
        block = self._block
        block.magic = MAGIC
        block.boot = boot.encode()
        block.written_at, block.written_wall = now, wall
        block.held_until = block.recovers_at = block.not_before = -math.inf

    def stamp(self, now: float, wall: float) -> None:
        """Note when the block was changed last: all that a later boot can know."""
        self._block.written_at, self._block.written_wall = now, wall

    def is_of_boot(self, boot: str) -> bool:
        return bool(self._block.boot == boot.encode())

    def cross_boot(self, boot: str, now: float, wall: float) -> None:
        """Take over a ledger of an earlier boot: its instants are translated by the wall clock.

        Whoever had requests in flight then is gone. A wall clock that went back is taken as no time at all.
        """
        block = self._block
        then = block.written_at
        ago_s = max(0.0, wall - block.written_wall, now)  # nothing is younger than this boot
        for number in range(block.slot_count):
            self._abandon_slot(number, then)
        for bucket in block.buckets[: block.bucket_count]:
            _expire(bucket, then)
            returns = list(_returns(bucket))
            _clear(bucket, now)
            for returns_at, count in returns:
                _return_later(bucket, returns_at - then - ago_s + now, count)
            for cap in bucket.caps:
                cap.until += now - then - ago_s
            bucket.paced_at += now - then - ago_s
            bucket.least_paced_at = -math.inf
        block.held_until += now - then - ago_s
        block.not_before += now - then - ago_s
        block.recovers_at += now - then - ago_s
        block.boot = boot.encode()

    # --- slots ---

    def join(self, slot: int, now: float, *, owner: int, in_flight: Sequence[tuple[str | None, int]] = ()) -> None:
        """Take that slot, whose former owner is gone, with what this process has in flight already."""
        block = self._block
        self._abandon_slot(slot, now)
        if self._is_unused(now):
            block.bucket_count = 0  # limits that were tried once and never again leave
        block.slot_count = max(block.slot_count, slot + 1)
        mine = block.slots[slot]
        self.owner = mine.owner = owner
        mine.pass_value, mine.ready_at = block.virtual_time, math.inf
        self.slot = slot
        self._mine = tuple((limit, self._bucket_number(limit, now)) for limit in self.limits)
        for endpoint, count in in_flight:
            for number, _ in self._buckets_of(endpoint):
                mine.in_flight[number] += count

    def leave(self, now: float) -> None:
        """Give the slot up."""
        if self.has_slot:
            self._abandon_slot(self.slot, now)
        self.slot = -1

    @property
    def has_slot(self) -> bool:
        """Whether the slot that this process took is still its own, in this block."""
        return self.slot >= 0 and self._block.slots[self.slot].owner == self.owner

    def is_taken(self, slot: int) -> bool:
        """Whether somebody else has that slot."""
        return self._block.slots[slot].owner not in (0, self.owner)

    def others_in_flight(self) -> list[int]:
        """Return the slots of others that have requests in flight."""
        block = self._block
        return [
            number
            for number in range(block.slot_count)
            if number != self.slot and block.slots[number].owner and any(block.slots[number].in_flight)
        ]

    def abandon_slot(self, slot: int, now: float) -> None:
        """Count what the slot's owner has in flight as aborted now: it was killed."""
        self._abandon_slot(slot, now)

    def _abandon_slot(self, slot: int, now: float) -> None:
        block = self._block
        gone = block.slots[slot]
        if gone.owner:
            for number in range(block.bucket_count):
                if count := gone.in_flight[number]:
                    bucket = block.buckets[number]
                    _expire(bucket, now)
                    _return_later(bucket, now + gone.quarantine_s + bucket.window_s, count)
        ctypes.memset(ctypes.addressof(gone), 0, ctypes.sizeof(gone))
        gone.ready_at = math.inf

    # --- the rule ---

    def reserve(self, now: float, endpoint: str | None) -> SharedToken | float:
        """Return a token, or the instant to try again at: `inf` when only a token that comes back can help."""
        block = self._block
        mine = block.slots[self.slot]
        if mine.ready_at == math.inf:
            mine.pass_value = max(mine.pass_value, block.virtual_time)  # an idle slot earns no credit
        least_at = ready_at = max(now, self._ready_at(now, endpoint, 0))
        rivals = self._rivals(now)
        counted = 0
        while (ahead := sum(at <= ready_at for at in rivals)) > counted:
            ready_at = max(ready_at, self._ready_at(now, endpoint, ahead))
            counted = ahead
        if ready_at <= now:
            return self._grant(now, endpoint)
        mine.ready_at = min(mine.ready_at, ready_at) if mine.ready_at > now else ready_at
        # Those ahead may not come. What they leave is anybody's after some grace.
        left_at = max([least_at, *(at + GRACE_S for at in rivals if at <= ready_at)]) if rivals else ready_at
        return max(min(ready_at, left_at), math.nextafter(now, math.inf))

    def _rivals(self, now: float) -> list[float]:
        """Return when those have their turn who wait, were served less, and are not too late for it."""
        block = self._block
        mine = block.slots[self.slot]
        return [
            other.ready_at
            for number, other in enumerate(block.slots[: block.slot_count])
            if number != self.slot
            and other.owner
            and now < other.ready_at + GRACE_S < math.inf
            and (other.pass_value, number) < (mine.pass_value, self.slot)
        ]

    def _grant(self, now: float, endpoint: str | None) -> SharedToken:
        block = self._block
        mine = block.slots[self.slot]
        returned = 0
        for number, bucket in self._buckets_of(endpoint):
            mine.in_flight[number] += 1
            returned += bucket.returned
            for cap in bucket.caps:
                cap.remaining -= 1
        for limit, number in self._mine:
            if limit.endpoint in (None, endpoint):
                bucket = block.buckets[number]
                bucket.paced_at = max(bucket.paced_at, now) + limit.interval_s
        if now < block.recovers_at:
            block.not_before = now + RECOVERY_INTERVAL_S
        block.virtual_time = max(block.virtual_time, mine.pass_value)
        mine.pass_value += 1.0
        mine.ready_at = math.inf
        return SharedToken(endpoint, self.owner, block.generation, returned)

    def settle(self, token: SharedToken, now: float) -> None:
        """Take the token back one window from now: its response headers arrived."""
        self._return_later(token, now, now)

    def abandon(self, token: SharedToken, now: float, within_s: float) -> None:
        """Take the token back one window after its request may arrive."""
        self._return_later(token, now, now + within_s)

    def refund(self, token: SharedToken, now: float) -> None:
        """Take the token back at once: its request provably never left."""
        if token.owner != self.owner:
            return  # it counts as aborted since its slot was lost
        mine = self._block.slots[self.slot]
        for number, bucket in self._buckets_of(token.endpoint):
            mine.in_flight[number] -= min(1, mine.in_flight[number])
            for cap in bucket.caps:
                if cap.generation <= token.generation:
                    cap.remaining += 1
        for limit, number in self._mine:
            if limit.endpoint in (None, token.endpoint):
                bucket = self._block.buckets[number]
                bucket.paced_at = max(bucket.paced_at - limit.interval_s, bucket.least_paced_at)

    def note_quarantine(self, seconds: float) -> None:
        """Note how long this process's requests may take to arrive, should it be killed."""
        mine = self._block.slots[self.slot]
        mine.quarantine_s = max(mine.quarantine_s, seconds)

    def freeze_until(self, at: float) -> None:
        """Grant nothing before that instant: what was spent until now is not known."""
        self._block.not_before = max(self._block.not_before, at)

    def hold_until(self, at: float) -> None:
        """Grant nothing before that instant, and resume paced, without a burst."""
        block = self._block
        if at <= block.held_until:
            return
        block.held_until = at
        block.not_before = max(block.not_before, at)
        block.recovers_at = at + RECOVERY_S
        for limit, number in self._mine:
            bucket = block.buckets[number]
            bucket.least_paced_at = max(bucket.least_paced_at, at + limit.burst_s)
            bucket.paced_at = max(bucket.paced_at, bucket.least_paced_at)

    @property
    def held_until(self) -> float:
        return float(self._block.held_until)

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        """Take another word of the server. The tightest ones are kept."""
        self._block.generation += 1
        caps = self._block.buckets[self._number_of(limit)].caps
        room = min(caps, key=lambda cap: (cap.until > now, cap.remaining, -cap.until))
        for cap in caps:
            if cap.until > now and cap.remaining <= remaining and cap.until >= until:
                return
            if cap.until > now and remaining <= cap.remaining and until >= cap.until:
                room = cap
        if room.until > now:  # no room: the later of the two ends holds for the fewer of the two
            remaining, until = min(remaining, room.remaining), max(until, room.until)
        room.until, room.remaining, room.generation = until, remaining, self._block.generation

    def available(self, limit: RateLimit, now: float, since: SharedToken | None) -> int:
        """Return how many requests of that limit may be sent, the pace apart; as of a token's grant, if one is given."""
        number = self._number_of(limit)
        bucket = self._block.buckets[number]
        _expire(bucket, now)
        left = [limit.requests - self._in_flight(number) - _counted_back(bucket)]
        left += [cap.remaining for cap in bucket.caps if cap.until > now]
        available = min(left)
        if since is not None:
            available -= sum(each.returned for _, each in self._buckets_of(since.endpoint)) - since.returned
        return max(0, available)

    def capped_until(self, now: float) -> float:
        return max(_capped_until(self._block.buckets[number], now) for _, number in self._mine)

    # --- parts of it ---

    def _ready_at(self, now: float, endpoint: str | None, ahead: int) -> float:
        """Return the earliest instant of a grant when so many are made before it."""
        ready_at = self._block.not_before
        for limit, number in self._mine:
            if limit.endpoint in (None, endpoint):
                ready_at = max(ready_at, self._ready_at_limit(limit, number, now, ahead))
        return ready_at

    def _ready_at_limit(self, limit: RateLimit, number: int, now: float, ahead: int) -> float:
        bucket = self._block.buckets[number]
        _expire(bucket, now)
        ready_at = bucket.paced_at + ahead * limit.interval_s - limit.burst_s
        for cap in bucket.caps:
            if cap.until > now and cap.remaining <= ahead:
                ready_at = max(ready_at, cap.until)
        free = limit.requests - self._in_flight(number) - _counted_back(bucket)
        if free > ahead:
            return ready_at
        return max(ready_at, _nth_return(bucket, ahead - free + 1))

    def _in_flight(self, number: int) -> int:
        block = self._block
        return sum(block.slots[slot].in_flight[number] for slot in range(block.slot_count))

    def _return_later(self, token: SharedToken, now: float, arrived_at: float) -> None:
        mine = self._block.slots[self.slot]
        for number, bucket in self._buckets_of(token.endpoint):
            _expire(bucket, now)
            if token.owner == self.owner:
                mine.in_flight[number] -= min(1, mine.in_flight[number])
            _return_later(bucket, arrived_at + bucket.window_s, 1)

    def _buckets_of(self, endpoint: str | None) -> Iterator[tuple[int, _Bucket]]:
        for number in range(self._block.bucket_count):
            bucket = self._block.buckets[number]
            if _counts(bucket, endpoint):
                yield number, bucket

    def _number_of(self, limit: RateLimit) -> int:
        for known, number in self._mine:
            if known == limit:
                return number
        raise ValueError(f"{limit} is not in this ledger")

    def _bucket_number(self, limit: RateLimit, now: float) -> int:
        """Return the number of the bucket with that endpoint and period; make it if there is none."""
        block = self._block
        key = (limit.endpoint or "").encode(), limit.period
        for number in range(block.bucket_count):
            if (block.buckets[number].endpoint, block.buckets[number].period) == key:
                return number
        if block.bucket_count == BUCKETS:
            raise UsageError(
                f"{BUCKETS} different limits of this contract are in use on this machine already, beside {limit}: give all "
                "processes the same ones"
            )
        number = block.bucket_count
        block.bucket_count += 1
        bucket = block.buckets[number]
        ctypes.memset(ctypes.addressof(bucket), 0, ctypes.sizeof(bucket))
        bucket.endpoint, bucket.period = key
        bucket.window_s = limit.window_s
        bucket.quantum_s = limit.window_s / QUANTA
        bucket.paced_at = bucket.least_paced_at = -math.inf
        bucket.cursor = _index_at(bucket, now)
        self._take_over(number, limit, now)
        return number

    def _take_over(self, number: int, limit: RateLimit, now: float) -> None:
        """Count in a new bucket what others know of its requests: those of the longest window, an endpoint."""
        block = self._block
        new = block.buckets[number]
        sources: dict[bytes, int] = {}
        for known in range(number):
            bucket = block.buckets[known]
            if limit.endpoint is None or bucket.endpoint in (b"", new.endpoint):
                longest = sources.setdefault(bucket.endpoint, known)
                if bucket.window_s > block.buckets[longest].window_s:
                    sources[bucket.endpoint] = known
        if b"" in sources:
            sources = {b"": sources[b""]}
        for known in sources.values():
            bucket = block.buckets[known]
            _expire(bucket, now)
            for returns_at, count in list(_returns(bucket)):
                _return_later(new, returns_at - bucket.window_s + new.window_s, count)
            is_broader = not bucket.endpoint and bool(new.endpoint)
            for slot in block.slots[: block.slot_count]:
                if is_broader:  # not all of them are this bucket's: none will be settled in it
                    if count := slot.in_flight[known]:
                        _return_later(new, now + slot.quarantine_s + new.window_s, count)
                else:
                    slot.in_flight[number] += slot.in_flight[known]

    def _is_unused(self, now: float) -> bool:
        """Whether nobody has a slot, and nothing that was spent counts any more."""
        block = self._block
        for bucket in block.buckets[: block.bucket_count]:
            _expire(bucket, now)
            if _counted_back(bucket) or bucket.paced_at > now or any(cap.until > now for cap in bucket.caps):
                return False
        return block.recovers_at <= now and not any(slot.owner for slot in block.slots[: block.slot_count])
