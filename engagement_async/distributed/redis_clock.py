"""Whether the clock of Redis runs ahead of this process's, so that windows measured there are too short. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ClockWatch"]

STEP_S = 0.03
"""By so much more than its share of drift may Redis' clock have run ahead: less than the margin of every window."""
DRIFT = 1e-3


@dataclass(frozen=True, slots=True)
class _Reading:
    there: float
    asked_at: float
    """Here, before it was read there."""

    def ahead_s(self, there: float, now: float) -> float:
        """Return by how much too far that clock came since, as read before `now`; 0 when it did not."""
        ahead_s = (there - self.there) - (now - self.asked_at)
        return ahead_s if ahead_s > STEP_S + DRIFT * (now - self.asked_at) else 0.0


class ClockWatch:
    """Compares two clocks, with the reading before and with one of about a window ago: steps, and a rate that is off."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._last: _Reading | None = None
        self._first: _Reading | None = None

    def ahead_s(self, there: float, asked_at: float, now: float) -> float:
        """Take a reading, asked for at `asked_at` and here by `now`. Return by how much that clock ran ahead; or 0."""
        ahead_s = max((known.ahead_s(there, now) for known in (self._last, self._first) if known), default=0.0)
        self._last = _Reading(there, asked_at)
        if ahead_s or self._first is None or now > self._first.asked_at + self._window_s:
            self._first = self._last
        return ahead_s
