"""The ledger: a token bucket whose tokens come back one window after the *answer*. Pure: no clock, no asyncio.

The rule. A bucket holds N tokens. A request takes one when it is granted, and the token comes back W after its response
headers arrived, W being the period plus `CLOCK_MARGIN_S`. Hence no window [x, x + W) sees more than N arrivals at the
server, for any latency, jitter, server clock or alignment: let g <= c <= e be grant, arrival and answer of a request,
and suppose N + 1 arrive in the window, k granted last. Then g_k <= c_k < x + W, and each other one was granted before and
is either in flight at g_k, or has e >= c >= x > g_k - W. All N of them hold tokens at g_k, against the rule.

A request that was aborted after its bytes may have left has no known arrival: its token stays out for W and a quarantine.
One that provably never left gives its token straight back.

Under the bucket lies a pacer (GCRA, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm) a little faster than the
contract: it costs no throughput, and bounds what an error of the clock by ε can cost to about N * ε / W requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from engagement_async.errors import UsageError

__all__ = ["Ledger", "RateLimit", "Token"]

CLOCK_MARGIN_S = 0.05
"""Added to every period: clocks of two machines drift, and a server may round."""
PACE = 1.02
"""The pacer's rate, as a multiple of the contract's."""
RECOVERY_S = 2.0
RECOVERY_INTERVAL_S = 0.01
"""For 2 s after a hold, requests leave at least 10 ms apart: a crowd of waiters must not storm a server that just said
"too many"."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the contract says: at most `requests` in any `period` seconds, of one `endpoint` (its name) or of all.

    >>> RateLimit(300)                        # 300 requests a minute
    >>> RateLimit(20, period=1)               # and a sub-limit of 20 a second
    >>> RateLimit(100, endpoint="28hr")       # and 100 a minute on one endpoint
    """

    requests: int
    period: float = 60.0
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.requests, bool) or not isinstance(self.requests, int) or self.requests < 1:
            raise UsageError(f"RateLimit takes a whole number of requests from 1 on, not {self.requests!r}")
        if not isinstance(self.period, (int, float)) or not math.isfinite(self.period) or self.period <= 0:
            raise UsageError(f"RateLimit takes a period in seconds above 0, not {self.period!r}")


class Token:
    """The right to send one request, out of every bucket that counts it. Given back once, by one of the ledger's ways."""

    __slots__ = ("buckets", "is_out")

    def __init__(self, buckets: tuple[_Bucket, ...]) -> None:
        self.buckets = buckets
        self.is_out = True


class _Bucket:
    """One limit: how many tokens are in flight, and when those that were settled come back."""

    __slots__ = (
        "_paced_at",
        "back_at",
        "in_flight",
        "interval_s",
        "limit",
        "slack_s",
        "told_left",
        "told_until",
        "window_s",
    )

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.window_s = limit.period + CLOCK_MARGIN_S
        self.interval_s = self.window_s / (PACE * limit.requests)
        self.slack_s = (max(2, limit.requests // 100) - 1) * self.interval_s
        self.in_flight = 0
        self.back_at: list[float] = []  # a heap of instants
        self.told_until = -math.inf
        self.told_left = 0
        self._paced_at = -math.inf  # GCRA's theoretical arrival time

    def ready_at(self, now: float) -> float:
        """The earliest instant of a grant; `inf` when only an answer can tell."""
        back_at = self.back_at
        while back_at and back_at[0] <= now:
            heappop(back_at)
        paced_at = self._paced_at - self.slack_s
        if now < self.told_until and not self.told_left:
            paced_at = max(paced_at, self.told_until)
        if self.in_flight + len(back_at) < self.limit.requests:
            return paced_at
        return max(paced_at, back_at[0]) if back_at else math.inf

    def take(self, now: float) -> None:
        self.in_flight += 1
        self.told_left -= 1
        self._paced_at = max(self._paced_at, now) + self.interval_s

    def untake(self) -> None:
        self.in_flight -= 1
        self.told_left += 1
        self._paced_at -= self.interval_s

    def resume_paced_at(self, at: float) -> None:
        """No burst when a hold ends at that instant."""
        self._paced_at = max(self._paced_at, at + self.slack_s)

    def free(self, now: float) -> int:
        self.ready_at(now)
        free = self.limit.requests - self.in_flight - len(self.back_at)
        return min(free, self.told_left) if now < self.told_until else free

    def tell(self, left: int, now: float, until: float) -> None:
        """At most so many grants before that instant. A later word can only tighten."""
        self.told_left = min(left, self.told_left) if now < self.told_until else left
        self.told_until = max(self.told_until, until)


class Ledger:
    """Grants tokens under several limits at once, all or none. Instants are seconds of one monotonic clock.

    `quarantine_s` is how much longer the token of an aborted request stays out: the longest time that its bytes may
    still take to the server, which is the request's timeout.
    """

    def __init__(self, limits: Iterable[RateLimit], *, quarantine_s: float) -> None:
        limits = tuple(limits)
        for limit in limits:
            if not isinstance(limit, RateLimit):
                raise UsageError(f"rate_limit takes RateLimit(requests, period=60), not {limit!r}")
        self._buckets = tuple(_Bucket(limit) for limit in limits)
        if not self._buckets:
            raise UsageError("rate_limit is empty: give at least one RateLimit, as the contract says")
        self._quarantine_s = quarantine_s
        self._of: dict[str | None, tuple[_Bucket, ...]] = {}
        self._held_until = -math.inf
        self._recovers_at = -math.inf

    @property
    def limits(self) -> tuple[RateLimit, ...]:
        return tuple(bucket.limit for bucket in self._buckets)

    @property
    def held_until(self) -> float:
        """The instant until which nothing is granted, because the server said so; `-inf` when it never did."""
        return self._held_until

    def reserve(self, now: float, endpoint: str | None = None) -> Token | float:
        """A token, or the instant at which to ask again: `inf` when only a token that comes back can help."""
        buckets = self._of.get(endpoint)
        if buckets is None:
            buckets = tuple(b for b in self._buckets if b.limit.endpoint in (None, endpoint))
            self._of[endpoint] = buckets
        ready_at = self._held_until
        if self._recovers_at > ready_at and now < self._held_until + RECOVERY_S:
            ready_at = self._recovers_at
        for bucket in buckets:
            at = bucket.ready_at(now)
            if at > ready_at:
                ready_at = at
        if ready_at > now:
            return ready_at
        for bucket in buckets:
            bucket.take(now)
        if now < self._held_until + RECOVERY_S:
            self._recovers_at = now + RECOVERY_INTERVAL_S
        return Token(buckets)

    def settle(self, token: Token, now: float) -> None:
        """The response headers arrived: the token comes back one window from now."""
        self._give_back(token, now, 0.0)

    def abandon(self, token: Token, now: float) -> None:
        """The request was aborted and may still arrive: the token comes back one window and a quarantine from now."""
        self._give_back(token, now, self._quarantine_s)

    def refund(self, token: Token) -> None:
        """The request provably never left: the token is back."""
        if self._closed(token):
            return
        for bucket in token.buckets:
            bucket.untake()

    def hold_until(self, at: float) -> None:
        """Grant nothing before that instant, and resume paced, without a burst."""
        if at <= self._held_until:
            return
        self._held_until = at
        for bucket in self._buckets:
            bucket.resume_paced_at(at)

    def cap(self, limit: RateLimit, left: int, now: float, until: float) -> None:
        """The server says that only so many requests are left of that limit before an instant.

        That is fewer than this ledger has when somebody else spends the same contract. The server can only tighten: more
        than this ledger has changes nothing.
        """
        self._bucket(limit).tell(left, now, until)

    def free(self, limit: RateLimit, now: float) -> int:
        """How many requests of that limit may be sent, the pace apart."""
        return self._bucket(limit).free(now)

    def _bucket(self, limit: RateLimit) -> _Bucket:
        for bucket in self._buckets:
            if bucket.limit == limit:
                return bucket
        raise ValueError(f"{limit} is not in this ledger")

    def _give_back(self, token: Token, now: float, extra_s: float) -> None:
        if self._closed(token):
            return
        for bucket in token.buckets:
            bucket.in_flight -= 1
            heappush(bucket.back_at, now + bucket.window_s + extra_s)

    @staticmethod
    def _closed(token: Token) -> bool:
        """Whether this token was given back before; closes it. A second way back would mint a token."""
        was_out, token.is_out = token.is_out, False
        return not was_out
