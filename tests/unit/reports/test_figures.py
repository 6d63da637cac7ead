"""The numbers behind the pictures of data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engagement_async._core.plots import Point
from engagement_async.reports.figures import MOST_POINTS, panels_of, week_of
from engagement_async.reports.tally import Tally, TweetValues

THURSDAY = 490_896
"""2026-01-01 00:00 UTC, in hours since the epoch."""


def at(hour: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)


def tally_of(hours: dict[int, int], *, first: int, end: int) -> Tally:
    tally = Tally(("replies", "favorites"))
    shifted = {THURSDAY + hour: value for hour, value in hours.items()}
    zeros = dict.fromkeys(shifted, 0)
    tally.add(TweetValues("7", {"replies": sum(hours.values())}, {"replies": shifted, "favorites": zeros}, {}))
    tally.add_span((THURSDAY + first) * 3600.0, (THURSDAY + end) * 3600.0)
    return tally


def test_hours_that_were_seen_have_a_point_and_silent_metrics_have_no_panel() -> None:
    panels = panels_of(tally_of({0: 5, 2: 1}, first=0, end=3))

    assert panels is not None
    assert panels.points == {"replies": [Point(at(0), 5), Point(at(1), 0), Point(at(2), 1)]}
    assert (panels.silent, panels.unit) == (["favorites"], "an hour")
    assert (panels.starts_at, panels.ends_at) == (at(0), at(3))


def test_a_gap_has_no_point() -> None:
    tally = tally_of({0: 5}, first=0, end=1)
    tally.add_span((THURSDAY + 4) * 3600.0, (THURSDAY + 5) * 3600.0)

    panels = panels_of(tally)

    assert panels is not None
    assert [point.key for point in panels.points["replies"]] == [at(0), at(4)]


@pytest.mark.parametrize(
    ("hours", "step_h", "unit"),
    [
        (MOST_POINTS, 1, "an hour"),
        (MOST_POINTS + 1, 3, "in 3 hours"),
        (3 * MOST_POINTS + 1, 6, "in 6 hours"),
        (24 * MOST_POINTS, 24, "a day"),
        (24 * MOST_POINTS + 1, 168, "a week"),
        (168 * MOST_POINTS + 1, 672, "in 28 days"),
    ],
)
def test_many_hours_become_longer_steps_and_keep_their_sum(hours: int, step_h: int, unit: str) -> None:
    panels = panels_of(tally_of({0: 5, hours - 1: 2}, first=0, end=hours))

    assert panels is not None
    assert (panels.step, panels.unit) == (timedelta(hours=step_h), unit)
    assert len(panels.points["replies"]) <= MOST_POINTS + 1
    assert sum(point.value for point in panels.points["replies"]) == 7


def test_a_step_is_partial_unless_all_of_its_hours_are_whole() -> None:
    panels = panels_of(tally_of({30: 1}, first=1, end=24 * 20))

    assert panels is not None
    points = panels.points["replies"]
    assert panels.step == timedelta(hours=3)
    assert (points[0].key, points[0].is_partial, points[1].is_partial) == (at(0), True, False)


def test_days_begin_at_midnight_and_weeks_on_monday() -> None:
    panels = panels_of(tally_of({0: 1}, first=0, end=24 * 300))

    assert panels is not None
    assert panels.points["replies"][0].key == datetime(2025, 12, 29, tzinfo=UTC)


def test_daily_data_has_days() -> None:
    tally = Tally(("replies",))
    tally.add(TweetValues("7", {"replies": 3}, {}, {"replies": {THURSDAY: 1, THURSDAY + 48: 2}}))

    panels = panels_of(tally)

    assert panels is not None
    assert panels.unit == "a day"
    assert panels.points["replies"] == [Point(at(0), 1), Point(at(48), 2)]


def test_data_without_time_has_no_panels() -> None:
    assert panels_of(Tally(("replies",))) is None


def test_the_week_is_a_mean_over_the_hours_that_were_seen_whole() -> None:
    hours = {0: 10, 168: 20, 336: 60}
    cells = week_of(tally_of(hours, first=0, end=336), "replies")
    by_place = {(cell.weekday, cell.hour): cell for cell in cells}

    assert len(cells) == 168
    assert (by_place[3, 0].mean, by_place[3, 0].hours) == (15.0, 2)  # Thursday; the third one is not whole
    assert by_place[4, 0].mean == 0.0


def test_hours_of_the_week_that_were_not_seen_have_no_mean() -> None:
    cells = week_of(tally_of({0: 10}, first=0, end=1), "replies")

    assert sum(cell.mean is not None for cell in cells) == 1
