"""The rate limit: sliding and fixed, and what its headers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.emulator.limit import Limit


def admitted(limit: Limit, instants: list[float]) -> list[float]:
    taken = []
    for now in instants:
        if limit.remaining(now) > 0:
            limit.admit(now)
            taken.append(now)
    return taken


@given(st.integers(1, 5), st.lists(st.integers(0, 300), max_size=60).map(sorted))
def test_a_sliding_window_never_holds_more(requests: int, instants: list[int]) -> None:
    taken = admitted(Limit(requests, 60, "sliding"), [float(now) for now in instants])

    assert all(sum(x <= now < x + 60 for now in taken) <= requests for x in range(-60, 301))


@given(st.integers(1, 5), st.lists(st.integers(0, 300), max_size=60).map(sorted))
def test_a_fixed_window_is_filled_and_never_more(requests: int, instants: list[int]) -> None:
    taken = admitted(Limit(requests, 60, "fixed"), [float(now) for now in instants])

    for minute in range(6):
        wanted = sum(now // 60 == minute for now in instants)
        assert sum(now // 60 == minute for now in taken) == min(requests, wanted)


def test_sliding_frees_a_place_exactly_one_period_later() -> None:
    limit = Limit(2, 60, "sliding")

    assert admitted(limit, [0, 1, 59, 60, 60, 61, 61]) == [0, 1, 60, 61]


def test_fixed_lets_a_double_burst_pass_at_its_edge() -> None:
    assert admitted(Limit(2, 60, "fixed"), [58, 59, 59.5, 60, 61, 62]) == [58, 59, 60, 61]


def test_headers_of_a_sliding_window() -> None:
    limit = Limit(2, 60, "sliding")
    admitted(limit, [100.0, 110.0])

    assert limit.headers(130.0, 1_700_000_000.2) == {
        "x-per-minute-limit": "2",
        "x-per-minute-remaining": "0",
        "x-per-minute-reset": "1700000031",
    }


def test_headers_of_a_fixed_window_of_a_second() -> None:
    limit = Limit(9, 1, "fixed", "second")
    admitted(limit, [100.25])

    assert limit.headers(100.25, 1_700_000_000.0) == {
        "x-per-second-limit": "9",
        "x-per-second-remaining": "8",
        "x-per-second-reset": "1700000001",
    }


def test_a_limit_that_is_not_enforced_counts_and_refuses_nothing() -> None:
    limit = Limit(2, 1, "sliding", "second", is_enforced=False)
    full = []
    for _ in range(3):
        full.append(limit.is_full(5.0))
        limit.admit(5.0)

    assert full == [False] * 3
    assert limit.headers(5.0, 1e9)["x-per-second-remaining"] == "0"
    assert limit.remaining(6.0) == 2


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="requests >= 1"):
        Limit(0, 60, "sliding")
