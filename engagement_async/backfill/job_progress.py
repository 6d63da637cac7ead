"""How far a job is, as numbers: for a progress bar, a log, and for `status` in another process. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engagement_async._progress import WaitReason
from engagement_async.backfill.codec import Outcomes
from engagement_async.backfill.journal import Tally
from engagement_async.client import ClientStatus

__all__ = ["Outcome", "Progress", "RunMeter"]

Outcome = Literal["done", "max_requests", "max_duration", "stopped", "outage"]
"""Why a run ended: nothing is left to ask, its budget or its time is used up, it was told to stop, or the API did not
answer for the client's deadline. All but the first leave IDs pending."""
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A job at one moment of a run."""

    ids_total: int
    counts: Outcomes
    """Where the IDs that are done ended."""
    rejected: int
    """Lines of the input that were no IDs."""
    requests: int
    """Of this run."""
    elapsed_s: float
    """Of this run."""
    requests_last_minute: int
    contract_per_minute: float | None
    """None when the contract is kept elsewhere, by a shared scheduler."""
    eta_s: float | None
    """At this run's own rate; None until an ID is done."""
    waiting_s: float
    waiting_for: WaitReason | None
    outcome: Outcome | None = None
    """None while it runs."""

    @property
    def ids_done(self) -> int:
        return sum(self.counts)

    @property
    def pending(self) -> int:
        return self.ids_total - self.ids_done


class RunMeter:
    """Makes `Progress` of what one run sees. The clock is passed in: seconds, and never back."""

    def __init__(
        self, tally: Tally, to_ask: int, contract_per_minute: float | None, clock: Callable[[], float]
    ) -> None:
        self._contract_per_minute = contract_per_minute
        self._to_ask = to_ask
        self._clock = clock
        self._began_at = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._began_at, 0)])  # instants, and requests until then
        self.tally = tally
        self.asked = 0
        """IDs that were answered for in this run."""

    def progress(self, status: ClientStatus, outcome: Outcome | None = None) -> Progress:
        """The run now. Called once a second, so that the last minute is known."""
        now = self._clock()
        if now - self._samples[-1][0] >= 0.5:
            self._samples.append((now, status.requests))
        while self._samples[0][0] < now - _MINUTE_S:
            self._samples.popleft()
        elapsed = now - self._began_at
        return Progress(
            ids_total=self.tally.ids,
            counts=self.tally.counts,
            rejected=self.tally.rejected,
            requests=status.requests,
            elapsed_s=elapsed,
            requests_last_minute=status.requests - self._samples[0][1],
            contract_per_minute=self._contract_per_minute,
            eta_s=(self._to_ask - self.asked) * elapsed / self.asked if self.asked else None,
            waiting_s=status.waiting_s,
            waiting_for=status.waiting_for,
            outcome=outcome,
        )
