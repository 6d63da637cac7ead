"""The numbers of a run: what they are made of, and that they add up."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engagement_async import TOTALS, AuthError, Query, RateLimitedError
from engagement_async._core.answer import Answer
from engagement_async._core.call_state import EndpointState
from engagement_async._core.decisions import Accept, HoldAll, Renew, Requeue, RetryIn
from engagement_async._core.events import CallBegan, Decided, Ended, Event, HandedOut, Received, Sent, Waited
from engagement_async._core.outcomes import Outcomes
from engagement_async._core.parsing import ParsedResponse, ResponseParser
from engagement_async._core.request import Request
from engagement_async._progress import Progress
from engagement_async.cli.run_metrics import RunMetrics
from engagement_async.errors import DisconnectedError, NotSentError, ServerError
from tests.support.interpreters import ROOT
from tests.support.prometheus import Scraped

QUERY = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id"]})
REQUEST = Request(("1", "2"), ResponseParser(QUERY), 0)
PARSED = ParsedResponse(Answer(0, ("1", "2")))
LIMITED = RateLimitedError("too many requests", status=429)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def heard(*events: Event, state: EndpointState | None = None, clock: Clock | None = None) -> RunMetrics:
    metrics = RunMetrics(clock=clock or Clock())
    observe = metrics(CallBegan(TOTALS, "https", "api.example", 443, "/x", state or EndpointState()))
    for event in events:
        observe(event)
    return metrics


def scraped(metrics: RunMetrics) -> Scraped:
    return Scraped(metrics.text({"task": "nightly", "command": "fetch"}))


def progress(outcomes: Outcomes, ids_total: int) -> Progress:
    rest: dict[str, Any] = dict.fromkeys(("eta_s", "waiting_for", "contract_per_minute"))
    return Progress(
        ids_total=ids_total,
        outcomes=outcomes,
        requests=1,
        elapsed_s=1.0,
        requests_last_minute=1,
        waiting_s=0.0,
        **rest,
    )


def test_requests_by_class_retries_refusals_and_waits() -> None:
    found = scraped(
        heard(
            Waited(0.5),
            Sent(REQUEST),
            Received(REQUEST, 0.2, 200, None),
            Decided(REQUEST, PARSED, Accept(())),
            Waited(1.25),
            Sent(REQUEST),
            Received(REQUEST, 3.0, 429, None),
            Decided(REQUEST, LIMITED, HoldAll(5.0)),
            Sent(REQUEST),
            Received(REQUEST, 0.1, 200, None),
            Decided(REQUEST, RateLimitedError("in a text", status=200), HoldAll(5.0)),
            Sent(REQUEST),
            Received(REQUEST, 0.1, 503, None),
            Decided(REQUEST, ServerError("HTTP 503", status=503), RetryIn(1.0)),
            Sent(REQUEST),
            Received(REQUEST, 0.1, None, NotSentError("refused")),
            Decided(REQUEST, NotSentError("refused"), RetryIn(1.0)),
            Sent(REQUEST),
            Received(REQUEST, 60.0, None, DisconnectedError("cut")),
            Decided(REQUEST, DisconnectedError("cut"), Requeue(())),  # its halves are other requests
            HandedOut(Outcomes(answered=1, failed=1)),
            Ended(None),
        )
    )

    assert found.numbers("engagement_requests_total", "status_class") == {
        "2xx": 2,
        "4xx": 1,
        "5xx": 1,
        "none": 1,
        "not_sent": 1,
    }
    assert found.numbers("engagement_retries_total", "error_type") == {
        "429": 1,
        "RateLimitedError": 1,
        "503": 1,
        "NotSentError": 1,
    }
    assert found.total("engagement_rate_limited_total") == 2
    assert found.total("engagement_token_wait_seconds_total") == 1.75
    assert found.total("engagement_request_duration_seconds_count") == 6
    assert found.numbers("engagement_request_duration_seconds_bucket", "le")["0.25"] == 4
    assert found.ids == {"answered": 1, "unavailable": 0, "unsupported": 0, "forbidden": 0, "failed": 1}


def test_an_owner_without_another_token_costs_no_retry() -> None:
    refused = AuthError("HTTP 401", status=401)
    found = scraped(
        heard(
            Sent(REQUEST),
            Received(REQUEST, 0.2, 401, None),
            Decided(REQUEST, refused, Renew("owner7")),  # the store has the same token still: it is not sent again
            HandedOut(Outcomes(failed=2)),
            Ended(None),
        )
    )

    assert found.numbers("engagement_requests_total", "status_class") == {"4xx": 1}
    assert found.numbers("engagement_retries_total", "error_type") == {}


def test_the_progress_of_a_run_knows_pending_ids_too_and_they_add_up() -> None:
    metrics = heard(HandedOut(Outcomes(answered=9)))
    metrics.note(progress(Outcomes(answered=5, unavailable=2), 10))

    assert scraped(metrics).ids == {
        "answered": 5,
        "unavailable": 2,
        "unsupported": 0,
        "forbidden": 0,
        "failed": 0,
        "pending": 3,
    }


@pytest.mark.parametrize(("exit_code", "success_at"), [(0, 1_060.0), (3, 900.0), (5, 900.0), (143, 900.0)])
def test_how_a_run_ended_and_when_one_last_succeeded(exit_code: int, success_at: float) -> None:
    clock = Clock()
    metrics = heard(clock=clock)
    metrics.last_success_at = 900.0
    before = scraped(metrics)
    clock.now += 60
    metrics.end(exit_code)
    clock.now += 1
    after = scraped(metrics)

    assert before.total("engagement_run_in_progress") == 1
    assert not before.has("engagement_run_exit_code")
    assert not before.has("engagement_run_ended_timestamp_seconds")
    assert after.total("engagement_run_in_progress") == 0
    assert after.total("engagement_run_exit_code") == exit_code
    assert after.total("engagement_run_started_timestamp_seconds") == 1_000
    assert after.total("engagement_run_ended_timestamp_seconds") == 1_060
    assert after.total("engagement_run_updated_timestamp_seconds") == 1_061
    assert after.total("engagement_last_success_timestamp_seconds") == success_at


def test_when_the_api_last_answered_tells_a_run_that_hangs() -> None:
    clock = Clock()
    metrics = RunMetrics(clock=clock)
    observe = metrics(CallBegan(TOTALS, "https", "api.example", 443, "/x", EndpointState()))
    assert not scraped(metrics).has("engagement_last_answer_timestamp_seconds")
    observe(Decided(REQUEST, PARSED, Accept(())))
    clock.now += 500
    observe(Decided(REQUEST, LIMITED, HoldAll(5.0)))

    assert scraped(metrics).total("engagement_last_answer_timestamp_seconds") == 1_000


def test_a_circuit_is_open_while_the_api_does_not_answer() -> None:
    state = EndpointState()
    metrics = heard(state=state)
    assert scraped(metrics).numbers("engagement_circuits_open", "endpoint") == {"totals": 0}
    state.breaker.trip(0.0, 0.5)

    assert scraped(metrics).numbers("engagement_circuits_open", "endpoint") == {"totals": 1}


def test_a_run_that_never_called_has_no_numbers_of_calls() -> None:
    metrics = RunMetrics()
    metrics.end(2)

    assert {name.partition("_")[2].partition("_")[0] for name in scraped(metrics).families} == {"run"}


def test_the_page_has_every_name_and_no_other() -> None:
    written = set(scraped(all_kinds()).families)
    page = (ROOT / "docs" / "monitoring.md").read_text().partition("## Names")[2]
    named = set(re.findall(r"`(engagement_\w+)`", page))

    assert {name.removesuffix("_total") for name in named} == {name.removesuffix("_total") for name in written}
    for name, family in scraped(all_kinds()).families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"task", "command", "le"}
        row = next(row for row in page.splitlines() if f"`{name}" in row)
        assert all(f"`{label}`" in row for label in labels), row
        assert f"{family.type}" in row


def all_kinds() -> RunMetrics:
    """Return metrics that have every family."""
    metrics = heard(Received(REQUEST, 0.1, 429, None), Decided(REQUEST, LIMITED, HoldAll(5.0)), Sent(REQUEST))
    metrics(CallBegan(TOTALS, "https", "api.example", 443, "/x", EndpointState()))(Decided(REQUEST, PARSED, Accept(())))
    metrics.end(0)
    return metrics
