"""The emulator's own rate limit. Pure: instants in, verdicts and headers out; no clock.

What belongs here: counting admitted requests in a sliding or a fixed window. The documentation says "by minute" and not
which of the two, so both are here.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

__all__ = ["Limit", "WindowKind"]

WindowKind = Literal["sliding", "fixed"]


class Limit:
    """At most `requests` admitted in `period` seconds. A refused request counts as nothing."""

    def __init__(self, requests: int, period: float, window: WindowKind, unit: str = "minute") -> None:
        if requests < 1 or not period > 0 or window not in ("sliding", "fixed"):
            raise ValueError("a limit needs requests >= 1, period > 0 and a window that is 'sliding' or 'fixed'")
        self.requests = requests
        self.period = period
        self.window = window
        self.unit = unit
        self._admitted: deque[float] = deque()

    def _forget(self, now: float) -> None:
        while self._admitted and self._is_over(self._admitted[0], now):
            self._admitted.popleft()

    def _is_over(self, admitted_at: float, now: float) -> bool:
        if self.window == "sliding":
            return admitted_at <= now - self.period
        return admitted_at // self.period < now // self.period

    def remaining(self, now: float) -> int:
        """How many more would be admitted at `now`."""
        self._forget(now)
        return self.requests - len(self._admitted)

    def admit(self, now: float) -> None:
        """Count one request."""
        self._admitted.append(now)

    def reset_in_s(self, now: float) -> float:
        """Seconds until more are admitted again: the window's end, or when the oldest one leaves a sliding window."""
        if self.window == "fixed":
            return self.period - now % self.period
        return self._admitted[0] + self.period - now if self._admitted else 0.0

    def headers(self, now: float, wall: float) -> dict[str, str]:
        """`x-per-minute-limit`, `-remaining` and `-reset` (epoch seconds, rounded up, by the wall clock `wall`)."""
        prefix = f"x-per-{self.unit}-"
        return {
            prefix + "limit": str(self.requests),
            prefix + "remaining": str(self.remaining(now)),
            prefix + "reset": str(math.ceil(wall + self.reset_in_s(now))),
        }

    def __str__(self) -> str:
        return f"{self.requests} requests per {self.unit}"
