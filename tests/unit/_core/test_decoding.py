"""Decoders for exactly one query: depth is counted, and what is not exact is decoded another way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engagement_async import LAST_28_HOURS, TOTALS, Query
from engagement_async._core.decoding import ResponseDecoder, check_depth
from engagement_async.errors import InvalidAnswerError

BY_TWEET = Query(TOTALS, engagement_types=["favorites", "replies"], groupings={"g": ["tweet.id", "engagement.type"]})


@pytest.mark.parametrize(
    ("body", "deep"),
    [
        (b"[" * 32 + b"]" * 32, False),
        (b"[" * 33 + b"]" * 33, True),
        (b'{"a":' * 33 + b"1" + b"}" * 33, True),
        (b'["' + b"[" * 100 + b'"]', False),
        (b'["\\"' + b"[" * 100 + b'"]', False),
        (b'["a\\\\",' + b"[" * 100, True),
        (b"[]" * 1000, False),
    ],
)
def test_depth_is_counted_outside_of_strings(body: bytes, deep: bool) -> None:
    if deep:
        with pytest.raises(InvalidAnswerError, match="more than 32 levels"):
            check_depth(body, 32)
    else:
        check_depth(body, 32)


@pytest.mark.parametrize(
    ("body", "has_all_types", "values"),
    [
        ({"g": {"1": {"favorites": "1", "replies": 2}}}, True, {"favorites": 1, "replies": 2}),
        ({"g": {"1": {"favorites": "1"}}}, False, {"favorites": 1}),
        ({"g": {"1": {"favorites": "1", "replies": "2", "likes": "3"}}}, True, {"favorites": 1, "replies": 2}),
        ({"g": {"1": {"favorites": "1", "likes": [{}]}}}, False, {"favorites": 1}),
        ({"g": {"1": {"favorites": "1", "replies": None}}}, False, {"favorites": 1}),
        ({"g": {"1": {"favorites": str(2**63), "replies": "2"}}}, False, {"replies": 2}),
        ({"g": {"1": {"favorites": "1", "replies": "2"}}, "more": [[]]}, False, {"favorites": 1, "replies": 2}),
        ({"g": {"1": {"favorites": "1", "replies": "2"}}, "errors": ["x"]}, False, {"favorites": 1, "replies": 2}),
    ],
)
def test_types_that_were_not_asked_for_and_values_that_are_none_go(
    body: Any, has_all_types: bool, values: dict[str, int]
) -> None:
    decoded = ResponseDecoder(BY_TWEET, json_depth=32).decode(json.dumps(body).encode())

    assert decoded.groupings == {"g": {"1": values}}
    assert decoded.has_all_types is has_all_types


def test_what_is_skipped_may_be_nested_deep_and_harms_nobody() -> None:
    for depth in (100, 100_000):
        body = b'{"g":{"1":{"favorites":"1","likes":' + b"[" * depth + b"]" * depth + b',"replies":"2"}}}'

        try:
            decoded = ResponseDecoder(BY_TWEET, json_depth=32).decode(body)
        except InvalidAnswerError:
            continue
        assert decoded.groupings == {"g": {"1": {"favorites": 1, "replies": 2}}}


def test_a_type_that_stands_there_twice_is_no_other() -> None:
    body = b'{"g":{"1":{"favorites":"1","favorites":"2"}}}'

    decoded = ResponseDecoder(BY_TWEET, json_depth=32).decode(body)

    assert decoded.groupings == {"g": {"1": {"favorites": 2}}}
    assert not decoded.has_all_types


def test_whose_values_are_none_is_told() -> None:
    body = {"g": {"1": {"favorites": None}, "2": {"favorites": 2**64}, "3": {"favorites": "3"}}}

    decoded = ResponseDecoder(BY_TWEET, json_depth=32).decode(json.dumps(body).encode())

    assert decoded.ids_with_null == {"1"}
    assert decoded.ids_out_of_range == {"2"}
    assert decoded.bad_sum == ""


@pytest.mark.parametrize(
    ("body", "levels"),
    [
        ({"2016-02-10": {"17": "3"}}, ("engagement.day", "engagement.hour")),
        ({"17": "3"}, ("engagement.hour",)),
        ({"2016-02-10": {"17": None, "18": "3"}}, ("engagement.day", "engagement.hour")),
        ({"17": None, "18": "3"}, ("engagement.hour",)),
    ],
)
def test_hours_are_read_with_days_and_without(body: Any, levels: tuple[str, ...]) -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["engagement.hour"]})

    decoded = ResponseDecoder(query, json_depth=32).decode(json.dumps({"g": body}).encode())

    assert decoded.schema.levels == {"g": levels}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"g": 1}', b'{"g": {"1": {"favorites": true}}}'])
def test_what_has_another_shape_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        ResponseDecoder(BY_TWEET, json_depth=32).decode(body)
