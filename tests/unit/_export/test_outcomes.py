"""The table of IDs without all their values."""

from __future__ import annotations

from datetime import UTC, datetime

from engagement_async import TOTALS, Answer, Failure, FailureKind, Merger, Query
from engagement_async._export.outcomes import outcome_columns, outcome_rows

TYPES = ("favorites", "impressions")
AT = datetime(2026, 3, 2, 12, 30, 15, 123456, tzinfo=UTC)
ANSWER = Answer(
    0,
    ("1", "2", "3", "4", "5", "6", "7"),
    {"g": {"1": {"favorites": 1, "impressions": 2}, "4": {"favorites": 1}}},
    unavailable_tweet_ids=("2",),
    forbidden_tweet_ids=("3",),
    unsupported_tweet_ids={"impressions": ("4", "5"), "favorites": ("5",)},
    missing_metrics={"favorites": ("4",)},
    failed_tweet_ids={"6": Failure("no", kind=FailureKind.MISSING), "7": Failure("down", kind=FailureKind.OUTAGE)},
    observed_at=AT,
)


def test_an_answer_and_a_result_say_the_same() -> None:
    merger = Merger(Query(TOTALS, engagement_types=TYPES, groupings={"g": ["tweet.id", "engagement.type"]}))
    merger.add(ANSWER)
    rows = list(outcome_rows(ANSWER, TYPES))

    assert rows == list(outcome_rows(merger.result(), TYPES))
    at = "2026-03-02T12:30:15Z"
    assert [tuple(row.values()) for row in rows] == [
        ("2", "unavailable", "", at),
        ("3", "forbidden", "", at),
        ("4", "answered", "no favorites, impressions", at),
        ("5", "unsupported", "no favorites, impressions", at),
        ("6", "failed", "no", ""),
        ("7", "failed", "down", ""),
    ]
    assert tuple(rows[0]) == outcome_columns(has_observed_at=True)
    assert outcome_columns(has_observed_at=False) == ("tweet_id", "state", "detail")


def test_in_a_job_those_that_nobody_answered_are_pending() -> None:
    last = list(outcome_rows(ANSWER, TYPES, outage_is="pending"))[-2:]

    assert [(row["tweet_id"], row["state"], row["detail"]) for row in last] == [
        ("6", "failed", "no"),
        ("7", "pending", ""),
    ]
