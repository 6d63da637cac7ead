"""A result for eyes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from engagement_async import LAST_28_HOURS, TOTALS, Answer, Merger, Query, UsageError
from engagement_async.cli.table import TableOutput, result_lines, table_lines

COLUMNS = ("tweet_id", "engagement_type", "value")
ROWS: list[dict[str, Any]] = [
    {"tweet_id": "1", "engagement_type": "replies", "value": 7},
    {"tweet_id": "1", "engagement_type": "favorites", "value": 12_345},
    {"tweet_id": "23", "engagement_type": "favorites", "value": 0},
]
METRICS = ["favorites", "replies", "retweets"]


def test_a_column_a_metric_where_it_fits() -> None:
    assert list(table_lines(COLUMNS, ROWS, METRICS, 80)) == [
        "tweet_id  favorites  replies",
        "1            12,345        7",
        "23                0",
    ]


def test_a_line_a_value_where_it_does_not() -> None:
    assert list(table_lines(COLUMNS, ROWS, METRICS, 10)) == [
        "tweet_id  engagement_type   value",
        "1         replies               7",
        "1         favorites        12,345",
        "23        favorites             0",
    ]


def test_without_values_it_says_so() -> None:
    assert list(table_lines(COLUMNS, [], METRICS, 80)) == ["(no values)"]


def test_several_groupings_have_their_names() -> None:
    query = Query(
        TOTALS,
        engagement_types=["favorites"],
        groupings={"by_tweet": ["tweet.id", "engagement.type"], "all": ["engagement.type"]},
    )
    merger = Merger(query)
    merger.add(Answer(0, ("5",), {"by_tweet": {"5": {"favorites": 3}}, "all": {"favorites": 3}}))

    assert list(result_lines(merger.result(), 80)) == [
        "by_tweet:",
        "tweet_id  favorites",
        "5                 3",
        "",
        "all:",
        "favorites",
        "        3",
    ]


def test_hours_are_shown_to_the_minute() -> None:
    at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    rows = [{"tweet_id": "1", "engagement_hour": at, "engagement_type": "favorites", "value": 1}]
    columns = ("tweet_id", "engagement_hour", "engagement_type", "value")

    assert list(table_lines(columns, rows, LAST_28_HOURS.metrics, 80)) == [
        "tweet_id  engagement_hour   favorites",
        "1         2026-01-02 03:00          1",
    ]


def test_a_file_is_for_others_than_eyes() -> None:
    with pytest.raises(UsageError, match="--format table is for eyes"):
        TableOutput("totals.txt")


def test_it_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    query = Query(TOTALS, engagement_types=["favorites"], groupings={"a": ["tweet.id", "engagement.type"]})
    merger = Merger(query)
    merger.add(Answer(0, ("5",), {"a": {"5": {"favorites": 3}}}))
    with TableOutput("-") as output:
        output.write(merger.result())

    assert capsys.readouterr().out == "tweet_id  favorites\n5                 3\n"
