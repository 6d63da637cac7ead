"""The circuit breaker of one endpoint, or of one owner: an outage must not be paid for with the contract.

Pure: instants are passed in.

Closed, it counts. It opens when `OPEN_AFTER` requests failed with no answer between, when its retry budget is used up, or
when somebody calls `trip`. Open, everybody waits but one: a probe asks for a single Tweet, at growing intervals, and its
answer closes the circuit. The pattern: https://learn.microsoft.com/azure/architecture/patterns/circuit-breaker
"""

from __future__ import annotations

import math
from collections import deque

from engagement_async._core.backoff import exponential_s
from engagement_async._core.suspensions import Suspensions
from engagement_async.errors import EngagementError

__all__ = ["CircuitBreaker"]


class CircuitBreaker:
    """Decides who may send while an endpoint fails.

    Every failure takes one from a retry budget and every answer gives one back, as in the AWS SDKs' retry quota
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html).
    """

    OPEN_AFTER = 10
    BUDGET = 50
    CONFIRMED_AFTER = 3
    """Failed probes in a row that make it an outage: one alone may have failed by chance."""

    def __init__(self, suspensions: Suspensions | None = None) -> None:
        self.is_open = False
        self.is_probing = False
        self.failing_since = math.inf
        """The first failure after the last answer."""
        self.last_answer_at = -math.inf
        self.last_error: EngagementError | None = None
        self.outages = 0
        """Confirmed so far."""
        self.failed_probes = 0
        """Of the circuit that is open."""
        self.last_failed_probe_at = -math.inf
        self.probe_at = math.inf
        self._failed_at: deque[float] = deque(maxlen=self.OPEN_AFTER)
        """The last failures with no answer between."""
        self._budget = self.BUDGET
        self._suspensions = suspensions or Suspensions()

    def look(self, now: float) -> None:
        """Note that somebody waits for the API at this instant."""
        self._suspensions.look(now, self.failing_since)

    def delay_before_next(self, now: float, deadline: float = math.inf) -> float:
        """Return 0 to go ahead, else the seconds to wait: `inf` until a probe that is under way is decided.

        A caller gives up at its `deadline`, but not before one more probe: that is due then, if not earlier.
        """
        if not self.is_open:
            return 0.0
        if self.is_probing:
            return math.inf
        is_last = self.last_failed_probe_at < deadline < self.probe_at
        return max(0.0, (deadline if is_last else self.probe_at) - now)

    def begin_probe(self) -> None:
        """Take the one place of a probe."""
        self.is_probing = True

    def cancel_probe(self) -> None:
        """Give up the place of a probe that came to no outcome."""
        self.is_probing = False

    def record_answer(self, at: float) -> None:
        """Count an answer that came at this instant, be it a refusal: the API works, or did before the last failure."""
        self.last_answer_at = max(self.last_answer_at, at)
        if not self._failed_at or at >= self._failed_at[-1]:
            self.record_contact()
        elif not self.is_open:  # it waited for its consumer, and requests failed meanwhile
            while self._failed_at[0] <= at:
                self._failed_at.popleft()
            self.failing_since = self._failed_at[0]
            self._budget = min(self.BUDGET, self._budget + 1)

    def record_contact(self) -> None:
        """Close the circuit after a 429: the API is there, though it gave no answer."""
        self._failed_at.clear()
        self._budget = min(self.BUDGET, max(self._budget + 1, self.BUDGET // 5 if self.is_open else 0))
        self.failing_since = self.probe_at = math.inf
        self.is_open = self.is_probing = False
        self.failed_probes = 0

    def record_failure(self, error: EngagementError, now: float, jitter: float, *, is_suspect: bool = False) -> None:
        """Count a failed request. A suspect, that fails while others are answered, takes nothing from the budget."""
        self._record(error, now)
        if not is_suspect:
            self._budget = max(0, self._budget - 1)
        if len(self._failed_at) >= self.OPEN_AFTER or not self._budget:
            self.trip(now, jitter)

    def record_failed_probe(self, error: EngagementError, now: float, jitter: float) -> None:
        """Count a failed probe, and set the time of the next."""
        self._record(error, now)
        self.is_probing = False
        self.failed_probes += 1
        if self.failed_probes == self.CONFIRMED_AFTER:
            self.outages += 1
        self.last_failed_probe_at = now
        self._schedule_probe(now, jitter)

    def trip(self, now: float, jitter: float) -> None:
        """Open the circuit, if it is closed: only a probe can tell whether the API works."""
        if not self.is_open:
            self.is_open = True
            self._schedule_probe(now, jitter)

    def is_given_up(self, now: float, deadline: float) -> bool:
        """Return whether a caller with that deadline gives up: a probe failed even after it, and none is due."""
        if not self.is_open or self.last_failed_probe_at < deadline:
            return False
        return self.is_probing or now < self.probe_at

    def _record(self, error: EngagementError, now: float) -> None:
        self.last_error = error
        self._failed_at.append(now)
        self.failing_since = min(self.failing_since, now)
        self.look(now)

    def _schedule_probe(self, now: float, jitter: float) -> None:
        self.probe_at = now + (0.5 + 0.5 * jitter) * exponential_s(self.failed_probes + 1)
