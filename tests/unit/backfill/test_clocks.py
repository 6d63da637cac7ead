"""Time between two moments, whatever became of the wall clock."""

from __future__ import annotations

from engagement_async.backfill.clocks import Instant, elapsed_s, instant_now


def test_time_passes_alike_by_all_clocks() -> None:
    earlier = instant_now()
    later = instant_now()

    assert 0 <= elapsed_s(earlier, later) < 60


def test_within_one_start_of_a_machine_nobody_sets_the_clock_that_counts() -> None:
    assert elapsed_s(Instant("a", 5, 100), Instant("a", 8, 0)) == 3
    assert elapsed_s(Instant("a", 8, 100), Instant("a", 5, 200)) == 0


def test_between_two_starts_there_is_the_wall_clock_alone() -> None:
    assert elapsed_s(Instant("a", 500, 100), Instant("b", 8, 130)) == 30
    assert elapsed_s(Instant("", 5, 100), Instant("", 8, 140)) == 40
    assert elapsed_s(Instant("a", 5, 100), Instant("b", 8, 40)) == 0
