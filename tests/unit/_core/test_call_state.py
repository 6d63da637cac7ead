from __future__ import annotations

import math

import pytest

from engagement_async._core.call_state import EndpointState, FailureRate, OwnersState


def test_the_api_that_leaves_metrics_out_for_good_is_no_longer_asked_for_them() -> None:
    endpoint = EndpointState()

    for n in range(EndpointState.CONFIRMED):
        assert not endpoint.leaves_out_metrics
        endpoint.record_second_look({"favorites": (str(n),)})
    assert endpoint.leaves_out_metrics

    endpoint.record_second_look({})
    assert not endpoint.leaves_out_metrics


def test_one_tweet_that_lacks_a_metric_in_every_time_range_says_nothing_of_others() -> None:
    endpoint = EndpointState()

    for _ in range(2 * EndpointState.CONFIRMED):
        endpoint.record_second_look({"favorites": ("1",)})

    assert not endpoint.leaves_out_metrics
    assert endpoint.gaps == {"favorites": {"1"}}


@pytest.mark.parametrize(("rate", "attempts"), [(0.0, 3), (0.3, 4), (0.5, 6), (0.7, 11), (0.95, 12)])
def test_the_more_attempts_fail_at_random_the_more_a_request_gets(rate: float, attempts: int) -> None:
    failures = FailureRate()
    per_answer = rate / (1 - rate)
    for n in range(1_000):
        failures.record(math.floor((n + 1) * per_answer) - math.floor(n * per_answer))

    assert failures.attempts_until(0.02, at_least=0.15, most=12) == attempts


def test_requests_are_counted_by_owner_until_they_are_taken() -> None:
    owners = OwnersState()
    owners.count_request("x")
    owners.count_request("x")
    owners.count_request(None)
    assert owners.take_requests() == {"x": 2}

    owners.count_request("x", -1)  # it was counted and taken, and never sent
    owners.count_request("y")
    assert owners.take_requests() == {"x": -1, "y": 1}
    assert owners.take_requests() == {}
