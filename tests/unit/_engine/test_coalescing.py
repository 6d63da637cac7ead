"""Calls that share requests: over real sockets, under virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engagement_async import (
    AuthError,
    BearerCredentials,
    EngagementClient,
    EngagementResult,
    OAuth1Credentials,
    RateLimit,
    UsageError,
)
from tests.support.raw_http import Exchange, RawServer, plain, zipped

OWNER = OAuth1Credentials("a", "b", "c", "d")
BY_TWEET = {"by_tweet": ["tweet.id", "engagement.type"]}
pytestmark = pytest.mark.virtual_time


def truth(tweet_id: str) -> int:
    return int(tweet_id) * 7 % 1_000


class Api:
    """Answers well after `latency_s`, and keeps what it was asked for."""

    def __init__(self, latency_s: float = 0.05) -> None:
        self.latency_s = latency_s
        self.asked: list[dict[str, Any]] = []
        self.at: list[float] = []
        self.reply: Callable[[dict[str, Any]], bytes | None] = lambda body: None

    async def __call__(self, exchange: Exchange) -> None:
        body = json.loads(exchange.request.partition(b"\r\n\r\n")[2])
        self.asked.append(body)
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.latency_s)
        metric = body["engagement_types"][0]
        good = {"by_tweet": {i: {metric: str(truth(i))} for i in body["tweet_ids"]}}
        if "sum" in body["groupings"]:
            good["sum"] = {metric: str(sum(map(truth, body["tweet_ids"])))}  # type: ignore[dict-item]
        await exchange.send(self.reply(body) or zipped(json.dumps(good).encode()))


@asynccontextmanager
async def opened(api: Api, **options: Any) -> AsyncIterator[EngagementClient]:
    options = {"coalesce": 0.02, "rate_limit": RateLimit(300), **options}
    async with RawServer(api) as server, EngagementClient(OWNER, base_url=server.url, **options) as client:
        yield client


async def totals(client: EngagementClient, *ids: str | int, **query: Any) -> EngagementResult:
    return await client.totals(list(ids), **{"engagement_types": ["favorites"], "groupings": BY_TWEET, **query})


def check(result: EngagementResult, ids: Iterable[str | int]) -> None:
    texts = [str(i) for i in ids]
    assert result.tweet_ids == texts
    assert result.groupings["by_tweet"] == {i: {"favorites": truth(i)} for i in texts}
    assert result.outcomes["answered"] == len(texts)


async def test_a_thousand_callers_of_one_id_each_cost_four_requests() -> None:
    api = Api()
    async with opened(api) as client:
        results = await asyncio.gather(*(totals(client, n) for n in range(1, 1_001)))

    for number, result in enumerate(results, 1):
        check(result, [number])
    assert [len(body["tweet_ids"]) for body in api.asked] == [250] * 4


async def test_a_lone_call_waits_no_longer_than_it_was_told() -> None:
    api = Api(latency_s=0.0)
    async with opened(api) as client:
        check(await totals(client, 5, 3, 5), [5, 3])

    assert api.at[0] == pytest.approx(0.02)


async def test_calls_of_many_sizes_at_any_time_each_have_their_own() -> None:
    chance = random.Random(3)
    api = Api()

    async def call(client: EngagementClient) -> None:
        await asyncio.sleep(chance.random())
        ids = chance.sample(range(1, 2_000), chance.choice([1, 2, 30, 100, 249]))
        check(await totals(client, *ids), ids)

    async with opened(api, rate_limit=RateLimit(100_000)) as client:
        await asyncio.gather(*(call(client) for _ in range(200)))

    assert len(api.asked) <= 120
    assert all(len(set(body["tweet_ids"])) == len(body["tweet_ids"]) for body in api.asked)


async def test_while_the_contract_is_used_up_calls_gather_until_requests_are_full() -> None:
    """A hundred calls a second for a minute, at a contract of 30 requests in it."""
    api = Api()
    done = Counter[int]()

    async def call(client: EngagementClient, number: int) -> None:
        await asyncio.sleep(0.01 * number)
        check(await totals(client, number + 1), [number + 1])
        done[number] += 1

    async with opened(api, rate_limit=RateLimit(30)) as client:
        await asyncio.gather(*(call(client, number) for number in range(6_000)))

    assert done.total() == 6_000
    assert len(api.asked) <= 36
    assert api.at[-1] <= 66.0


async def test_other_queries_are_not_mixed() -> None:
    api = Api()
    async with opened(api) as client:
        await asyncio.gather(
            totals(client, 1),
            client.totals([2], engagement_types=["replies"], groupings=BY_TWEET),
            totals(client, 3, groupings={"by_tweet": ["tweet.id", "engagement.type"]}),
        )

    assert sorted((body["engagement_types"][0], body["tweet_ids"]) for body in api.asked) == [
        ("favorites", ["1", "3"]),
        ("replies", ["2"]),
    ]


@pytest.mark.parametrize("ids", [range(1, 251), (n for n in range(1, 4))])
async def test_what_fills_a_request_or_has_no_size_goes_by_itself(ids: Iterable[int]) -> None:
    api = Api(latency_s=0.0)
    async with opened(api) as client:
        await client.totals(ids, engagement_types=["favorites"], groupings=BY_TWEET)

    assert api.at == [0.0]


async def test_sums_over_tweets_are_asked_for_by_each_caller() -> None:
    api = Api()
    groupings = {**BY_TWEET, "sum": ["engagement.type"]}
    async with opened(api) as client:
        results = await asyncio.gather(*(totals(client, n, n + 1, groupings=groupings) for n in (1, 5, 9)))

    sums = [result.groupings["sum"] for result in results]
    assert sums == [{"favorites": truth(str(n)) + truth(str(n + 1))} for n in (1, 5, 9)]
    assert len(api.asked) == 3


async def test_a_bad_id_is_its_caller_s_error_alone() -> None:
    api = Api()
    async with opened(api) as client:
        good, bad = await asyncio.gather(totals(client, 1), totals(client, "x"), return_exceptions=True)

    assert isinstance(bad, UsageError)
    assert isinstance(good, EngagementResult)
    check(good, [1])


async def test_an_outcome_is_told_to_those_who_asked_alone() -> None:
    api = Api()

    def gone(body: dict[str, Any]) -> bytes:
        found = {i: {"favorites": str(truth(i))} for i in body["tweet_ids"] if i != "2"}
        return zipped(json.dumps({"by_tweet": found, "unavailable_tweet_ids": ["2"]}).encode())

    api.reply = gone
    async with opened(api) as client:
        one, two, both = await asyncio.gather(totals(client, 1), totals(client, 2), totals(client, 2, 1))

    check(one, [1])
    assert (two.unavailable_tweet_ids, two.outcomes["answered"]) == (["2"], 0)
    assert (both.unavailable_tweet_ids, both.answered_tweet_ids) == (["2"], ["1"])
    assert len(api.asked) == 1


async def test_an_error_of_the_request_is_everybody_s_each_its_own() -> None:
    api = Api()
    api.reply = lambda body: plain(b'{"errors":["Your account could not be authenticated."]}', "401 Unauthorized")
    async with opened(api) as client:
        errors = await asyncio.gather(*(totals(client, n) for n in range(1, 20)), return_exceptions=True)

    assert all(type(error) is AuthError for error in errors)
    assert len({id(error) for error in errors}) == len(errors)
    assert {error.status for error in errors if isinstance(error, AuthError)} == {401}
    assert len({str(error) for error in errors}) == 1


async def test_a_query_that_breaks_a_rule_is_told_before_anything_is_sent() -> None:
    api = Api()
    async with opened(api) as client:
        with pytest.raises(UsageError, match="no metric"):
            await totals(client, 1, engagement_types=["nonsense"])
    async with EngagementClient(BearerCredentials("token"), rate_limit=RateLimit(1), coalesce=0.02) as client:
        with pytest.raises(UsageError, match="public metrics only"):
            await totals(client, 1, engagement_types=["impressions"])

    assert api.asked == []


async def test_a_caller_that_is_cancelled_disturbs_nobody() -> None:
    """Before its group is sent, in flight, and at the very moment of its answer."""
    api = Api()
    async with opened(api) as client:
        calls = [asyncio.create_task(totals(client, n)) for n in range(1, 31)]
        await asyncio.sleep(0.01)
        for call in calls[:10]:
            call.cancel()
        await asyncio.sleep(0.02)
        for call in calls[10:20]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in results[:20])
    for number, result in enumerate(results[20:], 21):
        assert isinstance(result, EngagementResult)
        check(result, [number])
    assert len(api.asked) == 1
    assert api.asked[0]["tweet_ids"] == [str(n) for n in range(11, 31)]


async def test_a_group_that_everybody_left_is_not_sent_or_waited_for() -> None:
    api = Api(latency_s=50.0)
    async with opened(api) as client:
        for pause_s in (0.01, 0.03):
            calls = [asyncio.create_task(totals(client, n)) for n in range(1, 5)]
            await asyncio.sleep(pause_s)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.1)
        assert client.status().in_flight == 0

    assert len(api.asked) == 1


async def test_a_client_that_is_closed_tells_its_callers() -> None:
    api = Api(latency_s=50.0)
    async with opened(api) as client:
        gathering = asyncio.create_task(totals(client, 1))
        await asyncio.sleep(0.03)
        sent = asyncio.create_task(totals(client, 2))
        await asyncio.sleep(0.01)

    for call in (gathering, sent):
        with pytest.raises(UsageError, match="closed"):
            await call
    with pytest.raises(UsageError, match="not open"):
        await totals(client, 1)


async def test_a_large_call_and_a_crowd_of_small_ones_share_the_contract() -> None:
    api = Api()
    async with opened(api, rate_limit=RateLimit(60, burst=1)) as client:
        large = asyncio.create_task(
            client.totals(range(10_000, 10_000 + 250 * 60), engagement_types=["favorites"], groupings=BY_TWEET)
        )
        await asyncio.sleep(5)
        began_at = asyncio.get_running_loop().time()
        await asyncio.gather(*(totals(client, n) for n in range(1, 100)))
        took_s = asyncio.get_running_loop().time() - began_at
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)

    assert took_s <= 3


@pytest.mark.parametrize("coalesce", [0, -1, True, "soon"])
async def test_a_time_of_nonsense_is_refused(coalesce: Any) -> None:
    with pytest.raises(UsageError, match="coalesce"):
        EngagementClient(OWNER, rate_limit=RateLimit(1), coalesce=coalesce)


async def test_each_caller_knows_when_it_was_answered() -> None:
    before = datetime.now(UTC)
    async with opened(Api()) as client:
        results = await asyncio.gather(*(totals(client, n, n + 1) for n in range(1, 300)))

    for result in results:
        assert set(result.observed_at) == set(result.tweet_ids)
        assert all(before <= at <= datetime.now(UTC) for at in result.observed_at.values())
        assert [row["observed_at"] for row in result.rows("by_tweet", observed_at=True)] == list(
            result.observed_at.values()
        )


class Once:
    """Has a size, and can be read once: as a progress bar around a generator."""

    def __init__(self, *ids: str) -> None:
        self._ids = iter(ids)

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        return self._ids


async def test_ids_are_read_once_also_when_the_time_of_the_call_is_over() -> None:
    given = ["3", "4"]
    async with opened(Api(latency_s=100)) as client:
        query: dict[str, Any] = {"engagement_types": ["favorites"], "groupings": BY_TWEET, "timeout": 5}
        once = client.totals(Once("1", "2"), **query)
        changed = asyncio.create_task(client.totals(given, **query))
        await asyncio.sleep(1)
        given.clear()
        results = await asyncio.gather(once, changed)

    assert [sorted(result.failed_tweet_ids) for result in results] == [["1", "2"], ["3", "4"]]


async def test_calls_that_share_requests_are_told_what_was_not_requested() -> None:
    async with opened(Api()) as client:
        result = await client.historical(
            ["1"],
            engagement_types=["favorites"],
            groupings=BY_TWEET,
            start=datetime.now(UTC) - timedelta(days=3),
            end=datetime.now(UTC) + timedelta(days=1),
        )

    assert "is in the future" in result.notes[0]


async def test_a_progress_bar_that_was_read_already_has_no_ids() -> None:
    async with opened(Api()) as client:
        result = await client.totals(Once(), engagement_types=["favorites"], groupings=BY_TWEET)

    assert result.tweet_ids == []


async def test_what_came_in_time_is_answered_also_of_a_call_that_is_in_two_requests() -> None:
    class HalfHangs(Api):
        async def __call__(self, exchange: Exchange) -> None:
            if b'"99"' in exchange.request:
                self.latency_s = 1e6
            await super().__call__(exchange)
            self.latency_s = 0.05

    api = HalfHangs()
    async with opened(api) as client:
        others = asyncio.create_task(totals(client, *range(1_000, 1_200), timeout=20))
        await asyncio.sleep(0)
        result = await totals(client, *range(1, 101), timeout=20)
        await others

    assert result.tweet_ids == [str(i) for i in range(1, 101)]
    assert 0 < result.outcomes["answered"] == 100 - len(result.failed_tweet_ids) < 100
    assert "99" in result.failed_tweet_ids


async def test_a_client_whose_closing_is_cancelled_twice_is_closed_all_the_same() -> None:
    async with RawServer(Api(latency_s=1e6)) as server:
        client = EngagementClient(OWNER, base_url=server.url, coalesce=0.02, rate_limit=RateLimit(300))

        async def use() -> None:
            async with client:
                await totals(client, 1, 2)

        task = asyncio.create_task(use())
        await asyncio.sleep(1)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)

        async with client:
            assert client.status().in_flight == 0
