"""OpenTelemetry's own SDK in memory: what was recorded, as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engagement_async._engine.observing import observed_by
from engagement_async._engine.open_telemetry import OpenTelemetryRecorder

__all__ = ["Recorded", "recording"]


class Recorded(SpanProcessor):
    """Spans and metrics of one pair of providers."""

    def __init__(self) -> None:
        self.started = 0
        """Spans that began."""
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer_provider.add_span_processor(self)
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.started += 1

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that ended, in that order."""
        return self._exporter.get_finished_spans()

    def spans_of(self, start: str) -> list[ReadableSpan]:
        """Return the spans whose name begins so."""
        return [span for span in self.spans if span.name.startswith(start)]

    def metrics(self) -> dict[str, Any]:
        """Return each metric by its name."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def numbers(self, name: str, *by: str) -> dict[Any, float]:
        """Return the values of a metric, or the counts of a histogram, by one attribute or several."""
        numbers: Counter[Any] = Counter()
        metric = self.metrics().get(name)
        for point in metric.data.data_points if metric is not None else ():
            key = tuple(point.attributes.get(attribute) for attribute in by)
            number = point.count if isinstance(point, HistogramDataPoint) else point.value
            numbers[key[0] if len(key) == 1 else key] += number
        return dict(numbers)

    def total(self, name: str) -> float:
        """Return the sum over all attributes."""
        return sum(self.numbers(name).values())

    def close(self) -> None:
        """Shut the providers down."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


@contextmanager
def recording() -> Iterator[Recorded]:
    """Record all calls that begin in the block."""
    recorded = Recorded()
    try:
        with observed_by(OpenTelemetryRecorder(recorded.tracer_provider, recorded.meter_provider)):
            yield recorded
    finally:
        recorded.close()
