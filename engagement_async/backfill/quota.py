"""The contract across the runs of a job: what one run sent lately, the next one does not send again.

With every commit the journal learns which requests were answered in the last window, and how many are outstanding. Beyond
that at most `grant_ahead` more may be granted before the next commit: whatever kills the process, no more than that is
unknown, and the next run counts it as sent at its own start. A run that was granted nothing leaves nothing unknown, so
that a job that is killed again and again gets its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from engagement_async._core.rate_limit import RateLimit
from engagement_async._engine.scheduler import Lane, Scheduler
from engagement_async.backfill.clocks import Instant, elapsed_s, instant_now

__all__ = ["DurableScheduler"]

_BUCKET_S = 0.25
"""Answers are logged by quarters of a second, and counted as if they came at its end."""


class DurableScheduler:
    """A scheduler that logs what it grants, never grants more than the journal knows of, and can be closed.

    `request_checkpoint` is called when the journal should soon learn what was granted. `max_requests` is a budget: when it
    is used up, `on_budget_exhausted` is called, and nothing more is granted. `grant_ahead` should exceed the concurrency,
    or requests wait for disk writes. `ledger_name` returns the name of the ledger of `inner`, if it has one that is known.
    """

    def __init__(
        self,
        inner: Scheduler,
        *,
        grant_ahead: int,
        request_checkpoint: Callable[[], object],
        on_budget_exhausted: Callable[[], object],
        max_requests: int | None = None,
        clock: Callable[[], Instant] = instant_now,
        ledger_name: Callable[[], str] = lambda: "",
    ) -> None:
        self._inner = inner
        self._grant_ahead = grant_ahead
        self._max_requests = max_requests
        self._request_checkpoint = request_checkpoint
        self._on_budget_exhausted = on_budget_exhausted
        self._clock = clock
        self._ledger_name = ledger_name
        self.known_by = ""
        """The name of the ledger that knows of what the journal knows; empty if none does."""
        self._has_granted = False
        self._began = clock()
        self._horizon_s = max((limit.window_s for limit in inner.limits), default=0.0)
        self._answered: deque[list[float]] = deque()  # [seconds since the beginning, requests]
        self._outstanding: dict[int, Any] = {}  # tokens by identity: they are the scheduler's own affair
        self._allowed = 0  # how many more may be granted before the journal knows more
        self._granted = 0
        self._granted_at_checkpoint = 0
        self._waiting = 0  # granted by the contract, but not allowed yet
        self._allowed_more = asyncio.Event()
        self._is_closed = False
        self.requests = 0
        """Granted, without those that provably never left."""

    # --- the protocol ---

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane:
        return self._inner.lane(endpoint, weight=weight)

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        """Return a token, once the contract has one and the journal allows it. Wait for ever once it is closed."""
        token = await self._inner.acquire(lane, retry=retry)
        self._has_granted = True
        self._waiting += 1
        try:
            while not self._allowed and not self._is_finished:
                self._allowed_more.clear()
                self._request_checkpoint()
                await self._allowed_more.wait()
        except BaseException:
            self._inner.refund(token)
            raise
        finally:
            self._waiting -= 1
        if self._is_finished:
            self._inner.refund(token)
            # Not an error: that would end the answers that are on their way. The stream cancels who waits here.
            await asyncio.get_running_loop().create_future()
        self._allowed -= 1
        self._granted += 1
        self.requests += 1
        self._outstanding[id(token)] = token
        if self._is_exhausted:
            self._on_budget_exhausted()
        elif self._allowed * 2 <= self._grant_ahead:
            self._request_checkpoint()
        return token

    def settle(self, token: Any) -> None:
        self._inner.settle(token)
        self._log(token, 0.0)

    def abandon(self, token: Any, *, within_s: float) -> None:
        self._inner.abandon(token, within_s=within_s)
        self._log(token, within_s)

    def refund(self, token: Any) -> None:
        self._inner.refund(token)
        if self._outstanding.pop(id(token), None) is not None:
            self.requests -= 1

    def hold(self, seconds: float) -> None:
        self._inner.hold(seconds)

    def cap(self, limit: RateLimit, remaining: int, for_s: float) -> None:
        self._inner.cap(limit, remaining, for_s)

    def available(self, limit: RateLimit, *, since: Any = None) -> int:
        return self._inner.available(limit, since=since)

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        return self._inner.limits

    @property
    def waiting_s(self) -> float:
        return self._inner.waiting_s

    @property
    def held_s(self) -> float:
        return self._inner.held_s

    # --- what the job does with it ---

    @property
    def in_flight(self) -> int:
        """Requests that were granted and not answered yet."""
        return len(self._outstanding)

    def close(self) -> None:
        """Grant nothing more: `acquire` waits from now on until it is cancelled."""
        self._is_closed = True
        self._allowed_more.set()

    def restore(self, record: Mapping[str, Any] | None) -> list[float]:
        """Take over what the journal knows of the last run; return how many seconds ago its requests were answered.

        Those whose number alone is known count as answered now. The ledger `known_by` knows of all of them already; the
        journal must know of them further on, for a run with another ledger.
        """
        if record is None:
            return []
        self.known_by = record["process"]
        since_s = elapsed_s(Instant(**record["at"]), self._clock())
        answered = [[age_s + since_s, count] for age_s, count in record["answered"]]
        answered.append([0.0, record["unknown"]])
        answered = [[age_s, count] for age_s, count in answered if count and age_s < self._horizon_s]
        self._answered.extend([-age_s, count] for age_s, count in answered)
        return [age_s for age_s, count in answered for _ in range(int(count))]

    def checkpoint(self) -> tuple[dict[str, Any], int]:
        """Return what the journal should know, and a mark to `acknowledge` once it does."""
        now = self._clock()
        at_s = elapsed_s(self._began, now)
        while self._answered and self._answered[0][0] < at_s - self._horizon_s:
            self._answered.popleft()
        is_at_work = self._waiting or self._granted > self._granted_at_checkpoint
        ahead = self._grant_ahead if is_at_work and not self._is_finished else 0
        self._granted_at_checkpoint = self._granted
        self._allowed = min(self._allowed, ahead)  # the journal may know of this before it is acknowledged
        if (name := self._ledger_name()) or self._has_granted:
            self.known_by = name
        record = {
            "process": self.known_by,  # called so when a process had one ledger
            "at": asdict(now),
            "unknown": len(self._outstanding) + ahead,
            "answered": [[round(at_s - logged_at_s, 2), count] for logged_at_s, count in self._answered],
        }
        return record, self._granted + ahead

    def acknowledge(self, mark: int) -> None:
        """Note that the journal knows of the checkpoint with this mark."""
        self._allowed = mark - self._granted
        if self._allowed:
            self._allowed_more.set()

    @property
    def _is_exhausted(self) -> bool:
        return self._max_requests is not None and self.requests >= self._max_requests

    @property
    def _is_finished(self) -> bool:
        return self._is_closed or self._is_exhausted

    def _log(self, token: Any, later_s: float) -> None:
        if self._outstanding.pop(id(token), None) is None:
            return
        at_s = elapsed_s(self._began, self._clock()) + later_s
        at_s -= at_s % -_BUCKET_S
        if self._answered and self._answered[-1][0] == at_s:
            self._answered[-1][1] += 1
        else:
            self._answered.append([at_s, 1])
