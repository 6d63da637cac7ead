"""Every value right and every Tweet accounted for, against the server of another hand and its own truth."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engagement_async import EngagementResult
from tests.independent.server import FOUR_ITEMS, HOUR, OWNED, PUBLIC, TIMELESS, Asked, Reply, Server, World
from tests.independent.server import TOTALS as METRICS
from tests.support.independent_requests import (
    APP_ONLY,
    BY_TWEET,
    account_adds_up,
    client_of,
    distinct,
    mixed_world,
    random_ids,
)

HOURS_OF_28HR = [datetime(2026, 11, 20, 18, tzinfo=UTC) + n * HOUR for n in range(29)]


def truth(
    world: World,
    ids: list[str],
    metrics: list[str],
    group_by: list[str],
    hours: list[datetime] | None = None,
    *,
    bare_hours: bool = False,
) -> dict[str, Any]:
    """The grouping as it must come out, computed by walking the Tweets one by one."""
    nested: dict[str, Any] = {}
    for i, metric, hour in itertools.product(ids, metrics, hours or (None,)):
        keys = {"tweet.id": i, "engagement.type": metric}
        if hour is not None:
            keys |= {"engagement.day": hour.date().isoformat(), "engagement.hour": f"{hour.hour:02}"}
        path = [keys[level] for level in group_by]
        if hour is not None and "engagement.hour" in group_by and "engagement.day" not in group_by and not bare_hours:
            path.insert(group_by.index("engagement.hour"), keys["engagement.day"])
        inner = nested
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = inner.get(path[-1], 0) + world.value(i, metric, hour)
    return nested


def without_unsupported(nested: dict[str, Any], world: World) -> dict[str, Any]:
    """A by-Tweet grouping without what the API has no values of."""
    kept: dict[str, Any] = {}
    for i, values in nested.items():
        left = {
            metric: value
            for metric, value in values.items()
            if not (world.is_old(i) and metric in ("impressions", "engagements"))
            and not (world.state.get(i) == "ancient" and metric == "video_views")
        }
        if left:
            kept[i] = left
    return kept


@pytest.mark.parametrize("unsupported_status", [200, 400])
@pytest.mark.parametrize("by_author", [False, True])
@pytest.mark.parametrize("concurrency", [1, 7, 64])
async def test_totals_of_thousands_of_mixed_tweets_are_right_and_each_is_asked_once(
    unsupported_status: int, by_author: bool, concurrency: int
) -> None:
    seed = concurrency * 4 + unsupported_status + by_author
    ids = random_ids(4000, seed)
    world = mixed_world(ids, seed)
    draw = random.Random(seed)
    given: list[str | int] = [*ids, *draw.choices(ids, k=900)]
    given = [int(i) if draw.random() < 0.4 else i for i in given]
    metrics = list(METRICS)
    async with (
        Server(
            world,
            unsupported_status=unsupported_status,
            by_author=by_author,
            integers=True,
            extras=True,
            latency=lambda: draw.random() * 0.003,
        ) as server,
        client_of(server, concurrency=concurrency) as client,
    ):
        result = await client.totals(given, engagement_types=metrics, groupings=BY_TWEET)
    assert server.breaches == []
    account_adds_up(result, given)
    by_state: dict[str, list[str]] = {}
    for i in ids:
        by_state.setdefault(world.state.get(i, "alive"), []).append(i)
    assert result.unavailable_tweet_ids == by_state["gone"]
    assert result.forbidden_tweet_ids == by_state["foreign"]
    assert list(result.failed_tweet_ids) == by_state["never"]
    old = [i for i in ids if world.is_old(i)]
    assert result.unsupported_tweet_ids == {
        "engagements": old,
        "impressions": old,
        "video_views": by_state["ancient"],
    }
    told = [i for i in ids if world.state.get(i) not in ("gone", "foreign", "never")]
    expected = without_unsupported(truth(world, told, metrics, BY_TWEET["by_tweet"]), world)
    assert result.groupings["by_tweet"] == expected
    if unsupported_status == 200:
        for at in range(0, len(ids), 250):
            batch = ids[at : at + 250]
            refused = any(world.state.get(i) == "foreign" for i in batch)
            for i in batch:
                looks = 2 if world.state.get(i) in ("once", "never") else 1
                assert server.times_asked[i] == (1 if world.state.get(i) == "foreign" else looks + refused)


async def test_each_living_tweet_is_asked_exactly_once() -> None:
    ids = random_ids(6100, 3)
    async with Server() as server, client_of(server) as client:
        result = await client.totals([*ids, *ids[::3]], engagement_types=["favorites"], groupings=BY_TWEET)
    account_adds_up(result, ids)
    assert set(server.times_asked.values()) == {1}
    assert sorted(len(asked.tweet_ids) for asked in server.asked) == [100] + [250] * 24
    assert server.breaches == []


async def test_public_metrics_of_others_tweets_with_a_bearer_token() -> None:
    ids = random_ids(700, 4)
    world = World(dict.fromkeys(ids[::2], "foreign"))
    async with Server(world) as server, client_of(server, credentials=APP_ONLY) as client:
        result = await client.totals(ids, engagement_types=PUBLIC, groupings=BY_TWEET)
    assert result.groupings["by_tweet"] == truth(world, ids, list(PUBLIC), BY_TWEET["by_tweet"])
    assert server.breaches == []


@pytest.mark.parametrize("group_by", [list(p) for n in (1, 2) for p in itertools.permutations(sorted(TIMELESS), n)])
@pytest.mark.parametrize("count", [1, 251, 1000])
async def test_totals_in_every_grouping(group_by: list[str], count: int) -> None:
    ids = random_ids(count, count)
    metrics = ["favorites", "replies", "video_views"]
    async with Server(integers=True) as server, client_of(server) as client:
        result = await client.totals(ids, engagement_types=metrics, groupings={"g": group_by, "tweets": ["tweet.id"]})
    assert result.groupings["g"] == truth(server.world, ids, metrics, group_by)
    assert result.groupings["tweets"] == truth(server.world, ids, metrics, ["tweet.id"])
    assert server.breaches == []


LEGAL_ORDERS = [
    list(order)
    for n in (1, 2, 3)
    for order in itertools.permutations(["tweet.id", "engagement.type", "engagement.day", "engagement.hour"], n)
] + [list(order) for order in FOUR_ITEMS]


@pytest.mark.parametrize("bare_hours", [False, True])
@pytest.mark.parametrize("group_by", LEGAL_ORDERS, ids=lambda order: "/".join(v.split(".")[1] for v in order))
async def test_28_hours_in_every_legal_order(group_by: list[str], bare_hours: bool) -> None:
    ids = random_ids(60, len(group_by))
    metrics = ["impressions", "url_clicks"]
    async with Server(bare_hours=bare_hours, integers=True) as server, client_of(server, concurrency=3) as client:
        result = await client.last_28_hours(
            ids, engagement_types=metrics, groupings={"g": group_by, "s": ["engagement.day"]}
        )
    assert result.groupings["g"] == truth(server.world, ids, metrics, group_by, HOURS_OF_28HR, bare_hours=bare_hours)
    assert (result.start, result.end) == (HOURS_OF_28HR[0], HOURS_OF_28HR[-1] + HOUR)
    assert sum(row["value"] for row in result.rows("g")) == sum(row["value"] for row in result.rows("s"))
    assert sum(result.to_arrow("g").column("value").to_pylist()) == sum(result.groupings["s"].values())
    assert server.breaches == []


def jittered(seed: int) -> Callable[[], float]:
    draw = random.Random(seed)
    return lambda: draw.random() * 0.01


async def test_the_merged_result_does_not_depend_on_concurrency() -> None:
    ids = random_ids(1500, 9)
    world = mixed_world(ids, 9)
    results: list[EngagementResult] = []
    for concurrency in (1, 2, 16, 100):
        async with (
            Server(world, latency=jittered(concurrency)) as server,
            client_of(server, concurrency=concurrency) as client,
        ):
            results.append(
                await client.totals(
                    ids,
                    engagement_types=["favorites", "impressions"],
                    groupings={**BY_TWEET, "sum": ["engagement.type"]},
                )
            )
    first = results[0]
    for other in results[1:]:
        assert other.to_response() == first.to_response()
        assert other.groupings == first.groupings
        assert other.failed_tweet_ids == first.failed_tweet_ids
        assert other.forbidden_tweet_ids == first.forbidden_tweet_ids


@pytest.mark.parametrize("weeks", [1, 4, 5, 13])
@pytest.mark.parametrize(
    ("start", "off_hour"), [("2025-01-03", timedelta()), ("2025-01-03T12:24:00Z", timedelta(minutes=13, seconds=1))]
)
async def test_historical_over_any_span(weeks: int, start: str, off_hour: timedelta) -> None:
    ids = random_ids(30, weeks)
    first = datetime.fromisoformat(start.removesuffix("Z")).replace(tzinfo=UTC)
    end = first + timedelta(weeks=weeks) - timedelta(hours=5) + off_hour
    hours = [first.replace(minute=0)]
    while hours[-1] + HOUR < end:
        hours.append(hours[-1] + HOUR)
    metrics = ["engagements"]
    groupings = {"by_day": ["tweet.id", "engagement.type", "engagement.day"], "all": ["engagement.type"]}
    async with Server() as server, client_of(server) as client:
        result = await client.historical(ids, engagement_types=metrics, groupings=groupings, start=start, end=end)
    assert server.breaches == []
    account_adds_up(result, ids)
    assert (result.start, result.end) == (hours[0], hours[-1] + HOUR)
    for name, group_by in groupings.items():
        assert result.groupings[name] == truth(server.world, ids, metrics, group_by, hours)
    covered = sorted({(asked.start, asked.end) for asked in server.asked}, key=str)
    for (_, end_before), (next_start, _) in itertools.pairwise(covered):
        assert end_before == next_start


async def test_a_28_hour_run_that_crosses_a_full_hour_says_so() -> None:
    ids = random_ids(100, 5)

    def respond(asked: Asked) -> Reply | None:
        if asked.nth == 3:
            server.world.now += HOUR
        return None

    async with Server(respond=respond) as server, client_of(server, concurrency=1) as client:
        result = await client.last_28_hours(
            ids, engagement_types=["favorites"], groupings={"g": ["tweet.id", "engagement.day", "engagement.hour"]}
        )
    assert [(w.start, w.end) for w in result.windows] == [
        (HOURS_OF_28HR[0], HOURS_OF_28HR[-1] + HOUR),
        (HOURS_OF_28HR[1], HOURS_OF_28HR[-1] + 2 * HOUR),
    ]
    assert (result.start, result.end) == (HOURS_OF_28HR[0], HOURS_OF_28HR[-1] + 2 * HOUR)
    shifted = [hour + HOUR for hour in HOURS_OF_28HR]
    by = ["tweet.id", "engagement.day", "engagement.hour"]
    assert result.groupings["g"] == {
        **truth(server.world, ids[:50], ["favorites"], by, HOURS_OF_28HR),
        **truth(server.world, ids[50:], ["favorites"], by, shifted),
    }


UNOWNED = {
    "perTweetMetricsUnowned": {
        "1021817816134156288": {
            "favorites": "530", "quote_tweets": "79", "replies": "147", "retweets": "323", "video_views": "0",
        },
        "1067094924124872705": {
            "favorites": "1360", "quote_tweets": "29", "replies": "56", "retweets": "178", "video_views": "5754512",
        },
        "1070059276213702656": {
            "favorites": "69", "quote_tweets": "5", "replies": "7", "retweets": "26", "video_views": "0",
        },
    }
}  # fmt: skip
OWNED_EXAMPLE = {
    "perTweetMetricsOwned": {
        "1045709644067471360": {
            "engagements": "2", "favorites": "0", "impressions": "47", "replies": "0", "retweets": "8",
            "quote_tweets": "5", "video_views": "0",
        },
        "1060976163948904448": {
            "engagements": "4", "favorites": "0", "impressions": "148", "replies": "1", "retweets": "9",
            "quote_tweets": "2", "video_views": "0",
        },
    }
}  # fmt: skip
WITH_GONE = {
    "start": "2015-11-17T22:00:00Z",
    "end": "2015-11-19T02:00:00Z",
    "unavailable_tweet_ids": ["323456789"],
    "group1": {"423456789": {"favorites": "67", "replies": "8", "retweets": 26}},
}
_FIRST_DAY = dict(zip(range(17, 24), (551, 412, 371, 280, 100, 19, 6), strict=True))
_SECOND_DAY = dict(zip(range(22), (5, 2, 7, 3, 1) + (0,) * 17, strict=True))
HOURLY = {
    "start": "2015-09-14T17:00:00Z",
    "end": "2015-09-15T22:00:00Z",
    "hourly-time-series": {
        "123456789": {
            metric: {
                day: {f"{hour:02}": str(value * times) for hour, value in hours.items()}
                for day, hours in (("2015-09-14", _FIRST_DAY), ("2015-09-15", _SECOND_DAY))
            }
            for metric, times in (("impressions", 1), ("engagements", 0))
        }
    },
}
IN_FOUR = ["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]


@pytest.mark.parametrize(
    ("method", "credentials", "ids", "metrics", "grouping", "example"),
    [
        ("totals", {"credentials": APP_ONLY}, ["1070059276213702656", "1021817816134156288", "1067094924124872705"],
         ["favorites", "retweets", "replies", "quote_tweets", "video_views"],
         ("perTweetMetricsUnowned", IN_FOUR[:2]), UNOWNED),
        ("totals", {}, ["1060976163948904448", "1045709644067471360"],
         # The page's own request leaves out `quote_tweets`, which its answer has; what was not asked for would be left out.
         ["favorites", "replies", "retweets", "quote_tweets", "video_views", "impressions", "engagements"],
         ("perTweetMetricsOwned", IN_FOUR[:2]), OWNED_EXAMPLE),
        ("totals", {}, ["323456789", "423456789"], ["favorites", "replies", "retweets"], ("group1", IN_FOUR[:2]), WITH_GONE),
        ("last_28_hours", {}, ["323456789", "423456789"], ["favorites", "replies", "retweets"],
         ("group1", IN_FOUR[:2]), WITH_GONE),
        ("last_28_hours", {}, ["123456789"], ["impressions", "engagements"], ("hourly-time-series", IN_FOUR), HOURLY),
    ],
)  # fmt: skip
async def test_the_documented_examples_come_back_equal(
    method: str,
    credentials: dict[str, Any],
    ids: list[str],
    metrics: list[str],
    grouping: tuple[str, list[str]],
    example: dict[str, Any],
) -> None:
    def respond(asked: Asked) -> Reply:
        return Reply(200, example)

    async with Server(respond=respond) as server, client_of(server, **credentials) as client:
        result = await getattr(client, method)(ids, engagement_types=metrics, groupings={grouping[0]: grouping[1]})
    expected = json.loads(json.dumps(example).replace('"retweets": 26', '"retweets": "26"'))
    response = result.to_response()
    assert response == expected
    for name in example:  # the order within is the API's, too
        assert json.dumps(response[name]) == json.dumps(expected[name])
    account_adds_up(result, ids)
    assert len(server.arrivals) == 1
    assert server.breaches == []


async def test_many_calls_of_one_client_at_once_do_not_mix() -> None:
    lists = [random_ids(300 + n, n) for n in range(12)]
    async with Server() as server, client_of(server) as client:
        totals = [
            client.totals(ids, engagement_types=["replies"], groupings={"g": ["tweet.id"], "s": ["engagement.type"]})
            for ids in lists
        ]
        hours = client.last_28_hours(
            lists[0][:40], engagement_types=OWNED, groupings={"d": ["tweet.id", "engagement.day"]}
        )
        *results, last = await asyncio.gather(*totals, hours)
    for ids, result in zip(lists, results, strict=True):
        assert result.groupings["g"] == truth(server.world, ids, ["replies"], ["tweet.id"])
        assert result.groupings["s"] == {"replies": sum(result.groupings["g"].values())}
        account_adds_up(result, distinct(ids))
    assert last.groupings["d"] == truth(
        server.world, lists[0][:40], list(OWNED), ["tweet.id", "engagement.day"], HOURS_OF_28HR
    )
    assert server.breaches == []
