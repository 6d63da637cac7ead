"""What a response settles, and what must be asked again: sums, partial answers, metrics that are left out, fake zeros."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, TOTALS, FailureKind, Query
from engagement_async._core.accounting import ParsedResponse
from engagement_async._core.outcomes import Failure
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.refusals import RefusedIdsError
from engagement_async.errors import InvalidAnswerError

BY_TWEET = ["tweet.id", "engagement.type"]
BY_TYPE = ["engagement.type", "tweet.id"]
SUM = ["engagement.type"]
UNSUPPORTED = "unsupported_for_impressions_engagements_tweet_ids"


def parser(*types: str, **groupings: list[str]) -> ResponseParser:
    return ResponseParser(Query(TOTALS, engagement_types=types, groupings=groupings or {"g": BY_TWEET}))


def historical(start: str, end: str, *types: str, **groupings: list[str]) -> ResponseParser:
    return ResponseParser(Query(HISTORICAL, engagement_types=types, groupings=groupings, start=start, end=end))


def parse(of: ResponseParser, ids: str, body: Any, *, accept: bool = False, status: int = 200) -> ParsedResponse:
    return of.parse(0, tuple(ids.split()), status, {}, json.dumps(body).encode(), may_lack=None if accept else {})


def ids(parsed: ParsedResponse) -> dict[str, tuple[str, ...]]:
    """Return the places of the IDs, those that have any."""
    places = {
        "answer": parsed.answer.tweet_ids,
        "missing": parsed.missing,
        "incomplete": parsed.incomplete,
        "apart": parsed.ask_apart,
        "retry": tuple(i for _, found in parsed.retry_without_metrics for i in found),
    }
    return {name: found for name, found in places.items() if found}


def test_of_a_tweet_that_is_known_to_lack_a_metric_the_rest_is_taken_at_once() -> None:
    of = parser("favorites", "replies")
    body = {"g": {i: {"favorites": "7"} for i in "123"} | {"4": {"replies": "1"}}}
    known = {"replies": {"2", "4"}, "favorites": {"1"}}

    parsed = of.parse(0, tuple("1234"), 200, {}, json.dumps(body).encode(), may_lack=known)

    assert ids(parsed) == {"answer": ("2",), "incomplete": ("1", "3", "4")}
    assert parsed.answer.missing_metrics == {"replies": ("2",)}


# --- one of two groupings by Tweet ---


@pytest.mark.parametrize("accept", [False, True])
def test_a_tweet_in_one_of_two_groupings_is_missing_and_keeps_no_value(accept: bool) -> None:
    of = parser("favorites", a=BY_TWEET, b=BY_TYPE)
    body = {"a": {"1": {"favorites": "7"}, "3": {"favorites": "7"}}, "b": {"favorites": {"1": "7", "2": "7", "3": "7"}}}

    parsed = parse(of, "1 2 3", body, accept=accept)

    assert ids(parsed) == {"answer": ("1", "3"), "missing": ("2",)}
    assert parsed.answer.groupings == {
        "a": {"1": {"favorites": 7}, "3": {"favorites": 7}},
        "b": {"favorites": {"1": 7, "3": 7}},
    }


# --- sums ---


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize(
    ("out", "settled", "apart"),
    [
        ({}, (), ("1", "3")),
        ({"unavailable_tweet_ids": ["3"]}, ("3",), ("1",)),
        ({"errors": ["Forbidden to access tweets: 3"]}, ("3",), ("1",)),
    ],
)
def test_sums_are_taken_from_an_answer_that_settles_all_its_ids(
    accept: bool, out: dict[str, Any], settled: tuple[str, ...], apart: tuple[str, ...]
) -> None:
    """Tweet 2 is left out by Tweet, and whether it is in the sum is unknown."""
    of = parser("favorites", t=BY_TWEET, s=SUM)
    body = {"t": {i: {"favorites": "10"} for i in apart}, "s": {"favorites": "1110"}, **out}

    parsed = parse(of, "1 2 3", body, accept=accept)

    assert parsed.missing == ("2",)
    assert parsed.ask_apart == apart
    assert parsed.answer.tweet_ids == settled
    assert parsed.answer.groupings == {}
    assert parsed.answer.windows == ()


def test_sums_with_ids_that_have_no_value_are_taken() -> None:
    of = parser("impressions", t=BY_TWEET, s=SUM)
    body = {
        "t": {"1": {"impressions": "10"}},
        "s": {"impressions": "10"},
        "unavailable_tweet_ids": ["2"],
        "errors": ["Forbidden to access tweets for author id 9: 3"],
        UNSUPPORTED: ["4"],
    }

    parsed = parse(of, "1 2 3 4", body)

    assert ids(parsed) == {"answer": ("1", "2", "3", "4")}
    assert parsed.answer.groupings == {"t": {"1": {"impressions": 10}}, "s": {"impressions": 10}}


def test_a_tweet_that_is_to_be_asked_for_other_metrics_makes_sums_uncertain() -> None:
    of = parser("impressions", "favorites", t=BY_TWEET, s=SUM)
    body = {
        "t": {"1": {"impressions": "1", "favorites": "1"}},
        "s": {"impressions": "1", "favorites": "111"},
        UNSUPPORTED: ["2"],
    }

    parsed = parse(of, "1 2", body)

    assert ids(parsed) == {"apart": ("1",), "retry": ("2",)}
    assert parsed.retry_without_metrics[0][0].engagement_types == ("favorites",)
    assert parsed.answer.unsupported_tweet_ids == {"impressions": ("2",)}


# --- metrics that are left out ---

WHOLE = {"1": {"favorites": "1", "replies": "2"}, "2": {"favorites": "3", "replies": "4"}}
LACKING = {"1": {"favorites": "1", "replies": "2"}, "2": {"favorites": "3"}}


def test_a_tweet_without_one_of_its_metrics_is_asked_once_more_and_then_told() -> None:
    of = parser("favorites", "replies")

    first = parse(of, "1 2", {"g": LACKING})
    second = parse(of, "2", {"g": {"2": LACKING["2"]}}, accept=True)

    assert ids(first) == {"answer": ("1",), "incomplete": ("2",)}
    assert first.answer.groupings == {"g": {"1": {"favorites": 1, "replies": 2}}}
    assert first.answer.missing_metrics == {}
    assert ids(second) == {"answer": ("2",)}
    assert second.answer.groupings == {"g": {"2": {"favorites": 3}}}
    assert second.answer.missing_metrics == {"replies": ("2",)}
    assert second.answer.failed_tweet_ids == {}


def test_with_sums_complete_tweets_are_asked_apart() -> None:
    of = parser("favorites", "replies", t=BY_TWEET, s=SUM)
    body = {"t": LACKING, "s": {"favorites": "4", "replies": "2"}}

    assert ids(parse(of, "1 2", body)) == {"apart": ("1",), "incomplete": ("2",)}
    accepted = parse(of, "1 2", body, accept=True)
    assert ids(accepted) == {"answer": ("1", "2")}
    assert accepted.answer.groupings["s"] == {"favorites": 4, "replies": 2}
    assert accepted.answer.missing_metrics == {"replies": ("2",)}


@pytest.mark.parametrize(
    ("groupings", "body", "missing"),
    [
        ({"s": SUM}, {"s": {}}, {"favorites": ("1", "2"), "replies": ("1", "2")}),
        ({"s": SUM}, {"s": {"favorites": "3"}}, {"replies": ("1", "2")}),
        ({"g": BY_TYPE}, {"g": {"favorites": {"1": "1", "2": "3"}, "replies": {}}}, {"replies": ("1", "2")}),
        ({"g": BY_TYPE}, {"g": {"favorites": {"1": "1", "2": "3"}, "replies": {"1": "2"}}}, {"replies": ("2",)}),
        ({"g": BY_TWEET}, {"g": LACKING}, {"replies": ("2",)}),
        # One grouping shows a number, the other lacks it: it was lost. One shows zero: the other may leave it out.
        ({"a": BY_TWEET, "b": BY_TYPE}, {"a": WHOLE, "b": {"favorites": {"1": "1", "2": "3"}, "replies": {"1": "2"}}},
         {"replies": ("2",)}),
        ({"a": BY_TWEET, "b": BY_TYPE},
         {"a": {**WHOLE, "2": {"favorites": "3", "replies": "0"}},
          "b": {"favorites": {"1": "1", "2": "3"}, "replies": {"1": "2"}}},
         {}),
        ({"t": BY_TWEET, "s": SUM}, {"t": WHOLE, "s": {"favorites": "4"}}, {"replies": ("1", "2")}),
        ({"t": BY_TWEET, "s": SUM},
         {"t": {i: {"favorites": "1", "replies": "0"} for i in "12"}, "s": {"favorites": "2"}}, {}),
        # What a sum that is not by type lacks is not known; one without any value lacks all.
        ({"t": ["tweet.id"], "s": SUM}, {"t": {"1": "3", "2": "7"}, "s": {"favorites": "4"}}, {"replies": ("1", "2")}),
        ({"t": ["tweet.id"]}, {"t": {"1": "3", "2": "7"}}, {}),
    ],
)  # fmt: skip
def test_metrics_are_looked_for_in_every_grouping_that_tells_them(
    groupings: dict[str, list[str]], body: Any, missing: dict[str, tuple[str, ...]]
) -> None:
    of = parser("favorites", "replies", **groupings)

    accepted = parse(of, "1 2", body, accept=True)
    first = parse(of, "1 2", body)

    assert ids(accepted) == {"answer": ("1", "2")}
    assert accepted.answer.missing_metrics == missing
    assert set(first.incomplete) == {i for found in missing.values() for i in found}


@pytest.mark.parametrize(("hours", "missing"), [({}, ("1",)), ({"2026-01-01": {"00": "0"}}, ())])
def test_a_sum_by_hours_without_any_value_lacks_every_metric(hours: Any, missing: tuple[str, ...]) -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"h": ["engagement.day", "engagement.hour"]})

    accepted = parse(ResponseParser(query), "1", {"h": hours}, accept=True)

    assert accepted.answer.missing_metrics == ({"favorites": missing} if missing else {})


def test_a_metric_that_is_unsupported_for_a_tweet_is_not_missing() -> None:
    of = parser("favorites", "impressions", t=BY_TWEET, s=SUM)
    body = {
        "t": {"1": {"favorites": "1", "impressions": "5"}, "2": {"favorites": "3"}},
        "s": {"favorites": "4", "impressions": "5"},
        UNSUPPORTED: ["2"],
    }

    parsed = parse(of, "1 2", body)

    assert ids(parsed) == {"answer": ("1", "2")}
    assert parsed.answer.missing_metrics == {}


def test_a_metric_nobody_asked_for_is_left_out() -> None:
    of = parser("favorites", "replies", t=BY_TWEET, b=BY_TYPE, s=SUM)
    body = {
        "t": {i: {"favorites": "1", "replies": "1", "likes": "5"} for i in "12"},
        "b": {m: {"1": "1", "2": "1"} for m in ("likes", "favorites", "replies")},
        "s": {"favorites": "2", "likes": "2", "replies": "2"},
    }

    parsed = parse(of, "1 2", body)

    assert ids(parsed) == {"answer": ("1", "2")}
    assert "likes" not in json.dumps(parsed.answer.groupings)
    assert parsed.answer.groupings["s"] == {"favorites": 2, "replies": 2}


@given(
    st.dictionaries(
        st.sampled_from(["1", "2", "3", "4", "9"]),
        st.dictionaries(st.sampled_from(["favorites", "replies", "likes"]), st.integers(-3, 3).map(str) | st.none()),
    ),
    st.lists(st.sampled_from(["1", "2", "9"]), max_size=2),
    st.booleans(),
    st.booleans(),
)
def test_every_id_has_one_place_and_only_answered_ones_have_values(
    tweets: dict[str, dict[str, str | None]], gone: list[str], with_sum: bool, accept: bool
) -> None:
    groupings = {"t": BY_TWEET, **({"s": SUM} if with_sum else {})}
    body = {
        "t": tweets,
        **({"s": {"favorites": "1", "replies": "1"}} if with_sum else {}),
        "unavailable_tweet_ids": gone,
    }

    parsed = parse(parser("favorites", "replies", **groupings), "1 2 3 4", body, accept=accept)

    placed = [i for found in ids(parsed).values() for i in found]
    assert sorted(placed) == ["1", "2", "3", "4"]
    answer = parsed.answer
    values = answer.groupings.get("t", {})
    assert set(values) <= set(answer.tweet_ids) - set(answer.unavailable_tweet_ids)
    assert all(metrics and metrics.keys() <= {"favorites", "replies"} for metrics in values.values())
    for i in set(answer.tweet_ids) - set(answer.unavailable_tweet_ids):
        lacks = tuple(m for m in ("favorites", "replies") if m not in values[i])
        assert lacks == tuple(m for m, found in answer.missing_metrics.items() if i in found)
        assert accept or not lacks
    if with_sum:
        assert bool(answer.groupings) == (set(placed) == set(answer.tweet_ids))


# --- integers beyond 64 bits ---


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**70, "9" * 25, "-" + "9" * 25])
def test_an_integer_beyond_64_bits_fails_its_tweet_alone(value: Any) -> None:
    of = parser("favorites", "replies", a=BY_TWEET, b=BY_TYPE)
    body = {
        "a": {"1": {"favorites": "1", "replies": "1"}, "2": {"favorites": value, "replies": "1"}},
        "b": {"favorites": {"1": "1", "2": value}, "replies": {"1": "1", "2": "1"}},
    }

    answer = parse(of, "1 2", body).answer

    assert answer.tweet_ids == ("1", "2")
    assert list(answer.failed_tweet_ids) == ["2"]
    failure = answer.failed_tweet_ids["2"]
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.UNREPRESENTABLE
    assert answer.groupings == {
        "a": {"1": {"favorites": 1, "replies": 1}},
        "b": {"favorites": {"1": 1}, "replies": {"1": 1}},
    }


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_all_of_64_bits_is_a_number(value: int) -> None:
    assert parse(parser("favorites"), "1", {"g": {"1": {"favorites": value}}}).answer.groupings["g"]["1"] == {
        "favorites": value
    }


def test_a_sum_beyond_64_bits_is_no_answer_unless_it_is_known_whose_fault_it_is() -> None:
    with pytest.raises(InvalidAnswerError, match="beyond 64 bits among its sums"):
        parse(parser("favorites", s=SUM), "1 2", {"s": {"favorites": str(2**63)}})

    of = parser("favorites", t=BY_TWEET, s=SUM)
    body = {"t": {"1": {"favorites": "1"}, "2": {"favorites": str(2**70)}}, "s": {"favorites": str(2**70 + 1)}}
    parsed = parse(of, "1 2", body)

    assert ids(parsed) == {"answer": ("2",), "apart": ("1",)}
    assert list(parsed.answer.failed_tweet_ids) == ["2"]


# --- zeros that are none, and times outside of the span ---

HOURS = ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]
DAYS = ["tweet.id", "engagement.type", "engagement.day"]


def test_what_was_not_counted_yet_is_unsupported_and_no_zero() -> None:
    of = historical("2015-08-01", "2015-08-03", "favorites", "impressions", t=DAYS, s=SUM)
    body = {
        "t": {"1": {"favorites": {"2015-08-01": "0", "2015-08-02": "0"}, "impressions": {"2015-08-01": "0"}}},
        "s": {"favorites": "0", "impressions": "0"},
    }

    answer = parse(of, "1", body).answer

    assert answer.groupings == {"t": {"1": {"impressions": {"2015-08-01": 0}}}, "s": {"impressions": 0}}
    assert answer.unsupported_tweet_ids == {"favorites": ("1",)}
    assert answer.missing_metrics == {}


@pytest.mark.parametrize("groupings", [{"t": ["tweet.id"]}, {"s": SUM}, {"t": BY_TWEET}])
def test_when_nothing_that_was_asked_was_counted_all_tweets_are_unsupported(groupings: dict[str, list[str]]) -> None:
    of = historical("2015-08-01", "2015-09-15", "replies", **groupings)
    body = (
        {"t": {"1": {"replies": "0"}}} if groupings.get("t") == BY_TWEET else {"t": {"1": "0"}, "s": {"replies": "0"}}
    )

    answer = parse(of, "1", body).answer

    assert answer.unsupported_tweet_ids == {"replies": ("1",)}
    assert not any(answer.groupings.values())


@pytest.mark.parametrize("metrics", [("favorites",), ("favorites", "impressions")])
def test_a_refusal_says_nothing_of_that_time(metrics: tuple[str, ...]) -> None:
    """As the 400 for a protected Tweet, which comes without a list: the batch is bisected, as for any other metric."""
    of = historical("2015-08-01", "2015-08-03", *metrics, t=BY_TWEET)
    protected = {"errors": ["1 Tweet ID(s) are unavailable"]}

    with pytest.raises(RefusedIdsError):
        parse(of, "1 2", protected, status=400)
    assert parse(of, "1", protected, status=400).answer.unavailable_tweet_ids == ("1",)
    named = parse(of, "1 2", {**protected, "unavailable_tweet_ids": ["1"]}, status=400)
    assert (named.answer.unavailable_tweet_ids, named.answer.unsupported_tweet_ids) == (("1",), {})
    assert ids(named) == {"answer": ("1",), "missing": ("2",)}


def test_a_number_from_that_time_is_believed() -> None:
    of = historical("2015-08-01", "2015-08-03", "favorites", t=BY_TWEET)

    answer = parse(of, "1 2", {"t": {"1": {"favorites": "3"}, "2": {"favorites": "0"}}}).answer

    assert answer.groupings == {"t": {"1": {"favorites": 3}}}
    assert answer.unsupported_tweet_ids == {"favorites": ("2",)}


def test_a_span_of_which_only_a_part_was_counted_tells_so() -> None:
    of = historical("2015-09-14", "2015-09-17", "favorites", "impressions", t=DAYS)
    days = {"2015-09-14": "0", "2015-09-15": "0", "2015-09-16": "5"}

    parsed = parse(of, "1", {"t": {"1": {"favorites": days, "impressions": days}}})

    assert ids(parsed) == {"answer": ("1",)}
    assert parsed.answer.groupings["t"]["1"] == {
        "favorites": {"2015-09-15": 0, "2015-09-16": 5},
        "impressions": {"2015-09-14": 0, "2015-09-15": 0, "2015-09-16": 5},
    }
    assert parsed.answer.missing_metrics == {"favorites": ("1",)}
    assert parsed.answer.unsupported_tweet_ids == {}


def hours(first: int, last: int, day: str = "2026-01-29") -> dict[str, Any]:
    return {day: {f"{hour:02d}": 1 for hour in range(first, last + 1)}}


@pytest.mark.parametrize(
    ("start", "end", "given_hours", "kept"),
    [
        ("2026-01-29", "2026-01-30", {**hours(0, 23), **hours(0, 0, "2026-01-30")}, hours(0, 23)),
        ("2026-01-29", "2026-01-30", {**hours(23, 23, "2026-01-28"), **hours(0, 23)}, hours(0, 23)),
        ("2026-01-29T05:00:00Z", "2026-01-29T09:00:00Z", hours(0, 23), hours(5, 8)),
        ("2026-01-29T05:24:00Z", "2026-01-29T08:37:00Z", hours(5, 9), hours(5, 8)),
        ("2026-01-29T05:00:00Z", "2026-01-30", {**hours(4, 23), **hours(0, 0, "2026-01-30")}, hours(5, 23)),
    ],
)
@pytest.mark.parametrize(
    ("group_by", "wrap"),
    [
        (HOURS, lambda found: {"1": {"favorites": found}}),
        (["tweet.id", "engagement.hour"], lambda found: {"1": found}),
        (["engagement.day", "engagement.hour"], lambda found: found),
        (["engagement.hour", "engagement.day"], lambda found: turned(found)),
    ],
)
def test_hours_outside_of_the_span_are_left_out(
    start: str, end: str, given_hours: Any, kept: Any, group_by: list[str], wrap: Callable[[Any], Any]
) -> None:
    """Should the API take `end` in, the parts of a split span would have an hour twice."""
    parsed = parse(historical(start, end, "favorites", g=group_by), "1", {"g": wrap(given_hours)})

    assert ids(parsed) == {"answer": ("1",)}
    assert parsed.answer.groupings == {"g": wrap(kept)}


def turned(by_day: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    by_hour: dict[str, dict[str, int]] = {}
    for day, found in by_day.items():
        for hour, value in found.items():
            by_hour.setdefault(hour, {})[day] = value
    return by_hour


def test_days_outside_of_the_span_are_left_out() -> None:
    of = historical("2026-01-01", "2026-01-03", "favorites", t=DAYS, s=["engagement.day"])
    days = {f"2026-01-0{day}": "1" for day in range(1, 5)}

    answer = parse(of, "1", {"t": {"1": {"favorites": days}}, "s": days}).answer

    assert answer.groupings == {
        "t": {"1": {"favorites": {"2026-01-01": 1, "2026-01-02": 1}}},
        "s": {"2026-01-01": 1, "2026-01-02": 1},
    }


def test_a_day_that_is_none_is_no_answer() -> None:
    of = historical("2026-01-01", "2026-01-03", "favorites", s=["engagement.day"])

    with pytest.raises(InvalidAnswerError, match="the API gave 'yesterday' for a day"):
        parse(of, "1", {"s": {"yesterday": "1"}})
