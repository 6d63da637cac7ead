"""What one caller has of a shared answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engagement_async import LAST_28_HOURS, TOTALS, Answer, Failure, FailureKind, Query, Window
from engagement_async._core.sharing import can_share, restrict

QUERY = Query(
    TOTALS,
    engagement_types=["favorites", "replies"],
    groupings={"a": ["tweet.id", "engagement.type"], "b": ["engagement.type", "tweet.id"]},
)
WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
GONE = Failure("gone", kind=FailureKind.MISSING)
ANSWER = Answer(
    7,
    ("1", "2", "3", "4", "5"),
    {
        "a": {"1": {"favorites": 10, "replies": 11}, "2": {"favorites": 20}},
        "b": {"favorites": {"1": 10, "2": 20}, "replies": {"1": 11}},
    },
    windows=(WINDOW,),
    unavailable_tweet_ids=("3",),
    forbidden_tweet_ids=("4",),
    unsupported_tweet_ids={"replies": ("2",)},
    failed_tweet_ids={"5": GONE},
    missing_metrics={"replies": ("2",)},
    notes=("a note",),
)


def test_each_caller_has_what_is_its_own_in_its_own_order() -> None:
    assert restrict(ANSWER, ["5", "9", "2", "3"], QUERY) == Answer(
        7,
        ("5", "2", "3"),
        {"a": {"2": {"favorites": 20}}, "b": {"favorites": {"2": 20}}},
        windows=(WINDOW,),
        unavailable_tweet_ids=("3",),
        unsupported_tweet_ids={"replies": ("2",)},
        failed_tweet_ids={"5": GONE},
        missing_metrics={"replies": ("2",)},
        notes=("a note",),
    )
    assert restrict(ANSWER, ["4", "1"], QUERY) == Answer(
        7,
        ("4", "1"),
        {"a": {"1": {"favorites": 10, "replies": 11}}, "b": {"favorites": {"1": 10}, "replies": {"1": 11}}},
        windows=(WINDOW,),
        forbidden_tweet_ids=("4",),
        notes=("a note",),
    )


def test_nothing_is_shared_between_callers() -> None:
    one, other = restrict(ANSWER, ["1"], QUERY), restrict(ANSWER, ["1"], QUERY)

    one.groupings["a"]["1"]["favorites"] = 0

    assert other.groupings["a"]["1"]["favorites"] == 10
    assert ANSWER.groupings["a"]["1"]["favorites"] == 10


@pytest.mark.parametrize(
    ("groupings", "can"),
    [
        ({"a": ["tweet.id"]}, True),
        ({"a": ["engagement.type", "tweet.id", "engagement.day"]}, True),
        ({"a": ["tweet.id"], "sum": ["engagement.type"]}, False),
    ],
)
def test_sums_over_tweets_cannot_be_shared(groupings: dict[str, list[str]], can: bool) -> None:
    assert can_share(Query(LAST_28_HOURS, engagement_types=["favorites"], groupings=groupings)) is can
