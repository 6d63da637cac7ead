"""Times in which the process was suspended, as a laptop is at night: they count against nobody's patience. Pure."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Suspensions"]


class Suspensions:
    """What gaps between two looks at the clock tell. One for each endpoint.

    Whoever waits looks at the clock once in `longest_step_s` seconds; in what is beyond, the process was suspended, or there
    was nothing to wait for.
    """

    LONGEST_STEP_S = 120.0
    KEPT = 100

    def __init__(self, longest_step_s: float = LONGEST_STEP_S) -> None:
        self._longest_step_s = longest_step_s
        self._ended: deque[tuple[float, float]] = deque(maxlen=self.KEPT)
        self._looked_at = -math.inf

    def look(self, now: float, since: float) -> None:
        """Note that somebody looks at the clock who has waited since that instant: `inf` who does not wait."""
        seconds = now - max(since, self._looked_at) - self._longest_step_s
        if seconds > 0:
            self._ended.append((now, seconds))
        self._looked_at = max(self._looked_at, now)

    def seconds_since(self, instant: float) -> float:
        """Return how many seconds after that instant nobody could wait."""
        return sum(seconds for ended_at, seconds in self._ended if ended_at > instant)
