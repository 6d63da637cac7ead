"""The emulator's rate limit. Pure: instants in, verdicts and headers out; no clock.

The documentation says "by minute" and not whether the window slides, so both are here.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

__all__ = ["Limit", "WindowKind", "limits_of"]

WindowKind = Literal["sliding", "fixed"]


class Limit:
    """At most `requests` admitted in `period` seconds. A refused request is not counted.

    `is_enforced`: else it counts and shows its headers, and refuses nothing.
    """

    def __init__(
        self, requests: int, period: float, window: WindowKind, unit: str = "minute", *, is_enforced: bool = True
    ) -> None:
        if requests < 1 or not period > 0 or window not in ("sliding", "fixed"):
            raise ValueError("a limit needs requests >= 1, period > 0 and a window that is 'sliding' or 'fixed'")
        self.requests = requests
        self.period = period
        self.window = window
        self.unit = unit
        self.is_enforced = is_enforced
        self._admitted: deque[float] = deque()

    def remaining(self, now: float) -> int:
        """Return how many more would be admitted at `now`."""
        while self._admitted and self._is_over(self._admitted[0], now):
            self._admitted.popleft()
        return max(0, self.requests - len(self._admitted))

    def is_full(self, now: float) -> bool:
        """Tell whether a request at `now` must be refused."""
        return self.is_enforced and self.remaining(now) < 1

    def admit(self, now: float) -> None:
        """Count one request."""
        self._admitted.append(now)

    def reset_in_s(self, now: float) -> float:
        """Return seconds until more are admitted: the window's end, or when the oldest one leaves a sliding window."""
        if self.window == "fixed":
            return self.period - now % self.period
        return self._admitted[0] + self.period - now if self._admitted else 0.0

    def headers(self, now: float, wall_clock: float) -> dict[str, str]:
        """Return `x-per-minute-limit`, `-remaining` and `-reset` (epoch seconds by `wall_clock`, rounded up)."""
        prefix = f"x-per-{self.unit}-"
        return {
            prefix + "limit": str(self.requests),
            prefix + "remaining": str(self.remaining(now)),
            prefix + "reset": str(math.ceil(wall_clock + self.reset_in_s(now))),
        }

    def __str__(self) -> str:
        return f"{self.requests} requests per {self.unit}"

    def _is_over(self, admitted_at: float, now: float) -> bool:
        if self.window == "sliding":
            return admitted_at <= now - self.period
        return admitted_at // self.period < now // self.period


def limits_of(
    requests_per_minute: int | None, period: float, window: WindowKind, requests_per_second: int | None
) -> list[Limit]:
    """Return the limits whose headers every answer has, both families where there is any limit.

    Recorded answers have `x-per-minute-*` and `x-per-second-*` together. Where the second has no limit of its own, its
    headers show what the minute allows, and it refuses nothing.
    """
    limits = []
    if requests_per_minute is not None:
        limits.append(Limit(requests_per_minute, period, window))
    if requests_per_second is not None:
        limits.append(Limit(requests_per_second, 1.0, window, "second"))
    elif requests_per_minute is not None:
        limits.append(Limit(requests_per_minute, 1.0, window, "second", is_enforced=False))
    return limits
