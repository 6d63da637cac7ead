"""Tables of groupings: rows and Arrow say the same, long and wide, with and without the instant of each value."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engagement_async import LAST_28_HOURS, TOTALS, Answer, EngagementResult, Merger, Query, UsageError
from engagement_async._core.tables import TableShape, table_columns, table_rows
from tests.unit._core.test_result import ORDERS, nested

AT = datetime(2026, 3, 2, 12, 30, 15, 123456, tzinfo=UTC)
LATER = AT + timedelta(days=2)
METRICS = ("replies", "favorites", "impressions")


def result_of(*orders: tuple[str, ...]) -> EngagementResult:
    groupings = {f"g{n}": order for n, order in enumerate(orders)}
    merger = Merger(Query(LAST_28_HOURS, engagement_types=METRICS, groupings=groupings))
    answers = {name: nested(order) for name, order in groupings.items()}
    merger.add(Answer(0, ("17", "5"), answers, observed_at=AT, observed_later={"5": LATER}))
    return merger.result()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("observed_at", [False, True])
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_rows_and_arrow_agree(order: tuple[str, ...], wide: bool, observed_at: bool) -> None:
    result = result_of(order)
    if wide and "engagement.type" not in order:
        with pytest.raises(UsageError, match=r"a column for each engagement\.type"):
            result.rows("g0", wide=True)
        with pytest.raises(UsageError, match=r"a column for each engagement\.type"):
            result.to_arrow("g0", wide=True)
        return

    rows = list(result.rows("g0", wide=wide, observed_at=observed_at))
    table = result.to_arrow("g0", wide=wide, observed_at=observed_at)

    assert table.to_pylist() == rows
    assert tuple(table.column_names) == result.columns("g0", wide=wide, observed_at=observed_at) == tuple(rows[0])
    for row in rows if observed_at else ():
        assert row["observed_at"] == {"17": AT, "5": LATER}.get(row.get("tweet_id", ""), LATER)
    if wide:
        long = [frozenset(row.items()) for row in result.rows("g0", observed_at=observed_at)]
        assert sorted(map(frozenset, long_again(rows)), key=sorted_text) == sorted(long, key=sorted_text)


def sorted_text(items: frozenset[Any]) -> str:
    return str(sorted(map(str, items)))


def long_again(rows: list[dict[str, Any]]) -> Iterator[Any]:
    """Yield the items of the rows that a wide table was made of."""
    for row in rows:
        keys = {name: value for name, value in row.items() if name not in METRICS}
        for metric in METRICS:
            if row[metric] is not None:
                yield {**keys, "engagement_type": metric, "value": row[metric]}.items()


def test_a_wide_row_has_every_metric_of_the_query_in_its_order() -> None:
    rows = list(result_of(("tweet.id", "engagement.type")).rows("g0", wide=True))

    assert [tuple(row) for row in rows] == [("tweet_id", *METRICS)] * 2
    assert [row["impressions"] for row in rows] == [None, None]


def test_dicts_without_a_leaf_have_no_wide_row() -> None:
    shape = TableShape(METRICS)
    levels = ("tweet.id", "engagement.type")

    assert list(table_rows(levels, {"1": {}, "2": {"replies": 3}}, shape)) == [
        {"tweet_id": "2", "replies": 3, "favorites": None, "impressions": None}
    ]
    assert list(table_rows(("engagement.type",), {}, shape)) == []
    assert table_columns(("engagement.type",), shape) == METRICS


def test_who_was_not_answered_has_no_instant() -> None:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=METRICS, groupings={"g": ["tweet.id", "engagement.type"]}))
    merger.add(Answer(1, ("3",), {"g": {"3": {"replies": 1}}}))  # of a journal from before instants were kept
    merger.add(Answer(0, ("1", "2"), {"g": {"1": {"replies": 1}}}, observed_at=AT, failed_tweet_ids={"2": "no"}))
    result = merger.result()

    assert result.observed_at == {"1": AT}
    assert (result.first_observed_at, result.last_observed_at) == (AT, AT)
    assert [row["observed_at"] for row in result.rows("g", observed_at=True)] == [AT, None]
    assert result.to_arrow("g", observed_at=True)["observed_at"].to_pylist() == [AT, None]


def test_tables_of_many_owners_have_them_in_every_shape() -> None:
    groupings = {"by_tweet": ["tweet.id", "engagement.type"], "by_owner": ["owner", "engagement.type"]}
    merger = Merger(Query(TOTALS, engagement_types=["favorites", "replies"], groupings=groupings))
    values = {"favorites": 1, "replies": 2}
    for number, owner in enumerate(("ann", "bob")):
        i = str(number + 1)
        at = AT + timedelta(days=number)
        merger.add(Answer(number, (i,), {"by_tweet": {i: values}, "by_owner": values}, owner=owner, observed_at=at))
    result = merger.result()

    for name in groupings:
        rows = list(result.rows(name, wide=True, observed_at=True))
        assert [row["owner"] for row in rows] == ["ann", "bob"]
        assert tuple(rows[0]) == result.columns(name, wide=True, observed_at=True)
        assert result.to_arrow(name, wide=True, observed_at=True).to_pylist() == rows
        assert [row["observed_at"] for row in rows] == [AT, AT + timedelta(days=1)]
