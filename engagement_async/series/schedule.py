"""When the next pull is due. Pure: instants, seconds and random numbers are arguments."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["LONGEST_NAP_S", "nap_s", "next_pull_at", "retry_s"]

LONGEST_NAP_S = 30.0
"""How long to sleep at most before the wall clock is looked at again: a machine that was suspended is late, and timers of an
event loop may not count its sleep."""
_FIRST_RETRY_S = 60.0


def next_pull_at(last_at: datetime | None, now: datetime, every_s: float, jitter_s: float, draw: float) -> datetime:
    """Return when the next pull is due: at once if there was none, or if its time is over, however often it was missed.

    Args:
        last_at: When the last pull began; None if there was none.
        now: The present.
        every_s: Seconds from one pull to the next.
        jitter_s: Seconds that are added at random, so that many stores do not ask at once.
        draw: A random number from 0 to 1.
    """
    if last_at is None:
        return now
    last_at = min(last_at, now)  # a clock that was set back neither stops the series nor makes it pull without pause
    return max(now, last_at + timedelta(seconds=every_s + jitter_s * draw))


def nap_s(due_at: datetime, now: datetime) -> float:
    """Return how many seconds to sleep before looking at the clock again; 0 when the pull is due."""
    return min(max(0.0, (due_at - now).total_seconds()), LONGEST_NAP_S)


def retry_s(failures: int, every_s: float) -> float:
    """Return how many seconds to wait after so many pulls that failed in a row: from a minute on, never over `every_s`."""
    return min(_FIRST_RETRY_S * 2.0 ** min(failures - 1, 20), every_s)
