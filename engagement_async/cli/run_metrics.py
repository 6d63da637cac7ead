"""What a run came to so far, in numbers for Prometheus: it observes calls, and is given the progress. No I/O.

The names are in docs/monitoring.md, beside those of OpenTelemetry.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from engagement_async._core.call_state import EndpointState
from engagement_async._core.events import (
    CallBegan,
    Decided,
    Event,
    HandedOut,
    Observe,
    Received,
    Retries,
    Sent,
    Waited,
    error_type,
)
from engagement_async._core.outcomes import Outcomes
from engagement_async._core.parsing import ParsedResponse
from engagement_async._progress import Progress
from engagement_async.cli.exit_codes import OK
from engagement_async.cli.exposition import Family, Histogram, Kind, Sample, exposition
from engagement_async.errors import EngagementError, NotSentError, RateLimitedError

__all__ = ["LAST_SUCCESS", "RunMetrics"]

LAST_SUCCESS = "engagement_last_success_timestamp_seconds"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_PENDING = "pending"


class RunMetrics:
    """The numbers of one run of a command: an observer of its calls.

    The event loop writes them and another thread reads them: each is replaced at once, and none is half of another.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._began_at = clock()
        self._ended_at: float | None = None
        self._exit_code: int | None = None
        self.last_success_at: float | None = None
        """When the last run that exited with 0 ended, in epoch seconds; None if there was none."""
        self._answered_at: float | None = None
        self._progress: Progress | None = None
        self._outcomes = Outcomes()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._retries: Counter[tuple[str, str]] = Counter()
        self._due = Retries()
        self._rate_limited: Counter[str] = Counter()
        self._waited_s: dict[str, float] = {}
        self._latency: dict[str, Histogram] = {}
        self._states: dict[str, EndpointState] = {}

    def note(self, progress: Progress) -> None:
        """Take the outcomes of the IDs from this progress, which knows those that are pending too."""
        self._progress = progress

    def end(self, exit_code: int) -> None:
        """Note that the run ended."""
        self._ended_at = self._clock()
        self._exit_code = exit_code
        if exit_code == OK:
            self.last_success_at = self._ended_at

    # --- events ---

    def __call__(self, call: CallBegan) -> Observe:
        """Return what takes the events of a call."""
        endpoint = call.endpoint.name
        self._states[endpoint] = call.state
        self._rate_limited.setdefault(endpoint, 0)
        self._waited_s.setdefault(endpoint, 0.0)
        self._latency.setdefault(endpoint, Histogram(_BUCKETS_S))
        return lambda event: self._observe(endpoint, event)

    def _observe(self, endpoint: str, event: Event) -> None:
        match event:
            case Waited(seconds):
                self._waited_s[endpoint] += seconds
            case Sent(request):
                if (why := self._due.send(request)) is not None:
                    self._retries[endpoint, why] += 1
            case Received(_, seconds, status, error):
                self._requests[endpoint, _class_of(status, error)] += 1
                self._latency[endpoint].add(seconds)
            case Decided(request, result, decision):
                if isinstance(result, ParsedResponse):
                    self._answered_at = self._clock()
                elif isinstance(result, RateLimitedError):
                    self._rate_limited[endpoint] += 1
                if isinstance(result, EngagementError):
                    why = error_type(result, getattr(result, "status", None))
                    self._due.decide(request, decision, why or "")
            case HandedOut(outcomes):
                self._outcomes += outcomes

    # --- output ---

    @property
    def ids(self) -> Mapping[str, int]:
        """The number of IDs by outcome, and of those that have none yet: they add up to the IDs of the run."""
        progress = self._progress
        if progress is None:
            return self._outcomes._asdict() if self._states else {}
        return {**progress.outcomes._asdict(), _PENDING: progress.pending}

    def text(self, labels: Mapping[str, str]) -> str:
        """Return all of it in Prometheus' text format."""
        return exposition([*self._run(), *self._work()], labels)

    def _run(self) -> list[Family]:
        def gauge(name: str, text: str, value: float | None) -> Family:
            return Family(name, Kind.GAUGE, text, () if value is None else [Sample(value)])

        return [
            gauge("engagement_run_in_progress", "Whether the run is at work.", int(self._ended_at is None)),
            gauge("engagement_run_exit_code", "Exit code of the run that ended.", self._exit_code),
            gauge("engagement_run_started_timestamp_seconds", "When the run began.", self._began_at),
            gauge("engagement_run_ended_timestamp_seconds", "When the run ended.", self._ended_at),
            gauge("engagement_run_updated_timestamp_seconds", "When this was written.", self._clock()),
            gauge(LAST_SUCCESS, "When the last run with exit code 0 ended.", self.last_success_at),
            gauge(
                "engagement_last_answer_timestamp_seconds",
                "When the API last gave an answer with values to this run.",
                self._answered_at,
            ),
        ]

    def _work(self) -> list[Family]:
        return [
            Family(
                "engagement_ids",
                Kind.GAUGE,
                "Tweet IDs of the run by outcome.",
                [Sample(number, {"outcome": name}) for name, number in self.ids.items()],
            ),
            Family(
                "engagement_requests_total",
                Kind.COUNTER,
                "Requests by class of their HTTP status, retries included.",
                _counted(self._requests, "endpoint", "status_class"),
            ),
            Family(
                "engagement_request_duration_seconds",
                Kind.HISTOGRAM,
                "Duration of requests, from when they were sent.",
                [
                    sample
                    for endpoint, found in dict(self._latency).items()
                    for sample in found.samples({"endpoint": endpoint})
                ],
            ),
            Family(
                "engagement_token_wait_seconds_total",
                Kind.COUNTER,
                "How long requests waited for a token of the contract, summed over those that wait at the same time.",
                [Sample(seconds, {"endpoint": endpoint}) for endpoint, seconds in dict(self._waited_s).items()],
            ),
            Family(
                "engagement_retries_total",
                Kind.COUNTER,
                "Attempts after which the same request is sent again.",
                _counted(self._retries, "endpoint", "error_type"),
            ),
            Family(
                "engagement_rate_limited_total",
                Kind.COUNTER,
                "Responses that refused for the rate: 429, or the same in a text.",
                [Sample(number, {"endpoint": endpoint}) for endpoint, number in dict(self._rate_limited).items()],
            ),
            Family(
                "engagement_circuits_open",
                Kind.GAUGE,
                "Whether the circuit breaker is open: the API does not answer, and single requests probe it.",
                [
                    Sample(int(state.breaker.is_open), {"endpoint": endpoint})
                    for endpoint, state in dict(self._states).items()
                ],
            ),
        ]


def _class_of(status: int | None, error: BaseException | None) -> str:
    if status is not None:
        return f"{status // 100}xx"
    return "not_sent" if isinstance(error, NotSentError) else "none"


def _counted(counter: Counter[tuple[str, str]], *names: str) -> list[Sample]:
    return [Sample(number, dict(zip(names, key, strict=True))) for key, number in sorted(counter.copy().items())]
