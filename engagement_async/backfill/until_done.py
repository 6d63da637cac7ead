"""When to run a job again that did not get to its end: for those without a supervisor. Pure but for the clock passed in."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from engagement_async._progress import Progress, RunOutcome
from engagement_async.errors import (
    APIError,
    EngagementError,
    JobCorruptError,
    JobDiskError,
    JobLockedError,
    OtherJobError,
    UsageError,
)

__all__ = ["UntilDone"]

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0
_FINAL = (UsageError, APIError, JobLockedError, OtherJobError, JobCorruptError)
"""What running again does not change: it needs a person."""


class UntilDone:
    """Pauses between the runs of a job: they double from 10 s to 10 min, with jitter, and begin anew after progress."""

    def __init__(
        self,
        max_duration_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._ends_at = None if max_duration_s is None else clock() + max_duration_s
        self._in_vain = 0
        self._ids_done = -1

    def left_s(self) -> float | None:
        """Return how long the next run may take; None for as long as it takes."""
        return None if self._ends_at is None else max(0.001, self._ends_at - self._clock())

    def pause_after(self, progress: Progress) -> float | None:
        """Return how long to wait before the next run; None when there is to be none."""
        if progress.ids_done > self._ids_done:
            self._in_vain = 0
        self._ids_done = progress.ids_done
        return self._pause() if progress.outcome is RunOutcome.OUTAGE else None

    def pause_after_error(self, error: EngagementError) -> float | None:
        """Return how long to wait after a run that ended with this error; None when it is final."""
        if isinstance(error, _FINAL) and not isinstance(error, JobDiskError):
            return None
        return self._pause()

    def _pause(self) -> float | None:
        longest: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._in_vain)
        self._in_vain += 1
        pause_s = longest * (0.5 + self._jitter() / 2)
        if self._ends_at is not None and self._clock() + pause_s >= self._ends_at:
            return None
        return pause_s
