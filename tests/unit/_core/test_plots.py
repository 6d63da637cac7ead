"""What a plot shows: the axis, the sums, the zeros between, and what is cut."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from engagement_async._core.plots import ALL_METRICS, MOST_TWEETS, Axis, Point, plot_data

HOUR = datetime(2026, 5, 1, 10, tzinfo=UTC)
DAY = date(2026, 5, 1)
COLUMNS = {
    Axis.HOURS: ("tweet_id", "engagement_type", "engagement_hour", "value"),
    Axis.DAYS: ("tweet_id", "engagement_type", "engagement_day", "value"),
    Axis.HOURS_OF_DAY: ("engagement_type", "engagement_hour_of_day", "value"),
    Axis.TWEETS: ("owner", "tweet_id", "engagement_type", "value"),
    Axis.OWNERS: ("owner", "engagement_type", "value"),
    Axis.METRICS: ("engagement_type", "value"),
}


def rows(columns: tuple[str, ...], *values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in values]


@pytest.mark.parametrize("axis", Axis)
def test_the_axis_is_that_of_the_grouping(axis: Axis) -> None:
    columns = COLUMNS[axis]
    value = {
        "engagement_type": "replies",
        "engagement_hour": HOUR,
        "engagement_day": DAY,
        "engagement_hour_of_day": 4,
        "owner": "a",
        "tweet_id": "7",
        "value": 3,
    }

    data = plot_data(columns, [{name: value[name] for name in columns}], ["replies"])

    assert data.axis is axis
    assert sum(point.value for points in data.panels.values() for point in points) == 3


def test_hours_are_sums_over_tweets_and_zero_where_there_is_no_row() -> None:
    columns = COLUMNS[Axis.HOURS]
    two_later = HOUR + timedelta(hours=2)
    given = rows(columns, ("7", "replies", two_later, 1), ("8", "replies", HOUR, 2), ("7", "replies", HOUR, 3))

    data = plot_data(columns, given, ["replies"])

    assert data.panels == {"replies": [Point(HOUR, 5), Point(HOUR + timedelta(hours=1), 0), Point(two_later, 1)]}


def test_all_metrics_have_the_same_hours() -> None:
    columns = COLUMNS[Axis.HOURS]
    given = rows(columns, ("7", "replies", HOUR, 1), ("7", "favorites", HOUR + timedelta(hours=1), 2))

    data = plot_data(columns, given, ["favorites", "replies"])

    assert list(data.panels) == ["favorites", "replies"]
    assert [point.key for point in data.panels["favorites"]] == [point.key for point in data.panels["replies"]]


@pytest.mark.parametrize(
    ("window", "cut"),
    [
        (None, []),
        ((HOUR, HOUR + timedelta(hours=3)), []),
        ((HOUR + timedelta(minutes=1), HOUR + timedelta(hours=3)), [0]),
        ((HOUR, HOUR + timedelta(minutes=150)), [2]),
    ],
)
def test_hours_that_the_window_cuts_are_partial(window: tuple[datetime, datetime] | None, cut: list[int]) -> None:
    columns = ("engagement_hour", "value")
    given = rows(columns, *((HOUR + timedelta(hours=n), 1) for n in range(3)))

    points = plot_data(columns, given, ["replies"], window).panels[ALL_METRICS]

    assert [n for n, point in enumerate(points) if point.is_partial] == cut


def test_days_begin_at_midnight_utc() -> None:
    columns = ("engagement_day", "value")

    points = plot_data(columns, rows(columns, (DAY, 4), (date(2026, 5, 3), 5)), []).panels[ALL_METRICS]

    assert points == [
        Point(datetime(2026, 5, 1, tzinfo=UTC), 4),
        Point(datetime(2026, 5, 2, tzinfo=UTC), 0),
        Point(datetime(2026, 5, 3, tzinfo=UTC), 5),
    ]


def test_every_hour_of_the_day_has_its_bar() -> None:
    columns = COLUMNS[Axis.HOURS_OF_DAY]

    points = plot_data(columns, rows(columns, ("replies", 4, 3)), ["replies"]).panels["replies"]

    assert [point.key for point in points] == list(range(24))
    assert points[4].value == 3


def test_the_largest_tweets_come_first_and_the_others_are_counted() -> None:
    columns = ("tweet_id", "engagement_type", "value")
    given = rows(columns, *((str(n), "replies", n) for n in range(1, MOST_TWEETS + 4)), ("99", "replies", 0))

    data = plot_data(columns, given, ["replies", "favorites"])

    assert list(data.panels) == ["replies"]
    assert [point.value for point in data.panels["replies"]] == list(range(MOST_TWEETS + 3, 3, -1))
    assert data.left_out == 3


@pytest.mark.parametrize(("values", "panels"), [((5, 0), ["a"]), ((0, 0), ["a", "b"])])
def test_a_panel_of_zeros_is_shown_where_there_is_nothing_else(values: tuple[int, int], panels: list[str]) -> None:
    columns = ("tweet_id", "engagement_type", "value")

    data = plot_data(columns, rows(columns, ("7", "a", values[0]), ("7", "b", values[1])), ["a", "b"])

    assert list(data.panels) == panels


def test_metrics_are_one_panel_and_other_metrics_are_left_out() -> None:
    columns = COLUMNS[Axis.METRICS]
    given = rows(columns, ("replies", 1), ("favorites", 9), ("impressions", 100))

    data = plot_data(columns, given, ["replies", "favorites"])

    assert data.panels == {"": [Point("favorites", 9), Point("replies", 1)]}


@pytest.mark.parametrize("axis", Axis)
def test_no_rows_are_no_panels(axis: Axis) -> None:
    assert plot_data(COLUMNS[axis], [], ["replies"]).panels == {}
