"""What of the contract a job has spent lately: remembered across its runs, so that the next one does not exceed it.

The journal learns with every commit which requests were answered in the last window and how many are out. Between two
commits at most `allowance` more may be granted: so whatever kills the process, no more than that is unknown, and the next
run counts it as spent at its own start. Instants are wall clock, epoch seconds: another process must understand them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from engagement_async._core.rate_limit import RateLimit, Token
from engagement_async._engine.scheduler import Lane, Scheduler

__all__ = ["SpendingScheduler"]

_BUCKET_S = 0.25
"""Answers are remembered by quarters of a second, and counted as if they came at its end."""
_LOOK_EVERY_S = 0.1


class SpendingScheduler:
    """A scheduler that remembers what was granted, never grants more than the journal knows of, and can be closed.

    `want_record` is called when the journal should soon learn what was spent. `max_requests` is a budget: when it is
    used up, `on_spent` is called, and nothing more is granted. `quarantine_s` is how long an aborted request may still
    take to arrive. `allowance` is more than the requests at once, or they wait for the disk.
    """

    def __init__(
        self,
        inner: Scheduler,
        *,
        allowance: int,
        quarantine_s: float,
        want_record: Callable[[], object],
        on_spent: Callable[[], object],
        max_requests: int | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._allowance = allowance
        self._quarantine_s = quarantine_s
        self.max_requests = max_requests
        """The budget; set before the first request."""
        self._want_record = want_record
        self._on_spent = on_spent
        self._wall_clock = wall_clock
        self._remembered_s = max(60.0, *(limit.window_s for limit in inner.limits))
        self._answered: deque[list[float]] = deque()  # [instant, count]
        self._earlier: list[list[float]] = []
        self._one_by_one = asyncio.Lock()
        self._out: set[Token] = set()
        self._unrecorded = 0
        self._waiting = 0
        self._has_room = asyncio.Event()
        self._is_closed = False
        self.requests = 0
        """Granted, without those that provably never left."""

    # --- the protocol ---

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane:
        return self._inner.lane(endpoint, weight=weight)

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        while self._unrecorded >= self._allowance and not self._is_closed:
            self._has_room.clear()
            self._want_record()
            await self._has_room.wait()
        if not self._is_closed:
            self._unrecorded += 1
            if self._unrecorded * 2 >= self._allowance:
                self._want_record()
            self._waiting += 1
            try:
                token = await self._granted(lane, retry)
            finally:
                self._waiting -= 1
            if not self._is_closed and not self._is_spent:
                self._out.add(token)
                self.requests += 1
                if self._is_spent:
                    self._on_spent()
                return token
            self._inner.refund(token)
        # Not an error: that would end the answers that are on their way. The stream cancels who waits here.
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody sets this future")

    def settle(self, token: Token) -> None:
        self._inner.settle(token)
        if token in self._out:
            self._note(token, 0.0)

    def abandon(self, token: Token, *, within_s: float) -> None:
        self._inner.abandon(token, within_s=within_s)
        if token in self._out:
            self._note(token, within_s)

    def refund(self, token: Token) -> None:
        self._inner.refund(token)
        if token in self._out:
            self._out.discard(token)
            self.requests -= 1

    def hold(self, seconds: float) -> None:
        self._inner.hold(seconds)

    def available(self, limit: RateLimit, *, since: Token | None = None) -> int:
        return max(0, self._inner.available(limit, since=since) - self._counting(limit))

    def cap(self, limit: RateLimit, remaining: int, for_s: float) -> None:
        self._inner.cap(limit, remaining, for_s)

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        return self._inner.limits

    @property
    def waiting_s(self) -> float:
        if not self._one_by_one.locked() or not self._earlier:
            return self._inner.waiting_s
        first_back_at = min(at for at, _ in self._earlier) + min(limit.period for limit in self.limits)
        return max(self._inner.waiting_s, first_back_at - self._wall_clock())

    @property
    def held_s(self) -> float:
        return self._inner.held_s

    # --- what the job does with it ---

    def close(self) -> None:
        """Grant nothing more; who asks from now on waits until it is cancelled."""
        self._is_closed = True
        self._has_room.set()

    def remember(self, record: Mapping[str, Any] | None, *, counts: bool) -> None:
        """Takes over what the journal knows of the last run. With `counts` it is kept from being spent again."""
        if record is None:
            return
        now = self._wall_clock()
        # Instants far in the future, after the clock was set back, count as the latest that is possible.
        earlier = [[min(at, now + self._quarantine_s), count] for at, count in record["answered"]]
        earlier.append([now, record["unknown"]])
        earlier = [pair for pair in earlier if pair[1] and pair[0] > now - self._remembered_s]
        self._answered.extend(earlier)
        if counts:
            self._earlier = earlier

    def record(self) -> tuple[dict[str, Any], int]:
        """What the journal should know, and a mark to hand to `recorded` once it does."""
        now = self._wall_clock()
        while self._answered and self._answered[0][0] < now - self._remembered_s:
            self._answered.popleft()
        unknown = len(self._out) + (0 if self._is_closed else self._allowance)
        # Who has a part of the allowance and still waits for the contract is in no record yet, and keeps its part.
        return {"unknown": unknown, "answered": [list(pair) for pair in self._answered]}, (
            self._unrecorded - self._waiting
        )

    def recorded(self, mark: int) -> None:
        """The journal knows it."""
        self._unrecorded -= mark
        self._has_room.set()

    async def _granted(self, lane: Lane, retry: bool) -> Any:
        if not self._earlier:
            return await self._inner.acquire(lane, retry=retry)
        async with self._one_by_one:  # so that nobody else takes the token that was seen to be free
            while self._earlier and not all(self._has_free(limit) for limit in self._limits_of(lane)):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_S)
            return await self._inner.acquire(lane, retry=retry)

    def _limits_of(self, lane: Lane) -> list[RateLimit]:
        return [limit for limit in self.limits if limit.endpoint in (None, lane.endpoint)]

    def _has_free(self, limit: RateLimit) -> bool:
        """Whether that limit has a token beyond those that earlier runs took."""
        return self._inner.available(limit) > self._counting(limit)

    def _counting(self, limit: RateLimit) -> int:
        """How many requests of earlier runs that limit still counts."""
        if not self._earlier:
            return 0
        now = self._wall_clock()
        self._earlier = [pair for pair in self._earlier if pair[0] > now - self._remembered_s]
        return int(sum(number for at, number in self._earlier if at > now - limit.window_s))

    @property
    def _is_spent(self) -> bool:
        return self.max_requests is not None and self.requests >= self.max_requests

    def _note(self, token: Token, later_s: float) -> None:
        self._out.discard(token)
        at = math.ceil((self._wall_clock() + later_s) / _BUCKET_S) * _BUCKET_S
        if self._answered and self._answered[-1][0] == at:
            self._answered[-1][1] += 1
        else:
            self._answered.append([at, 1])
