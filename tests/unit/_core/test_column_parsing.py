"""A parser with columns says what the parser with dicts says, of ordinary answers and of all others."""

from __future__ import annotations

import copy
import gzip
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, ColumnarAnswer, EngagementError, InvalidAnswerError, Query
from engagement_async._core.column_parsing import ColumnParser
from engagement_async._core.columnar import to_columns
from engagement_async._core.parsing import ResponseBytes, ResponseParser
from engagement_async._engine.body import gunzip
from tests.support.columns import as_dicts
from tests.unit._core.test_column_decoding import BY_TWEET, DAYS, HOURS, IDS, TWEETS, TYPES, body_of, query_of

CASES: list[list[tuple[str, ...]]] = [
    BY_TWEET,
    [(TWEETS, TYPES), (TYPES,)],
    [(TYPES, TWEETS)],
    [(TWEETS, TYPES, DAYS, HOURS), (TYPES, DAYS)],
    [(TYPES,)],
]
JUNK: st.SearchStrategy[Any] = st.sampled_from(["1", 2, None, "x", {}, {"20": "1"}, [], str(2**64), True, 1.5])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[Query, int, bytes]:
    """Draw answers of which some places are not what they should be."""
    orders = draw(st.sampled_from(CASES))
    body: Any = body_of(orders)
    for _ in range(draw(st.integers(0, 2))):
        where = body
        for _ in range(draw(st.integers(0, 4))):
            if isinstance(where, dict) and where:
                inner = where[draw(st.sampled_from(list(where)))]
                where = inner if isinstance(inner, dict) else where
        if where and draw(st.booleans()):
            where.pop(draw(st.sampled_from(list(where))))
        else:
            where[draw(st.sampled_from([*where, *IDS, "favorites", "more"]))] = copy.deepcopy(draw(JUNK))
    body |= draw(
        st.sampled_from(
            [
                {},
                {},
                {"start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z"},
                {"start": "noon", "end": "2026-03-02T00:00:00Z"},
                {"unavailable_tweet_ids": ["20"]},
                {"unsupported_for_impressions_engagements_tweet_ids": [20]},
                {"errors": [{"message": "Rate limit exceeded"}]},
                {"errors": []},
            ]
        )
    )
    return query_of(orders), draw(st.sampled_from([200, 200, 200, 400, 403])), orjson.dumps(body)


@given(bodies(), st.booleans())
def test_it_says_the_same(case: tuple[Query, int, bytes], accept_incomplete: bool) -> None:
    query, status, body = case

    assert said(ColumnParser(query), status, body, accept_incomplete) == said(
        ResponseParser(query, checks_times=True), status, body, accept_incomplete
    )


def said(parser: ResponseParser, status: int, body: bytes, accept_incomplete: bool) -> Any:
    try:
        parsed = parser.parse(7, IDS, status, {}, body, may_lack=None if accept_incomplete else {})
    except EngagementError as error:
        return type(error), str(error)
    return parsed._replace(answer=as_dicts(parsed.answer))


def test_an_ordinary_answer_is_columns_and_a_follow_up_is_dicts() -> None:
    query = query_of(BY_TWEET)
    parser = ColumnParser(query)
    body = orjson.dumps(body_of(BY_TWEET))

    assert isinstance(parser.parse(0, IDS, 200, {}, body).answer, ColumnarAnswer)
    assert type(parser.for_query(query)) is ResponseParser
    answer = parser.parse(0, IDS[:2], 200, {}, body).answer
    assert not isinstance(answer, ColumnarAnswer)
    assert replace(answer).groupings["g0"].keys() == set(IDS[:2])


BARE_HOURS = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["tweet.id", "engagement.hour"]})
HOURS_OF_DAYS = Query(
    LAST_28_HOURS,
    engagement_types=["favorites"],
    groupings={"g": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
)
SPAN = Query(
    HISTORICAL,
    engagement_types=["favorites"],
    groupings={"g": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
    start="2026-03-01T05:00:00Z",
    end="2026-03-03",
)
NO_TIMES = [
    (BARE_HOURS, {"07": "1", "2026-03-01": "2"}),  # a day with a value would be taken for a nesting
    (BARE_HOURS, {"07": "1", "24": "2"}),
    (BARE_HOURS, {"2026-03-01": {"07": "1"}, "x": {"08": "2"}}),
    (BARE_HOURS, {"2026-02-30": {"07": "1"}}),
    (HOURS_OF_DAYS, {"favorites": {"20260301": {"07": "1"}}}),
    (HOURS_OF_DAYS, {"favorites": {"2026-03-01": {"noon": "1"}}}),
    (HOURS_OF_DAYS, {"favorites": {"2026-03-01": {"9" * 19: "1"}}}),
    (SPAN, {"favorites": {"2026-03-01": {"9" * 19: "1"}}}),
    (SPAN, {"favorites": {"20260301": {"07": "1"}}}),
]


@pytest.mark.parametrize(("query", "values"), NO_TIMES)
@pytest.mark.parametrize("parser", [partial(ResponseParser, checks_times=True), ColumnParser])
@pytest.mark.parametrize("keeps_response", [False, True])
def test_an_answer_with_times_that_are_none_is_refused_before_it_counts(
    query: Query, values: dict[str, Any], parser: Callable[[Query], ResponseParser], keeps_response: bool
) -> None:
    body = orjson.dumps({"g": {"20": values}})
    response = ResponseBytes(lambda: gzip.compress(body), gunzip) if keeps_response else None

    with pytest.raises(InvalidAnswerError):
        parser(query).parse(1, ("20",), 200, {}, body, response=response)


@pytest.mark.parametrize("keeps_response", [False, True])
@pytest.mark.parametrize("hour", ["7", "07", "007"])
def test_hours_are_read_however_they_are_padded(hour: str, keeps_response: bool) -> None:
    body = orjson.dumps({"g": {"20": {"favorites": {"2026-03-01": {hour: "1"}}}}})
    response = ResponseBytes(lambda: gzip.compress(body), gunzip) if keeps_response else None

    parsed = ColumnParser(HOURS_OF_DAYS).parse(1, ("20",), 200, {}, body, response=response)

    table = to_columns(parsed.answer, HOURS_OF_DAYS).to_arrow("g")
    assert [at.hour for at in table["engagement_hour"].to_pylist()] == [7]
