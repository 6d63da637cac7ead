"""Whether somebody else spends the same contract, judged by what the server says is left of it. Pure.

The server's word is `x-per-minute-remaining`, as of the request's arrival c. This side's own count is the ledger's, as of
the request's grant g <= c and of every grant since: each request that the server still counts at c was granted before g
and was in flight at g or answered less than a window ago, or was granted after g. So `Ledger.available(limit, since=token)`
is at most what the server can have left when nobody else spends, for any latency, and however late the answer is looked
at. Fewer left is proof of another consumer (or of a contract that is smaller than was said).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engagement_async._core.rate_headers import RateHeaders, per_minute
from engagement_async._core.rate_limit import RateLimit

__all__ = ["Cap", "OtherConsumerDetector"]

MINUTE_S = 60.0
LONGEST_MINUTE_S = 90.0
"""A limit with a period from a minute to this is one by the minute, perhaps with a safety margin of the caller's. A shorter
one does not count all that the server counts, and a longer one is another limit."""
DATE_RESOLUTION_S = 1.0
"""Resets and dates are whole seconds."""
MOST_KEYS = 100


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `remaining` requests of `limit` in the next `for_s` seconds: hand it to `Scheduler.cap`."""

    limit: RateLimit
    remaining: int
    for_s: float


class OtherConsumerDetector:
    """Compares the server's word with this side's count, response by response; 429s count like any other."""

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self._limits = [limit for limit in limits if MINUTE_S <= limit.period <= LONGEST_MINUTE_S]
        self._by_key: dict[tuple[str, int | None], RateLimit | None] = {}
        self._seen_until = -math.inf

    def observe(
        self,
        headers: Mapping[str, str],
        endpoint: str,
        *,
        now: float,
        in_flight: int,
        available: Callable[[RateLimit], int],
    ) -> Cap | None:
        """Return the cap that the headers of a response ask for, or None when nobody else spends the contract.

        Call it when the headers arrive, after the request's own token was settled. `in_flight` is how many requests are
        on their way, this one not counted; `available` is `Scheduler.available`, with `since` the token of this request.
        """
        if not self._limits:
            return None
        remaining, of = per_minute(headers)
        if remaining is None:
            return None
        limit = self._limit_of(endpoint, of)
        if limit is None:
            return None
        # The server may not have counted what is on its way. That is no proof of another consumer; once there is one, it
        # matters, for what is left must do for those requests too.
        is_known = now < self._seen_until
        left = max(0, remaining - in_flight) if is_known else remaining
        if left >= available(limit):
            return None
        self._seen_until = now + MINUTE_S
        reset_s = RateHeaders.from_headers(headers).minute_reset_s
        return Cap(limit, left, MINUTE_S if reset_s is None else min(MINUTE_S, reset_s + DATE_RESOLUTION_S))

    def _limit_of(self, endpoint: str, of: int | None) -> RateLimit | None:
        """Return the limit that the headers of this endpoint's responses speak of; None when that is unclear."""
        key = endpoint, of
        if key in self._by_key:
            return self._by_key[key]
        counting = [limit for limit in self._limits if limit.endpoint in (None, endpoint)]
        same = [limit for limit in counting if limit.requests == of]
        found = next((limits[0] for limits in (same, counting) if len(limits) == 1), None)
        if len(self._by_key) < MOST_KEYS:
            self._by_key[key] = found
        return found
