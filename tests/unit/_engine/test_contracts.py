"""One contract is one number, whichever clients, loops and threads of a process spend it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from yarl import URL

from engagement_async import (
    BearerCredentials,
    EngagementClient,
    EngagementResult,
    LocalScheduler,
    OAuth1Credentials,
    RateLimit,
    Timeouts,
)
from engagement_async._engine import contracts
from engagement_async._engine.contracts import application_of, scheduler_for
from engagement_async._engine.transport import Response
from engagement_async.credential_store import as_store
from tests.support.raw_http import Exchange, RawServer, zipped
from tests.support.virtual_loop import run_virtual
from tests.unit._core.test_rate_limit import peak

HOST = URL("https://data-api.example")
OWNER = OAuth1Credentials("consumer", "a", "b", "c")
OTHER_OWNER = OAuth1Credentials("consumer", "a", "d", "e")
OTHER_APP = OAuth1Credentials("another", "a", "b", "c")


class CountingServer:
    """Answers well, and says how much of a sliding minute is left."""

    def __init__(self, per_minute: int | None = None, *, slow: Callable[[Exchange], float] = lambda _: 0.0) -> None:
        self.per_minute = per_minute
        self.slow = slow
        self.arrived_at: list[float] = []

    async def __call__(self, exchange: Exchange) -> None:
        now = asyncio.get_running_loop().time()
        self.arrived_at.append(now)
        headers: dict[str, Any] = {}
        if self.per_minute is not None:
            used = sum(at > now - 60 for at in self.arrived_at)
            headers = {
                "x_per_minute_limit": self.per_minute,
                "x_per_minute_remaining": max(0, self.per_minute - used),
            }
        ids = json.loads(exchange.request.partition(b"\r\n\r\n")[2])["tweet_ids"]
        reply = zipped(json.dumps({"by_tweet": {i: {"favorites": "1"} for i in ids}}).encode(), **headers)
        await exchange.send(reply[:-5])
        await asyncio.sleep(self.slow(exchange))
        await exchange.send(reply[-5:])


async def totals(client: EngagementClient, requests: int) -> EngagementResult:
    ids = [str(10**18 + n) for n in range(250 * requests)]
    return await client.totals(
        ids, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
    )


@pytest.mark.virtual_time
async def test_a_client_opened_after_another_one_finds_what_that_one_spent() -> None:
    server = CountingServer()

    async with RawServer(server) as raw:
        for credentials in (OWNER, OTHER_OWNER, OWNER):  # one application, whoever owns the Tweets
            async with EngagementClient(
                credentials, rate_limit=RateLimit(40, period=5, burst=40), base_url=raw.url
            ) as client:
                await totals(client, 30)

    assert len(server.arrived_at) == 90
    assert peak(server.arrived_at, 5.0) == 40


def test_other_hosts_applications_and_limits_are_other_contracts() -> None:
    async def main() -> None:
        limits = (RateLimit(300),)
        found = [
            scheduler_for(limits, HOST, application_of(OWNER)),
            scheduler_for(limits, URL("https://data-api.other"), application_of(OWNER)),
            scheduler_for(limits, HOST, application_of(OTHER_APP)),
            scheduler_for(limits, HOST, application_of(BearerCredentials("consumer-token"))),
            scheduler_for((RateLimit(300), RateLimit(20, period=1)), HOST, application_of(OWNER)),
        ]
        assert len({id(scheduler) for scheduler in found}) == len(found)
        assert scheduler_for(limits, HOST / "path", application_of(OTHER_OWNER)) is found[0]

    asyncio.run(main())


def test_a_store_is_of_the_application_of_its_first_credentials_and_a_function_of_one_of_its_own() -> None:
    def look_up(owner: str) -> OAuth1Credentials | None:
        return {"acme": OWNER}.get(owner)

    class LookUp:
        __hash__ = None  # type: ignore[assignment] # as that of a dataclass

        def __eq__(self, other: object) -> bool:
            return self is other

        def __call__(self, owner: str) -> OAuth1Credentials | None:
            return look_up(owner)

    unhashable = LookUp()

    def of(credentials: Any) -> Any:
        store = as_store(credentials)
        assert store is not None
        return application_of(store)

    assert of({"acme": OWNER}) == of({"globex": OTHER_OWNER, "acme": OTHER_APP}) == application_of(OWNER)
    assert of({"acme": OTHER_APP}) != of({"acme": OWNER})
    assert of({}) != of({"acme": OWNER})
    assert len({of(look_up), of(look_up)}) == 1
    assert of(look_up) != of(lambda owner: look_up(owner))
    assert len({of(unhashable), of(unhashable)}) == 1


def test_loops_of_several_threads_share_a_contract() -> None:
    limit = RateLimit(20, period=0.5, burst=20)
    sent: list[float] = []

    def work() -> None:
        async def main() -> None:
            scheduler = scheduler_for((limit,), HOST, application_of(OWNER))
            lane = scheduler.lane()
            for _ in range(15):
                token = await scheduler.acquire(lane)
                sent.append(time.monotonic())
                scheduler.settle(token)

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sent) == 60
    assert peak(sent, limit.period) <= limit.requests


def test_what_a_closed_loop_had_in_flight_is_not_out_for_ever() -> None:
    limit = RateLimit(2, period=0.1)
    loop = asyncio.new_event_loop()

    async def leave() -> None:
        scheduler = scheduler_for((limit,), HOST, application_of(OWNER))
        await scheduler.acquire(scheduler.lane())

    async def find() -> int:
        return scheduler_for((limit,), HOST, application_of(OWNER)).available(limit)

    loop.run_until_complete(leave())
    loop.close()
    assert asyncio.run(find()) == 1  # for as long as it may arrive


def test_contracts_that_nobody_spends_are_forgotten() -> None:
    async def main(host: URL) -> None:
        scheduler = scheduler_for((RateLimit(10, period=0.001),), host, OWNER)
        scheduler.settle(await scheduler.acquire(scheduler.lane()))
        await asyncio.sleep(0.1)

    for number in range(5):
        asyncio.run(main(URL(f"https://host-{number}.example")))
    assert len(contracts._contracts) <= 1


class StuckNetwork:
    """What is sent in the first second arrives 250 s later, however impatient its sender is."""

    def __init__(self) -> None:
        self.arrived_at: list[float] = []

    async def post(
        self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: Callable[..., None]
    ) -> Response:
        loop = asyncio.get_running_loop()
        if loop.time() < 1:
            loop.call_later(250 - loop.time(), lambda: self.arrived_at.append(loop.time()))
            await asyncio.sleep(1_000)
        self.arrived_at.append(loop.time())
        await asyncio.sleep(0.1)
        on_headers(200, {})
        return Response(
            200, {}, orjson.dumps({"by_tweet": {i: {"favorites": "1"} for i in json.loads(body)["tweet_ids"]}})
        )


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.virtual_time
async def test_an_aborted_request_counts_for_as_long_as_its_client_s_timeouts_allow(is_shared: bool) -> None:
    network = StuckNetwork()
    limit = RateLimit(10)

    contract: dict[str, Any] = {"scheduler": LocalScheduler(limit)} if is_shared else {"rate_limit": limit}
    timeouts = Timeouts(total_s=300, read_s=300)
    async with EngagementClient(OWNER, timeouts=timeouts, base_url=str(HOST), **contract) as client:
        client._opened._transport = network
        impatient = [asyncio.create_task(totals(client, 1)) for _ in range(2)]
        await asyncio.sleep(1.5)
        for task in impatient:
            task.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)
        await asyncio.sleep(228)
        while asyncio.get_running_loop().time() < 330:
            await totals(client, 1)

    assert peak(network.arrived_at, 60.0) <= 10


@pytest.mark.virtual_time
async def test_a_slow_body_is_no_sign_of_another_consumer(caplog: pytest.LogCaptureFixture) -> None:
    """The server's word is as old as the headers."""
    server = CountingServer(60, slow=lambda exchange: 55.0 if exchange.number == 60 else 0.0)

    async with (
        RawServer(server) as raw,
        EngagementClient(OWNER, rate_limit=RateLimit(60), base_url=raw.url, concurrency=4) as client,
    ):
        await totals(client, 60)
        await asyncio.sleep(1)
        began_at = asyncio.get_running_loop().time()
        await totals(client, 5)
        took_s = asyncio.get_running_loop().time() - began_at

    assert took_s < 6
    assert "somebody else" not in caplog.text


@pytest.mark.virtual_time
async def test_a_word_by_the_minute_does_not_stop_a_contract_by_the_hour() -> None:
    server = CountingServer(30)

    async with (
        RawServer(server) as raw,
        EngagementClient(OWNER, rate_limit=RateLimit(1_000, period=3_600), base_url=raw.url) as client,
    ):
        await totals(client, 200)

    assert asyncio.get_running_loop().time() <= 400


@pytest.mark.virtual_time
async def test_another_consumer_that_costs_nothing_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    """Two commands in a row: nobody has to wait."""
    server = CountingServer(60)
    caplog.set_level(logging.WARNING)

    async with RawServer(server) as raw:
        server.arrived_at += [asyncio.get_running_loop().time()] * 20
        async with EngagementClient(OWNER, rate_limit=RateLimit(60), base_url=raw.url) as client:
            await totals(client, 5)

    assert caplog.text == ""


@pytest.mark.virtual_time
async def test_another_consumer_that_costs_is_spoken_of_once(caplog: pytest.LogCaptureFixture) -> None:
    server = CountingServer(60)
    caplog.set_level(logging.WARNING)

    loop = asyncio.get_running_loop()
    async with RawServer(server) as raw:
        for minute in range(5):
            loop.call_later(60.0 * minute, lambda: server.arrived_at.extend([loop.time()] * 40))
        await asyncio.sleep(0.1)
        async with EngagementClient(OWNER, rate_limit=RateLimit(60), base_url=raw.url) as client:
            await totals(client, 90)

    assert caplog.text.count("somebody else spends this contract too") == 1


@pytest.mark.virtual_time
async def test_twenty_calls_on_an_idle_contract_go_at_once() -> None:
    server = CountingServer()

    async with (
        RawServer(server) as raw,
        EngagementClient(OWNER, rate_limit=RateLimit(300), base_url=raw.url) as client,
    ):
        await asyncio.gather(*(totals(client, 1) for _ in range(20)))

    assert asyncio.get_running_loop().time() == 0.0


def test_loops_that_were_closed_are_forgotten() -> None:
    async def main() -> None:
        scheduler_for((RateLimit(1),), HOST, application_of(OWNER))

    for _ in range(3):
        run_virtual(main())
    asyncio.run(main())

    assert len(contracts._contracts) == 1
