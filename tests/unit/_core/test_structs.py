"""Whole answers are read as structs: what the ordinary way reads, or nothing."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, TOTALS, Query
from engagement_async._core.answer import ReceivedAnswer
from engagement_async._core.parsing import ResponseBytes, ResponseParser
from engagement_async._core.structs import StructDecoder
from tests.support.jobs import DAYS, HOURS, shuffled

IDS = ("1", "22", "333")
TYPES = ("favorites", "replies")
SHAPES = [
    {"a": ["tweet.id", "engagement.type"]},
    {"a": ["engagement.type", "tweet.id"], "b": ["engagement.type"]},
    {"a": ["tweet.id"], "b": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]},
    {"a": ["engagement.day", "tweet.id"], "b": ["engagement.type", "engagement.day"]},
    {"a": ["tweet.id", "engagement.hour"]},
]


def query_of(groupings: dict[str, list[str]]) -> Query:
    has_time = any(level in ("engagement.day", "engagement.hour") for by in groupings.values() for level in by)
    return Query(LAST_28_HOURS if has_time else TOTALS, engagement_types=TYPES, groupings=groupings)


def body_of(query: Query, ids: tuple[str, ...], draw: random.Random) -> dict[str, Any]:
    keys = {"tweet.id": ids, "engagement.type": TYPES, "engagement.day": DAYS, "engagement.hour": HOURS}

    def nested(levels: tuple[str, ...]) -> Any:
        return {key: nested(levels[1:]) for key in keys[levels[0]]} if levels else str(draw.randrange(10**6))

    groupings = {name: shuffled(nested(by), draw) for name, by in query.groupings.items()}
    return {"start": "2026-01-01T03:00:00Z", "end": "2026-01-02T18:00:00Z", **groupings}


@pytest.mark.parametrize("groupings", SHAPES)
@pytest.mark.parametrize("unavailable", [[], ["22"], ["1", "4444"]])
@given(seed=st.integers(0, 2**32))
def test_it_is_what_the_ordinary_way_reads(groupings: dict[str, list[str]], unavailable: list[str], seed: int) -> None:
    query = query_of(groupings)
    parser = ResponseParser(query)
    body = body_of(query, tuple(i for i in IDS if i not in unavailable), random.Random(seed))
    raw = orjson.dumps(body | ({"unavailable_tweet_ids": unavailable} if unavailable else {}))

    received = parser.parse(0, IDS, 200, {}, raw, response=ResponseBytes(lambda: raw, lambda data: data)).answer

    assert isinstance(received, ReceivedAnswer)
    assert received.response == raw
    assert received.values == len(list(_leaves(body | {"start": {}, "end": {}})))
    assert received == parser.parse(0, IDS, 200, {}, raw).answer
    assert received.values is not None  # looking at its groupings changed nothing


def _leaves(value: Any) -> Any:
    if not isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from _leaves(inner)


@pytest.mark.parametrize(
    "change",
    [
        {"errors": [{"message": "odd"}]},
        {"unavailable_tweet_ids": ["22"]},  # and has values of it
        {"unsupported_for_video_views_tweet_ids": ["1"]},
        {"a": {"1": {"favorites": "1", "replies": "2"}}},
        {"a": {i: {"favorites": "1"} for i in IDS}},
        {"a": {i: {"favorites": "1", "replies": None} for i in IDS}},
        {"a": {i: {"favorites": "1", "replies": str(2**64)} for i in IDS}},
        {"a": {}, "unavailable_tweet_ids": list(IDS)},
        {"a": None},
        {"more": 1},
    ],
)
def test_whatever_is_not_whole_is_left_to_others(change: dict[str, Any]) -> None:
    query = query_of({"a": ["tweet.id", "engagement.type"]})
    body = body_of(query, IDS, random.Random(1))
    decoder = StructDecoder(query)
    whole = decoder.decode(orjson.dumps(body))
    assert whole is not None
    assert whole.is_of(IDS)
    assert not whole.is_of((*IDS, "5"))
    assert not whole.is_of(IDS[1:])

    changed = decoder.decode(orjson.dumps(body | change))

    assert changed is None or not changed.is_of(IDS)
    assert decoder.decode(orjson.dumps(body)[:-1]) is None
    assert decoder.decode(b"\xff") is None


@pytest.mark.parametrize(
    ("start", "end"), [("2026-01-01T00:00:00Z", "2026-01-02T05:00:00Z"), ("2014-09-01", "2014-10-01")]
)
def test_where_something_is_to_be_taken_out_nothing_is_whole(start: str, end: str) -> None:
    groupings = {"a": ["tweet.id", "engagement.type", "engagement.day"]}
    types = ["favorites", "impressions"] if start < "2020" else ["favorites"]
    query = Query(HISTORICAL, engagement_types=types, groupings=groupings, start=start, end=end)
    day = start[:10]

    assert StructDecoder(query).decode(orjson.dumps({"a": {"1": {t: {day: "1"} for t in types}}})) is None


def test_days_are_those_of_the_span() -> None:
    groupings = {"a": ["tweet.id", "engagement.type", "engagement.day"]}
    query = Query(HISTORICAL, engagement_types=["favorites"], groupings=groupings, start="2026-01-01", end="2026-01-03")
    decoder = StructDecoder(query)

    assert decoder.decode(b'{"a":{"1":{"favorites":{"2026-01-02":"1"}}}}') is not None
    assert decoder.decode(b'{"a":{"1":{"favorites":{"2026-01-03":"1"}}}}') is None
