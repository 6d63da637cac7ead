"""The ledger: a token bucket whose tokens come back one window after the *response*. Pure: no clock, no asyncio.

The rule. A bucket holds N tokens. A request takes one when it is granted, and the token comes back W after its response
headers arrived, W being `RateLimit.window_s`: the period and a margin for the drift of clocks. Hence no window [x, x + W)
sees more than N arrivals at the server, for any latency, jitter, server clock or alignment: let g <= c <= e be grant,
arrival and response of a request, and suppose N + 1 arrive in the window, k granted last. Then g_k <= c_k < x + W, and each
other one was granted before and is either in flight at g_k, or has e >= c >= x > g_k - W. All N of them hold tokens at g_k,
against the rule.

A request that was aborted after its bytes may have left has no known arrival: its token stays out for W after the last
instant at which it may arrive. One that provably never left gives its token straight back.

Under the bucket lies a pacer (GCRA, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm) a little faster than the
contract, with a burst: it costs no throughput, and bounds what a clock that is wrong by ε beyond the margin can cost to the
burst and `PACE * N * ε / W` requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from engagement_async.errors import UsageError

__all__ = ["Ledger", "RateLimit", "Token"]

LEAST_MARGIN_S = 0.05
"""Added to short periods: timers are late, and a server may round its instants."""
CLOCK_DRIFT = 1e-3
"""How much faster this clock may run than the server's: either may be slewed by up to 500 ppm
(https://man7.org/linux/man-pages/man2/adjtimex.2.html); free-running clocks drift by 20 to 100."""
MOST_REQUESTS = 10**9
PACE = 1.02
"""The pacer's rate, as a multiple of the contract's."""
BURST_SHARE = 0.1
"""How much of a contract may go at once after a pause, unless `RateLimit.burst` says otherwise; docs/scheduler.md measures
what other shares cost."""
RECOVERY_S = 2.0
RECOVERY_INTERVAL_S = 0.01
"""For 2 s after a hold, requests leave at least 10 ms apart: a crowd of waiters must not storm a server that just said
"too many"."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the contract says: at most `requests` in any `period` seconds, of one `endpoint` (its name) or of all.

    `burst` is how many of them may leave at once after a pause; the contract is kept whatever it is. Without it a tenth
    of `requests`, and at least 2: requests beyond it leave one pace (`period / requests`) apart.

    >>> RateLimit(300)                        # 300 requests a minute
    >>> RateLimit(20, period=1)               # and a sub-limit of 20 a second
    >>> RateLimit(100, endpoint="28hr")       # and 100 a minute on one endpoint
    >>> RateLimit(300, burst=100)             # for an application whose users wait: up to 100 at once
    """

    requests: int
    period: float = 60.0
    endpoint: str | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.requests, bool) or not isinstance(self.requests, int) or self.requests < 1:
            raise UsageError(f"RateLimit takes a whole number of requests from 1 on, not {self.requests!r}")
        if self.requests > MOST_REQUESTS:
            raise UsageError(f"RateLimit takes at most {MOST_REQUESTS:,} requests, not {self.requests:,}")
        if not isinstance(self.period, (int, float)) or not math.isfinite(self.period) or self.period <= 0:
            raise UsageError(f"RateLimit takes a period in seconds above 0, not {self.period!r}")
        if self.burst is not None and (
            isinstance(self.burst, bool) or not isinstance(self.burst, int) or not 1 <= self.burst <= self.requests
        ):
            raise UsageError(f"RateLimit takes a burst from 1 to its {self.requests} requests, not {self.burst!r}")

    @property
    def window_s(self) -> float:
        """Seconds for which a request counts after its response: the period, and a margin for the drift of clocks."""
        return self.period + max(LEAST_MARGIN_S, CLOCK_DRIFT * self.period)

    @property
    def interval_s(self) -> float:
        """Seconds between two requests at the pacer's rate, which is a little above the contract's."""
        return self.window_s / (PACE * self.requests)

    @property
    def burst_size(self) -> int:
        """How many requests may leave at once after a pause."""
        return min(self.requests, max(2, int(BURST_SHARE * self.requests))) if self.burst is None else self.burst

    @property
    def burst_s(self) -> float:
        """Seconds by which requests may be ahead of the pace; a rounding error must not hold the last of a burst up."""
        return (self.burst_size - 1 + 1e-6) * self.interval_s


class Token:
    """The right to send one request, out of every bucket that counts it. Given back once, by one of the ledger's ways."""

    __slots__ = ("buckets", "generation", "is_out", "returned")

    def __init__(self, buckets: tuple[_Bucket, ...], generation: int, returned: int) -> None:
        self.buckets = buckets
        self.generation = generation
        """The ledger's at the grant: what happened to the ledger before the grant, and what after it."""
        self.returned = returned
        """How many tokens had come back to these buckets by the grant."""
        self.is_out = True


class _Cap:
    """The server's word on one bucket: at most `remaining` grants before `until`, of those after the word."""

    __slots__ = ("generation", "remaining", "until")

    def __init__(self, remaining: int, until: float, generation: int) -> None:
        self.remaining = remaining
        self.until = until
        self.generation = generation


class _Bucket:
    """One limit: how many tokens are in flight, and when those that were settled come back."""

    __slots__ = (
        "_least_paced_at",
        "_paced_at",
        "burst_s",
        "caps",
        "in_flight",
        "interval_s",
        "limit",
        "requests",
        "returned",
        "returns_at",
        "window_s",
    )

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.requests = limit.requests
        self.window_s = limit.window_s
        self.interval_s = limit.interval_s
        self.burst_s = limit.burst_s
        self.in_flight = 0
        self.returns_at: list[float] = []  # a heap of instants
        self.returned = 0
        self.caps: list[_Cap] = []
        self._paced_at = -math.inf  # GCRA's theoretical arrival time
        self._least_paced_at = -math.inf

    def ready_at(self, now: float) -> float:
        """Return the earliest instant of a grant; `inf` when only a token that comes back can tell."""
        returns_at = self.returns_at
        while returns_at and returns_at[0] <= now:
            heappop(returns_at)
            self.returned += 1
        ready_at = self._paced_at - self.burst_s
        if self.caps:
            ready_at = max(ready_at, self.capped_until(now))
        if self.in_flight + len(returns_at) < self.requests:
            return ready_at
        return max(ready_at, returns_at[0]) if returns_at else math.inf

    def take(self, now: float) -> None:
        self.in_flight += 1
        paced_at = self._paced_at
        self._paced_at = (paced_at if paced_at > now else now) + self.interval_s
        if self.caps:
            for cap in self.caps:
                cap.remaining -= 1

    def put_back(self, token: Token) -> None:
        """Take a request back that never left."""
        self.in_flight -= 1
        self._paced_at = max(self._paced_at - self.interval_s, self._least_paced_at)
        for cap in self.caps:
            if cap.generation <= token.generation:  # else the server's word came later, and did not count it
                cap.remaining += 1

    def without_in_flight(self, arrived_at: float) -> _Bucket:
        """Return a bucket in which what is in flight here comes back as if it had been answered at that instant."""
        other = copy(self)
        other.caps = [copy(cap) for cap in self.caps]
        other.returns_at = [*self.returns_at, *[arrived_at + self.window_s] * self.in_flight]
        heapify(other.returns_at)
        other.in_flight = 0
        return other

    def resume_paced_at(self, at: float) -> None:
        """Allow no burst when a hold ends at that instant, whatever is put back until then."""
        self._least_paced_at = max(self._least_paced_at, at + self.burst_s)
        self._paced_at = max(self._paced_at, self._least_paced_at)

    def available(self, now: float) -> int:
        self.ready_at(now)
        available = self.requests - self.in_flight - len(self.returns_at)
        if self.caps:
            available = min([available, *(cap.remaining for cap in self.caps if cap.until > now)])
        return max(0, available)

    def cap(self, remaining: int, now: float, until: float, generation: int) -> None:
        """Take another word of the server: each holds by itself, so none can loosen another."""
        caps = [cap for cap in self.caps if cap.until > now]
        if not any(cap.remaining <= remaining and cap.until >= until for cap in caps):
            caps = [cap for cap in caps if not (remaining <= cap.remaining and until >= cap.until)]
            caps.append(_Cap(remaining, until, generation))
        self.caps = caps

    def capped_until(self, now: float) -> float:
        """Return the instant until which the server's word allows nothing; `-inf` when it does."""
        self.caps = [cap for cap in self.caps if cap.until > now]
        return max((cap.until for cap in self.caps if cap.remaining <= 0), default=-math.inf)


class Ledger:
    """Grants tokens under several limits at once, all or none. Instants are seconds of one monotonic clock."""

    poll_s = math.inf
    """Nothing comes back that its only user has not given back."""

    def __init__(self, limits: Iterable[RateLimit], *, name: str = "") -> None:
        self.name = name
        """A name that identifies this ledger among all processes; empty while it is not known."""
        limits = tuple(limits)
        for limit in limits:
            if not isinstance(limit, RateLimit):
                raise UsageError(f"rate_limit takes RateLimit(requests, period=60), not {limit!r}")
        self._buckets = tuple(_Bucket(limit) for limit in limits)
        if not self._buckets:
            raise UsageError("rate_limit is empty: give at least one RateLimit, as the contract says")
        self._by_endpoint: dict[str | None, tuple[_Bucket, ...]] = {}
        self._generation = 0
        self._held_until = -math.inf
        self._not_before = -math.inf
        self._recovers_at = -math.inf

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        return tuple(bucket.limit for bucket in self._buckets)

    @property
    def shortest_window_s(self) -> float:
        """Seconds after which a token comes back at the earliest, from its response on."""
        return min(bucket.window_s for bucket in self._buckets)

    @property
    def held_until(self) -> float:
        """The instant until which nothing is granted, because the server said so; `-inf` when it never did."""
        return self._held_until

    def reserve(self, now: float, endpoint: str | None = None) -> Token | float:
        """Return a token, or the instant to try again at: `inf` when only a token that comes back can help."""
        buckets = self._by_endpoint.get(endpoint)
        if buckets is None:
            buckets = tuple(b for b in self._buckets if b.limit.endpoint in (None, endpoint))
            self._by_endpoint[endpoint] = buckets
        ready_at = self._not_before
        for bucket in buckets:
            at = bucket.ready_at(now)
            if at > ready_at:
                ready_at = at
        if ready_at > now:
            return ready_at
        returned = 0
        for bucket in buckets:
            bucket.take(now)
            returned += bucket.returned
        if now < self._recovers_at:
            self._not_before = now + RECOVERY_INTERVAL_S
        return Token(buckets, self._generation, returned)

    def settle(self, token: Token, now: float) -> None:
        """Take the token back one window from now: its response headers arrived."""
        self._return_later(token, now)

    def abandon(self, token: Token, now: float, within_s: float) -> None:
        """Take the token back one window after its request may arrive: it was aborted, and may within that time."""
        self._return_later(token, now + within_s)

    def abandon_all(self, now: float, within_s: float) -> None:
        """Abandon every token that is out; whatever is done with one of them later changes nothing."""
        # Tokens that are out go on to point to the former buckets.
        self._buckets = tuple(bucket.without_in_flight(now + within_s) for bucket in self._buckets)
        self._by_endpoint.clear()

    def refund(self, token: Token) -> None:
        """Take the token back at once: its request provably never left."""
        if token.is_out:
            token.is_out = False
            for bucket in token.buckets:
                bucket.put_back(token)

    def count_earlier(
        self, answered_at: Iterable[float], now: float, endpoint: str | None = None, *, known_by: str = ""
    ) -> None:
        """Count requests that this ledger did not grant, as those of an earlier process, answered at these instants.

        Count nothing if `known_by`, the name of the ledger that knows of them, is this one's.
        """
        if known_by and known_by == self.name:
            return
        instants = list(answered_at)
        for bucket in self._buckets:
            if bucket.limit.endpoint in (None, endpoint):
                for at in instants:
                    if at + bucket.window_s > now:
                        heappush(bucket.returns_at, at + bucket.window_s)

    def hold_until(self, at: float) -> None:
        """Grant nothing before that instant, and resume paced, without a burst."""
        if at <= self._held_until:
            return
        self._held_until = at
        self._not_before = max(self._not_before, at)
        self._recovers_at = at + RECOVERY_S
        for bucket in self._buckets:
            bucket.resume_paced_at(at)

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        """Grant at most `remaining` requests of that limit before an instant: the server says that no more are left.

        That is fewer than this ledger has when somebody else spends the same contract. The server can only tighten: more
        than this ledger has changes nothing.
        """
        self._generation += 1
        self._bucket(limit).cap(remaining, now, until, self._generation)

    def available(self, limit: RateLimit, now: float, *, since: Token | None = None) -> int:
        """Return how many requests of that limit may be sent, the pace apart.

        With `since`, tokens that came back after that token was granted do not count: the server, when it handled that
        request, may have known them as spent.
        """
        bucket = self._bucket(limit)
        available = bucket.available(now)
        if since is not None:
            available += since.returned
            for each in since.buckets:
                available -= each.returned
        return max(0, available)

    def capped_until(self, now: float) -> float:
        """Return the latest instant until which a cap of the server lets nothing of a limit through; `-inf` without."""
        return max(bucket.capped_until(now) for bucket in self._buckets)

    def is_idle(self, now: float) -> bool:
        """Whether this ledger grants as a new one would: nothing is out, and nothing is remembered."""
        return (
            self._recovers_at <= now
            and all(bucket.available(now) == bucket.requests for bucket in self._buckets)
            and all(bucket.ready_at(now) + bucket.burst_s <= now for bucket in self._buckets)
        )

    def _bucket(self, limit: RateLimit) -> _Bucket:
        for bucket in self._buckets:
            if bucket.limit is limit or bucket.limit == limit:
                return bucket
        raise ValueError(f"{limit} is not in this ledger")

    @staticmethod
    def _return_later(token: Token, arrived_at: float) -> None:
        if token.is_out:
            token.is_out = False  # a second way back would mint a token
            for bucket in token.buckets:
                bucket.in_flight -= 1
                heappush(bucket.returns_at, arrived_at + bucket.window_s)
