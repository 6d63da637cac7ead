"""Groupings as Arrow tables: types, order, what is empty, what does not fit. test_result.py compares them with rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from engagement_async import LAST_28_HOURS, Answer, Merger, Query, UsageError
from engagement_async._core.arrow import concat, grouping_table
from engagement_async._core.query import FULL_ORDERS
from tests.unit._core.test_result import result_of


def test_the_arrow_types_are_the_promised_ones() -> None:
    assert result_of(FULL_ORDERS[0]).to_arrow("g").schema == pa.schema(
        {
            "tweet_id": pa.string(),
            "engagement_type": pa.dictionary(pa.int32(), pa.string()),
            "engagement_hour": pa.timestamp("s", tz="UTC"),
            "value": pa.int64(),
        }
    )
    assert result_of(("engagement.day",)).to_arrow("g").schema.field("engagement_day").type == pa.date32()


@pytest.mark.parametrize(
    "grouping",
    [
        {},
        {"17": {}},
        {"17": {}, "5": {"replies": {}}, "6": {"replies": {"2026-03-01": {"23": 1}}}, "7": {}},
        {"17": {"replies": {"2026-03-01": {"23": 1}, "2026-03-02": {}}, "likes": {"2026-03-01": {"00": 2, "01": 3}}}},
    ],
)
def test_arrow_passes_over_empty_dicts_as_rows_do(grouping: Any) -> None:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=["replies"], groupings={"g": FULL_ORDERS[0]}))
    merger.add(Answer(0, ("17",), {"g": grouping}))
    result = merger.result()

    assert result.to_arrow("g").to_pylist() == list(result.rows("g"))


def test_a_value_over_64_bits_is_refused_by_arrow_alone() -> None:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=["replies"], groupings={"g": ["engagement.type"]}))
    merger.add(Answer(0, ("1",), {"g": {"replies": 2**70}}))
    result = merger.result()

    assert next(result.rows("g"))["value"] == 2**70
    with pytest.raises(UsageError, match="does not fit into 64 bits"):
        result.to_arrow("g")


def test_tables_of_different_columns_make_one_with_nulls() -> None:
    hours = grouping_table({"23": 1}, ["engagement.hour"])
    days = grouping_table({"2026-03-01": {"23": 2}}, ["engagement.day", "engagement.hour"])

    assert concat([hours]) is hours
    assert [sorted(row.items(), key=str) for row in concat([hours, days]).to_pylist()] == [
        sorted({"engagement_hour_of_day": 23, "engagement_hour": None, "value": 1}.items(), key=str),
        sorted(
            {"engagement_hour_of_day": None, "engagement_hour": days["engagement_hour"][0].as_py(), "value": 2}.items(),
            key=str,
        ),
    ]
