from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import RateLimit
from engagement_async._core.backoff import backoff_s, exponential_s, hold_s
from engagement_async._core.rate_headers import RateHeaders
from engagement_async.errors import AttemptTimeoutError, DisconnectedError

TIMEOUT = AttemptTimeoutError("no answer in time")
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
EPOCH = 1_767_225_600
"""The same instant."""


def test_a_backoff_doubles_from_half_a_second_to_twenty_seconds() -> None:
    assert [exponential_s(failures) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert [backoff_s(failures, TIMEOUT, 0.5) for failures in (1, 2, 9)] == [0.25, 0.5, 10]


def test_the_first_disconnect_is_retried_at_once() -> None:
    assert backoff_s(1, DisconnectedError("closed"), 1.0) == 0.0
    assert backoff_s(2, DisconnectedError("closed"), 1.0) == 1.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20.1),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:20 GMT", "date": DATE}, 20.1),
        ({"x-per-minute-reset": str(EPOCH + 20), "date": DATE}, 20.1),
        ({"x-per-minute-reset": str(EPOCH + 20), "retry-after": "30", "date": DATE}, 30.1),
        (
            {
                "x-per-second-remaining": "0",
                "x-per-minute-remaining": "5",
                "x-per-second-reset": str(EPOCH + 1),
                "date": DATE,
            },
            1.1,
        ),
        ({"retry-after": "soon"}, 60.1),
        ({}, 60.1),
    ],
)
def test_a_hold_is_as_long_as_the_api_says_else_one_window(headers: dict[str, str], seconds: float) -> None:
    assert hold_s(RateHeaders.from_headers(headers), [RateLimit(300)], 0.0) == pytest.approx(seconds)


def test_holds_that_do_not_help_grow_to_a_minute() -> None:
    soon = RateHeaders(retry_after_s=0.0)

    holds = [hold_s(soon, [RateLimit(300)], 0.0, holds=holds) for holds in (1, 2, 3, 4, 9)]

    assert holds == pytest.approx([0.1, 1.1, 2.1, 4.1, 60.1])


@given(failures=st.integers(1, 10**6), jitter=st.floats(0, 1, exclude_max=True))
def test_a_backoff_is_never_negative_and_never_over_20_s(failures: int, jitter: float) -> None:
    assert 0 <= backoff_s(failures, TIMEOUT, jitter) <= 20


@given(st.dictionaries(st.sampled_from(["retry-after", "x-per-minute-reset", "x-per-second-reset", "date"]), st.text()))
def test_whatever_a_429_says_it_holds_for_at_least_a_moment_and_at_most_15_minutes(headers: dict[str, str]) -> None:
    assert 0.1 <= hold_s(RateHeaders.from_headers(headers), [RateLimit(300)], 0.5) <= 901
