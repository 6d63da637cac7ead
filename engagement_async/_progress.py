"""How far a run is, and what it waits for: the one module that says so for clients, jobs and series. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from engagement_async._core.html import facts_html
from engagement_async._core.outcomes import Outcomes
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.words import duration

__all__ = ["CallProgress", "Progress", "ProgressMeter", "RunOutcome", "WaitReason", "contract_per_minute"]

_MINUTE_S = 60.0
_SAMPLE_EVERY_S = 0.5


class WaitReason(StrEnum):
    """What a client waits for."""

    CONTRACT = "contract"
    """The next token of the rate limit."""
    RATE_LIMITED = "rate_limited"
    """The end of a pause that the API demanded with a 429."""
    OUTAGE = "outage"
    """An API that does not answer: single probes are sent until it does."""

    @property
    def text(self) -> str:
        """What is waited for, in words for a progress line: "waiting 3 s for ..."."""
        return _TEXTS[self]


_TEXTS = {
    WaitReason.CONTRACT: "the contract",
    WaitReason.RATE_LIMITED: "the API's rate limit",
    WaitReason.OUTAGE: "the API to answer again",
}


class RunOutcome(StrEnum):
    """Why a run of a job ended. All but `DONE` leave IDs to request."""

    DONE = "done"
    MAX_REQUESTS = "max_requests"
    """Its budget of requests is used up."""
    MAX_DURATION = "max_duration"
    """Its time is over."""
    STOPPED = "stopped"
    """It was stopped, by a signal or `BackfillJob.stop`."""
    OUTAGE = "outage"
    """The API answered nobody until the outage timeout."""
    CREDENTIALS = "credentials"
    """All is done but the Tweets of owners whose credentials are of no use: they are pending until there are new ones."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one moment: of `ids_total` IDs, so many are done, and `waiting_for` says what holds it up.

    `waiting_s` is how many seconds that still takes, as far as it is known.
    """

    ids_total: int
    """Distinct IDs of the input."""
    outcomes: Outcomes
    """Where the IDs that are done ended, those of earlier runs of a job among them."""
    requests: int
    """Of this run."""
    elapsed_s: float
    """Of this run."""
    requests_last_minute: int
    """Counted, as the contract counts; a rate over a shorter time would show the first steps as a breach."""
    contract_per_minute: float | None
    """Requests that the contract allows: to all who share it."""
    eta_s: float | None
    """Seconds left at this run's own rate; None until an ID is done."""
    waiting_s: float
    """Seconds until the next request may be sent, while it waits for that; otherwise 0."""
    waiting_for: WaitReason | None
    """Why requests wait; None if none does."""
    rejected: int = 0
    """Lines of the input that are no IDs."""
    outcome: RunOutcome | None = None
    """None while the run is at work."""
    trouble: str | None = None
    """Why nothing is answered at the moment, as a name that is not found; None if there is no such trouble."""

    @property
    def ids_done(self) -> int:
        """IDs with an outcome."""
        return sum(self.outcomes)

    @property
    def pending(self) -> int:
        """IDs still without an outcome."""
        return self.ids_total - self.ids_done

    def _repr_html_(self) -> str:
        """Return the run as a table, for notebooks."""
        outcomes = [(name, number) for name, number in self.outcomes._asdict().items() if number]
        facts: list[tuple[str, object]] = [
            ("outcome", "at work" if self.outcome is None else self.outcome.value.replace("_", " ")),
            ("IDs", f"{self.ids_done:,} of {self.ids_total:,} done"),
            *outcomes,
            *([("pending", self.pending)] if self.pending else []),
            *([("rejected lines", self.rejected)] if self.rejected else []),
            ("requests", self.requests),
            ("time", duration(self.elapsed_s)),
        ]
        return facts_html("Progress of a run", facts, done=(self.ids_done, self.ids_total))

    def as_of_a_call(self) -> CallProgress:
        """Return the part of it that calls have too."""
        return CallProgress(
            ids_done=self.ids_done,
            ids_total=self.ids_total,
            requests=self.requests,
            elapsed_s=self.elapsed_s,
            eta_s=self.eta_s,
            waiting_s=self.waiting_s,
            waiting_for=self.waiting_for,
            trouble=self.trouble,
        )


@dataclass(frozen=True, slots=True)
class CallProgress:
    """How far a call is at one moment: what `progress=` gives to a function of yours."""

    ids_done: int
    """IDs with an outcome; of a job, those of its earlier runs among them."""
    ids_total: int | None
    """IDs in all. Of a collection its length until it is read to the end, when duplicates are taken off; of an iterator None
    until then."""
    requests: int
    """Requests that the IDs which are done took, retries included; of a job, all of this run. Requests that a call shares
    with others (`coalesce`) are not counted."""
    elapsed_s: float
    """Seconds since the call began."""
    eta_s: float | None
    """Seconds left at the rate of this call so far; None until an ID is done, and while nobody knows how many there are."""
    waiting_s: float
    """Seconds until the next request may be sent, while the call waits for that; otherwise 0."""
    waiting_for: WaitReason | None
    """Why requests wait; None if none does."""
    trouble: str | None = None
    """Why nothing is answered at the moment, as a name that is not found; None if there is no such trouble."""
    is_finished: bool = False
    """Whether the call has come to its end: once, the last time."""


class ProgressMeter:
    """Makes `Progress` out of what a run reports. `clock` returns seconds, and never goes back."""

    def __init__(
        self,
        ids_total: int,
        contract_per_minute: float | None,
        clock: Callable[[], float],
        *,
        ids_to_ask: int | None = None,
    ) -> None:
        self.ids_total = ids_total
        self.outcomes = Outcomes()
        self.rejected = 0
        self.ids_asked = 0
        """IDs that got their outcome in this run."""
        self.ids_skipped = 0
        """IDs that this run can give no outcome."""
        self._ids_to_ask = ids_total if ids_to_ask is None else ids_to_ask
        self._contract_per_minute = contract_per_minute
        self._clock = clock
        self._began_at = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._began_at, 0)])  # instants, and requests until then

    def add(self, outcomes: Outcomes) -> None:
        """Count the IDs of one answer."""
        self.outcomes += outcomes
        self.ids_asked += sum(outcomes)

    def progress(
        self,
        requests: int,
        waiting_s: float = 0.0,
        waiting_for: WaitReason | None = None,
        outcome: RunOutcome | None = None,
        *,
        trouble: str | None = None,
    ) -> Progress:
        """Return the run as it is now. Call it once a second, so that the last minute is known.

        `requests` is how many the run sent so far.
        """
        now = self._clock()
        if now - self._samples[-1][0] >= _SAMPLE_EVERY_S:
            self._samples.append((now, requests))
        while self._samples[0][0] < now - _MINUTE_S:
            self._samples.popleft()
        elapsed_s = now - self._began_at
        left = max(0, self._ids_to_ask - self.ids_asked - self.ids_skipped)
        return Progress(
            ids_total=self.ids_total,
            outcomes=self.outcomes,
            requests=requests,
            elapsed_s=elapsed_s,
            requests_last_minute=requests - self._samples[0][1],
            contract_per_minute=self._contract_per_minute,
            eta_s=left * elapsed_s / self.ids_asked if self.ids_asked else None,
            waiting_s=waiting_s,
            waiting_for=waiting_for,
            rejected=self.rejected,
            outcome=outcome,
            trouble=trouble,
        )


def contract_per_minute(limits: Iterable[RateLimit]) -> float:
    """Return the contract as requests a minute: of several limits, the one whose period is nearest to a minute."""
    limit = limit_of_minute(limits)
    return limit.requests * _MINUTE_S / limit.period


def limit_of_minute(limits: Iterable[RateLimit]) -> RateLimit:
    """Return the limit whose period is nearest to a minute."""
    return min(limits, key=lambda limit: abs(limit.period - _MINUTE_S))
