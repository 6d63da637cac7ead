"""Calls and requests as OpenTelemetry's metrics and spans. Needs `opentelemetry-api`; docs/monitoring.md has the names.

Imported only in a process whose application imported OpenTelemetry. Names and units follow the semantic conventions of HTTP
clients where there are any: https://opentelemetry.io/docs/specs/semconv/http/. No attribute holds an ID, an owner, a header,
a body or the text of an error.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from engagement_async import __version__
from engagement_async._core.call_state import EndpointState
from engagement_async._core.events import (
    CallBegan,
    CircuitChanged,
    Decided,
    Ended,
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
from engagement_async._core.request import Purpose, Request
from engagement_async.errors import EngagementError

__all__ = ["OpenTelemetryRecorder", "recorder"]

_SCOPE = "engagement_async"
_SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
_METHOD = "POST"
_SUPPRESSED = "suppress_instrumentation"
"""What OpenTelemetry's own instrumentations look for in the context: where it is set, they keep still."""
_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#metric-httpclientrequestduration"""
_WAIT_BUCKETS_S = (0.0, 0.01, 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 900)
_NS = 1_000_000_000

Attributes = Mapping[str, str | int]


class OpenTelemetryRecorder:
    """The instruments of one pair of providers: an observer of calls. By default those of the process."""

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self.tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider, schema_url=_SCHEMA)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider, schema_url=_SCHEMA)
        self.latency = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_LATENCY_BUCKETS_S,
        )
        self.waits = meter.create_histogram(
            "engagement.client.token.wait.duration",
            "s",
            "How long requests waited for a token of the contract.",
            explicit_bucket_boundaries_advisory=_WAIT_BUCKETS_S,
        )
        self.retries = meter.create_counter(
            "engagement.client.retries", "{retry}", "Attempts after which the same request is sent again."
        )
        self.ids = meter.create_counter("engagement.client.ids", "{id}", "Tweet IDs by their outcome.")
        self._circuits: WeakKeyDictionary[EndpointState, str] = WeakKeyDictionary()
        self._lock = threading.Lock()  # readers of metrics have a thread of their own
        meter.create_observable_up_down_counter(
            "engagement.client.circuits.open",
            [self._observe_circuits],
            "{circuit}",
            "Circuit breakers that are open: the API does not answer, and single requests probe it.",
        )

    def __call__(self, call: CallBegan) -> Observe | None:
        """Begin the span of a call; return what takes its events. None where instrumentation is suppressed."""
        if context.get_value(_SUPPRESSED):
            return None
        with self._lock:
            self._circuits.setdefault(call.state, call.endpoint.name)
        return _Call(self, call).observe

    def _observe_circuits(self, _options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            circuits = list(self._circuits.items())
        is_open = Counter({name: 0 for _, name in circuits})
        is_open.update(name for state, name in circuits if state.breaker.is_open)
        return [Observation(number, {"engagement.endpoint": name}) for name, number in is_open.items()]


_recorder: tuple[TracerProvider, MeterProvider, OpenTelemetryRecorder] | None = None


def recorder() -> OpenTelemetryRecorder | None:
    """Return the recorder of the providers of this process; None while neither spans nor metrics go anywhere."""
    global _recorder
    tracer_provider, meter_provider = trace.get_tracer_provider(), metrics.get_meter_provider()
    if _is_idle(tracer_provider) and _is_idle(meter_provider):
        return None
    if _recorder is None or _recorder[0] is not tracer_provider or _recorder[1] is not meter_provider:
        _recorder = tracer_provider, meter_provider, OpenTelemetryRecorder(tracer_provider, meter_provider)
    return _recorder[2]


def _is_idle(provider: TracerProvider | MeterProvider) -> bool:
    """Whether a provider is none, or stands in for one that was not set yet."""
    none = (trace.NoOpTracerProvider, trace.ProxyTracerProvider, metrics.NoOpMeterProvider)
    return isinstance(provider, none) or hasattr(provider, "on_set_meter_provider")


class _Attempt:
    """The span of one attempt, and what is known of it so far."""

    __slots__ = ("context", "ended_at_ns", "seconds", "span", "status", "token")

    def __init__(self, span: Span, within: Context) -> None:
        self.span = span
        self.context = trace.set_span_in_context(span, within)
        self.token: Any = context.attach(self.context)  # what the HTTP library does is this span's
        self.status: int | None = None
        self.seconds = 0.0
        self.ended_at_ns: int | None = None


class _Call:
    """What is recorded of one call."""

    def __init__(self, recorder: OpenTelemetryRecorder, call: CallBegan) -> None:
        self._recorder = recorder
        self._endpoint: Attributes = {"engagement.endpoint": call.endpoint.name}
        self._server: Attributes = {
            "http.request.method": _METHOD,
            "server.address": call.address,
            "server.port": call.port,
            **self._endpoint,
        }
        host = f"[{call.address}]" if ":" in call.address else call.address
        self._of_request: dict[str, str | int] = {
            **self._server,
            "url.full": f"{call.scheme}://{host}:{call.port}{call.path}",
        }
        self._name = f"{_METHOD} {call.path}"
        self._attempts: dict[int, _Attempt] = {}
        self._due = Retries()
        self._requests = 0
        self._outcomes = Outcomes()
        self._span = recorder.tracer.start_span(f"engagement {call.endpoint.name}", attributes=self._endpoint)
        self._context = trace.set_span_in_context(self._span)
        # The call that sends the requests of several may begin in the context of this one.
        self._token = context.attach(self._context) if call.shares_requests else None
        if call.shares_requests:
            self._span.set_attribute("engagement.shares_requests", value=True)

    def observe(self, event: Event) -> None:
        """Record an event."""
        match event:
            case Waited(seconds):
                self._recorder.waits.record(seconds, self._endpoint, self._context)
            case Sent(request):
                self._on_sent(request)
            case Received():
                self._on_received(event)
            case Decided(request, result, decision):
                error = result if isinstance(result, EngagementError) else None
                why = self._finish(request, error)
                if why is not None:
                    self._due.decide(request, decision, why)
            case CircuitChanged(is_open):
                self._span.add_event(f"engagement.circuit.{'opened' if is_open else 'closed'}")
            case HandedOut(outcomes):
                self._outcomes += outcomes
                for name, number in outcomes._asdict().items():
                    if number:
                        attributes = {**self._endpoint, "engagement.outcome": name}
                        self._recorder.ids.add(number, attributes, self._context)
            case Ended(error):
                self._on_ended(error)

    def _on_sent(self, request: Request) -> None:
        if (why := self._due.send(request)) is not None:
            self._recorder.retries.add(1, {**self._endpoint, "error.type": why}, self._context)
        attributes = {
            **self._of_request,
            "engagement.batch": request.batch_number,
            "engagement.ids": len(request.tweet_ids),
        }
        if request.purpose is not Purpose.DATA:
            attributes["engagement.probe"] = request.purpose.name.lower()
        if request.attempts > 1:
            attributes["http.request.resend_count"] = request.attempts - 1
        span = self._recorder.tracer.start_span(self._name, self._context, SpanKind.CLIENT, attributes)
        self._attempts[id(request)] = _Attempt(span, self._context)

    def _on_received(self, received: Received) -> None:
        attempt = self._attempts[id(received.request)]
        context.detach(attempt.token)
        attempt.status, attempt.seconds = received.status, received.seconds
        attempt.ended_at_ns = time.time_ns()
        if received.error is not None and not isinstance(received.error, EngagementError):
            self._finish(received.request, received.error)  # nothing is decided of it

    def _finish(self, request: Request, error: BaseException | None) -> str | None:
        """End the span of an attempt, and return the type of its error."""
        attempt = self._attempts.pop(id(request), None)
        if attempt is None:  # credentials that could not be had: it was never sent
            return error_type(error, None)
        return self._complete(attempt, error)

    def _complete(self, attempt: _Attempt, error: BaseException | None) -> str | None:
        self._requests += 1
        attributes = dict(self._server)
        if attempt.status is not None:
            attributes["http.response.status_code"] = attempt.status
            attempt.span.set_attribute("http.response.status_code", attempt.status)
        why = error_type(error, attempt.status)
        if why is not None:
            attributes["error.type"] = why
            _mark(attempt.span, why)
        self._recorder.latency.record(attempt.seconds, attributes, attempt.context)
        attempt.span.end(attempt.ended_at_ns)
        return why

    def _on_ended(self, error: BaseException | None) -> None:
        for attempt in self._attempts.values():  # whose responses were here when the call was cancelled
            self._complete(attempt, None)
        self._attempts.clear()
        if self._token is not None:
            context.detach(self._token)
        else:
            self._span.set_attribute("engagement.requests", self._requests)
            for name, number in self._outcomes._asdict().items():
                self._span.set_attribute(f"engagement.ids.{name}", number)
        if error is not None:
            _mark(self._span, type(error).__qualname__)
        self._span.end()


def _mark(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)
