"""The scheduler: who may send the next request, and when. The rule is the ledger's; here are its clock and its waiters.

One pump and one timer serve all waiters. Each call waits in a lane of its own: lanes share the contract by weight
(stride scheduling, https://en.wikipedia.org/wiki/Stride_scheduling), so a small call is not stuck behind a large one;
within a lane retries go first, and the rest first in, first out.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from engagement_async._core.rate_limit import Ledger, RateLimit, Token
from engagement_async.errors import UsageError

__all__ = ["Lane", "LocalScheduler", "Scheduler", "loop_clock"]


def loop_clock() -> Callable[[], float]:
    """The running loop's own clock, so that virtual time works.

    Other loops than asyncio's (uvloop) read their clock once an iteration: there the machine's monotonic clock is exact.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        return loop.time
    from time import monotonic

    return monotonic


class Lane:
    """Where the requests of one call wait for their turn."""

    __slots__ = ("endpoint", "passed", "retries", "stride", "waiters")

    def __init__(self, endpoint: str | None = None, *, weight: float = 1.0) -> None:
        if not weight > 0:
            raise UsageError(f"a lane's weight is a number above 0, not {weight!r}")
        self.endpoint = endpoint
        self.stride = 1.0 / weight
        self.passed = 0.0
        self.retries: deque[asyncio.Future[Token]] = deque()
        self.waiters: deque[asyncio.Future[Token]] = deque()

    def first(self) -> asyncio.Future[Token] | None:
        """Whose turn it is in this lane; waiters that were cancelled meanwhile are dropped."""
        for queue in (self.retries, self.waiters):
            while queue:
                if not queue[0].done():
                    return queue[0]
                queue.popleft()
        return None


class Scheduler(Protocol):
    """What the engine wants of a scheduler, be it local or shared between processes.

    `acquire` takes the token last, when body and connection slot are there; exactly one of `settle`, `abandon` and
    `refund` gives it back. None of those three waits or fails.
    """

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane: ...

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Token: ...

    def settle(self, token: Token) -> None: ...

    def abandon(self, token: Token) -> None: ...

    def refund(self, token: Token) -> None: ...

    def hold(self, seconds: float) -> None: ...

    def free(self, limit: RateLimit) -> int: ...

    def cap(self, limit: RateLimit, left: int, for_s: float) -> None: ...

    @property
    def limits(self) -> tuple[RateLimit, ...]: ...

    @property
    def waiting_s(self) -> float: ...

    @property
    def held_s(self) -> float: ...


class LocalScheduler:
    """Keeps the contract within one process, on one event loop.

    `limits` are granted all or none. `quarantine_s` is the longest time that an aborted request may still take to
    arrive: the request's timeout. `clock` gives seconds, monotonic; the running loop's own by default.
    """

    def __init__(
        self,
        limits: RateLimit | Sequence[RateLimit],
        *,
        quarantine_s: float = 60.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        several = limits if isinstance(limits, Sequence) else [limits]
        self._ledger = Ledger(several, quarantine_s=quarantine_s)
        self._clock = clock
        self._waiting: list[Lane] = []  # lanes in which somebody may wait
        self._passed = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        return self._ledger.limits

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane:
        """A lane for one call; a lane of weight 2 is granted twice as many tokens as one of weight 1 beside it."""
        return Lane(endpoint, weight=weight)

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Token:
        """A token, once the contract has one. A cancelled wait costs nothing."""
        now = self._now()
        if not self._waiting:
            token = self._ledger.reserve(now, lane.endpoint)
            if not isinstance(token, float):
                return token
        future: asyncio.Future[Token] = asyncio.get_running_loop().create_future()
        self._enqueue(lane, future, retry)
        self._pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # cancelled at the very moment of its grant
                self.refund(future.result())
            raise

    def settle(self, token: Token) -> None:
        """The response headers are here."""
        self._ledger.settle(token, self._now())
        if self._waiting:
            self._pump()

    def abandon(self, token: Token) -> None:
        """The request was aborted, and may still arrive."""
        self._ledger.abandon(token, self._now())
        if self._waiting:
            self._pump()

    def refund(self, token: Token) -> None:
        """The request provably never left."""
        self._ledger.refund(token)
        if self._waiting:
            self._pump()

    def hold(self, seconds: float) -> None:
        """The server refused for the rate: grant nothing for that long."""
        self._ledger.hold_until(self._now() + seconds)

    def free(self, limit: RateLimit) -> int:
        """How many requests of that limit may be sent, the pace apart."""
        return self._ledger.free(limit, self._now())

    def cap(self, limit: RateLimit, left: int, for_s: float) -> None:
        """Somebody else spends the same contract: at most so many requests for so long. See `Ledger.cap`."""
        now = self._now()
        self._ledger.cap(limit, left, now, now + for_s)

    @property
    def waiting_s(self) -> float:
        """Seconds until the next grant while somebody waits for one; 0 when nobody does."""
        if self._timer is None or not any(lane.first() for lane in self._waiting):
            return 0.0
        return max(0.0, self._timer_at - self._now())

    @property
    def held_s(self) -> float:
        """Seconds for which the server's own word still holds the contract; 0 when it does not."""
        return max(0.0, self._ledger.held_until - self._now())

    def _now(self) -> float:
        if self._clock is None:
            self._clock = loop_clock()
        return self._clock()

    def _enqueue(self, lane: Lane, future: asyncio.Future[Token], retry: bool) -> None:
        if lane not in self._waiting:
            # A lane that was idle has no claim on the past.
            lane.passed = max(lane.passed, self._passed)
            self._waiting.append(lane)
        (lane.retries if retry else lane.waiters).append(future)

    def _pump(self) -> None:
        """Grant what can be granted now, and set the one timer for the rest."""
        now = self._now()
        wake_at = math.inf
        while True:
            self._waiting = [lane for lane in self._waiting if lane.first() is not None]
            granted = False
            wake_at = math.inf
            for lane in sorted(self._waiting, key=_passed) if len(self._waiting) > 1 else self._waiting:
                token = self._ledger.reserve(now, lane.endpoint)
                if isinstance(token, float):
                    wake_at = min(wake_at, token)
                    continue  # another endpoint's own limit may be free
                self._grant(lane, token)
                granted = True
                break
            if not granted:
                break
        self._set_timer(wake_at, now)

    def _grant(self, lane: Lane, token: Token) -> None:
        future = lane.first()
        assert future is not None  # noqa: S101 - the pump looks at waiting lanes alone
        (lane.retries if lane.retries and lane.retries[0] is future else lane.waiters).popleft()
        # The time of all lanes never goes back: a lane that its own limit held up must not date a newcomer.
        self._passed = max(self._passed, lane.passed)
        lane.passed += lane.stride
        future.set_result(token)

    def _set_timer(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self._pump()


def _passed(lane: Lane) -> float:
    return lane.passed
