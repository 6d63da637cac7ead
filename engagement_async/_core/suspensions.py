"""Times in which the process was suspended, as a laptop is at night: they count against nobody's patience. Pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Self

__all__ = ["Suspensions"]


class Suspensions:
    """Periods in which the process did not run, found by gaps between two looks at the clock. One for each endpoint.

    Whoever waits looks at the clock at least every `longest_step_s` seconds. Any time beyond that was a suspension, or
    nobody was waiting.
    """

    LONGEST_STEP_S = 120.0
    KEPT = 100

    def __init__(self, longest_step_s: float = LONGEST_STEP_S) -> None:
        self._longest_step_s = longest_step_s
        self._ended: deque[tuple[float, float]] = deque(maxlen=self.KEPT)
        self._looked_at = -math.inf
        self.held_until = math.inf
        """The end of the hold after which everybody waits for an answer; `inf` while there is none."""

    @classmethod
    def of_requests(cls, seconds: float) -> Self:
        """Return those of an endpoint whose requests take so many seconds at most.

        While a probe is in flight nobody looks at the clock.
        """
        return cls(max(cls.LONGEST_STEP_S, seconds + 60.0))

    def look(self, now: float, since: float) -> None:
        """Note that the clock is looked at now, by somebody who has waited since `since` (`inf` if nobody waits)."""
        seconds = now - max(min(since, self.held_until), self._looked_at) - self._longest_step_s
        if seconds > 0:
            self._ended.append((now, seconds))
        self._looked_at = max(self._looked_at, now)

    def seconds_since(self, instant: float) -> float:
        """Return how many seconds after that instant nobody could wait."""
        return sum(seconds for ended_at, seconds in self._ended if ended_at > instant)
