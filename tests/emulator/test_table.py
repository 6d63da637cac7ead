"""The values of an answer: nesting, sums, what counts as zero."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async.emulator import Interpretation, tweet_ids
from engagement_async.emulator.metrics import life, value
from tests.support.emulator_requests import NOW, answer

IDS = tweet_ids(6, newest_at=NOW, oldest_at=NOW - 40 * 3600)


def flat(nested: dict[str, Any], levels: list[str]) -> dict[frozenset[tuple[str, str]], int]:
    """Every leaf by its keys, whatever the order of nesting."""
    if not levels:
        raise AssertionError("a grouping has levels")
    found = {}
    for key, inner in nested.items():
        if len(levels) == 1:
            found[frozenset({(levels[0], key)})] = inner
        else:
            found |= {keys | {(levels[0], key)}: leaf for keys, leaf in flat(inner, levels[1:]).items()}
    return found


def test_totals_are_the_hours_of_a_young_tweet() -> None:
    young = tweet_ids(5, newest_at=NOW, oldest_at=NOW - 24 * 3600)
    by_tweet = {"g": ["tweet.id", "engagement.type"]}
    types = ["impressions", "engagements", "favorites", "video_views"]

    assert answer("totals", young, types, by_tweet)[1]["g"] == answer("28hr", young, types, by_tweet)[1]["g"]


def test_totals_are_the_whole_life_of_a_grown_tweet() -> None:
    grown = tweet_ids(5, newest_at=NOW - 30 * 86400, oldest_at=NOW - 60 * 86400)
    _, body = answer("totals", grown, ["impressions"], {"g": ["tweet.id"]})

    assert body["g"] == {tweet_id: life(0, int(tweet_id)).impressions for tweet_id in grown}


orders = [list(order) for size in (1, 2, 3, 4) for order in permutations(ENDPOINTS["28hr"].group_by, size)]


@given(
    st.sampled_from(orders),
    st.sampled_from(["dated", "bare"]),
    st.lists(st.sampled_from(IDS), min_size=1, unique=True),
    st.lists(st.sampled_from(["impressions", "favorites", "url_clicks"]), min_size=1, unique=True),
    st.integers(1, 60),
    st.integers(-50, 3),
)
def test_every_grouping_is_the_sum_of_its_hours(
    order: list[str], hours: Any, ids: list[str], types: list[str], span: int, shift: int
) -> None:
    start = int(NOW // 3600) + shift
    _, body = answer(
        "historical",
        ids,
        types,
        {"g": order},
        interpretation=Interpretation(hours=hours),
        start=start,
        end=start + span,
    )

    levels = list(order)
    if "engagement.hour" in order and "engagement.day" not in order and hours == "dated":
        levels.insert(levels.index("engagement.hour"), "engagement.day")
    wanted: dict[frozenset[tuple[str, str]], int] = {}
    for tweet_id in ids:
        for metric in types:
            for hour in range(start, start + span):
                moment = datetime.fromtimestamp(hour * 3600, UTC)
                keys = {
                    "tweet.id": tweet_id,
                    "engagement.type": metric,
                    "engagement.day": f"{moment:%Y-%m-%d}",
                    "engagement.hour": f"{moment:%H}",
                }
                counted = value(0, tweet_id, metric, hour) if hour <= NOW // 3600 else 0
                key = frozenset((level, keys[level]) for level in levels)
                wanted[key] = wanted.get(key, 0) + counted

    assert flat(body["g"], levels) == wanted


def test_history_counts_favorites_replies_and_retweets_since_2015_09_15() -> None:
    newest = datetime(2015, 9, 14, 12, tzinfo=UTC).timestamp()
    ids = tweet_ids(25, newest_at=newest, oldest_at=newest - 5 * 86400)
    types = ["impressions", "favorites", "replies", "retweets", "url_clicks"]
    start, end = int(newest // 3600) - 120, int(newest // 3600) + 120
    change = int(datetime(2015, 9, 15, tzinfo=UTC).timestamp()) // 3600

    _, body = answer("historical", ids, types, {"g": ["engagement.type", "engagement.day"]}, start=start, end=end)

    for metric, days in body["g"].items():
        by_day: dict[str, int] = {}
        for hour in range(start, end):
            if metric in ("favorites", "replies", "retweets") and hour < change:
                continue
            day = datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%d")
            by_day[day] = by_day.get(day, 0) + sum(value(0, tweet_id, metric, hour) for tweet_id in ids)
        assert {day: count for day, count in days.items() if count} == {d: c for d, c in by_day.items() if c}
    assert not any(body["g"]["favorites"][f"2015-09-{day}"] for day in (10, 11, 12, 13, 14))
    assert body["g"]["favorites"]["2015-09-15"] > 0
    assert body["g"]["url_clicks"]["2015-09-13"] > 0


def test_media_clicks_are_media_engagements() -> None:
    many = tweet_ids(25, newest_at=NOW, oldest_at=NOW - 40 * 3600)
    _, body = answer("28hr", many, ["media_clicks", "media_engagements"], {"g": ["tweet.id", "engagement.type"]})

    assert any(metrics["media_clicks"] for metrics in body["g"].values())
    assert all(metrics["media_clicks"] == metrics["media_engagements"] for metrics in body["g"].values())
