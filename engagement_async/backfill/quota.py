"""The contract across the runs of a job: what one run sent lately, the next one does not send again.

With every commit the journal learns which requests were answered in the last window and how many are outstanding. Between
two commits at most `grant_ahead` more may be granted: whatever kills the process, no more than that is unknown, and the
next run counts it as sent at its own start. Instants are wall clock, epoch seconds: another process must understand them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from engagement_async._core.rate_limit import CLOCK_MARGIN_S, RateLimit, Token
from engagement_async._engine.scheduler import Lane, Scheduler

__all__ = ["DurableScheduler"]

_BUCKET_S = 0.25
"""Answers are logged by quarters of a second, and counted as if they came at its end."""
_LOOK_EVERY_S = 0.1


class DurableScheduler:
    """A scheduler that logs what it grants, never grants more than the journal knows of, and can be closed.

    `request_checkpoint` is called when the journal should soon learn what was granted. `max_requests` is a budget: when it
    is used up, `on_budget_exhausted` is called, and nothing more is granted. `quarantine_s` is how long an aborted request
    may still take to arrive. `grant_ahead` must exceed the concurrency, or requests wait for disk writes.
    """

    def __init__(
        self,
        inner: Scheduler,
        *,
        grant_ahead: int,
        quarantine_s: float,
        request_checkpoint: Callable[[], object],
        on_budget_exhausted: Callable[[], object],
        max_requests: int | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._grant_ahead = grant_ahead
        self._quarantine_s = quarantine_s
        self.max_requests = max_requests
        """The budget; set before the first request."""
        self._request_checkpoint = request_checkpoint
        self._on_budget_exhausted = on_budget_exhausted
        self._wall_clock = wall_clock
        self._horizon_s = max(60.0, *(limit.period for limit in inner.limits)) + CLOCK_MARGIN_S
        self._answered: deque[list[float]] = deque()  # [instant, count]
        self._previous_runs: list[list[float]] = []
        self._one_by_one = asyncio.Lock()
        self._outstanding: set[Token] = set()
        self._unacknowledged = 0
        self._waiting = 0
        self._grantable = asyncio.Event()
        self._is_closed = False
        self.requests = 0
        """Granted, without those that provably never left."""

    # --- the protocol ---

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane:
        return self._inner.lane(endpoint, weight=weight)

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Token:
        while self._unacknowledged >= self._grant_ahead and not self._is_closed:
            self._grantable.clear()
            self._request_checkpoint()
            await self._grantable.wait()
        if not self._is_closed:
            self._unacknowledged += 1
            if self._unacknowledged * 2 >= self._grant_ahead:
                self._request_checkpoint()
            self._waiting += 1
            try:
                token = await self._acquire_inner(lane, retry)
            finally:
                self._waiting -= 1
            if not self._is_closed and not self._is_exhausted:
                self._outstanding.add(token)
                self.requests += 1
                if self._is_exhausted:
                    self._on_budget_exhausted()
                return token
            self._inner.refund(token)
        # Not an error: that would end the answers that are on their way. The stream cancels who waits here.
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody sets this future")

    def settle(self, token: Token) -> None:
        self._inner.settle(token)
        if token in self._outstanding:
            self._log(token, 0.0)

    def abandon(self, token: Token) -> None:
        self._inner.abandon(token)
        if token in self._outstanding:
            self._log(token, self._quarantine_s)

    def refund(self, token: Token) -> None:
        self._inner.refund(token)
        if token in self._outstanding:
            self._outstanding.discard(token)
            self.requests -= 1

    def hold(self, seconds: float) -> None:
        self._inner.hold(seconds)

    def free(self, limit: RateLimit) -> int:
        return max(0, self._inner.free(limit) - self._counting(limit))

    def cap(self, limit: RateLimit, left: int, for_s: float) -> None:
        self._inner.cap(limit, left, for_s)

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        return self._inner.limits

    @property
    def waiting_s(self) -> float:
        if not self._one_by_one.locked() or not self._previous_runs:
            return self._inner.waiting_s
        first_back_at = min(at for at, _ in self._previous_runs) + min(limit.period for limit in self.limits)
        return max(self._inner.waiting_s, first_back_at - self._wall_clock())

    @property
    def held_s(self) -> float:
        return self._inner.held_s

    # --- what the job does with it ---

    def close(self) -> None:
        """Grant nothing more: `acquire` waits from now on until it is cancelled."""
        self._is_closed = True
        self._grantable.set()

    def restore(self, record: Mapping[str, Any] | None, *, counts: bool) -> None:
        """Take over what the journal knows of the last run; with `counts` it uses up the contract of this one."""
        if record is None:
            return
        now = self._wall_clock()
        # Instants far in the future, after the clock was set back, count as the latest that is possible.
        previous = [[min(at, now + self._quarantine_s), count] for at, count in record["answered"]]
        previous.append([now, record["unknown"]])
        previous = [pair for pair in previous if pair[1] and pair[0] > now - self._horizon_s]
        self._answered.extend(previous)
        if counts:
            self._previous_runs = previous

    def checkpoint(self) -> tuple[dict[str, Any], int]:
        """Return what the journal should know, and a mark to `acknowledge` once it does."""
        now = self._wall_clock()
        while self._answered and self._answered[0][0] < now - self._horizon_s:
            self._answered.popleft()
        unknown = len(self._outstanding) + (0 if self._is_closed else self._grant_ahead)
        # Requests that still wait for the contract were counted against `grant_ahead` and stay so.
        record = {"unknown": unknown, "answered": [list(pair) for pair in self._answered]}
        return record, self._unacknowledged - self._waiting

    def acknowledge(self, mark: int) -> None:
        """The journal knows of the checkpoint with this mark."""
        self._unacknowledged -= mark
        self._grantable.set()

    async def _acquire_inner(self, lane: Lane, retry: bool) -> Token:
        if not self._previous_runs:
            return await self._inner.acquire(lane, retry=retry)
        async with self._one_by_one:  # so that nobody else takes the token that was seen to be free
            while self._previous_runs and not all(self._has_free(limit) for limit in self._limits_of(lane)):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_S)
            return await self._inner.acquire(lane, retry=retry)

    def _limits_of(self, lane: Lane) -> list[RateLimit]:
        return [limit for limit in self.limits if limit.endpoint in (None, lane.endpoint)]

    def _has_free(self, limit: RateLimit) -> bool:
        """Whether that limit has a token beyond those that previous runs spent."""
        return self._inner.free(limit) > self._counting(limit)

    def _counting(self, limit: RateLimit) -> int:
        """How many requests of previous runs that limit still counts."""
        if not self._previous_runs:
            return 0
        now = self._wall_clock()
        self._previous_runs = [pair for pair in self._previous_runs if pair[0] > now - self._horizon_s]
        return int(sum(number for at, number in self._previous_runs if at > now - limit.period - CLOCK_MARGIN_S))

    @property
    def _is_exhausted(self) -> bool:
        return self.max_requests is not None and self.requests >= self.max_requests

    def _log(self, token: Token, later_s: float) -> None:
        self._outstanding.discard(token)
        at = math.ceil((self._wall_clock() + later_s) / _BUCKET_S) * _BUCKET_S
        if self._answered and self._answered[-1][0] == at:
            self._answered[-1][1] += 1
        else:
            self._answered.append([at, 1])
