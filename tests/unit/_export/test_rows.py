"""Rows as CSV and JSON lines: the same bytes from tidy rows and from groupings, and no formulas."""

from __future__ import annotations

import csv
import io
import json
import random
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import EngagementResult, Query
from engagement_async._core.endpoints import LAST_28_HOURS
from engagement_async._core.tables import table_columns
from engagement_async._export.ordering import TableOrder
from engagement_async._export.rows import Row, RowText, write_csv, write_jsonl
from tests.support.jobs import BY_TWEET, TYPES, answered

GROUP_BYS = [
    ("tweet.id",),
    ("engagement.type",),
    ("engagement.type", "tweet.id"),
    ("tweet.id", "engagement.hour"),
    ("engagement.hour", "tweet.id"),
    ("engagement.day", "engagement.type"),
    ("tweet.id", "engagement.day", "engagement.type"),
    ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
    ("engagement.type", "tweet.id", "engagement.day", "engagement.hour"),
]


@pytest.mark.parametrize("group_by", GROUP_BYS, ids="-".join)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_lines_are_those_of_the_writers(group_by: tuple[str, ...], kind: str) -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites", "replies"], groupings={"g": group_by})
    ids = tuple(map(str, range(100, 106)))
    answer = answered(query, 0, ids, random.Random(3))
    order = TableOrder(query, "g")
    answer.groupings["g"] = order.ordered(answer)
    result = EngagementResult(
        query=query,
        groupings=answer.groupings,
        start=None,
        end=None,
        windows=(),
        unavailable_tweet_ids=[],
        forbidden_tweet_ids=[],
        unsupported_tweet_ids={},
        failed_tweet_ids={},
        missing_metrics={},
        tweet_ids=list(ids),
    )
    text = RowText(kind, table_columns(order.levels))
    expected = BytesIO()
    if kind == "csv":
        write_csv(expected, result.rows("g"), result.columns("g"))
    else:
        write_jsonl(expected, result.rows("g"))

    assert text.header + text.lines(answer.groupings["g"], order.levels) == expected.getvalue()
    assert table_columns(order.levels) == result.columns("g")


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", 'a"b,c', "</script>"])
def test_a_hostile_metric_is_quoted_as_the_writers_do(name: str) -> None:
    query = Query(BY_TWEET.endpoint, engagement_types=TYPES, groupings={"g": ["tweet.id", "engagement.type"]})
    grouping = {"1": {name: 5}}
    for kind in ("jsonl", "csv"):
        expected = BytesIO()
        rows = [{"tweet_id": "1", "engagement_type": name, "value": 5}]
        if kind == "csv":
            write_csv(expected, rows, list(rows[0]))
        else:
            write_jsonl(expected, rows)
        text = RowText(kind, table_columns(query.groupings["g"]))
        assert text.header + text.lines(grouping, query.groupings["g"]) == expected.getvalue()


AT = datetime(2015, 9, 14, 17, tzinfo=UTC)
ROWS: list[Row] = [
    {
        "tweet_id": "1070059276213702656",
        "engagement_type": "favorites",
        "engagement_day": date(2015, 9, 14),
        "value": 67,
    },
    {"tweet_id": "1", "engagement_type": "replies", "engagement_hour": AT, "value": -8},
]


def test_jsonl() -> None:
    file = io.BytesIO()
    write_jsonl(file, ROWS)

    assert file.getvalue().decode().splitlines() == [
        '{"tweet_id":"1070059276213702656","engagement_type":"favorites","engagement_day":"2015-09-14","value":67}',
        '{"tweet_id":"1","engagement_type":"replies","engagement_hour":"2015-09-14T17:00:00Z","value":-8}',
    ]


def test_csv() -> None:
    file = io.BytesIO()
    east = AT.astimezone(timezone(timedelta(hours=2)))
    write_csv(
        file,
        [*ROWS, {"tweet_id": "2", "engagement_hour": east}],
        ["tweet_id", "engagement_day", "engagement_hour", "value"],
    )

    assert file.getvalue().decode() == (
        "tweet_id,engagement_day,engagement_hour,value\n"
        "1070059276213702656,2015-09-14,,67\n"
        "1,,2015-09-14T17:00:00Z,-8\n"
        "2,,2015-09-14T17:00:00Z,\n"
    )
    assert not file.closed


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    file = io.BytesIO()
    write_csv(file, [{"name": text}], ["name"])

    assert list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))[1] == [f"'{text}"]


@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.integers(-(2**63), 2**63 - 1)})))
def test_csv_and_jsonl_come_back(rows: list[Row]) -> None:
    lines, table = io.BytesIO(), io.BytesIO()
    write_jsonl(lines, rows)
    write_csv(table, rows, ["a", "b"])

    assert [json.loads(line) for line in lines.getvalue().split(b"\n")[:-1]] == rows
    read = csv.DictReader(io.StringIO(table.getvalue().decode(), newline=""))
    for row, back in zip(rows, read, strict=True):
        assert back["b"] == str(row["b"])
        text = str(row["a"]).replace("\r", " ")
        assert back["a"] in (text, f"'{text}")
