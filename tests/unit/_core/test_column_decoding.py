"""Columns are decoded of ordinary answers alone, and say what the dicts of the same body say."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, TOTALS, Query
from engagement_async._core.column_decoding import ColumnDecoder
from engagement_async._core.parsing import ParsedResponse, ResponseParser

IDS = ("1070059276213702656", "20", "1060976163948904448")
METRICS = ("favorites", "replies")
KEYS: dict[str, list[str]] = {
    "tweet.id": list(IDS),
    "engagement.type": list(METRICS),
    "engagement.day": ["2026-03-01", "2026-03-02"],
    "engagement.hour": ["00", "07", "23"],
}
TWEETS, TYPES, DAYS, HOURS = KEYS
ORDERS: list[tuple[str, ...]] = [
    (TWEETS, TYPES),
    (TYPES, TWEETS),
    (TWEETS,),
    (TYPES,),
    (TWEETS, TYPES, DAYS),
    (TWEETS, DAYS, TYPES),
    (DAYS, TWEETS, TYPES),
    (TWEETS, TYPES, HOURS),
    (HOURS, TWEETS),
    (TWEETS, TYPES, DAYS, HOURS),
    (TYPES, TWEETS, DAYS, HOURS),
    (TYPES, DAYS, HOURS),
]


def query_of(orders: list[tuple[str, ...]], **span: str) -> Query:
    groupings = {f"g{at}": order for at, order in enumerate(orders)}
    endpoint = HISTORICAL if span else LAST_28_HOURS
    if not any({DAYS, HOURS} & set(order) for order in orders) and not span:
        endpoint = TOTALS
    return Query(endpoint, engagement_types=METRICS, groupings=groupings, **span)


def nested(levels: tuple[str, ...], path: tuple[str, ...] = ()) -> Any:
    if len(path) == len(levels):
        return str(sum(map(ord, "".join(path))))
    return {key: nested(levels, (*path, key)) for key in KEYS[levels[len(path)]]}


def body_of(orders: list[tuple[str, ...]]) -> dict[str, Any]:
    return {f"g{at}": nested(order) for at, order in enumerate(orders)}


def parse(query: Query, body: bytes) -> ParsedResponse:
    return ResponseParser(query).parse(0, IDS, 200, {}, body)


@given(st.lists(st.sampled_from(ORDERS), min_size=1, max_size=3, unique=True), st.booleans(), st.booleans())
def test_an_ordinary_answer_is_what_the_dicts_are(orders: list[tuple[str, ...]], nests: bool, has_span: bool) -> None:
    while sum(len(order) == 4 for order in orders) > 1:
        orders = [order for order in orders if len(order) < 4] + [(TWEETS, TYPES, DAYS, HOURS)]
    span = {"start": "2026-03-01", "end": "2026-03-03"} if has_span else {}
    query = query_of(orders, **span)
    answered = [with_days(order) if nests else order for order in orders]
    body = orjson.dumps({**body_of(answered), "start": "2026-03-01T00:00:00Z", "end": "2026-03-03T00:00:00Z"})

    decoded = ColumnDecoder(query).decode(body, IDS)

    expected = parse(query, body)
    assert decoded is not None
    assert {name: packed.grouping() for name, packed in decoded.groupings.items()} == expected.answer.groupings
    assert expected.answer.tweet_ids == IDS
    assert (decoded.start, decoded.end) == ("2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z")


def with_days(order: tuple[str, ...]) -> tuple[str, ...]:
    """Return hours under days, as the API nests them, whether they were asked for or not."""
    if HOURS not in order or DAYS in order:
        return order
    return (*order[: order.index(HOURS)], DAYS, *order[order.index(HOURS) :])


BY_TWEET: list[tuple[str, ...]] = [(TWEETS, TYPES)]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["g0"].pop("20"),
        lambda body: body["g0"].update({"21": {"favorites": "1", "replies": "2"}}),
        lambda body: body["g0"]["20"].pop("replies"),
        lambda body: body["g0"]["20"].update(replies=None),
        lambda body: body["g0"]["20"].update(replies="many"),
        lambda body: body["g0"]["20"].update(replies=str(2**63)),
        lambda body: body["g0"].update({"20": {}}),
        lambda body: body.pop("g0"),
        lambda body: body.update(g0=None),
        lambda body: body.update(unavailable_tweet_ids=["20"]),
        lambda body: body.update(unsupported_for_video_views_tweet_ids=[20]),
        lambda body: body.update(errors=["something"]),
        lambda body: body.update(more={"a": {"b": 1}}),
    ],
)
def test_an_answer_that_needs_a_look_is_left_to_others(change: Any) -> None:
    body = body_of(BY_TWEET)
    change(body)

    assert ColumnDecoder(query_of(BY_TWEET)).decode(orjson.dumps(body), IDS) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"g0": "\xff"}', b"[" * 100_000], ids=range(6))
def test_what_is_no_answer_is_left_to_others(body: bytes) -> None:
    assert ColumnDecoder(query_of(BY_TWEET)).decode(body, IDS) is None


def test_types_that_were_not_asked_for_are_left_out() -> None:
    body = body_of(BY_TWEET)
    for types in body["g0"].values():
        types["video_views"] = "9"

    decoded = ColumnDecoder(query_of(BY_TWEET)).decode(orjson.dumps(body), IDS)

    assert decoded is not None
    assert decoded.groupings["g0"].grouping() == parse(query_of(BY_TWEET), orjson.dumps(body)).answer.groupings["g0"]


def test_types_stand_in_the_order_of_the_query() -> None:
    body = {"g0": {i: {"replies": "1", "favorites": "2"} for i in reversed(IDS)}}

    decoded = ColumnDecoder(query_of(BY_TWEET)).decode(orjson.dumps(body), IDS)

    assert decoded is not None
    assert list(decoded.groupings["g0"].grouping()["20"].items()) == [("favorites", 2), ("replies", 1)]


@pytest.mark.parametrize(
    ("start", "end", "is_decoded"),
    [
        ("2026-03-01", "2026-03-03", True),
        ("2026-03-01", "2026-03-02", False),  # the answer has a day of another span
        ("2026-03-01T05:00:00Z", "2026-03-03", False),  # hours must be taken out of a day
        ("2014-09-01", "2014-09-10", False),  # impressions were not counted then
    ],
)
def test_a_span_bounds_what_is_ordinary(start: str, end: str, is_decoded: bool) -> None:
    query = Query(
        HISTORICAL,
        engagement_types=("favorites", "impressions"),
        groupings={"g0": [TWEETS, TYPES, DAYS]},
        start=start,
        end=end,
    )
    days = {"2026-03-01": "1", "2026-03-02": "2"}
    body = orjson.dumps({"g0": {i: {"favorites": days, "impressions": days} for i in IDS}})

    assert (ColumnDecoder(query).decode(body, IDS) is not None) == is_decoded
