"""Merging does not depend on the order of the answers, nor on the size of the batches; the outcomes always adds up."""

from __future__ import annotations

import copy
import json
import random
import sys
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, Answer, Merger, Query
from engagement_async._core.answer import Window
from engagement_async._core.endpoints import TOTALS
from engagement_async._core.merging import merge_into, merge_parts, split_off_tainted_sums
from engagement_async._core.outcomes import Failure, FailureKind

METRICS = ["favorites", "replies", "impressions"]
GROUPINGS = {
    "tweet": ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"],
    "type": ["engagement.type", "tweet.id"],
    "sum": ["engagement.type", "engagement.day"],
}
QUERY = Query(LAST_28_HOURS, engagement_types=METRICS, groupings=GROUPINGS)
FIRST = datetime(2026, 3, 1, 17, tzinfo=UTC)
STATES = ["answered"] * 6 + ["unavailable", "forbidden", "failed", "unsupported"]


def value(tweet: str, metric: str, hour: datetime) -> int:
    return random.Random(f"{tweet} {metric} {hour}").randint(-5, 10**6)


def grouped(group_by: tuple[str, ...], tweets: list[str], window: Window) -> dict[str, Any]:
    """Return the grouping as a server would sum it: by definition, cell by cell."""
    grouping: dict[str, Any] = {}
    hours = int((window.end - window.start) / timedelta(hours=1))
    for tweet in tweets:
        for metric in METRICS:
            for n in range(hours):
                hour = window.start + timedelta(hours=n)
                keys = {
                    "tweet.id": tweet,
                    "engagement.type": metric,
                    "engagement.day": f"{hour:%Y-%m-%d}",
                    "engagement.hour": f"{hour:%H}",
                }
                *path, last = (keys[level] for level in group_by)
                inner = grouping
                for key in path:
                    inner = inner.setdefault(key, {})
                inner[last] = inner.get(last, 0) + value(tweet, metric, hour)
    return grouping


def answer_to(number: int, tweets: list[str], states: dict[str, str], window: Window) -> Answer:
    by_state: dict[str, list[str]] = {state: [t for t in tweets if states[t] == state] for state in set(STATES)}
    return Answer(
        number,
        tuple(tweets),
        {name: grouped(by, by_state["answered"], window) for name, by in QUERY.groupings.items()},
        windows=(window,),
        unavailable_tweet_ids=tuple(by_state["unavailable"]),
        forbidden_tweet_ids=tuple(by_state["forbidden"]),
        unsupported_tweet_ids={metric: tuple(by_state["unsupported"]) for metric in METRICS},
        failed_tweet_ids=dict.fromkeys(by_state["failed"], "a reason"),
    )


def window_from(hours: int) -> Window:
    return Window(FIRST + timedelta(hours=hours), FIRST + timedelta(hours=hours + 4))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_order_and_batch_size_never_matter(count: int, size: int, other_size: int, chance: random.Random) -> None:
    tweets = [str(10**18 + n) for n in range(count)]
    states = {tweet: chance.choice(STATES) for tweet in tweets}
    results = []
    for batch_size in (size, other_size):
        chunks = [tweets[at : at + batch_size] for at in range(0, count, batch_size)]
        answers = [answer_to(number, chunk, states, window_from(0)) for number, chunk in enumerate(chunks)]
        chance.shuffle(answers)
        before = copy.deepcopy(answers)
        merger = Merger(QUERY)
        for answer in answers:
            merger.add(answer)
        results.append(merger.result())
        assert answers == before, "merging changed an answer"

    one, other = results
    assert json.dumps(one.to_response()) == json.dumps(other.to_response())  # the order of keys too
    assert one.groupings == {
        name: grouped(by, [t for t in tweets if states[t] == "answered"], window_from(0))
        for name, by in QUERY.groupings.items()
    }
    assert one.tweet_ids == other.tweet_ids == tweets
    for state, ids in (
        ("answered", one.answered_tweet_ids),
        ("unavailable", one.unavailable_tweet_ids),
        ("forbidden", one.forbidden_tweet_ids),
        ("failed", list(one.failed_tweet_ids)),
        ("unsupported", one.unsupported_tweet_ids.get("replies", [])),
    ):
        assert ids == [tweet for tweet in tweets if states[tweet] == state]
        assert one.outcomes[state] == len(ids)
    assert sum(one.outcomes.values()) == count


def test_a_run_that_crosses_a_full_hour_unites_the_windows() -> None:
    batches = [(["1", "2"], window_from(0)), (["3"], window_from(1)), (["4"], window_from(1))]
    answers = [answer_to(n, ids, dict.fromkeys(ids, "answered"), window) for n, (ids, window) in enumerate(batches)]

    for order in permutations(answers):
        merger = Merger(QUERY)
        for answer in order:
            merger.add(answer)
        result = merger.result()

        assert (result.start, result.end) == (window_from(0).start, window_from(1).end)
        assert result.windows == (window_from(0), window_from(1))
        assert list(result.groupings["tweet"]["1"]["favorites"]["2026-03-01"]) == ["17", "18", "19", "20"]
        assert list(result.groupings["tweet"]["3"]["favorites"]["2026-03-01"]) == ["18", "19", "20", "21"]
        day = {"2026-03-01"}
        assert result.groupings["sum"].keys() == set(METRICS)
        assert all(inner.keys() == day for inner in result.groupings["sum"].values())
        assert result.groupings["sum"]["favorites"]["2026-03-01"] == sum(
            value(tweet, "favorites", window.start + timedelta(hours=n))
            for ids, window in batches
            for tweet in ids
            for n in range(4)
        )


def test_the_parts_of_a_long_span_are_added_for_the_same_tweet() -> None:
    windows = [window_from(0), window_from(4), window_from(8)]
    parts = [answer_to(0, ["1", "2"], {"1": "answered", "2": "answered"}, window) for window in windows]

    whole = merge_parts(0, ("1", "2"), parts, QUERY)

    span = Window(windows[0].start, windows[-1].end)
    assert whole.groupings == {name: grouped(by, ["1", "2"], span) for name, by in QUERY.groupings.items()}
    assert (whole.start, whole.end) == tuple(span)


def test_an_id_that_failed_in_one_part_is_failed() -> None:
    states = [{"1": "answered", "2": "failed"}, {"1": "answered", "2": "unavailable"}]
    parts = [answer_to(0, ["1", "2"], state, window_from(4 * n)) for n, state in enumerate(states)]

    whole = merge_parts(0, ("1", "2"), parts, QUERY)

    assert whole.failed_tweet_ids == {"2": "a reason"}
    assert whole.unavailable_tweet_ids == ()


def test_a_batch_that_is_added_twice_is_refused() -> None:
    merger = Merger(QUERY)
    answer = answer_to(0, ["1"], {"1": "answered"}, window_from(0))
    merger.add(answer)

    with pytest.raises(ValueError, match="would count twice"):
        merger.add(answer)


def test_nothing_merged_is_an_empty_result() -> None:
    result = Merger(Query(TOTALS, engagement_types=["favorites"], groupings={"g": ["tweet.id"]})).result()

    assert result.to_response() == {"g": {}}
    assert (result.start, result.end, result.windows) == (None, None, ())
    assert list(result.rows("g")) == []
    assert result.to_arrow("g").num_rows == 0


def test_sums_may_exceed_64_bits() -> None:
    query = Query(HISTORICAL, engagement_types=["favorites"], groupings={"sum": ["engagement.type"]})
    merger = Merger(query)
    for number in range(3):
        merger.add(Answer(number, (str(number),), {"sum": {"favorites": 2**63 - 1}}))

    assert merger.result().groupings == {"sum": {"favorites": 3 * (2**63 - 1)}}


# --- the parts of one batch ---

LONG = {"start": "2026-01-01", "end": "2026-02-10"}
DAY_ONE, DAY_TWO = (
    Window(FIRST, FIRST + timedelta(days=1)),
    Window(FIRST + timedelta(days=1), FIRST + timedelta(days=2)),
)


def long_query(*types: str, **groupings: list[str]) -> Query:
    return Query(HISTORICAL, engagement_types=types or ["favorites"], groupings=groupings, **LONG)


@pytest.mark.parametrize("nest", [lambda hours: {"2026-01-01": hours}, lambda hours: hours], ids=["days", "bare"])
@pytest.mark.parametrize(
    "out",
    [
        {"failed_tweet_ids": {"2": Failure("no", kind=FailureKind.REFUSED)}},
        {"unavailable_tweet_ids": ("2",)},
        {"forbidden_tweet_ids": ("2",)},
    ],
)
def test_a_tweet_that_is_out_in_one_part_keeps_no_value_whatever_the_nesting(nest: Any, out: dict[str, Any]) -> None:
    query = long_query(g=["engagement.hour", "tweet.id"])
    parts = [
        Answer(0, ("1", "2"), {"g": nest({"00": {"1": 5, "2": 6}, "01": {"2": 1}})}),
        Answer(0, ("1",), {"g": nest({"00": {"1": 7}})}),
        Answer(0, ("2",), **out),
    ]

    for order in permutations(parts):
        assert merge_parts(0, ("1", "2"), list(order), query).groupings == {"g": nest({"00": {"1": 12}})}


def split_off(parts: list[Answer], query: Query) -> tuple[list[Answer], list[tuple[int, tuple[str, ...]]]]:
    kept, again = split_off_tainted_sums([(part, index) for index, part in enumerate(parts)], query)
    return [answer for answer, _ in kept], again


REFUSED = Failure("refused", kind=FailureKind.REFUSED)
WITH_SUM = {"t": ["tweet.id", "engagement.type"], "s": ["engagement.type"]}


def tens(*tweets: str) -> dict[str, Any]:
    return {"t": {i: {"favorites": 10} for i in tweets}, "s": {"favorites": 10 * len(tweets)}}


def test_a_sum_that_holds_a_tweet_which_failed_later_is_asked_for_again() -> None:
    """Sum of the answered Tweets: 40. The first part alone has 30 for all three."""
    query = long_query(**WITH_SUM)
    parts = [
        Answer(0, ("1", "2", "3"), tens("1", "2", "3"), windows=(DAY_ONE,)),
        Answer(0, ("1", "3"), tens("1", "3"), windows=(DAY_TWO,)),
        Answer(0, ("2",), failed_tweet_ids={"2": REFUSED}),
    ]

    kept, again = split_off(parts, query)

    assert again == [(0, ("1", "3"))]
    assert kept == [Answer(0, ()), *parts[1:]]
    whole = merge_parts(0, ("1", "2", "3"), [*kept, Answer(0, ("1", "3"), tens("1", "3"), windows=(DAY_ONE,))], query)
    assert whole.groupings == {"t": {"1": {"favorites": 20}, "3": {"favorites": 20}}, "s": {"favorites": 40}}
    assert whole.failed_tweet_ids == {"2": REFUSED}
    assert split_off(kept, query)[1] == []


def test_a_sum_that_cannot_be_had_is_left_out_and_told() -> None:
    query = long_query(**WITH_SUM)
    parts = [
        Answer(0, ("1", "2", "3"), tens("1", "2", "3")),
        Answer(0, ("1", "3"), tens("1", "3")),
        Answer(0, ("2",), failed_tweet_ids={"2": REFUSED}),
    ]

    whole = merge_parts(0, ("1", "2", "3"), parts, query)

    assert whole.groupings == {"t": {"1": {"favorites": 20}, "3": {"favorites": 20}}}
    assert whole.missing_metrics == {"favorites": ("1", "3")}


def test_what_a_tweet_alone_added_to_a_sum_goes_with_it() -> None:
    query = long_query(s=["engagement.type"])
    parts = [
        Answer(0, ("1",), {"s": {"favorites": 7}}),
        Answer(0, ("2",), {"s": {"favorites": 10}}),
        Answer(0, ("2",), {"s": {"favorites": 10}}),
        Answer(0, ("1",), failed_tweet_ids={"1": REFUSED}),
    ]

    assert split_off(parts, query)[1] == []
    whole = merge_parts(0, ("1", "2"), parts, query)
    assert whole.groupings == {"s": {"favorites": 20}}
    assert whole.missing_metrics == {}


def test_halves_whose_tweets_are_out_are_no_taint() -> None:
    query = long_query(**WITH_SUM)
    parts = [Answer(0, ("1", "3"), tens("1", "3")), Answer(0, ("2",), failed_tweet_ids={"2": REFUSED})]

    assert split_off(parts, query) == (parts, [])
    assert merge_parts(0, ("1", "2", "3"), parts, query).groupings == tens("1", "3")


@pytest.mark.parametrize(
    ("groupings", "first", "second"),
    [
        ({"t": ["tweet.id", "engagement.type"]}, {}, {"t": {"1": {"favorites": 5}}}),
        ({"t": ["tweet.id"]}, {}, {"t": {"1": 5}}),
        ({"s": ["engagement.type"]}, {}, {"s": {"favorites": 5}}),
    ],
)
def test_a_metric_that_is_unsupported_in_one_part_of_the_span_has_a_value(
    groupings: dict[str, list[str]], first: dict[str, Any], second: dict[str, Any]
) -> None:
    query = long_query(**groupings)
    parts = [
        Answer(0, ("1",), first, unsupported_tweet_ids={"favorites": ("1",)}),
        Answer(0, ("1",), second),
    ]

    whole = merge_parts(0, ("1",), parts, query)

    assert whole.groupings == second
    assert whole.unsupported_tweet_ids == {}
    assert whole.missing_metrics == {"favorites": ("1",)}


@pytest.mark.parametrize(
    ("group_by", "first", "second"),
    [
        (["tweet.id"], {"1": 5}, {"1": 7}),
        (["engagement.type"], {"impressions": 5}, {"favorites": 3, "impressions": 4}),
    ],
)
def test_a_metric_that_was_counted_in_the_last_part_of_the_span_has_a_value(
    group_by: list[str], first: dict[str, Any], second: dict[str, Any]
) -> None:
    query = long_query("favorites", "impressions", g=group_by)
    days = [datetime(2015, month, 15, tzinfo=UTC) for month in (8, 9, 10)]
    parts = [
        Answer(
            0,
            ("1",),
            {"g": first},
            windows=(Window(days[0], days[1]),),
            unsupported_tweet_ids={"favorites": ("1",)},
        ),
        Answer(0, ("1",), {"g": second}, windows=(Window(days[1], days[2]),)),
    ]

    whole = merge_parts(0, ("1",), parts, query)

    assert whole.unsupported_tweet_ids == {}
    assert whole.missing_metrics == {"favorites": ("1",)}


def test_a_metric_that_a_tweet_was_asked_without_is_unsupported() -> None:
    query = long_query("favorites", "impressions", s=["engagement.type"])
    parts = [
        Answer(0, (), unsupported_tweet_ids={"impressions": ("1", "2")}),
        Answer(0, ("1", "2"), {"s": {"favorites": 5}}, unsupported_tweet_ids={"favorites": ("2",)}),
    ]

    whole = merge_parts(0, ("1", "2"), parts, query)

    assert whole.unsupported_tweet_ids == {"favorites": ("2",), "impressions": ("1", "2")}
    assert whole.missing_metrics == {}


def test_the_order_of_parts_changes_no_byte() -> None:
    query = long_query("favorites", "replies", a=["tweet.id", "engagement.type"], b=["engagement.type", "tweet.id"],
                       s=["engagement.day", "engagement.type"])  # fmt: skip
    parts = [
        Answer(
            0,
            (i,),
            {
                "a": {i: {"favorites": 1, "replies": 2}},
                "b": {metric: {i: 1} for metric in metrics},
                "s": {"2026-01-02": dict.fromkeys(metrics, 1), "2026-01-01": dict.fromkeys(metrics, 1)},
            },
            windows=(window,),
            notes=(f"{i} {window.start}",),
        )
        for i, metrics in (("3", ["replies", "favorites"]), ("1", ["favorites", "replies"]), ("2", ["replies"]))
        for window in (DAY_TWO, DAY_ONE)
    ]

    texts = {repr(merge_parts(0, ("1", "2", "3"), list(order), query)) for order in permutations(parts)}

    assert len(texts) == 1
    whole = merge_parts(0, ("1", "2", "3"), parts, query)
    assert list(whole.groupings["a"]) == list(whole.groupings["b"]["replies"]) == ["1", "2", "3"]
    assert list(whole.groupings["b"]) == ["favorites", "replies"]
    assert list(whole.groupings["s"]) == ["2026-01-01", "2026-01-02"]


# --- the merger ---


@pytest.mark.parametrize(
    ("group_by", "nest"),
    [
        (["engagement.hour", "tweet.id"], lambda leaves: {"2026-01-01": {f"{h:02d}": leaves() for h in range(24)}}),
        (["engagement.hour", "tweet.id"], lambda leaves: {f"{h:02d}": leaves() for h in range(24)}),
        (["engagement.type", "tweet.id"], lambda leaves: {"favorites": leaves()}),
        (["tweet.id"], lambda leaves: leaves()),
    ],
)
def test_merging_is_linear_whatever_the_nesting(group_by: list[str], nest: Any) -> None:
    """Counted, not timed: what was copied once is the merger's own, and is copied no more."""
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": group_by})
    answers = []
    for number in range(40):
        tweets = tuple(str(number * 25 + n + 1) for n in range(25))
        answers.append(Answer(number, tweets, {"g": nest(lambda tweets=tweets: dict.fromkeys(tweets, 1))}))
    merger = Merger(query)
    copies: list[int] = []

    def count(frame: object, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ == "copy":
            copies[-1] += 1

    for answer in answers:
        copies.append(0)
        sys.setprofile(count)
        merger.add(answer)
        sys.setprofile(None)

    assert copies[2:] == [0] * 38
    assert merger.result().to_arrow("g").num_rows == 1000 * (24 if "engagement.hour" in group_by else 1)


def test_a_result_is_a_snapshot() -> None:
    query = Query(TOTALS, engagement_types=["favorites"], groupings=WITH_SUM)
    answers = [Answer(n, (str(n),), {"t": {str(n): {"favorites": 1}}, "s": {"favorites": 1}}) for n in range(4)]
    before = copy.deepcopy(answers)
    merger = Merger(query)
    results, expected = [], []
    for n in (0, 2, 1, 3):
        merger.add(answers[n])
        results.append(merger.result())
        expected.append((results[-1].to_response(), results[-1].outcomes))

    assert [(result.to_response(), result.outcomes) for result in results] == expected
    assert [result.groupings["s"]["favorites"] for result in results] == [1, 2, 3, 4]
    assert [list(result.groupings["t"]) for result in results] == [
        ["0"],
        ["0", "2"],
        ["0", "1", "2"],
        ["0", "1", "2", "3"],
    ]
    assert answers == before


def test_rows_of_sums_do_not_come_in_the_order_of_arrival() -> None:
    by_hour = ["engagement.type", "engagement.day", "engagement.hour"]
    query = Query(LAST_28_HOURS, engagement_types=["replies", "favorites"], groupings={"h": by_hour})
    answers = [
        Answer(0, ("1",), {"h": {"favorites": {"2026-01-01": {"23": 1}, "2026-01-02": {"00": 1}}}}),
        Answer(1, ("2",), {"h": {"replies": {"2026-01-02": {"01": 1}, "2026-01-01": {"22": 1}}}}),
        Answer(2, ("3",), {"h": {"favorites": {"2026-01-01": {"22": 1}}}}),
    ]
    texts = set()
    for order in permutations(answers):
        merger = Merger(query)
        for answer in order:
            merger.add(answer)
        texts.add(json.dumps(merger.result().to_response()))

    assert texts == {
        '{"h": {"replies": {"2026-01-01": {"22": "1"}, "2026-01-02": {"01": "1"}}, '
        '"favorites": {"2026-01-01": {"22": "1", "23": "1"}, "2026-01-02": {"00": "1"}}}}'
    }


def test_windows_are_in_full_hours_and_bounds_as_they_were_told() -> None:
    """Ends were recorded with the second of the request: a run must not have one window a request."""
    merger = Merger(QUERY)
    for number in range(10):
        end = datetime(2016, 2, 9, 19, 43, number, tzinfo=UTC)
        merger.add(Answer(number, (str(number),), windows=(Window(datetime(2016, 2, 8, 20, tzinfo=UTC), end),)))

    result = merger.result()

    assert result.windows == (Window(datetime(2016, 2, 8, 20, tzinfo=UTC), datetime(2016, 2, 9, 20, tzinfo=UTC)),)
    assert (result.start, result.end) == (result.windows[0].start, datetime(2016, 2, 9, 19, 43, 9, tzinfo=UTC))


def test_missing_metrics_are_merged() -> None:
    merger = Merger(QUERY)
    merger.add(Answer(1, ("3",), missing_metrics={"replies": ("3",)}))
    merger.add(Answer(0, ("1", "2"), missing_metrics={"replies": ("2",), "favorites": ("1",)}))

    result = merger.result()

    assert result.missing_metrics == {"favorites": ["1"], "replies": ["2", "3"]}
    assert result.outcomes["answered"] == 3


def test_merging_into_shares_nothing() -> None:
    into: dict[str, Any] = {"1": {"favorites": 1}}
    part = {"1": {"favorites": 2, "replies": 3}, "2": {"favorites": 4}}

    merge_into(into, part)
    into["2"]["favorites"] = 0

    assert into == {"1": {"favorites": 3, "replies": 3}, "2": {"favorites": 0}}
    assert part == {"1": {"favorites": 2, "replies": 3}, "2": {"favorites": 4}}
