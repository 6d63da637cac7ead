"""The scheduler: who may send the next request, and when. The rule is the ledger's; here are its clock and its waiters.

One pump and one timer serve all waiters. Each call waits in a lane of its own, and each owner of Tweets within it in a
sublane: `lanes.py` says whose turn it is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from engagement_async._core.rate_limit import Ledger, RateLimit
from engagement_async._engine.lanes import Lane, LaneQueue, Turns
from engagement_async.errors import UsageError

__all__ = ["CLOSED", "Grants", "Lane", "LaneScheduler", "LocalScheduler", "Scheduler", "loop_clock"]

CLOSED = "this scheduler was closed: make another one"

logger = logging.getLogger("engagement_async")


def loop_clock(loop: asyncio.AbstractEventLoop | None = None) -> Callable[[], float]:
    """Return the clock of that loop or the running one, so that virtual time works.

    Other loops than asyncio's (uvloop) read their clock once an iteration: there the machine's monotonic clock is exact.
    """
    loop = loop or asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        return loop.time
    from time import monotonic

    return monotonic


class Scheduler(Protocol):
    """What the engine wants of a scheduler, be it of one process or shared between many.

    `acquire` comes last, when body and connection slot are there. Exactly one of `settle`, `abandon` and `refund` gives
    its token back; none of those three waits or fails. The token is the scheduler's own affair. `tests/contract_suite.py`
    holds a scheduler to all of this.
    """

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        """Return what the contract says."""
        ...

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane:
        """Return a place to wait in, for the requests of one call to `endpoint`.

        A lane of `weight` 2 is granted twice as many tokens as one of weight 1 beside it. `Lane.sublane` divides it between
        owners of Tweets.
        """
        ...

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        """Return a token once the contract has one. A wait that is cancelled costs nothing.

        A `retry` goes before the other waiters of its `lane`. Raise `UsageError` when this event loop cannot be served.
        """
        ...

    def settle(self, token: Any) -> None:
        """Take note that the response headers of the request of `token` arrived."""
        ...

    def abandon(self, token: Any, *, within_s: float) -> None:
        """Take note that the request of `token` was aborted, and may still arrive within `within_s` seconds.

        The engine gives its own request timeout: a shared scheduler need not know the timeouts of its users.
        """
        ...

    def refund(self, token: Any) -> None:
        """Take note that the request of `token` provably never left."""
        ...

    def hold(self, seconds: float) -> None:
        """Grant nothing for so many `seconds`: the server refused for the rate."""
        ...

    def cap(self, limit: RateLimit, remaining: int, for_s: float) -> None:
        """Grant at most `remaining` requests of `limit` for `for_s` seconds: the server says that no more are left."""
        ...

    def available(self, limit: RateLimit, *, since: Any = None) -> int:
        """Return how many requests of `limit` may be sent, the pace apart.

        With `since`, a token, those do not count that became available after its grant.
        """
        ...

    @property
    def waiting_s(self) -> float:
        """Return the seconds until the next grant while somebody waits for one; 0 when nobody does."""
        ...

    @property
    def held_s(self) -> float:
        """Return the seconds for which the server's own word still holds the contract; 0 when it does not."""
        ...


def new_ledger_name() -> str:
    """Return a name that no other ledger has."""
    return secrets.token_hex(8)


class Grants(Protocol):
    """What a `LaneScheduler` wants of a ledger: `Ledger` itself, or one that is shared with other schedulers."""

    @property
    def name(self) -> str:
        """A name that identifies this ledger among all processes; empty while it is not known."""
        ...

    @property
    def limits(self) -> tuple[RateLimit, ...]: ...

    @property
    def shortest_window_s(self) -> float: ...

    @property
    def held_until(self) -> float: ...

    @property
    def poll_s(self) -> float:
        """Seconds after which a waiter must look again, because of what other schedulers gave back; `inf` without any."""
        ...

    def reserve(self, now: float, endpoint: str | None = None) -> Any:
        """Return a token, or as a `float` the instant to try again at."""
        ...

    def settle(self, token: Any, now: float) -> None: ...

    def abandon(self, token: Any, now: float, within_s: float) -> None: ...

    def abandon_all(self, now: float, within_s: float) -> None: ...

    def refund(self, token: Any) -> None: ...

    def count_earlier(
        self, answered_at: Iterable[float], now: float, endpoint: str | None = None, *, known_by: str = ""
    ) -> None:
        """Count requests that others granted, before it grants anything more, unless `known_by` is its own name."""
        ...

    def hold_until(self, at: float) -> None: ...

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None: ...

    def available(self, limit: RateLimit, now: float, *, since: Any = None) -> int: ...

    def capped_until(self, now: float) -> float: ...


class LaneScheduler:
    """Lanes, waiters, one pump and one timer over a ledger, on one event loop at a time.

    A second loop that uses it while the first one runs, in another thread, gets a `UsageError` at once. When the first
    one was closed, the second one takes over: who still waited there is forgotten, and requests that were in flight
    there count as aborted, with `quarantine_s` as the time that they may still take to arrive.
    """

    def __init__(self, ledger: Grants, *, quarantine_s: float = 60.0, clock: Callable[[], float] | None = None) -> None:
        self._ledger = ledger
        self._shortest_window_s = ledger.shortest_window_s
        self._poll_s = ledger.poll_s
        self._quarantine_s = quarantine_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_clock = clock
        self._clock: Callable[[], float] = clock or self._unbound_clock
        self._queues: dict[str | None, LaneQueue] = {}  # in which somebody may wait, by endpoint
        self._turns = Turns()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._grant_at = math.inf
        """When the next token is due, as far as that is known: the timer may look earlier, for what others give back."""
        self._warned_of_cap = False

    def replace_ledger(self, ledger: Grants) -> None:
        """Grant by another ledger of the same limits from now on, before the first token was granted."""
        self._ledger = ledger
        self._poll_s = ledger.poll_s

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        """Return what the contract says."""
        return self._ledger.limits

    def lane(self, endpoint: str | None = None, *, weight: float = 1.0) -> Lane:
        """Return a lane for one call to `endpoint`; one of `weight` 2 is granted twice as much as one of 1 beside it.

        Raise `UsageError` for a weight that is not above 0.
        """
        return Lane(endpoint, weight=weight)

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        """Return a token, once the contract has one. A cancelled wait costs nothing.

        `lane` is this scheduler's, or a sublane; a `retry` goes before first attempts there. Raise `UsageError` when another
        event loop uses this scheduler.
        """
        loop = self.bind()
        if not self._queues:
            token = self._ledger.reserve(self._clock(), lane.endpoint)
            if not isinstance(token, float):
                return token
        future: asyncio.Future[Any] = loop.create_future()
        if self._enqueue(lane, future, retry):
            self._pump()
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.refund(future.result())  # cancelled at the very moment of its grant
            raise

    def settle(self, token: Any) -> None:
        """Take `token` back one window from now: its response headers are here."""
        now = self._clock()
        self._ledger.settle(token, now)
        if self._queues and self._timer_at > now + self._shortest_window_s:
            self._reconsider()

    def abandon(self, token: Any, *, within_s: float) -> None:
        """Take `token` back one window after its aborted request may have arrived, in `within_s` seconds from now."""
        now = self._clock()
        self._ledger.abandon(token, now, within_s)
        if self._queues and self._timer_at > now + self._shortest_window_s:
            self._reconsider()

    def refund(self, token: Any) -> None:
        """Take `token` back at once: its request provably never left."""
        self._ledger.refund(token)
        if self._queues:
            self._reconsider()

    @property
    def ledger_name(self) -> str:
        """The name that identifies its ledger among all processes; empty while it is not known."""
        return self._ledger.name

    def count_earlier(self, ages_s: Iterable[float], endpoint: str | None = None, *, known_by: str = "") -> None:
        """Count requests of an earlier process, that were answered so many seconds ago.

        Count nothing if `known_by` is the name of this scheduler's own ledger, which has them already.
        """
        now = self._clock()
        self._ledger.count_earlier([now - age_s for age_s in ages_s], now, endpoint, known_by=known_by)

    def hold(self, seconds: float) -> None:
        """Grant nothing for so many `seconds`: the server refused for the rate."""
        self._ledger.hold_until(self._clock() + seconds)

    def cap(self, limit: RateLimit, remaining: int, for_s: float) -> None:
        """Grant at most `remaining` requests of `limit` for `for_s` seconds. See `Ledger.cap`."""
        now = self._clock()
        self._ledger.cap(limit, remaining, now, now + for_s)

    def available(self, limit: RateLimit, *, since: Any = None) -> int:
        """Return how many requests of `limit` may be sent, the pace apart, `since` a token. See `Ledger.available`."""
        return self._ledger.available(limit, self._clock(), since=since)

    @property
    def waiting_s(self) -> float:
        """Return the seconds until the next grant while somebody waits for one; 0 when nobody does."""
        if self._timer is None or not self._by_turn():
            return 0.0
        return max(0.0, (self._grant_at if self._grant_at < math.inf else self._timer_at) - self._clock())

    @property
    def held_s(self) -> float:
        """Return the seconds for which the server's own word still holds the contract; 0 when it does not."""
        return max(0.0, self._ledger.held_until - self._clock())

    # --- for ledgers that come to know something by themselves ---

    def bind(self) -> asyncio.AbstractEventLoop:
        """Serve the running loop from now on, and return it. Raise `UsageError` while another one is served."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._bind(loop)
        return loop

    def count_waiting(self, at_most: int) -> dict[str | None, int]:
        """Return how many wait for a token, by endpoint; from `at_most` on it is not counted further."""
        return {endpoint: self._queues[endpoint].count(at_most) for endpoint in self._by_turn()}

    def reconsider(self) -> None:
        """Grant what can be granted now: the ledger may have more than it said."""
        if self._queues:
            self._reconsider()

    def fail_waiting(self, error: Exception) -> None:
        """Raise an error to everybody who waits: no token will come."""
        is_open = self._loop is not None and not self._loop.is_closed()
        for future in self._forget_waiters():
            if is_open and not future.done():
                future.set_exception(error)

    # --- the loop ---

    def _unbound_clock(self) -> float:
        self._bind(asyncio.get_running_loop())
        return self._clock()

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        former, clock = self._loop, self._own_clock or loop_clock(loop)
        if former is not None:
            if former.is_running():
                raise UsageError(
                    "this scheduler is in use in an event loop of another thread, and serves one loop at a time: give each "
                    "thread a scheduler with its part of the contract, or clients with the same rate_limit, which share it"
                )
            if former.is_closed():
                self._forget_waiters()
                self._ledger.abandon_all(self._clock(), self._quarantine_s)
            elif self._by_turn():
                raise UsageError(
                    "calls still wait for this scheduler in another event loop, which was stopped and not closed: close it, "
                    "or cancel them there"
                )
            ahead_s = self._clock() - clock()
            if ahead_s > 0:  # a loop with a clock of its own: time must not go back
                loop_time = clock
                clock = lambda: loop_time() + ahead_s  # noqa: E731
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf
        self._loop, self._clock = loop, clock

    def _forget_waiters(self) -> list[asyncio.Future[Any]]:
        forgotten = [future for queue in self._queues.values() for future in queue.clear()]
        self._queues.clear()
        return forgotten

    # --- the waiters ---

    def _enqueue(self, lane: Lane, future: asyncio.Future[Any], retry: bool) -> bool:
        """Whether this is the first one of its endpoint: behind others, the timer is set already."""
        queue = self._queues.get(lane.endpoint)
        is_first = queue is None
        if queue is None:
            queue = self._queues[lane.endpoint] = LaneQueue(self._turns)
        (lane.retries if retry else lane.waiters).append(future)
        while lane.parent is not None and lane.parent.sublanes is not None:
            lane.parent.sublanes.add(lane)
            lane = lane.parent
        queue.add(lane)
        return is_first

    def _by_turn(self) -> list[str | None]:
        """Return the endpoints for which somebody waits, the one whose turn it is first."""
        for endpoint, queue in list(self._queues.items()):
            if queue.first() is None:
                del self._queues[endpoint]
        if len(self._queues) < 2:
            return list(self._queues)
        return sorted(self._queues, key=lambda endpoint: self._queues[endpoint].turn)

    def _reconsider(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._pump()

    def _pump(self) -> None:
        """Grant what can be granted now, and set the one timer for the rest."""
        now = self._clock()
        while True:
            wake_at = math.inf
            for endpoint in self._by_turn():
                token = self._ledger.reserve(now, endpoint)
                if not isinstance(token, float):
                    self._grant(endpoint, token)
                    break
                wake_at = min(wake_at, token)  # and another endpoint's own limit may have a token
            else:
                break
        if wake_at < math.inf and not self._warned_of_cap:
            self._warn_of_cap(wake_at, now)
        self._grant_at = wake_at
        self._set_timer(min(wake_at, now + self._poll_s) if self._queues else math.inf, now)

    def _grant(self, endpoint: str | None, token: Any) -> None:
        queue = self._queues[endpoint]
        future = queue.take()
        if not queue:
            del self._queues[endpoint]
        future.set_result(token)

    def _warn_of_cap(self, wake_at: float, now: float) -> None:
        """Warn, once, when somebody waits because of what the server said is left: then it costs."""
        if self._ledger.capped_until(now) >= wake_at:
            self._warned_of_cap = True
            logger.warning(
                "the API says that the contract is used up, waiting %.0f s: somebody else spends this contract too, "
                "or it is smaller than %s",
                wake_at - now,
                " and ".join(f"{limit.requests:,} per {limit.period:g} s" for limit in self.limits),
            )

    def _set_timer(self, at: float, now: float) -> None:
        if self._timer is not None:
            if at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at < math.inf and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, at - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self._pump()


class LocalScheduler(LaneScheduler):
    """Keeps the contract within one process, on one event loop at a time: see `LaneScheduler`.

    `limits` are granted all or none. `quarantine_s` is the seconds for which what a closed loop had in flight may still
    arrive. `clock` gives seconds, monotonic; the running loop's own by default. Raise `UsageError` for no limits.
    """

    def __init__(
        self,
        limits: RateLimit | Sequence[RateLimit],
        *,
        quarantine_s: float = 60.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        ledger = Ledger(limits if isinstance(limits, Sequence) else [limits], name=new_ledger_name())
        super().__init__(ledger, quarantine_s=quarantine_s, clock=clock)
