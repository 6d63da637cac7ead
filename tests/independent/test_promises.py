"""What the client promises in its set-up, its streams and its results, held against answers that nobody documented."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engagement_async import (
    HISTORICAL,
    LAST_28_HOURS,
    TOTALS,
    EngagementClient,
    EngagementError,
    Query,
    RateLimit,
    Timeouts,
    UsageError,
)
from tests.independent.server import Asked, Reply, Send, Server
from tests.independent.test_faults import plain
from tests.support.independent_requests import AMPLE, BY_TWEET, OAUTH, client_of, random_ids

FAVORITES = Query(TOTALS, engagement_types=["favorites"], groupings=BY_TWEET)
HOURS = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["tweet.id"]})
A_DAY = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
WEST = dt.timezone(dt.timedelta(hours=-5))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5", None, True])
@pytest.mark.parametrize("name", ["connect_s", "read_s", "total_s"])
def test_timeouts_are_seconds_above_zero(name: str, seconds: Any) -> None:
    with pytest.raises(UsageError):
        Timeouts(**{name: seconds})


@pytest.mark.parametrize(
    "options",
    [{"outage_timeout_s": "60"}, {"timeouts": 30}, {"size_limits": 5}, {"tls": False}, {"tls": "no"}],
    ids=str,
)
def test_a_wrong_option_is_a_usage_error_when_the_client_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        EngagementClient(OAUTH, rate_limit=AMPLE, **options)


async def test_a_client_is_open_once_at_a_time() -> None:
    async with Server() as server:
        async with client_of(server) as client:
            with pytest.raises(UsageError):
                await client.__aenter__()
            result = await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
            assert result.outcomes["answered"] == 1
        gc.collect()  # a session that was forgotten would warn


@pytest.mark.parametrize("types", [None, 5])
def test_engagement_types_of_another_type(types: Any) -> None:
    with pytest.raises(UsageError):
        Query(TOTALS, engagement_types=types, groupings=BY_TWEET)


@pytest.mark.parametrize("end", ["9999-12-31T23:30:00Z", dt.datetime(9999, 12, 31, 23, tzinfo=WEST)], ids=str)
def test_bounds_at_the_end_of_time(end: Any) -> None:
    with pytest.raises(UsageError):
        Query(HISTORICAL, engagement_types=["favorites"], groupings=BY_TWEET, start="9999-12-30", end=end).spans()


async def test_a_stream_is_not_silently_empty_the_second_time() -> None:
    async with Server() as server, client_of(server) as client:
        stream = client.stream(FAVORITES, ["1", "2"])
        async with stream as answers:
            assert len([answer async for answer in answers]) == 1
        with pytest.raises(UsageError):
            await stream.__aenter__()


async def test_a_client_that_is_closed_under_a_call_is_an_error_of_the_tree() -> None:
    async with Server(latency=lambda: 0.2) as server:
        async with client_of(server) as client:
            call = asyncio.create_task(
                client.totals(random_ids(5_000, 1), engagement_types=["favorites"], groupings=BY_TWEET)
            )
            while not server.arrivals:
                await asyncio.sleep(0.001)
        with pytest.raises(EngagementError):
            await call


@pytest.mark.virtual_time
async def test_work_that_was_put_off_does_not_wait_for_a_source_that_pauses() -> None:
    answered = asyncio.Event()

    async def ids() -> AsyncIterator[int]:
        for n in range(1, 51):
            yield n
        await answered.wait()
        yield 51

    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        if "7" in asked.tweet_ids and asked.at < 100:
            await send(plain(500, b""))
        return True

    numbers: list[int] = []
    async with (
        Server(breaking=breaking) as server,
        client_of(server, concurrency=4) as client,
        asyncio.timeout(10_000),
        client.stream(HOURS, ids()) as answers,
    ):
        async for answer in answers:
            numbers.append(answer.batch_number)
            if answer.batch_number == 0:
                answered.set()
    assert sorted(numbers) == [0, 1, 2]


@pytest.mark.virtual_time
async def test_stop_ends_a_stream_whose_source_is_silent() -> None:
    async def ids() -> AsyncIterator[int]:
        for n in range(1, 51):
            yield n
        await asyncio.sleep(10**6)
        yield 51

    numbers: list[int] = []
    async with (
        Server() as server,
        client_of(server, concurrency=4) as client,
        asyncio.timeout(1_000),
        client.stream(HOURS, ids()) as answers,
    ):
        async for answer in answers:
            numbers.append(answer.batch_number)
            if len(numbers) == 2:
                answers.stop()
    assert sorted(numbers) == [0, 1]


@pytest.mark.parametrize("first", ["totals", "28hr"])
@pytest.mark.virtual_time
async def test_each_endpoints_own_limit_is_compared_with_its_own_headers(first: str) -> None:
    limits = {"totals": 300, "28hr": 10}

    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        used = sum(other.endpoint == asked.endpoint and other.at > asked.at - 60 for other in server.asked)
        assert used <= limits[asked.endpoint]
        reply.headers["x-per-minute-remaining"] = str(limits[asked.endpoint] - used)
        return True

    given = [RateLimit(limits[name], endpoint=name) for name in sorted(limits, key=lambda name: name != first)]
    async with (
        Server(breaking=breaking, latency=lambda: 0.1) as server,
        client_of(server, rate_limit=given) as client,
    ):
        await asyncio.gather(
            client.totals(range(1, 62_500), engagement_types=["favorites"], groupings={"g": ["tweet.id"]}),
            client.last_28_hours(range(1, 500), engagement_types=["favorites"], groupings={"g": ["tweet.id"]}),
        )
    totals = [asked.at for asked in server.asked if asked.endpoint == "totals"]
    assert len(totals) == 250
    assert totals[-1] - totals[0] < 60  # they fit into the first minute's 300


async def test_a_tweet_that_failed_in_one_part_of_a_long_span_has_no_partial_value() -> None:
    def respond(asked: Asked) -> Reply | None:
        assert asked.start is not None
        is_later = asked.start > dt.datetime(2025, 1, 20, tzinfo=dt.UTC)
        return Reply(400, {"errors": ["Invalid Tweet 2"]}) if is_later and "2" in asked.tweet_ids else None

    async with Server(respond=respond) as server, client_of(server) as client:
        result = await client.historical(
            ["1", "2", "3"],
            engagement_types=["favorites"],
            groupings={"g": ["tweet.id"], "t": ["engagement.type", "tweet.id"]},
            start="2025-01-01",
            end="2025-02-20",
        )
    assert list(result.failed_tweet_ids) == ["2"]
    assert result.groupings["g"].keys() == {"1", "3"}
    assert result.groupings["t"]["favorites"].keys() == {"1", "3"}


async def test_an_empty_object_is_no_answer() -> None:
    def respond(asked: Asked) -> Reply:
        return Reply(200, {"by_tweet": {i: {"favorites": "1"} if i == "1" else {} for i in asked.tweet_ids}})

    async with Server(respond=respond) as server, client_of(server) as client:
        result = await client.totals(["1", "2"], engagement_types=["favorites"], groupings=BY_TWEET)
    assert result.answered_tweet_ids == ["1"]
    assert list(result.failed_tweet_ids) == ["2"]


@pytest.mark.virtual_time
async def test_one_null_does_not_cost_the_other_tweets_of_its_batch() -> None:
    def respond(asked: Asked) -> Reply:
        return Reply(200, {"by_tweet": {i: {"favorites": None if i == "7" else "1"} for i in asked.tweet_ids}})

    async with Server(respond=respond) as server, client_of(server, outage_timeout_s=60) as client:
        result = await client.totals(range(1, 251), engagement_types=["favorites"], groupings=BY_TWEET)
    assert result.outcomes["answered"] == 249
    assert list(result.failed_tweet_ids) == ["7"]


@pytest.mark.parametrize("first", [0, 1])
async def test_batches_may_write_hours_in_different_shapes(first: int) -> None:
    def respond(asked: Asked) -> Reply:
        hours = {"05": "1"} if asked.nth % 2 == first else {"2026-01-01": {"05": "1"}}
        return Reply(200, {**A_DAY, "g": dict.fromkeys(asked.tweet_ids, hours)})

    async with Server(respond=respond) as server, client_of(server, concurrency=1) as client:
        result = await client.last_28_hours(
            random_ids(50, 1), engagement_types=["favorites"], groupings={"g": ["tweet.id", "engagement.hour"]}
        )
    assert sum(row["value"] for row in result.rows("g")) == 50
    assert sum(result.to_arrow("g").column("value").to_pylist()) == 50


@pytest.mark.parametrize(("day", "hour"), [("2026-13-01", "05"), ("2026-01-01", "24"), ("x", "y")])
async def test_days_and_hours_that_are_none_are_an_error_of_the_tree(day: str, hour: str) -> None:
    content = {**A_DAY, "g": {day: {hour: "1"}}}
    async with Server(respond=lambda asked: Reply(200, content)) as server, client_of(server) as client:
        result = await client.last_28_hours(
            ["1"], engagement_types=["favorites"], groupings={"g": ["engagement.day", "engagement.hour"]}
        )
    with pytest.raises(EngagementError):
        list(result.rows("g"))
    with pytest.raises(EngagementError):
        result.to_arrow("g")
