"""Cases in which faults meet: against the model API, that knows the truth of every Tweet, and is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from engagement_async import (
    APIError,
    EngagementResult,
    FailureKind,
    Merger,
    RateLimit,
    RateLimitedError,
)
from tests.support.cases import Bench, Case
from tests.support.model_server import (
    ModelServer,
    Omission,
    Rule,
    Status,
    World,
    after_requests,
    during,
    flaky,
    poison,
    refuses,
)
from tests.support.oracle import QUERY, TOTALS_BY_TWEET, check, check_contract, client_of, kinds, make_ids, now
from tests.support.virtual_loop import VirtualLoop

__all__ = ["COMBINED"]

COMBINED: list[Case] = []
LIMIT = RateLimit(300)


def combined(name: str, what: str, *, share: float = 1.0) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    def register(run: Callable[[Bench], Awaitable[None]]) -> None:
        COMBINED.append(Case("Combined", name, what, run, share=share))

    return register


@asynccontextmanager
async def served(bench: Bench, world: World) -> AsyncIterator[ModelServer]:
    world.seed = bench.seed
    async with ModelServer(world) as server:
        yield server
    bench.tries += server.requests
    assert not server.breaches, f"rules broken: {server.breaches[:3]}"
    check_contract(server, LIMIT)


async def fetched(bench: Bench, server: ModelServer, ids: list[str]) -> EngagementResult:
    """Ask for totals; values, sums and every failure are held against the server."""
    bench.ids_in += len(ids)
    async with client_of(server, rate_limit=LIMIT, concurrency=8) as client:
        result = await client.totals(ids, **TOTALS_BY_TWEET)
    judged(bench, server, result, ids)
    return result


def judged(bench: Bench, server: ModelServer, result: EngagementResult, ids: list[str]) -> None:
    check(server, result, ids)
    bench.outcomes(result, ids)


def batches(ids: list[str]) -> int:
    return -(-len(ids) // 250)


@combined("poison", "the API fails at one Tweet, whatever request it is in")
async def _poison(bench: Bench) -> None:
    ids = make_ids(bench.size)
    async with served(bench, World([poison([ids[300]])])) as server:
        result = await fetched(bench, server, ids)
    assert kinds(result.failed_tweet_ids) == {ids[300]: FailureKind.SERVER}
    more = server.requests - batches(ids)
    assert more <= 40
    bench.note = f"found by {more} more requests"


@combined("poison-everywhere", "the API fails at one Tweet of each batch")
async def _poison_everywhere(bench: Bench) -> None:
    ids = make_ids(bench.size)
    bad = ids[10::250]
    async with served(bench, World([poison(bad)])) as server:
        result = await fetched(bench, server, ids)
    assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
    assert server.requests <= batches(ids) + 40 * len(bad)
    bench.note = f"all {len(bad)} found, and no other failed"


@combined("poison-in-outage", "the same, and the API is gone for five minutes while they are looked for")
async def _poison_in_outage(bench: Bench) -> None:
    ids = make_ids(bench.size)
    bad = ids[10::250]
    async with served(bench, World([after_requests(12, 300), poison(bad)])) as server:
        result = await fetched(bench, server, ids)
    assert kinds(result.failed_tweet_ids) == dict.fromkeys(bad, FailureKind.SERVER)
    bench.note = f"all {len(bad)} found, and no other failed"


@combined("large-requests", "the API times out for requests of over 100 Tweets", share=0.2)
async def _large_requests(bench: Bench) -> None:
    ids = make_ids(bench.size)
    rule = Rule("too large", lambda asked: Status(504) if len(asked.tweet_ids) > 100 else None)
    async with served(bench, World([rule])) as server:
        result = await fetched(bench, server, ids)
    assert not result.failed_tweet_ids


@combined("long-outage", "the API is gone for longer than it is waited for, and the next call comes when it is back")
async def _long_outage(bench: Bench) -> None:
    ids = make_ids(bench.size)
    async with served(bench, World([during(0, 1_200)])) as server, client_of(server, rate_limit=LIMIT) as client:
        bench.ids_in += 2 * len(ids)
        result = await client.totals(ids, **TOTALS_BY_TWEET)
        judged(bench, server, result, ids)
        assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
        await asyncio.sleep(1_200 - now())
        result = await client.totals(ids, **TOTALS_BY_TWEET)
        judged(bench, server, result, ids)
        assert not result.failed_tweet_ids
    bench.note = "failed as an outage, then all answered"


@combined("dead-endpoint", "/28hr is gone for good, and /totals is asked beside it")
async def _dead_endpoint(bench: Bench) -> None:
    ids, hourly = make_ids(bench.size), make_ids(500, call=1)
    async with served(bench, World([during(0, 10**6, endpoint="28hr")])) as server:
        bench.ids_in += len(ids) + len(hourly)
        async with client_of(server, rate_limit=LIMIT, concurrency=8) as client:
            totals, dead = await asyncio.gather(
                client.totals(ids, **TOTALS_BY_TWEET), client.last_28_hours(hourly, **TOTALS_BY_TWEET)
            )
        judged(bench, server, totals, ids)
        judged(bench, server, dead, hourly)
    assert not totals.failed_tweet_ids
    assert set(kinds(dead.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
    assert server.causes("totals")["answer"] == batches(ids)
    bench.note = f"{server.causes('28hr')['outage']} requests for the dead one, none too many for the other"


async def stops_in_the_middle(bench: Bench, words: Status, kind: type[APIError], most: int) -> None:
    ids = make_ids(bench.size)
    merger = Merger(QUERY)

    async def stream(server: ModelServer) -> None:
        async with client_of(server, rate_limit=LIMIT, concurrency=2) as client, client.stream(QUERY, ids) as answers:
            async for answer in answers:
                merger.add(answer)

    async with served(bench, World([after_requests(2, 10**7, words, cause="for ever")])) as server:
        bench.ids_in += len(ids)
        await bench.stops(kind, stream(server))
    result = merger.result()
    assert result.outcomes["answered"] == len(result.tweet_ids) == 250 * server.causes()["answer"] > 0
    assert server.causes()["for ever"] <= most


@combined("429-for-ever", "some requests are answered, then status 429 to all, as for a monthly cap")
async def _429_for_ever(bench: Bench) -> None:
    words = Status(429, content={"title": "UsageCapExceeded", "detail": "Usage cap exceeded: Monthly product cap"})
    await stops_in_the_middle(bench, words, RateLimitedError, 60)


@combined("403-page", "some requests are answered, then status 403 and a page of HTML to all")
async def _403_page(bench: Bench) -> None:
    ids = make_ids(bench.size)
    async with served(bench, World([after_requests(2, 10**7, Status.html(403), cause="for ever")])) as server:
        bench.ids_in += len(ids)
        async with client_of(server, rate_limit=LIMIT, concurrency=2) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        judged(bench, server, result, ids)
    assert set(kinds(result.failed_tweet_ids).values()) == {FailureKind.OUTAGE}
    assert {len(r.asked.tweet_ids) for r in server.records} <= {250, 1, len(ids) % 250 or 250}
    assert server.causes()["for ever"] <= 120
    bench.note = "waited for as an outage; no batch is split"


@combined(
    "slow-consumer",
    "an answer is taken every 1,000 s, a third of all requests fails, and the API is gone at times",
)
async def _slow_consumer(bench: Bench) -> None:
    ids = make_ids(min(bench.size, 5_000))
    merger = Merger(QUERY)
    outages = [during(at, at + 600) for at in range(100, 100_000, 1_700)]
    async with served(bench, World([*outages, flaky(1 / 3, [Status(503)], bench.seed)])) as server:
        bench.ids_in += len(ids)
        async with client_of(server, rate_limit=LIMIT, concurrency=2) as client, client.stream(QUERY, ids) as answers:
            async for answer in answers:
                merger.add(answer)
                await asyncio.sleep(1_000)
        judged(bench, server, merger.result(), ids)
    assert not merger.result().failed_tweet_ids


@combined("suspended", "the process sleeps for hours in an outage, which ends a little after it woke up")
async def _suspended(bench: Bench) -> None:
    ids = make_ids(bench.size)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.call_later(30, loop.suspend, 10_000.0)
    async with served(bench, World([during(0, 10_060)])) as server:
        result = await fetched(bench, server, ids)
    assert not result.failed_tweet_ids


@combined(
    "left-out-and-summed",
    "Tweets are left out of a grouping, once or for good, and are in the sums all the same",
)
async def _left_out(bench: Bench) -> None:
    ids = make_ids(bench.size)
    once, never = set(ids[3::100]), set(ids[50::400])
    omissions = [Omission(once, 1, of={"tweets"}), Omission(never, of={"tweets"})]
    async with served(bench, World(omissions=omissions)) as server:
        result = await fetched(bench, server, ids)
    assert set(result.failed_tweet_ids) == never
    bench.note = f"{len(never)} IDs failed as missing, and are in no sum"


@combined("refused-front", "every Tweet of the first batch is refused with a 400 that names nobody")
async def _refused_front(bench: Bench) -> None:
    ids = make_ids(bench.size)
    async with served(bench, World([refuses(ids[:250], has_request_id=True)])) as server:
        bench.ids_in += len(ids)
        async with client_of(server, rate_limit=LIMIT, concurrency=1) as client:
            result = await client.totals(ids, **TOTALS_BY_TWEET)
        judged(bench, server, result, ids)
    assert list(result.failed_tweet_ids) == ids[:250]
    bench.note = "failed, with the reason; the others are answered"
