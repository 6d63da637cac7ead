"""The faces of a result: rows and Arrow tables say the same as the nested groupings."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import permutations
from typing import Any

import pytest

from engagement_async import LAST_28_HOURS, Answer, Merger, Query, UsageError
from engagement_async._core.query import FULL_ORDERS
from engagement_async._core.result import EngagementResult

VALUES = ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
KEYS = {
    "tweet.id": ["17", "5"],
    "engagement.type": ["replies", "favorites"],
    "engagement.day": ["2026-03-02", "2026-03-01"],
    "engagement.hour": ["23", "00"],
}
ORDERS = [order for n in (1, 2, 3) for order in permutations(VALUES, n)] + list(FULL_ORDERS)


def nested(levels: tuple[str, ...], path: tuple[str, ...] = ()) -> Any:
    if len(path) == len(levels):
        return sum(map(ord, "".join(path)))
    return {key: nested(levels, (*path, key)) for key in KEYS[levels[len(path)]]}


def result_of(order: tuple[str, ...]) -> EngagementResult:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=["replies", "favorites"], groupings={"g": order}))
    merger.add(Answer(0, ("17", "5"), {"g": nested(order)}))
    return merger.result()


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_rows_and_arrow_agree_for_every_order(order: tuple[str, ...]) -> None:
    result = result_of(order)

    rows = list(result.rows("g"))
    table = result.to_arrow("g")

    assert len(rows) == 2 ** len(order)
    assert table.to_pylist() == rows
    assert tuple(table.column_names) == result.columns("g") == tuple(rows[0])
    assert [row["value"] for row in rows] == [leaf for leaf in leaves(result.groupings["g"])]  # noqa: C416


def leaves(grouping: Any) -> list[int]:
    if isinstance(grouping, int):
        return [grouping]
    return [leaf for inner in grouping.values() for leaf in leaves(inner)]


def test_rows_hold_real_dates() -> None:
    row = next(result_of(FULL_ORDERS[0]).rows("g"))
    day = next(result_of(("engagement.day",)).rows("g"))

    assert row == {
        "tweet_id": "17",
        "engagement_type": "replies",
        "engagement_hour": datetime(2026, 3, 2, 23, tzinfo=UTC),
        "value": nested(FULL_ORDERS[0])["17"]["replies"]["2026-03-02"]["23"],
    }
    assert day["engagement_day"] == date(2026, 3, 1)


def test_rows_are_lazy() -> None:
    rows = result_of(FULL_ORDERS[0]).rows("g")

    assert iter(rows) is rows


def test_an_unknown_grouping_is_told_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no grouping 'h' in this result: it has g"):
        result_of(("tweet.id",)).to_arrow("h")


def test_its_repr_is_its_account() -> None:
    assert repr(result_of(("tweet.id",))) == "<EngagementResult 28hr: 2 answered>"


@pytest.mark.parametrize("wide", [False, True])
def test_data_frames_hold_the_rows(wide: bool) -> None:
    result = result_of(("tweet.id", "engagement.type", "engagement.day"))
    rows = list(result.rows("g", wide=wide))

    pandas = result.to_pandas("g", wide=wide)
    polars = result.to_polars("g", wide=wide)

    assert tuple(pandas.columns) == tuple(polars.columns) == result.columns("g", wide=wide)
    assert pandas.to_dict("records") == polars.to_dicts() == rows


def test_a_notebook_shows_outcomes_and_the_first_rows() -> None:
    merger = Merger(Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"<b>": ("tweet.id",)}))
    merger.add(Answer(0, tuple(map(str, range(1, 26))), {"<b>": {str(n): n for n in range(1, 26)}}))
    html = merger.result()._repr_html_()

    assert "EngagementResult: 28hr" in html
    assert "answered" in html
    assert "<strong>&lt;b&gt;</strong>" in html
    assert "15 more rows" in html
