"""The running emulator: over real sockets, with plain aiohttp and with curl."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from engagement_async.emulator import Emulator, EmulatorCredentials, Interpretation, Refusal, tweet_ids
from tests.support.emulator_requests import (
    BY_TWEET,
    HOURLY,
    IDS,
    NOW,
    make_emulator,
    request_body,
    send,
)

GOOD = request_body(IDS, ["favorites", "impressions"], BY_TWEET)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_expected_answer_of_many_requests_is_one(session: aiohttp.ClientSession) -> None:
    many = tweet_ids(60, newest_at=NOW)
    async with make_emulator(seed=3) as emulator:
        sums: dict[str, int] = {}
        for at in range(0, 60, 25):
            _, body, _ = await send(
                session,
                emulator,
                "28hr",
                request_body(many[at : at + 25], ["impressions", "favorites"], {"g": ["engagement.type"]}),
            )
            for metric, leaf in body["g"].items():
                sums[metric] = sums.get(metric, 0) + int(leaf)

        assert sums == emulator.expected("28hr", many, ["impressions", "favorites"], {"g": ["engagement.type"]})["g"]
        assert sums["impressions"] > 0


async def test_revoking_and_a_changed_world(session: aiohttp.ClientSession) -> None:
    async with make_emulator(unavailable_fraction=0) as emulator:
        emulator.world.forbidden[IDS[0]] = "7"
        others = await send(session, emulator, "totals", GOOD)
        emulator.set_interpretation(Interpretation(forbidden="authors"))
        author = await send(session, emulator, "totals", GOOD)
        with pytest.raises(Refusal):
            emulator.expected("totals", IDS, ["favorites"], BY_TWEET)
        emulator.revoke()
        revoked = await send(session, emulator, "totals", GOOD)

    assert (others[0], others[1]["errors"]) == (403, [f"Forbidden to access tweets: {IDS[0]}"])
    assert (author[0], author[1]["errors"]) == (403, [f"Forbidden to access tweets for author id 7: {IDS[0]}"])
    assert revoked[0] == 401


async def test_no_limit(session: aiohttp.ClientSession) -> None:
    async with make_emulator(requests_per_minute=None) as emulator:
        _, _, headers = await send(session, emulator, "totals", GOOD)

        assert not [name for name in headers if name.startswith("x-per-")]
        assert "ENGAGEMENT_REQUESTS_PER_MINUTE" not in emulator.environment


async def test_latency_passes_before_and_after_the_arrival(session: aiohttp.ClientSession) -> None:
    numbers: list[int] = []

    def latency(number: int) -> float:
        numbers.append(number)
        return 0.01

    async with make_emulator(latency_s=latency) as emulator:
        assert (await send(session, emulator, "totals", GOOD))[0] == 200
        assert (await send(session, emulator, "totals", GOOD))[0] == 200

    assert numbers == [1, 2]


async def test_days_pass_as_the_injected_clock_says(session: aiohttp.ClientSession) -> None:
    days = [datetime(2015, 9, 15, 21, tzinfo=UTC).timestamp(), datetime(2015, 9, 16, 5, tzinfo=UTC).timestamp()]
    async with make_emulator(now=lambda: days[0]) as emulator:
        _, first, _ = await send(session, emulator, "28hr", request_body(["1"], ["favorites"], HOURLY))
        days.pop(0)
        _, second, _ = await send(session, emulator, "28hr", request_body(["1"], ["favorites"], HOURLY))

    assert (first["start"], first["end"]) == ("2015-09-14T17:00:00Z", "2015-09-15T22:00:00Z")
    assert (second["start"], second["end"]) == ("2015-09-15T01:00:00Z", "2015-09-16T06:00:00Z")


async def test_a_taken_port_is_an_os_error() -> None:
    async with make_emulator() as first:
        with pytest.raises(OSError, match="address already in use"):
            async with make_emulator(port=first.port):
                pass


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost"])
async def test_another_address_of_this_machine(session: aiohttp.ClientSession, host: str) -> None:
    async with make_emulator(host=host) as emulator:
        assert emulator.base_url == f"http://{host}:{emulator.port}"
        assert (await send(session, emulator, "totals", GOOD))[0] == 200


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8080"),
        ({"host": "::"}, "http://[::1]:8080"),
        ({"host": "0.0.0.0", "public_host": "emulator"}, "http://emulator:8080"),
        (
            {"public_host": "emulator.example", "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
            "https://emulator.example:8080",
        ),
    ],
)
def test_the_address_that_clients_are_given(options: dict[str, Any], url: str) -> None:
    assert make_emulator(port=8080, **options).base_url == url


@pytest.mark.parametrize("rounds", range(6))
def test_a_connection_that_is_accepted_at_the_end_is_closed(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: unraisable.append(error.exc_value))

    async def connect_and_end() -> None:
        async with make_emulator() as emulator:
            with socket.socket() as connection:
                connection.setblocking(False)
                with suppress(BlockingIOError):
                    connection.connect(("127.0.0.1", emulator.port))
                for _ in range(rounds):
                    await asyncio.sleep(0)

    asyncio.run(connect_and_end())
    gc.collect()

    assert unraisable == []


async def test_over_ipv6(session: aiohttp.ClientSession) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with make_emulator(host="::1") as emulator:
        assert emulator.base_url == f"http://[::1]:{emulator.port}"
        assert (await send(session, emulator, "totals", GOOD))[0] == 200


async def test_the_environment_is_complete() -> None:
    async with make_emulator(77, credentials=EmulatorCredentials.new(1)) as emulator:
        assert emulator.environment == {
            "ENGAGEMENT_BASE_URL": f"http://127.0.0.1:{emulator.port}",
            "ENGAGEMENT_CONSUMER_KEY": emulator.consumer_key,
            "ENGAGEMENT_CONSUMER_SECRET": emulator.consumer_secret,
            "ENGAGEMENT_ACCESS_TOKEN": emulator.access_token,
            "ENGAGEMENT_ACCESS_TOKEN_SECRET": emulator.access_token_secret,
            "ENGAGEMENT_BEARER_TOKEN": emulator.bearer_token,
            "ENGAGEMENT_REQUESTS_PER_MINUTE": "77",
        }


async def test_a_cancellation_of_its_end_does_not_leave_it_listening() -> None:
    async def use() -> None:
        async with Emulator(60) as running:
            addresses.append((running.host, running.port))
            await asyncio.sleep(60)

    addresses: list[tuple[str, int]] = []
    using = asyncio.create_task(use())
    while not addresses:
        await asyncio.sleep(0.01)
    using.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    using.cancel()
    await asyncio.wait([using])

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*addresses[0])
