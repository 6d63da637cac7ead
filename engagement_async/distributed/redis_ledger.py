"""The ledger of a contract in Redis, as a `LaneScheduler` wants one: tokens that were leased, and what is to be given back.

The scheduler asks in the middle of its loop and must not wait, so what it takes are tokens that an exchange has leased
before, and what it gives back goes into a list. One task makes the exchanges, one after the other: each carries all that
happened since the last one, in order, and brings tokens for those who wait. An exchange whose reply does not come is
repeated as it was; its number tells the script whether it was carried out already. So nothing is lost while the process
lives, and nothing happens twice.

A leased token is for an instant, perhaps a little ahead. Redis counts a process that was not heard of for `LIVES_S` as gone,
and what it had out as aborted; so a token that was not used until then is used no more.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.rate_limit import RateLimit
from engagement_async.distributed.boot import boot_clock
from engagement_async.distributed.redis_clock import ClockWatch
from engagement_async.distributed.redis_link import RedisLink, RedisUnavailableError

__all__ = ["RedisLedger", "RedisToken"]

logger = logging.getLogger("engagement_async")

LIVES_S = 15.0
"""A process is heard of every second, or as soon as Redis is back."""
USE_WITHIN_S = 0.8 * LIVES_S
HORIZON_S = 0.25
"""Tokens are leased so far ahead, or an eighth of the window: a 429 of another process is known no later."""
POLL_S = 0.25
HEARTBEAT_S = 1.0
FLUSH_S = 0.05
"""What happened is told within so long, or a 500th of the window: a token that is told late comes back late."""
UNUSED_S = 0.05
"""A token that nobody took for so long after its instant is given back."""
STALE_S = 0.02
MOST_WANTED = 64
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 1.0
LEAVE_WITHIN_S = 1.0


@dataclass(slots=True, eq=False)
class RedisToken:
    """The right to send one request, from an instant on and up to another."""

    endpoint: str
    not_before: float
    use_until: float
    generation: int
    epoch: int
    is_out: bool = True


class Event(NamedTuple):
    """What happened since the last exchange, as the script takes it: its name, and three values."""

    name: str
    first: str | int | float = 0
    number: int = 0
    third: float = 0.0


GIVEN_BACK = frozenset({"settle", "abandon", "refund"})


class _InTransit(NamedTuple):
    request: dict[str, Any]
    sent_at: float
    """When it was sent first: the script may have carried it out since."""


class RedisLedger:
    """One process's part of a contract in Redis.

    `connect` makes the link, on the event loop that runs. `wanted` tells how many wait for each endpoint, `on_change` is
    called when something was granted, and `on_error` with what only a change of the configuration can mend. `place` is
    the address as messages name it.
    """

    poll_s = math.inf

    def __init__(
        self,
        limits: Sequence[RateLimit],
        *,
        connect: Callable[[], RedisLink],
        wanted: Callable[[], dict[str | None, int]],
        on_change: Callable[[], object],
        on_error: Callable[[Exception], object],
        quarantine_s: float,
        place: str,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.limits = tuple(limits)
        self.shortest_window_s = min(limit.window_s for limit in limits)
        self.name = ""
        """As Redis has it; empty until it was heard of, and knows what earlier processes sent."""
        self.held_until = -math.inf
        self.exchanges = 0
        """With Redis, repeated ones not counted."""
        self._connect = connect
        self._wanted = wanted
        self._on_change = on_change
        self._on_error = on_error
        self._quarantine_s = quarantine_s
        self._place = place
        self._clock = clock
        self._horizon_s = min(HORIZON_S, self.shortest_window_s / 8)
        self._flush_s = min(FLUSH_S, self.shortest_window_s / 500)
        self._heartbeat_s = min(HEARTBEAT_S, self.shortest_window_s / 4)
        self._owner = secrets.token_hex(8)
        self._number = 0
        self._epoch = 0
        self._pool: dict[str, deque[RedisToken]] = {}
        self._out: Counter[str] = Counter()  # with what the pool holds, without what the events below give back
        self._events: list[Event] = []
        self._in_transit: _InTransit | None = None
        self._ask_at: dict[str, float] = {}
        self._ready_at = math.inf
        self._exchange_at = math.inf
        self._looked_at = -math.inf
        self._clocks = ClockWatch(max(limit.window_s for limit in limits))
        self._available = [0] * len(self.limits)
        self._is_alone = False
        self._capped_until = -math.inf
        self._is_down = self._is_incomplete = self._is_closing = False
        self._runner: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    # --- what a scheduler wants of a ledger ---

    def reserve(self, now: float, endpoint: str | None = None) -> RedisToken | float:
        """Return a token that was leased, or the instant to try again at; and have more leased."""
        name = _name(endpoint)
        pool = self._pool.get(name)
        while pool:
            token = pool[0]
            if now >= token.use_until:
                self._give_back(pool.popleft(), now, "refund", token.generation)
            elif max(token.not_before, self.held_until) > now:
                return max(token.not_before, self.held_until)
            else:
                return pool.popleft()
        self._exchange_by(max(now, self._ask_at.get(name, -math.inf)))
        at = max(self._ready_at, self._capped_until)
        return at if at > now else math.inf

    def count_earlier(
        self, answered_at: Iterable[float], now: float, endpoint: str | None = None, *, known_by: str = ""
    ) -> None:
        """Count requests of another ledger. Redis remembers what it granted to earlier processes: see `known_by`."""
        self._empty_pool(now)
        self._add_event(now, Event("known_by", known_by))
        for at, count in Counter(answered_at).items():
            self._add_event(now, Event("earlier", _name(endpoint), count, now - at))
        self.name = ""
        self._exchange_by(now)

    def settle(self, token: RedisToken, now: float) -> None:
        self._give_back(token, now, "settle")

    def abandon(self, token: RedisToken, now: float, within_s: float) -> None:
        self._quarantine_s = max(self._quarantine_s, within_s)
        self._give_back(token, now, "abandon", within_s)

    def refund(self, token: RedisToken) -> None:
        self._give_back(token, self._clock(), "refund", token.generation)

    def abandon_all(self, now: float, within_s: float) -> None:
        """Count all that is out as aborted: its event loop was closed."""
        self._epoch += 1
        self._pool.clear()
        for name, count in (+self._out).items():
            self._add_event(now, Event("abandon", name, count, within_s))
        self._out.clear()

    def hold_until(self, at: float) -> None:
        now = self._clock()
        if at > self.held_until:
            self.held_until = at
            self._empty_pool(now)
            self._add_event(now, Event("hold", max(0.0, at - now)))
            self._exchange_by(now)

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        index = self._index(limit)
        self._empty_pool(now)
        self._available[index] = min(self._available[index], max(0, remaining))
        self._add_event(now, Event("cap", index + 1, remaining, until - now))
        self._exchange_by(now)

    def available(self, limit: RateLimit, now: float, *, since: RedisToken | None = None) -> int:
        """Return what the last exchange found. With `since`, none where other processes may have taken it meanwhile."""
        if now > self._looked_at + STALE_S:
            self._exchange_by(now)
        if since is not None and not self._is_alone:
            return 0
        return self._available[self._index(limit)]

    def capped_until(self, now: float) -> float:
        return self._capped_until

    @property
    def is_closed(self) -> bool:
        """Whether it grants nothing more."""
        return self._is_closing

    async def aclose(self) -> None:
        """Give everything back, if Redis answers, and close the connection."""
        self._is_closing = True
        if self._runner is not None and self._runner.get_loop() is asyncio.get_running_loop():
            self._wake.set()
            await asyncio.wait({self._runner}, timeout=LEAVE_WITHIN_S)
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    # --- what is to be told ---

    def _index(self, limit: RateLimit) -> int:
        if limit not in self.limits:
            raise ValueError(f"{limit} is not in this ledger")
        return self.limits.index(limit)

    def _give_back(self, token: RedisToken, now: float, event: str, third: float = 0.0) -> None:
        if token.is_out and token.epoch == self._epoch:
            token.is_out = False
            self._out[token.endpoint] -= 1
            self._add_event(now, Event(event, token.endpoint, 1, third))

    def _empty_pool(self, now: float) -> None:
        for pool in self._pool.values():
            while pool:
                token = pool.popleft()
                self._give_back(token, now, "refund", token.generation)

    def _add_event(self, now: float, event: Event) -> None:
        """Note what happened; the same thing once more is counted with the last."""
        last = self._events[-1] if self._events else None
        if last and event.name in GIVEN_BACK and last._replace(number=0) == event._replace(number=0):
            self._events[-1] = event._replace(number=event.number + last.number)
        else:
            self._events.append(event)
        self._exchange_by(now + self._flush_s)

    # --- exchanges ---

    def _exchange_by(self, at: float) -> None:
        """Make an exchange at that instant or before."""
        if at < self._exchange_at:
            self._exchange_at = at
            self._wake.set()
        if self._is_closing:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # given back by the garbage collector, after the loop's end
            return
        if self._runner is None or self._runner.done() or self._runner.get_loop() is not loop:
            self._wake = asyncio.Event()
            self._runner = loop.create_task(self._run(), name="engagement-async: the contract in Redis")

    async def _run(self) -> None:
        link: RedisLink | None = None
        backoff_s = FIRST_BACKOFF_S
        try:
            link = await asyncio.to_thread(self._connect)  # the library looks for files
            while not self._is_closing:
                await self._sleep_until_due()
                try:
                    await self._exchange(link)
                    backoff_s = FIRST_BACKOFF_S
                except RedisUnavailableError as error:
                    self._note_down(error)
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(LONGEST_BACKOFF_S, 2 * backoff_s)
            with suppress(RedisUnavailableError):
                await self._leave(link)
        except Exception as error:  # else those who wait would wait for ever
            self._on_error(error)
        finally:
            if link is not None:
                await link.aclose()

    async def _sleep_until_due(self) -> None:
        if self._in_transit is not None:
            return  # it is to be repeated
        while not self._is_closing and (delay_s := self._exchange_at - self._clock()) > 0:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if delay_s == math.inf else delay_s):
                    await self._wake.wait()

    async def _exchange(self, link: RedisLink) -> None:
        if self._in_transit is None:
            now = self._clock()
            self._drop_unused(now)
            self._in_transit = _InTransit(self._request(leaves=False), now)
        reply = await link.exchange(self._in_transit.request)
        in_transit, self._in_transit = self._in_transit, None
        self._take(reply, in_transit, self._clock())

    async def _leave(self, link: RedisLink) -> None:
        if self._in_transit is not None:
            await self._exchange(link)
        if self._number:
            self._empty_pool(self._clock())
            await link.exchange(self._request(leaves=True))

    def _request(self, *, leaves: bool) -> dict[str, Any]:
        """Return what to send: all events, and how many tokens are wanted beside those in the pool."""
        out = Counter(self._out)
        for event in self._events:
            if event.name in GIVEN_BACK:
                out[str(event.first)] += event.number
        self._number += 1
        events, self._events = self._events, []
        self._exchange_at = math.inf
        return {
            "owner": self._owner,
            "n": self._number,
            "lives": LIVES_S,
            "quarantine": self._quarantine_s,
            "longest": max(limit.window_s for limit in self.limits),
            "endpoints": tuple(ENDPOINTS),
            "limits": [_as_dict(limit) for limit in self.limits],
            "events": events,
            "out": dict(+out),
            "wants": [] if leaves else [(name, min(MOST_WANTED, count)) for name, count in self._unmet().items()],
            "horizon": self._horizon_s,
            "share": self._horizon_s / max(limit.interval_s for limit in self.limits),
            "poll": POLL_S,
            "leaves": leaves,
        }

    def _unmet(self) -> dict[str, int]:
        """Return how many wait, by endpoint, for whom there is no token in the pool."""
        unmet: Counter[str] = Counter()
        for endpoint, count in self._wanted().items():
            unmet[_name(endpoint)] += count
        unmet.subtract({name: len(pool) for name, pool in self._pool.items()})
        return dict(+unmet)

    def _take(self, reply: dict[str, Any], in_transit: _InTransit, now: float) -> None:
        """Take in what an exchange brought. Instants in it are seconds from the script's run on, which was before `now`."""
        self.exchanges += 1
        self._note_up()
        ahead_s = self._clocks.ahead_s(reply["now"], in_transit.sent_at, now)
        self._looked_at = now
        self._available = reply["available"]
        self._is_alone = reply["owners"] == 1
        if not any(event.name == "earlier" for event in self._events):
            self.name = reply.get("name", "")  # a version of before may have made this reply
        self._capped_until = now + reply["capped"] if reply["capped"] else -math.inf
        if reply["held"]:
            self.held_until = max(self.held_until, now + reply["held"])
        self._note_incomplete(reply["complete_in"])
        for name, in_s in reply["granted"]:
            token = RedisToken(name, now + in_s, in_transit.sent_at + USE_WITHIN_S, reply["generation"], self._epoch)
            self._out[name] += 1
            self._pool.setdefault(name, deque()).append(token)
        if ahead_s:
            self._doubt(ahead_s, now)
        self._ready_at = now + reply["ready_in"] if reply["ready_in"] >= 0 else math.inf
        self._ask_at = {name: now + reply["next_in"] for name, _ in in_transit.request["wants"]}
        self._on_change()
        if unmet := self._unmet():
            self._exchange_by(max(now, min(self._ask_at.get(name, -math.inf) for name in unmet)))
        if any(self._pool.values()):
            self._exchange_by(max(pool[-1].not_before for pool in self._pool.values() if pool) + 2 * UNUSED_S)
        if +self._out:
            self._exchange_by(now + self._heartbeat_s)

    def _drop_unused(self, now: float) -> None:
        for pool in self._pool.values():
            while pool and now >= pool[0].not_before + UNUSED_S:
                token = pool.popleft()
                self._give_back(token, now, "refund", token.generation)

    # --- what people are told ---

    def _note_down(self, error: RedisUnavailableError) -> None:
        if not self._is_down:
            self._is_down = True
            logger.warning("%s does not answer (%s): nothing is granted until it does", self._place, error)

    def _note_up(self) -> None:
        if self._is_down:
            self._is_down = False
            logger.warning("%s answers again", self._place)

    def _note_incomplete(self, complete_in_s: float) -> None:
        if complete_in_s > 0 and not self._is_incomplete:
            logger.warning(
                "%s does not know what was spent of this contract before: waiting %.0f s", self._place, complete_in_s
            )
        self._is_incomplete = complete_in_s > 0

    def _doubt(self, ahead_s: float, now: float) -> None:
        """Use nothing that was granted by a clock which ran ahead: the windows before it were cut short."""
        logger.warning("the clock of %s ran ahead by %.2f s: waiting for a window", self._place, ahead_s)
        self._empty_pool(now)
        self._add_event(now, Event("doubt"))
        self._exchange_by(now)


def _name(endpoint: str | None) -> str:
    """Return the name under which the script counts an endpoint: it knows those of the API."""
    return endpoint if endpoint in ENDPOINTS else ""


def _as_dict(limit: RateLimit) -> dict[str, Any]:
    return {
        "key": f"{limit.endpoint or ''} {limit.period:g}",
        "endpoint": limit.endpoint or "",
        "requests": limit.requests,
        "window": limit.window_s,
        "interval": limit.interval_s,
        "burst": limit.burst_s,
    }
