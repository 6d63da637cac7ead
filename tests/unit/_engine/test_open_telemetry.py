"""What OpenTelemetry records of calls to a real emulator: names, units, numbers, and whose child a span is."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from engagement_async import TOTALS, EngagementClient, FailureKind, OAuth1Credentials, Query, RateLimit, Timeouts
from engagement_async._engine.observing import observed_by
from engagement_async._engine.open_telemetry import OpenTelemetryRecorder
from engagement_async.emulator import Emulator, tweet_ids
from engagement_async.errors import AuthError
from tests.support.interpreters import ROOT
from tests.support.telemetry import recording
from tests.support.virtual_loop import run_virtual
from tests.unit._engine.test_observing import fetch, storm
from tests.unit._engine.test_stream import Model

METRICS = {
    "http.client.request.duration": "s",
    "engagement.client.token.wait.duration": "s",
    "engagement.client.retries": "{retry}",
    "engagement.client.ids": "{id}",
    "engagement.client.circuits.open": "{circuit}",
}
TYPES, GROUPINGS = ["favorites"], {"by_tweet": ["tweet.id", "engagement.type"]}
IDS = tweet_ids(1_000, newest_at=1_764_000_000)
QUERY = Query(TOTALS, engagement_types=TYPES, groupings=GROUPINGS)


def client_of(emulator: Emulator, **options: Any) -> EngagementClient:
    given = emulator.credentials
    credentials = OAuth1Credentials(
        given.consumer_key, given.consumer_secret, given.access_token, given.access_token_secret
    )
    options = {"rate_limit": RateLimit(60_000), **options}
    return EngagementClient(credentials, base_url=emulator.base_url, **options)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def span_id(span: ReadableSpan) -> int:
    return span_context(span).span_id


def span_context(span: ReadableSpan) -> trace.SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


async def test_metrics_have_the_documented_names_and_units_and_add_up() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, faults={"503": 4, "gzip-cut": 5}) as emulator:
            async with client_of(emulator) as client:
                result = await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)
            sent = emulator.log.requests

    assert {name: metric.unit for name, metric in recorded.metrics().items()} == METRICS
    ids = recorded.numbers("engagement.client.ids", "engagement.endpoint", "engagement.outcome")
    assert ids == {("totals", name): number for name, number in result.outcomes.items() if number}
    assert sum(ids.values()) == len(IDS)
    assert recorded.total("http.client.request.duration") == sent
    by_error = recorded.numbers("http.client.request.duration", "http.response.status_code", "error.type")
    assert by_error[200, None] == 4
    assert by_error[503, "503"] >= 1
    assert by_error[200, "BodyError"] >= 1
    retries = recorded.numbers("engagement.client.retries", "error.type")
    assert retries == {"503": by_error[503, "503"], "BodyError": by_error[200, "BodyError"]}
    assert recorded.total("engagement.client.token.wait.duration") == sent


def test_the_page_has_every_name_and_unit() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text().partition("## Names")[2]

    for name, unit in METRICS.items():
        assert re.search(rf"`{name}`, (?:histogram|counter|up-down counter) \({re.escape(unit)}\)", page), name


async def test_a_request_is_the_child_of_its_call_and_the_call_of_what_made_it() -> None:
    """Also where calls run at once: each request's IDs say whose it is."""
    sizes = [301, 402, 503]

    async def handle(recorded_tracer: trace.Tracer, client: EngagementClient, size: int) -> None:
        with recorded_tracer.start_as_current_span(f"handler {size}"):
            await client.totals(IDS[:size], engagement_types=TYPES, groupings=GROUPINGS)
            assert trace.get_current_span().get_span_context().is_valid  # as before the call

    with recording() as recorded:
        tracer = recorded.tracer_provider.get_tracer("test")
        async with (
            Emulator(requests_per_minute=None, latency_s=0.02) as emulator,
            client_of(emulator, concurrency=4) as client,
        ):
            await asyncio.gather(*(handle(tracer, client, size) for size in sizes))

    for size in sizes:
        (handler,) = recorded.spans_of(f"handler {size}")
        (call,) = (span for span in recorded.spans_of("engagement totals") if parent_id(span) == span_id(handler))
        requests = [span for span in recorded.spans_of("POST") if parent_id(span) == span_id(call)]
        assert sum(attributes(span)["engagement.ids"] for span in requests) == size
        assert {span_context(span).trace_id for span in (handler, call, *requests)} == {span_context(call).trace_id}
        assert attributes(call)["engagement.ids.answered"] + attributes(call)["engagement.ids.unavailable"] == size
        assert attributes(call)["engagement.requests"] == len(requests)


async def test_spans_follow_the_conventions_of_http_clients() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, faults={"503": 2}) as emulator, client_of(emulator) as client:
            await client.totals(IDS[:500], engagement_types=TYPES, groupings=GROUPINGS)
            base_url = emulator.base_url
            port = int(base_url.rpartition(":")[2])

    good = next(span for span in recorded.spans_of("POST") if span.status.status_code is StatusCode.UNSET)
    bad = next(span for span in recorded.spans_of("POST") if span.status.status_code is StatusCode.ERROR)
    again = next(span for span in recorded.spans_of("POST") if "http.request.resend_count" in attributes(span))
    assert good.name == "POST /insights/engagement/totals"
    assert good.kind is SpanKind.CLIENT
    assert attributes(good) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{base_url}/insights/engagement/totals",
        "engagement.endpoint": "totals",
        "engagement.batch": attributes(good)["engagement.batch"],
        "engagement.ids": 250,
    }
    assert attributes(bad)["error.type"] == "503"
    assert attributes(again)["http.request.resend_count"] == 1


async def test_what_happens_within_a_request_is_its_child() -> None:
    """As the spans of an instrumentation of the HTTP library, or records of a log."""
    seen: list[int] = []
    with recording() as recorded:
        async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
            transport = client._transport  # a library's instrumentation wraps it so
            post = transport.post

            async def watched(*args: Any) -> Any:
                seen.append(trace.get_current_span().get_span_context().span_id)
                return await post(*args)

            transport.post = watched  # type: ignore[method-assign,assignment]
            await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)

    assert sorted(seen) == sorted(span_id(span) for span in recorded.spans_of("POST"))


async def test_no_secret_and_no_id_is_in_what_is_recorded() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, faults={"503": 3, "400": 5}) as emulator:
            async with client_of(emulator) as client:
                await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)
            secrets = vars(emulator.credentials)

    text = "".join(span.to_json() for span in recorded.spans)
    text += "".join(metric.to_json() for metric in recorded.metrics().values())
    assert "OAuth" not in text
    for secret in secrets.values():
        assert str(secret) not in text
    for tweet_id in IDS:
        assert tweet_id not in text


async def test_an_outage_is_an_open_circuit_while_it_lasts() -> None:
    open_while_down: list[float] = []
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, faults={"503": 1}) as emulator:
            async with client_of(emulator, outage_timeout_s=900) as client:
                call = asyncio.create_task(client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS))
                while not sum(open_while_down):
                    await asyncio.sleep(0.02)
                    open_while_down.append(recorded.total("engagement.client.circuits.open"))
                emulator.set_faults({})
                result = await call
            open_after = recorded.numbers("engagement.client.circuits.open", "engagement.endpoint")

    assert result.outcomes["failed"] == 0
    assert open_after == {"totals": 0}
    (call_span,) = recorded.spans_of("engagement")
    assert [event.name for event in call_span.events] == ["engagement.circuit.opened", "engagement.circuit.closed"]
    assert {attributes(span).get("engagement.probe") for span in recorded.spans_of("POST")} == {None, "life_sign"}


async def test_the_circuit_of_a_client_that_is_closed_is_not_open() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, faults={"503": 1}) as emulator:
            async with client_of(emulator, outage_timeout_s=0.01) as client:
                await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS)
                open_before = recorded.total("engagement.client.circuits.open")
            open_after = recorded.total("engagement.client.circuits.open")

    assert (open_before, open_after) == (1, 0)


async def test_a_call_that_is_cancelled_ends_its_spans() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, latency_s=5.0) as emulator, client_of(emulator) as client:
            call = asyncio.create_task(client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS))
            while client.status().in_flight < 4:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    (call_span,) = recorded.spans_of("engagement")
    requests = recorded.spans_of("POST")
    assert len(requests) == 4
    assert {attributes(span)["error.type"] for span in (call_span, *requests)} == {"CancelledError"}
    assert recorded.numbers("http.client.request.duration", "error.type") == {"CancelledError": 4}
    assert recorded.total("engagement.client.ids") == 0


async def test_a_call_that_is_cancelled_before_its_answers_are_parsed_ends_its_spans() -> None:
    """Responses that wait for the consumer: nothing is decided of them."""
    with recording() as recorded:
        async with Emulator(requests_per_minute=None) as emulator, client_of(emulator, concurrency=1) as client:
            async with client.stream(QUERY, IDS):
                while emulator.log.requests < 2 or client.status().in_flight:
                    await asyncio.sleep(0.01)
            sent = emulator.log.requests

    assert len(recorded.spans_of("POST")) == sent
    assert recorded.numbers("http.client.request.duration", "http.response.status_code") == {200: sent}


@given(st.integers(0, 2**32), st.floats(0, 400) | st.none())
def test_every_span_ends_whatever_happens_and_whenever_the_call_is_cancelled(
    seed: int, cancel_at: float | None
) -> None:
    model = Model(storm(seed), seed=seed)

    async def main() -> None:
        call = asyncio.create_task(fetch(model, IDS, requests=30))
        await asyncio.wait([call], timeout=cancel_at)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    complaints: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("opentelemetry")
    log.addHandler(handler)
    try:
        with recording() as recorded:
            run_virtual(main())
    finally:
        log.removeHandler(handler)

    assert complaints == []  # such as a context that is left in another task than it was entered in
    assert recorded.started == len(recorded.spans)
    sent = len(recorded.spans_of("POST"))
    assert sent == recorded.total("http.client.request.duration") >= len(model.requests)
    assert recorded.total("engagement.client.token.wait.duration") >= sent


async def test_a_call_whose_time_is_over_counts_what_came() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None, faults={"hang-before-headers": 2}) as emulator:
            client = client_of(emulator, timeouts=Timeouts(total_s=60))
            async with client:
                result = await client.totals(IDS, engagement_types=TYPES, groupings=GROUPINGS, timeout=1.0)

    failed = recorded.numbers("engagement.client.ids", "engagement.outcome")["failed"]
    assert failed == result.outcomes["failed"] > 0
    assert {reason.kind for reason in result.failed_tweet_ids.values()} == {FailureKind.TIMEOUT}  # type: ignore[attr-defined]
    assert recorded.total("engagement.client.ids") == len(IDS)


async def test_an_error_of_a_call_is_its_class_and_no_more() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None) as emulator:
            wrong = OAuth1Credentials("key", "secret", "token", "secret")
            async with EngagementClient(wrong, base_url=emulator.base_url, rate_limit=RateLimit(100)) as client:
                with pytest.raises(AuthError):
                    await client.totals(IDS[:10], engagement_types=TYPES, groupings=GROUPINGS)

    (call,) = recorded.spans_of("engagement")
    assert attributes(call)["error.type"] == "AuthError"
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description is None
    assert call.events == ()


async def test_calls_that_share_requests_have_a_span_each() -> None:
    with recording() as recorded:
        tracer = recorded.tracer_provider.get_tracer("test")

        async def handle(client: EngagementClient, number: int) -> None:
            with tracer.start_as_current_span(f"handler {number}"):
                await client.totals(IDS[number : number + 2], engagement_types=TYPES, groupings=GROUPINGS)

        async with Emulator(requests_per_minute=None) as emulator, client_of(emulator, coalesce=0.02) as client:
            await asyncio.gather(*(handle(client, number) for number in range(3)))
            sent = emulator.log.requests

    assert sent == 1
    shared = [span for span in recorded.spans_of("engagement") if attributes(span).get("engagement.shares_requests")]
    (group,) = (span for span in recorded.spans_of("engagement") if span not in shared)
    (request,) = recorded.spans_of("POST")
    handlers = {span_id(span) for span in recorded.spans_of("handler")}
    assert {parent_id(span) for span in shared} == handlers
    assert parent_id(group) in {span_id(span) for span in shared}
    assert parent_id(request) == span_id(group)
    assert recorded.total("engagement.client.ids") == 4  # each once


async def test_where_instrumentation_is_suppressed_nothing_is_recorded() -> None:
    with recording() as recorded:
        async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
            token = context.attach(context.set_value("suppress_instrumentation", value=True))
            try:
                await client.totals(IDS[:10], engagement_types=TYPES, groupings=GROUPINGS)
            finally:
                context.detach(token)

    assert recorded.spans == ()
    assert recorded.metrics() == {}


async def test_spans_without_metrics_and_metrics_without_spans() -> None:
    with recording() as recorded:
        pass
    for providers in ({"tracer_provider": recorded.tracer_provider}, {"meter_provider": recorded.meter_provider}):
        with observed_by(OpenTelemetryRecorder(**providers)):
            async with Emulator(requests_per_minute=None) as emulator, client_of(emulator) as client:
                result = await client.totals(IDS[:10], engagement_types=TYPES, groupings=GROUPINGS)
        assert sum(result.outcomes.values()) == 10


def test_the_providers_of_the_process_are_used_once_there_are_any() -> None:
    code = """
from opentelemetry import metrics, trace
from engagement_async._engine.observing import current_observers

assert current_observers() == ()  # the API alone: nothing goes anywhere
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

assert current_observers() == ()
metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
(first,) = current_observers()
assert current_observers() == (first,)
trace.set_tracer_provider(TracerProvider())
(second,) = current_observers()
assert second is not first and current_observers() == (second,)
print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)

    assert (done.stdout.strip(), done.stderr) == ("fine", "")
