"""Merging does not depend on the order of the answers, nor on the size of the batches; the outcomes always adds up."""

from __future__ import annotations

import copy
import json
import random
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, Answer, Merger, Query
from engagement_async._core.answer import Window
from engagement_async._core.endpoints import TOTALS
from engagement_async._core.merging import merge_parts

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
    """The grouping as a server would sum it: by definition, cell by cell."""
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
