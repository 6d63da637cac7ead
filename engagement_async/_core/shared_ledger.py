"""The ledger's rule for several processes, over one block of memory that they share. Pure: whoever calls it holds a lock.

The rule is that of `rate_limit.py`, and its names are. What differs is where the numbers are: in a block
(`shared_block.py`) in which each process has a slot of its own. What a process has in flight lies in its slot, so that it
can be taken over when the process is killed; what was answered lies in buckets (`shared_bucket.py`).

Processes may state different limits. Each request is counted in every bucket of the block that concerns its endpoint,
whoever asked for that bucket; each process enforces its own limits on those counts. Slots take turns by stride
scheduling, as lanes do within a process: a slot that waits, and whose time has come, goes before those served more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engagement_async._core import shared_bucket as buckets
from engagement_async._core.rate_limit import RECOVERY_INTERVAL_S, RECOVERY_S, RateLimit
from engagement_async._core.shared_block import Bucket
from engagement_async._core.shared_slots import SharedSlots

__all__ = ["GRACE_S", "SharedLedger", "SharedToken"]

GRACE_S = 0.02
"""What is kept for a slot whose turn has come is kept for so long: event loops are late."""


@dataclass(slots=True, eq=False)
class SharedToken:
    """The right to send one request, of one slot's owner."""

    endpoint: str | None
    owner: int
    generation: int
    returned: int
    is_out: bool = True


class SharedLedger(SharedSlots):
    """One process's part in the block: what it is granted, and gives back. To be used under the lock of all."""

    # --- the rule ---

    def reserve(self, now: float, endpoint: str | None) -> SharedToken | float:
        """Return a token, or the instant to try again at: `inf` when only a token that comes back can help."""
        block = self.block
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
        block = self.block
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
        block = self.block
        mine = block.slots[self.slot]
        returned = 0
        for number, bucket in self.buckets_of(endpoint):
            mine.in_flight[number] += 1
            returned += bucket.returned
            for cap in bucket.caps:
                cap.remaining -= 1
        for limit, bucket in self._limits_of(endpoint):
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
        mine = self.block.slots[self.slot]
        for number, bucket in self.buckets_of(token.endpoint):
            mine.in_flight[number] -= min(1, mine.in_flight[number])
            for cap in bucket.caps:
                if cap.generation <= token.generation:
                    cap.remaining += 1
        for limit, bucket in self._limits_of(token.endpoint):
            bucket.paced_at = max(bucket.paced_at - limit.interval_s, bucket.least_paced_at)

    def count_earlier(self, answered_at: Iterable[float], now: float, endpoint: str | None) -> None:
        """Count requests that this ledger did not grant, answered at these instants."""
        by_instant = Counter(answered_at)
        for _, bucket in self.buckets_of(endpoint):
            buckets.expire(bucket, now)
            for at, count in by_instant.items():
                if at + bucket.window_s > now:
                    buckets.return_later(bucket, at + bucket.window_s, count)

    def freeze_until(self, at: float) -> None:
        """Grant nothing before that instant: what was spent until now is not known."""
        block = self.block
        block.not_before = max(block.not_before, at)
        block.complete_at = max(block.complete_at, at)

    def hold_until(self, at: float) -> None:
        """Grant nothing before that instant, and resume paced, without a burst."""
        block = self.block
        if at <= block.held_until:
            return
        block.held_until = at
        block.not_before = max(block.not_before, at)
        block.recovers_at = at + RECOVERY_S
        for limit, number in self.mine:
            bucket = block.buckets[number]
            bucket.least_paced_at = max(bucket.least_paced_at, at + limit.burst_s)
            bucket.paced_at = max(bucket.paced_at, bucket.least_paced_at)

    @property
    def held_until(self) -> float:
        return float(self.block.held_until)

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        """Take another word of the server."""
        self.block.generation += 1
        bucket = self.block.buckets[self._number_of(limit)]
        buckets.add_cap(bucket, remaining, now, until, self.block.generation)

    def available(self, limit: RateLimit, now: float, since: SharedToken | None) -> int:
        """Return how many requests of that limit may be sent, the pace apart; as of a token's grant, if one is given.

        None while what was spent is not known.
        """
        if now < self.block.complete_at:
            return 0
        number = self._number_of(limit)
        bucket = self.block.buckets[number]
        buckets.expire(bucket, now)
        left = [limit.requests - self._in_flight(number) - buckets.counted_back(bucket)]
        left += [cap.remaining for cap in bucket.caps if cap.until > now]
        available = min(left)
        if since is not None:
            returned = sum(each.returned for _, each in self.buckets_of(since.endpoint))
            available -= max(0, returned - since.returned)
        return max(0, available)

    def capped_until(self, now: float) -> float:
        return max(buckets.capped_until(self.block.buckets[number], now) for _, number in self.mine)

    # --- parts of it ---

    def _ready_at(self, now: float, endpoint: str | None, ahead: int) -> float:
        """Return the earliest instant of a grant when so many are made before it."""
        ready_at = self.block.not_before
        for limit, number in self.mine:
            if limit.endpoint in (None, endpoint):
                ready_at = max(ready_at, self._ready_at_limit(limit, number, now, ahead))
        return ready_at

    def _ready_at_limit(self, limit: RateLimit, number: int, now: float, ahead: int) -> float:
        bucket = self.block.buckets[number]
        buckets.expire(bucket, now)
        paced_at = bucket.paced_at + ahead * limit.interval_s - limit.burst_s
        ready_at = max(paced_at, buckets.capped_until(bucket, now, ahead))
        free = limit.requests - self._in_flight(number) - buckets.counted_back(bucket)
        if free > ahead:
            return ready_at
        return max(ready_at, buckets.nth_return(bucket, ahead - free + 1))

    def _in_flight(self, number: int) -> int:
        block = self.block
        return sum(block.slots[slot].in_flight[number] for slot in range(block.slot_count))

    def _return_later(self, token: SharedToken, now: float, arrived_at: float) -> None:
        mine = self.block.slots[self.slot]
        for number, bucket in self.buckets_of(token.endpoint):
            buckets.expire(bucket, now)
            if token.owner == self.owner:
                mine.in_flight[number] -= min(1, mine.in_flight[number])
            buckets.return_later(bucket, arrived_at + bucket.window_s, 1)

    def _limits_of(self, endpoint: str | None) -> Iterator[tuple[RateLimit, Bucket]]:
        """Yield this process's own limits that concern an endpoint."""
        for limit, number in self.mine:
            if limit.endpoint in (None, endpoint):
                yield limit, self.block.buckets[number]

    def _number_of(self, limit: RateLimit) -> int:
        for known, number in self.mine:
            if known == limit:
                return number
        raise ValueError(f"{limit} is not in this ledger")
