"""Rows of tables become sums: days, owners, hours that are partial, and the columns of a series export."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from engagement_async._core.plots import ALL_METRICS
from engagement_async.errors import UsageError
from engagement_async.reports.row_files import add_rows
from engagement_async.reports.tally import Tally

NEW_YEAR_H = 490_896


def tally_of(*rows: dict[str, Any]) -> Tally:
    tally = Tally(())
    add_rows(tally, rows)
    return tally


@pytest.mark.parametrize(
    "hour",
    ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00+00:00", "2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=UTC)],
)
def test_hours_are_utc_however_they_are_written(hour: object) -> None:
    tally = tally_of({"tweet_id": "7", "engagement_type": "replies", "engagement_hour": hour, "value": 3})

    assert tally.by_hour == {"replies": {NEW_YEAR_H: 3}}


@pytest.mark.parametrize("day", ["2026-01-01", date(2026, 1, 1)])
def test_days_are_days(day: object) -> None:
    tally = tally_of({"tweet_id": "7", "engagement_type": "replies", "engagement_day": day, "value": "3"})

    assert (tally.by_day, tally.by_hour) == ({"replies": {NEW_YEAR_H: 3}}, {})


def test_rows_of_a_tweet_may_lie_anywhere() -> None:
    tally = tally_of(
        {"tweet_id": "7", "engagement_type": "replies", "value": 3, "owner": "a"},
        {"tweet_id": "8", "engagement_type": "replies", "value": 1, "owner": "b"},
        {"tweet_id": "7", "engagement_type": "favorites", "value": 2, "owner": "a"},
    )

    (top,) = tally.top  # by favorites, of which the other one has none
    assert (top.tweet_id, top.owner, dict(top.sums)) == ("7", "a", {"replies": 3, "favorites": 2})
    assert tally.sums == {"replies": 4, "favorites": 2}
    assert tally.by_owner == {"a": {"answered": 1}, "b": {"answered": 1}}
    assert tally.outcomes == {"answered": 2}


def test_the_columns_of_a_series_are_no_metrics() -> None:
    row = {"tweet_id": "7", "engagement_hour": "2026-01-01T00:00:00Z", "state": "partial", "observed_at": "x"}

    tally = tally_of({**row, "replies": 3, "favorites": None})

    assert tally.metrics == ("replies",)
    assert tally.partial == {NEW_YEAR_H}


def test_ids_that_excel_keeps_and_rows_without_tweets_are_read() -> None:
    assert tally_of({"tweet_id": '="7"', "value": 2}).top[0].tweet_id == "7"
    assert tally_of({"value": 2}).sums == {ALL_METRICS: 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tweet_id": "<svg onload=1>"}, "no Tweet ID"),
        ({"tweet_id": "٢٠"}, "no Tweet ID"),
        ({"tweet_id": "20", "engagement_hour": "9999-12-31T23:00:00Z"}, "no time of an engagement"),
        ({"tweet_id": "20", "engagement_hour": "0001-01-01T00:00:00Z"}, "no time of an engagement"),
        ({"tweet_id": "20", "engagement_day": date(1, 1, 1)}, "no time of an engagement"),
    ],
)
def test_rows_of_another_table_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tally_of({"engagement_type": "replies", "value": 3, **row})
