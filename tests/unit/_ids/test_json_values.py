"""Tweets of every version of the API, and what comes between them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engagement_async._ids.json_values import JsonIds, agrees
from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async.errors import UsageError

A, B = "1070059276213702656", "1021817816134156288"


def found(*values: Any, id_column: str | None = None) -> tuple[list[str], list[str], InputReport]:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    finder = JsonIds(intake, id_column)
    ids = [text for line, value in enumerate(values, 1) for text in finder.of(value, line)]
    return ids, [f"{reject.line}: {reject.reason}" for reject in rejects], intake.report


@pytest.mark.parametrize(
    "values",
    [
        [A, B],
        [int(A), int(B)],
        [[A, B]],
        [{"id_str": A}, {"id": int(B)}],
        [{"id": 1, "id_str": A}, {"id": 2, "id_str": B}],
        [{"Tweet id": A}, {"Tweet id": B}],
        [{"whatever": A}, {"whatever": B}],
        [{"tweet": {"id_str": A}}, {"tweet": {"id_str": B}}],
        [{"data": {"id": A}, "matching_rules": [{"id": "7"}]}, {"data": {"id": B}}],
        [{"data": [{"id": A}, {"id": B}], "includes": {"tweets": [{"id": "7"}]}, "meta": {"result_count": 2}}],
        [{"statuses": [{"id": int(A)}, {"id": int(B)}], "search_metadata": {}}],
        [{"results": [{"id": f"tag:search.twitter.com,2005:{A}"}, {"id": B}], "next": "x"}],
        [{"like": {"tweetId": A, "fullText": "x"}}, {"like": {"tweetId": B}}],
        [{"tweet_ids": [A, B]}],
        [{"id": 5, "tweet": {"id_str": A}}, {"id": 6, "tweet": {"id_str": B}}],
        [{"__typename": "Tweet", "rest_id": A, "id": "VHdlZXQ6"}, {"rest_id": B, "id": "VHdlZXQ7"}],
        [{"url": f"https://x.com/a/status/{A}", "text": "x"}, {"url": f"https://x.com/a/status/{B}", "text": "y"}],
    ],
)
def test_ids_of_values(values: list[Any]) -> None:
    ids, rejects, _ = found(*values)

    assert (["".join(re.findall(r"\d{19}", text)) for text in ids], rejects) == ([A, B], [])


@pytest.mark.parametrize(
    "notice",
    [
        {"delete": {"status": {"id": 1, "id_str": "1"}}},
        {"limit": {"track": 5}},
        {"info": {"message": "Replay Request Completed"}},
        {"scrub_geo": {"user_id": 1}},
        {"meta": {"result_count": 0}},
        {"errors": [{"title": "Not Found"}], "meta": {}},
        [],
    ],
)
def test_notices_are_no_tweets_wherever_they_are(notice: object) -> None:
    ids, rejects, report = found(notice, {"id_str": A, "text": "x"}, notice)

    assert (ids, rejects, report.notices, report.column) == ([A], [], 2, "id_str")


def test_objects_without_a_key_that_is_known() -> None:
    with pytest.raises(UsageError, match=r"a:1: which key holds the IDs. Name it with --id-column: 'a', 'b'"):
        found({"a": A, "b": B})
    assert found({"id": A}, {"a": 1, "b": 2})[:2] == ([A], ["2: has no key 'id'"])


def test_the_caller_names_the_key() -> None:
    assert found({"a": A, "id": B}, {"id": B}, id_column="a")[:2] == ([A], ["2: has no key 'a'"])
    assert found({"tweet": {"Quoted ID": A}}, id_column="quoted_id")[0] == [A]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "holds no ID: a string or an integer"),
        (None, "holds no ID: a string or an integer"),
        (1.7e18, "is a float: its last digits are lost; write IDs as strings"),
        ({"id_str": A, "id": int(B)}, f"names two Tweets, the other is {B}: give one a line"),
        ({"id": A, "tweet": {"id_str": B}}, f"names two Tweets, the other is {B}: give one a line"),
        (
            {"data": {"id": B, "name": "x", "username": "y"}},
            "is a user, and no Tweet; if it is one, name its --id-column",
        ),
        ({"id": 7}, "has no key 'id_str', and its 'id' is too small for a Tweet ID"),
    ],
)
def test_what_is_rejected(value: object, reason: str) -> None:
    assert found({"id_str": A}, value)[:2] == ([A], [f"2: {reason}"])


def test_a_number_may_be_the_rounded_id() -> None:
    exact = "2124551806699486865"

    assert agrees({"id_str": exact, "id": 2124551806699487000}, "id_str")  # as JavaScript writes it
    assert agrees({"id_str": exact, "id": int(float(exact))}, "id_str")
    assert not agrees({"id_str": exact, "id": int(exact) + 1}, "id_str")
    assert agrees({"id_str": exact, "id": 5}, "id_str")
