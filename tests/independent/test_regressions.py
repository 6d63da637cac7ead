"""Mistakes that this examiner once found in the client, kept from coming back; and an adversary that knows the rules."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engagement_async import (
    LAST_28_HOURS,
    TOTALS,
    AuthError,
    EngagementClient,
    EngagementError,
    InvalidAnswerError,
    OAuth1Credentials,
    Query,
    RateLimit,
    UsageError,
)
from engagement_async._core.parsing import ResponseParser
from tests.independent.server import Asked, Reply, Send, Server, World
from tests.independent.test_faults import plain
from tests.support.independent_requests import BY_TWEET, OAUTH, account_adds_up, client_of, mixed_world, random_ids


def reader(*engagement_types: str, **groupings: list[str]) -> ResponseParser:
    return ResponseParser(Query(TOTALS, engagement_types=engagement_types, groupings=groupings or BY_TWEET))


async def test_many_requests_that_were_signed_with_a_wrong_clock_are_all_signed_again() -> None:
    ids = random_ids(5_000, 1)
    async with Server(latency=lambda: 0.02) as server, client_of(server, concurrency=16) as client:
        server.clock_ahead_s = 600
        result = await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)
    assert result.outcomes["answered"] == 5_000
    assert server.unauthorized <= 16
    assert server.breaches == []


async def test_wrong_keys_and_a_wrong_clock_at_once_still_stop_early() -> None:
    wrong = OAuth1Credentials("canary-wrong", "b", "wrong", "d")
    async with Server(latency=lambda: 0.01) as server, client_of(server, credentials=wrong, concurrency=8) as client:
        server.clock_ahead_s = 600
        with pytest.raises(AuthError):
            await client.totals(random_ids(20_000, 1), engagement_types=["favorites"], groupings=BY_TWEET)
    assert len(server.arrivals) <= 16


async def test_a_403_that_names_most_of_the_batch_costs_one_request_more() -> None:
    ids = [str(10**18 + n) for n in range(250)]
    async with Server(World(dict.fromkeys(ids[:240], "foreign"))) as server, client_of(server) as client:
        result = await client.totals(ids, engagement_types=["favorites", "impressions"], groupings=BY_TWEET)
    assert result.forbidden_tweet_ids == ids[:240]
    assert result.answered_tweet_ids == ids[240:]
    assert len(server.arrivals) == 2


async def test_a_source_whose_own_wait_is_cancelled_is_never_taken_for_its_end() -> None:
    async def source() -> AsyncIterator[int]:
        for n in range(600):
            if n == 400:
                cancelled = asyncio.get_running_loop().create_future()
                cancelled.cancel()
                await cancelled
            yield 10**18 + n

    async with Server() as server, client_of(server) as client:
        with pytest.raises((EngagementError, asyncio.CancelledError)):
            await client.totals(source(), engagement_types=["favorites"], groupings=BY_TWEET)


async def test_a_stream_that_was_not_entered_is_an_error_and_not_empty() -> None:
    query = Query(TOTALS, engagement_types=["favorites"], groupings=BY_TWEET)
    async with Server() as server, client_of(server) as client:
        with pytest.raises(UsageError, match="async with"):
            await anext(client.stream(query, ["1", "2"]))


@pytest.mark.parametrize(
    "name", ["Ünïcödé 🐦", "</script>", "../..", " ", "grouping_1", "message", "error", "tweet.id"]
)
async def test_a_grouping_may_have_any_name(name: str) -> None:
    async with Server() as server, client_of(server) as client:
        result = await client.totals(
            ["20"], engagement_types=["favorites"], groupings={name: ["tweet.id"], "b": ["engagement.type"]}
        )
    assert result.groupings[name] == {"20": server.world.value("20", "favorites")}
    assert server.breaches == []


@pytest.mark.parametrize("name", ['my "best" tweets', "back\\slash", "line\nbreak"])
async def test_a_name_that_cannot_be_asked_for_is_refused(name: str) -> None:
    async with Server() as server, client_of(server) as client:
        with pytest.raises(UsageError, match="grouping"):
            await client.totals(["20"], engagement_types=["favorites"], groupings={name: ["tweet.id"]})
    assert server.arrivals == []


def test_a_limit_of_an_unknown_endpoint_is_refused() -> None:
    with pytest.raises(UsageError):
        EngagementClient(OAUTH, rate_limit=RateLimit(100, endpoint="28hrs"))


async def test_an_endpoint_that_no_limit_covers_is_not_asked() -> None:
    async with Server() as server, client_of(server, rate_limit=RateLimit(100, endpoint="28hr")) as client:
        with pytest.raises(UsageError):
            await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
    assert server.arrivals == []


@pytest.mark.parametrize("encoding", ["gzip", "br"])
@pytest.mark.virtual_time
async def test_a_401_stops_at_once_whatever_its_body_is(encoding: str) -> None:
    async def breaking(asked: Asked, reply: Reply, send: Send) -> bool:
        await send(plain(401, b"", Content_Encoding=encoding))
        return True

    async with Server(breaking=breaking) as server, client_of(server) as client:
        with pytest.raises(AuthError):
            await client.totals(["20"], engagement_types=["favorites"], groupings=BY_TWEET)
    assert len(server.arrivals) == 1


def test_an_answer_without_a_summed_grouping_is_no_answer() -> None:
    with pytest.raises(InvalidAnswerError):
        reader("favorites", total=["engagement.type"]).parse(
            0, ("1", "2"), 200, {}, b'{"unavailable_tweet_ids": ["1"]}'
        )


def test_a_tweet_without_a_value_of_the_metrics_that_are_supported_is_asked_again() -> None:
    body = {
        "by_tweet": {"2": {"favorites": "1", "impressions": "2"}},
        "unsupported_for_impressions_engagements_tweet_ids": ["1"],
    }
    reading = reader("favorites", "impressions").parse(0, ("1", "2"), 200, {}, json.dumps(body).encode())
    assert "1" in reading.missing or any("1" in ids for _, ids in reading.retry_without_metrics)
    assert reading.answer.tweet_ids == ("2",)


async def test_rows_of_bare_hours_when_the_first_tweet_has_none() -> None:
    def respond(asked: Asked) -> Reply:
        content = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "g": {"1": {}, "2": {"05": "7"}}}
        return Reply(200, content)

    async with Server(respond=respond) as server, client_of(server) as client:
        result = await client.last_28_hours(
            ["1", "2"], engagement_types=["favorites"], groupings={"g": ["tweet.id", "engagement.hour"]}
        )
    assert [*result.rows("g")] == [{"tweet_id": "2", "engagement_hour_of_day": 5, "value": 7}]
    assert result.to_arrow("g").num_rows == 1


@pytest.mark.parametrize("gone", [[2], ["2", 3]])
def test_integers_among_the_strings_of_an_id_list(gone: list[Any]) -> None:
    body = json.dumps({"by_tweet": {"1": {"favorites": "1"}}, "unavailable_tweet_ids": gone}).encode()
    reading = reader("favorites").parse(0, ("1", "2"), 200, {}, body)
    assert reading.answer.unavailable_tweet_ids == ("2",)


@pytest.mark.parametrize("start", ["2015-08-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "soon", "1"])
def test_a_window_is_a_day_or_an_instant_and_nonsense_is_a_wrong_shape(start: str) -> None:
    asked = ResponseParser(Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"g": ["tweet.id"]}))
    body = json.dumps({"start": start, "end": "2015-08-02T00:00:00Z", "g": {"1": "1"}}).encode()
    if start == "2015-08-01":
        assert f"{asked.parse(0, ('1',), 200, {}, body).answer.start:%Y-%m-%dT%H}" == "2015-08-01T00"
    else:
        with pytest.raises(InvalidAnswerError):
            asked.parse(0, ("1",), 200, {}, body)


async def test_a_refusal_that_lists_tweets_for_a_metric_not_asked_loses_none_and_ends() -> None:
    def respond(asked: Asked) -> Reply | None:
        if asked.nth > 20:
            return Reply(404, None)  # or it would go on for ever
        if "1" not in asked.tweet_ids:
            return None
        return Reply(400, {"unsupported_for_video_views_tweet_ids": ["1"], "errors": ["not supported"]})

    async with Server(respond=respond) as server, client_of(server) as client:
        result = await client.totals(["1", "2", "3"], engagement_types=["favorites"], groupings=BY_TWEET)
    account_adds_up(result, ["1", "2", "3"])
    assert {"2", "3"} <= set(result.answered_tweet_ids)
    assert len(server.arrivals) < 8


class Adversary:
    """Answers by the documented rules and against the truth: names, lists and leaves out whom it likes."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.server: Server | None = None

    def __call__(self, asked: Asked) -> Reply | None:
        draw, ids = self.draw, asked.tweet_ids
        some = draw.sample(ids, min(len(ids), draw.choice((1, 1, 3, 50))))
        old = "unsupported_for_impressions_engagements_tweet_ids"
        replies = [
            Reply(draw.choice((400, 403)), {"errors": [f"Forbidden to access tweets: {', '.join(some)}"]}),
            Reply(400, {"errors": [f"bad {draw.randrange(3)}"]}),
            Reply(draw.choice((200, 400)), {"unavailable_tweet_ids": some, "errors": ["x"]}),
            Reply(draw.choice((200, 400)), {draw.choice((old, "unsupported_for_video_views_tweet_ids")): some}),
            Reply(400, {"errors": [f"Invalid {some[0]}"]}),
            Reply(403, {"errors": ["Forbidden to access tweets: 99999"]}),
            Reply(200, {}),
        ]
        if draw.random() < 0.25:
            return draw.choice(replies)
        if draw.random() < 0.1 and self.server is not None:
            reply = self.server.answer(asked)
            if reply.status == 200:
                for i in some:
                    reply.content["by_tweet"].pop(i, None)
            return reply
        return None


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.virtual_time
async def test_an_adversary_makes_no_value_wrong_and_no_account_crooked(seed: int) -> None:
    draw = random.Random(seed)
    ids = random_ids(draw.choice((3, 30, 250, 600)), seed)
    world = mixed_world(ids, seed, bad_share=draw.choice((0, 0.05, 0.5)))
    metrics = draw.choice((["favorites"], ["favorites", "impressions"], ["impressions", "engagements", "video_views"]))
    adversary = Adversary(seed)
    async with (
        Server(world, unsupported_status=draw.choice((200, 400)), respond=adversary) as server,
        client_of(server, concurrency=draw.choice((1, 4, 16)), outage_timeout_s=600) as client,
    ):
        adversary.server = server
        try:
            result = await client.totals(ids, engagement_types=metrics, groupings=BY_TWEET)
        except EngagementError:
            return  # it convinced the client that the request itself is wrong
    account_adds_up(result, ids)
    assert server.breaches == []
    assert len(server.arrivals) < 50 + 4 * len(ids)
    out = {*result.failed_tweet_ids, *result.unavailable_tweet_ids, *result.forbidden_tweet_ids}
    for i, values in result.groupings["by_tweet"].items():
        assert i not in out
        for metric, value in values.items():
            fake = metric == "video_views" and world.state.get(i) == "ancient"
            assert value == (0 if fake else world.value(i, metric))
    assert all(result.groupings["by_tweet"].get(i) for i in result.answered_tweet_ids)
    assert Counter(result.tweet_ids) == Counter(ids)
