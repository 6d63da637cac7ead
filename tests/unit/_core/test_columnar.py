"""An answer with columns says what the same answer with dicts says."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, Answer, ColumnarAnswer, Merger, Query, UsageError, Window
from engagement_async._core.columnar import to_columns
from engagement_async._core.groupings import drop_empty
from tests.support.columns import check_tables
from tests.unit._core.test_groupings import KEYS, ORDERS, nested, ragged

METRICS = tuple(KEYS["engagement.type"])
IDS = tuple(KEYS["tweet.id"])
AT = datetime(2026, 3, 2, 12, 30, 15, 123456, tzinfo=UTC)
ORDERS_OF_THE_API = [order for order in ORDERS if len(order) < 4]


def query_of(*orders: tuple[str, ...]) -> Query:
    groupings = {f"g{at}": order for at, order in enumerate(orders)}
    return Query(HISTORICAL, engagement_types=METRICS, groupings=groupings)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Query, Answer]:
    orders = draw(st.lists(st.sampled_from(ORDERS_OF_THE_API), min_size=1, max_size=3))
    owner = draw(st.sampled_from([None, "ann"]))
    groupings = {f"g{at}": draw(ragged(order) | st.just(nested(order))) for at, order in enumerate(orders)}
    for name, order in zip(list(groupings), orders, strict=True):
        drop_empty(groupings[name], len(order) - 1)
        if draw(st.integers(0, 5)) == 0:
            del groupings[name]  # as of an answer without any value
    asked = [("owner", *order) if owner and draw(st.booleans()) else order for order in orders]
    answer = Answer(
        draw(st.integers(0, 9)),
        IDS,
        groupings,
        windows=(Window(AT, AT + timedelta(days=1)),),
        failed_tweet_ids=draw(st.sampled_from([{}, {"6": "no"}])),
        missing_metrics=draw(st.sampled_from([{}, {"replies": ("5",)}])),
        owner=owner,
        requests=draw(st.integers(0, 3)),
        observed_at=draw(st.sampled_from([None, AT])),
        observed_later=draw(st.sampled_from([{}, {"5": AT + timedelta(days=2), "6": AT + timedelta(days=3)}])),
    )
    if answer.observed_at is None:
        answer = replace(answer, observed_later={})
    return query_of(*asked), answer


@given(answers())
def test_it_is_the_answer_in_another_form(case: tuple[Query, Answer]) -> None:
    query, answer = case
    columnar = to_columns(answer, query)

    for each in fields(Answer):
        if each.name != "groupings":
            assert getattr(columnar, each.name) == getattr(answer, each.name)
    assert {name: grouping for name, grouping in columnar.groupings.items() if grouping} == {
        name: grouping for name, grouping in answer.groupings.items() if grouping
    }
    check_tables(columnar, query, answer)
    merger, other = Merger(query), Merger(query)
    merger.add(columnar)
    other.add(answer)
    assert merger.result().groupings == other.result().groupings


@given(answers())
def test_it_survives_a_pickle(case: tuple[Query, Answer]) -> None:
    query, answer = case
    columnar = pickle.loads(pickle.dumps(to_columns(answer, query)))

    check_tables(columnar, query, answer)


def test_some_hours_under_days_and_some_without() -> None:
    query = query_of(("tweet.id", "engagement.hour"))
    grouping: Any = {"17": {"2026-03-01": {"00": 1}}, "5": {"07": 2}}

    columnar = to_columns(Answer(0, IDS, {"g0": grouping}), query)

    assert columnar.groupings == {"g0": grouping}
    check_tables(columnar, query)


def test_groupings_can_be_replaced() -> None:
    columnar = to_columns(Answer(0, IDS, {"g0": nested(("tweet.id",))}), query_of(("tweet.id",)))

    assert columnar.groupings
    assert replace(columnar, groupings={}).groupings == {}


def test_a_sum_that_fits_into_no_column_stays() -> None:
    query = query_of(("tweet.id",))
    columnar = to_columns(Answer(0, IDS, {"g0": {"17": 2**64}}), query)

    assert columnar.groupings == {"g0": {"17": 2**64}}
    with pytest.raises(UsageError, match="64 bits"):
        columnar.to_arrow("g0")


def test_what_is_not_there_is_an_error() -> None:
    columnar = to_columns(Answer(0, IDS, {"g0": nested(("tweet.id",))}), query_of(("tweet.id",)))

    with pytest.raises(UsageError, match="no grouping 'other' in this answer: it has g0"):
        columnar.to_arrow("other")
    with pytest.raises(UsageError, match=r"a column for each engagement\.type"):
        columnar.to_arrow("g0", wide=True)


def test_its_repr_is_short() -> None:
    assert repr(ColumnarAnswer(3, IDS)) == "<ColumnarAnswer of batch 3: 3 IDs>"
