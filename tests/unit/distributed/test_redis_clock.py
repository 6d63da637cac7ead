"""Whether the clock of Redis runs ahead: steps, rates that are off, and what is neither."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.distributed.redis_clock import DRIFT, STEP_S, ClockWatch


@pytest.mark.parametrize(
    ("there_s", "here_s", "is_ahead"),
    [
        (10.0, 10.0, False),
        (10.0, 10.2, False),
        (10.04, 10.0, False),  # drift may be a thousandth
        (10.05, 10.0, True),
        (3_600.0, 10.0, True),
        (-5.0, 10.0, False),  # back: the script sees to that
    ],
)
def test_a_step_is_noticed_with_the_next_reading(there_s: float, here_s: float, is_ahead: bool) -> None:
    watch = ClockWatch(60.0)
    assert watch.ahead_s(1_000.0, 5.0, 5.0) == 0.0

    found = watch.ahead_s(1_000.0 + there_s, 5.0 + here_s, 5.0 + here_s)

    assert (found > 0) is is_ahead
    assert found == pytest.approx(there_s - here_s if is_ahead else 0.0)
    assert watch.ahead_s(1_001.0 + there_s, 6.0 + here_s, 6.0 + here_s) == 0.0


def test_a_clock_that_is_fast_all_the_time_is_noticed_though_no_reading_differs_much() -> None:
    watch = ClockWatch(60.0)
    found = [watch.ahead_s(1.005 * 0.25 * n, 0.25 * n, 0.25 * n) for n in range(400)]

    assert max(found) > STEP_S
    assert found.index(max(found)) < 60 / 0.25


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5), st.floats(0, 5)), max_size=50), st.floats(-DRIFT, DRIFT / 2)
)
def test_neither_drift_nor_a_slow_network_is_a_step(readings: list[tuple[float, float, float]], drift: float) -> None:
    watch = ClockWatch(60.0)
    now = 0.0
    for passed_s, there_s, back_s in readings:
        asked_at = now + passed_s
        read_at = asked_at + there_s
        now = read_at + back_s
        assert watch.ahead_s(1e6 + read_at * (1 + drift), asked_at, now) == 0.0
