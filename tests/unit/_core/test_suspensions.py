from __future__ import annotations

import math

import pytest

from engagement_async._core.call_state import EndpointState
from engagement_async._core.suspensions import Suspensions
from engagement_async.errors import ServerError


def test_what_is_beyond_a_step_of_waiting_is_a_suspension() -> None:
    suspensions = Suspensions(longest_step_s=100.0)
    suspensions.look(100.0, since=0.0)
    assert suspensions.seconds_since(0.0) == 0.0

    suspensions.look(5_000.0, since=0.0)

    assert suspensions.seconds_since(100.0) == 4_800.0
    assert suspensions.seconds_since(4_999.0) == 4_800.0
    assert suspensions.seconds_since(5_000.0) == 0.0, "who begins when it is noted did not wait meanwhile"


def test_while_nobody_waits_nothing_is_a_suspension() -> None:
    suspensions = Suspensions(longest_step_s=100.0)

    suspensions.look(0.0, since=math.inf)
    suspensions.look(5_000.0, since=math.inf)
    suspensions.look(5_010.0, since=4_990.0)

    assert suspensions.seconds_since(-1.0) == 0.0


def test_calls_that_begin_in_an_outage_after_a_429_lengthen_nobody_s_patience() -> None:
    endpoint = EndpointState()
    endpoint.record_rate_limit(0.0)
    endpoint.hold_until(1.0)

    for now in range(10, 2_000, 10):
        endpoint.breaker.record_failure(ServerError("HTTP 503", status=503), float(now), 1.0)
        endpoint.look(now + 5.0)

    assert endpoint.suspensions.seconds_since(0.0) == 0.0


@pytest.mark.parametrize("event", ["a call begins", "a request fails"])
def test_whoever_looks_first_after_a_suspension_in_a_hold_notes_it(event: str) -> None:
    endpoint = EndpointState()
    endpoint.record_rate_limit(0.0)
    endpoint.hold_until(60.0)

    if event == "a call begins":
        endpoint.look(7_220.0)
    else:
        endpoint.breaker.record_failure(ServerError("HTTP 503", status=503), 7_220.0, 1.0)
    endpoint.record_rate_limit(7_221.0)

    assert endpoint.suspensions.seconds_since(0.0) == 7_220 - 60 - Suspensions.LONGEST_STEP_S

    endpoint.record_response(7_230.0)
    endpoint.look(99_999.0)

    assert endpoint.suspensions.seconds_since(7_220.0) == 0.0
