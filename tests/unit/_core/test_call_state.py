from __future__ import annotations

import math

import pytest

from engagement_async._core.call_state import EndpointState, FailureRate, OwnersState


def test_the_api_that_leaves_metrics_out_for_good_is_no_longer_asked_for_them() -> None:
    endpoint = EndpointState()

    for n in range(EndpointState.CONFIRMED):
        assert not endpoint.leaves_out_metrics
        endpoint.record_second_look({"favorites": (str(n),)}, 0)
    assert endpoint.leaves_out_metrics

    endpoint.record_second_look({"favorites": ("a",)}, 2)
    assert not endpoint.leaves_out_metrics


def test_one_tweet_that_lacks_a_metric_in_every_time_range_says_nothing_of_others() -> None:
    endpoint = EndpointState()

    for _ in range(2 * EndpointState.CONFIRMED):
        endpoint.record_second_look({"favorites": ("1",)}, 0)
    for metric in ("replies", "retweets", "quote_tweets"):
        endpoint.record_second_look({metric: ("1",)}, 0)

    assert not endpoint.leaves_out_metrics
    assert endpoint.gaps["favorites"] == endpoint.gaps["retweets"] == {"1"}


def test_what_is_found_after_all_leaves_nothing_to_be_accepted_without_a_second_look() -> None:
    endpoint = EndpointState()
    endpoint.record_second_look({"favorites": ("1",)}, 0)

    endpoint.record_second_look({"favorites": ("2",)}, 24)

    assert not endpoint.gaps
    for n in range(3):
        endpoint.record_second_look({"favorites": (str(n),)}, 0)
    assert not endpoint.leaves_out_metrics


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
