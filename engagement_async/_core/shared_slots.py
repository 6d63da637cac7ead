"""Who spends a contract in common: the block's life over files and boots, and the slots of its processes. Pure."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence

from engagement_async._core import shared_bucket as buckets
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.shared_block import (
    BUCKETS,
    ENDPOINT_BYTES,
    MAGIC,
    Block,
    Bucket,
    is_valid,
    used_bytes,
)
from engagement_async.errors import UsageError

__all__ = ["SharedSlots", "check_limits"]


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


class SharedSlots:
    """One process's place in the block, which is in `buffer`. To be used under the lock of all.

    `slot` is the number of the slot that this process holds, and `owner` the random number by which it knows that the slot
    is still its own.
    """

    def __init__(self, limits: Sequence[RateLimit], buffer: bytearray) -> None:
        self.limits = tuple(limits)
        self.owner = 0
        self.slot = -1
        self.block = Block.from_buffer(buffer)
        self.mine: tuple[tuple[RateLimit, int], ...] = ()  # this process's limits, and the numbers of their buckets
        self._number = self._sequence = 0  # of the block that was seen last

    @property
    def number(self) -> int:
        """The number of the block that was written last; 0 before that."""
        return self._number

    @property
    def used_bytes(self) -> int:
        return used_bytes(self.block)

    # --- the block's life ---

    def is_valid(self) -> bool:
        """Return whether the memory holds a block of this version."""
        return is_valid(self.block)

    def begin(self, boot: str, now: float, wall: float, *, number: int) -> None:
        """Make an empty block with a random number."""
        block = self.block
        ctypes.memset(ctypes.addressof(block), 0, ctypes.sizeof(block))
        block.magic = MAGIC
        block.number = number
        block.boot = boot.encode()
        block.written_at, block.written_wall = now, wall
        block.held_until = block.recovers_at = block.not_before = block.complete_at = -math.inf

    def is_another(self) -> bool:
        """Return whether this is not the block that this process saw last, or an older copy of that."""
        block = self.block
        return bool(self._number) and (block.number != self._number or block.sequence < self._sequence)

    def stamp(self, now: float, wall: float) -> None:
        """Note that the block is changed, and when: all that a later boot can know."""
        block = self.block
        block.written_at, block.written_wall = now, wall
        block.sequence += 1

    def note_seen(self) -> None:
        """Note which block this is, once it is written."""
        self._number, self._sequence = self.block.number, self.block.sequence

    def is_of_boot(self, boot: str) -> bool:
        return bool(self.block.boot == boot.encode())

    def cross_boot(self, boot: str, now: float, wall: float) -> None:
        """Take over a block of an earlier boot: its instants are translated by the wall clock.

        Whoever had requests in flight then is gone. A wall clock that went back is taken as no time at all. The disk may
        lack what was written last, so that much counts as spent when this boot began.
        """
        block = self.block
        then = block.written_at
        ago_s = max(0.0, wall - block.written_wall, now)  # nothing is younger than this boot
        lost_s = max((slot.quarantine_s for slot in block.slots[: block.slot_count]), default=0.0)
        for number in range(block.slot_count):
            self.abandon_slot(number, then)
        for bucket in block.buckets[: block.bucket_count]:
            buckets.cross_boot(bucket, then, now, ago_s, lost_s)
        shift_s = now - then - ago_s
        block.held_until += shift_s
        block.not_before += shift_s
        block.complete_at += shift_s
        block.recovers_at += shift_s
        block.boot = boot.encode()

    # --- slots ---

    def join(self, slot: int, now: float, *, owner: int, in_flight: Sequence[tuple[str | None, int]] = ()) -> None:
        """Take that slot, whose former owner is gone, with what this process has in flight already."""
        block = self.block
        self.abandon_slot(slot, now)
        if self._is_unused(now):
            block.bucket_count = 0  # limits that were tried once and never again leave
        block.slot_count = max(block.slot_count, slot + 1)
        mine = block.slots[slot]
        self.owner = mine.owner = owner
        mine.pass_value, mine.ready_at = block.virtual_time, math.inf
        self.slot = slot
        self.mine = tuple((limit, self._bucket_number(limit, now)) for limit in self.limits)
        for endpoint, count in in_flight:
            for number, _ in self.buckets_of(endpoint):
                mine.in_flight[number] += count

    def leave(self, now: float) -> None:
        """Give the slot up."""
        if self.has_slot:
            self.abandon_slot(self.slot, now)
        self.slot = -1

    @property
    def has_slot(self) -> bool:
        """Whether the slot that this process took is still its own, in this block."""
        return self.slot >= 0 and self.block.slots[self.slot].owner == self.owner

    def note_quarantine(self, seconds: float) -> None:
        """Note how long this process's requests may take to arrive, should it be killed."""
        mine = self.block.slots[self.slot]
        mine.quarantine_s = max(mine.quarantine_s, seconds)

    def others_in_flight(self) -> list[int]:
        """Return the slots of others that have requests in flight."""
        block = self.block
        return [
            number
            for number in range(block.slot_count)
            if number != self.slot and block.slots[number].owner and any(block.slots[number].in_flight)
        ]

    def abandon_slot(self, slot: int, now: float) -> None:
        """Count what the slot's owner has in flight as aborted now: it was killed, or left."""
        block = self.block
        gone = block.slots[slot]
        if gone.owner:
            for number in range(block.bucket_count):
                if count := gone.in_flight[number]:
                    bucket = block.buckets[number]
                    buckets.expire(bucket, now)
                    buckets.return_later(bucket, now + gone.quarantine_s + bucket.window_s, count)
        ctypes.memset(ctypes.addressof(gone), 0, ctypes.sizeof(gone))
        gone.ready_at = math.inf

    # --- buckets ---

    def buckets_of(self, endpoint: str | None) -> Iterator[tuple[int, Bucket]]:
        """Yield those that count requests of an endpoint, with their numbers."""
        for number in range(self.block.bucket_count):
            bucket = self.block.buckets[number]
            if buckets.counts(bucket, endpoint):
                yield number, bucket

    def _bucket_number(self, limit: RateLimit, now: float) -> int:
        """Return the number of the bucket with that endpoint and period; make it if there is none."""
        block = self.block
        key = (limit.endpoint or "").encode(), limit.period
        numbers = range(block.bucket_count)
        number = next((n for n in numbers if (block.buckets[n].endpoint, block.buckets[n].period) == key), -1)
        if number < 0:
            number = self._new_bucket(limit, now)
        bucket = block.buckets[number]
        bucket.most_requests = max(bucket.most_requests, limit.requests)
        bucket.most_burst = max(bucket.most_burst, limit.burst_size)
        return number

    def _new_bucket(self, limit: RateLimit, now: float) -> int:
        block = self.block
        if block.bucket_count == BUCKETS:
            raise UsageError(
                f"{BUCKETS} different limits of this contract are in use on this machine already, beside {limit}: give all "
                "processes the same ones"
            )
        number = block.bucket_count
        block.bucket_count += 1
        buckets.begin(block.buckets[number], limit, now)
        buckets.take_over(block, number, now)
        return number

    def _is_unused(self, now: float) -> bool:
        """Whether nobody has a slot, and nothing that was spent counts any more."""
        block = self.block
        for bucket in block.buckets[: block.bucket_count]:
            buckets.expire(bucket, now)
            if buckets.counted_back(bucket) or bucket.paced_at > now or any(cap.until > now for cap in bucket.caps):
                return False
        return block.recovers_at <= now and not any(slot.owner for slot in block.slots[: block.slot_count])
