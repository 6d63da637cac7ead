"""Faults: every one of the table happens over a real socket, once, and is what its line says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.emulator import FAULTS, Emulator, FaultSettings, Reaction, random_faults
from engagement_async.emulator.faults import FaultPlan, parse_fault
from tests.support.emulator_requests import (
    BY_TWEET,
    IDS,
    BrokenError,
    make_emulator,
    read_strictly,
    request_body,
    send,
    sign,
)

GOOD = request_body(IDS, ["favorites", "impressions"], BY_TWEET)
QUICK = FaultSettings(hang_s=0.4, drip_s=0.02, slow_s=0.01, bomb_bytes=4 << 20)
BROKEN = (aiohttp.ClientError, BrokenError, ConnectionError, TimeoutError)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(sock_read=0.2, total=1)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        yield session


async def read(session: aiohttp.ClientSession, emulator: Emulator) -> Any:
    """Return what a reader that trusts nothing gets, or raise an exception of `BROKEN`."""
    url = f"{emulator.base_url}/insights/engagement/totals"
    headers = {"Authorization": sign(url, emulator.credentials), "Content-Type": "application/json"}
    async with session.post(url, data=orjson.dumps(GOOD), headers=headers, allow_redirects=False) as response:
        body = await read_strictly(response)
        if not isinstance(body, dict) or "errors" in body:
            raise BrokenError("no data")
        return body


def counts(body: Any) -> dict[str, dict[str, int]]:
    """Return the grouping as integers: each Tweet and metric exactly once. Raise `BrokenError` when one is no number."""
    grouping = body.get("by_tweet")
    if not isinstance(grouping, dict) or not set(IDS) <= set(grouping):
        raise BrokenError("Tweets are missing")
    found: dict[str, dict[str, int]] = {}
    for tweet_id in IDS:
        if not all(isinstance(leaf, str | int) for leaf in grouping[tweet_id].values()):
            raise BrokenError("no number")
        try:
            found[tweet_id] = {metric: int(leaf) for metric, leaf in grouping[tweet_id].items()}
        except ValueError as error:
            raise BrokenError("no number") from error
    return found


def emulator_with(**options: Any) -> Emulator:
    return make_emulator(None, unavailable_fraction=0, fault_settings=QUICK, **options)


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS.values() if fault.expected is Reaction.ACCEPT])
async def test_a_harmless_fault_leaves_a_true_answer(session: aiohttp.ClientSession, name: str) -> None:
    async with emulator_with(faults={name: 2}) as emulator:
        expected = emulator.expected("totals", IDS, ["favorites", "impressions"], BY_TWEET)["by_tweet"]
        answers = [counts(await read(session, emulator)) for _ in range(3)]

        assert emulator.log.faults == {name: 1}
        assert [entry.delivered for entry in emulator.log] == [True, True, True]
    if name == "negative":
        assert answers[1] != expected
        answers.pop(1)
    assert all(answer == expected for answer in answers)


@pytest.mark.parametrize("name", [fault.name for fault in FAULTS.values() if fault.expected is not Reaction.ACCEPT])
async def test_a_harmful_fault_is_seen_and_the_next_answer_is_true(session: aiohttp.ClientSession, name: str) -> None:
    async with emulator_with(faults={name: 2}) as emulator:
        expected = emulator.expected("totals", IDS, ["favorites", "impressions"], BY_TWEET)["by_tweet"]
        assert counts(await read(session, emulator)) == expected
        with pytest.raises(BROKEN):
            counts(await read(session, emulator))
        assert counts(await read(session, emulator)) == expected

        assert emulator.log.faults == {name: 1}
        assert [entry.fault for entry in emulator.log] == [None, name, None]
        assert [entry.delivered for entry in emulator.log] == [True, False, True]


async def test_missing_ids_are_missing_from_sums_too() -> None:
    groupings = {**BY_TWEET, "sum": ["engagement.type"]}
    async with aiohttp.ClientSession() as session, make_emulator(faults={"missing-ids": 1}) as emulator:
        _, body, _ = await send(session, emulator, "totals", request_body(IDS, ["impressions"], groupings))
        expected = emulator.expected("totals", body["by_tweet"], ["impressions"], groupings)

    assert 0 < len(body["by_tweet"]) < len(IDS)
    assert int(body["sum"]["impressions"]) == expected["sum"]["impressions"]


@pytest.mark.parametrize("offset", range(0, 400, 7))
async def test_a_gzip_cut_anywhere_is_seen(offset: int) -> None:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        make_emulator(None, faults={"gzip-cut": 1}, fault_settings=FaultSettings(seed=offset)) as emulator,
    ):
        with pytest.raises(BROKEN):
            await read(session, emulator)


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("429-seconds", {"retry-after": "1"}),
        ("429-garbage", {"retry-after": "soon", "x-per-minute-reset": "soon", "x-per-minute-remaining": "soon"}),
        ("429-nan", {"retry-after": "nan", "x-per-minute-reset": "nan", "x-per-minute-remaining": "nan"}),
        ("429-negative", {"retry-after": "-60", "x-per-minute-reset": "-60", "x-per-minute-remaining": "-60"}),
        ("429-1e9", {"retry-after": "1000000000", "x-per-minute-reset": "1000000000"}),
    ],
)
async def test_headers_of_a_429(name: str, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={name: 1}) as emulator:
        status, body, received = await send(session, emulator, "totals", GOOD)

    assert status == 429
    assert "rate limit" in body["errors"][0]
    assert headers.items() <= received.items()


async def test_a_429_that_says_nothing() -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={"429-bare": 1}) as emulator:
        status, _, received = await send(session, emulator, "totals", GOOD)

    assert status == 429
    assert not [name for name in received if name.startswith(("x-per", "retry"))]


async def test_a_429_keeps_the_date_of_a_skewed_clock() -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={"429-bare": 1}, clock_skew_s=9e4) as emulator:
        _, _, received = await send(session, emulator, "totals", GOOD, bearer=True)

    assert parsedate_to_datetime(received["date"]).timestamp() > time.time() + 8e4


@pytest.mark.parametrize("name", ["401", "404"])
async def test_an_injected_refusal_is_like_the_honest_one(name: str) -> None:
    async with aiohttp.ClientSession() as session, make_emulator(clock_skew_s=100) as emulator:
        place = "totals" if name == "401" else "nowhere"
        honest = await send(session, emulator, place, GOOD, headers={"Authorization": "Bearer x"})
        emulator.set_faults({name: 1})
        injected = await send(session, emulator, "totals", GOOD, bearer=True)

    assert injected[:2] == honest[:2]
    assert injected[2].keys() == honest[2].keys()
    assert not [header for header in injected[2] if header.startswith("x-per-")]


async def test_a_redirect_points_to_where_nothing_is() -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={"redirect": 1}) as emulator:
        status, _, received = await send(session, emulator, "totals", GOOD)

        assert status == 302
        assert received["location"] == f"{emulator.base_url}/elsewhere"


async def test_faults_of_data_wait_for_data() -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={"null-leaf": 1}) as emulator:
        refused, _, _ = await send(session, emulator, "totals", {})
        _, body, _ = await send(session, emulator, "totals", GOOD)

        assert refused == 400
        assert None in body["by_tweet"][min(IDS)].values()
        assert emulator.log.faults == {"null-leaf": 1}


async def test_faults_can_be_exchanged_and_ended() -> None:
    async with aiohttp.ClientSession() as session, make_emulator() as emulator:
        statuses = []
        for faults in (None, {"503": 1}, None):
            emulator.set_faults(faults)
            statuses.append((await send(session, emulator, "totals", GOOD))[0])

    assert statuses == [200, 503, 200]


async def test_stopping_does_not_wait_for_what_hangs() -> None:
    async with aiohttp.ClientSession() as session:
        async with make_emulator(faults={"hang-before-headers": 1}) as emulator:
            asking = asyncio.create_task(send(session, emulator, "totals", GOOD))
            while not emulator.log.requests:
                await asyncio.sleep(0.001)
        with pytest.raises(aiohttp.ClientError):
            await asking

    assert emulator.log.faults == {"hang-before-headers": 1}


@pytest.mark.parametrize("name", ["hang-before-headers", "hang-mid-body", "endless-chunks", "drip"])
async def test_a_client_that_leaves_frees_the_server(name: str) -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={name: 1}) as emulator:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await send(session, emulator, "totals", GOOD)
        async with asyncio.timeout(5):
            while not emulator.log.faults:
                await asyncio.sleep(0.001)


# --- the plan ---


@given(st.dictionaries(st.sampled_from(["500", "502", "503", "504", "408"]), st.integers(1, 9), max_size=4))
def test_every_fault_comes_as_often_as_ordered(faults: dict[str, int]) -> None:
    plan = FaultPlan(faults)
    met: dict[str, int] = {}
    for _ in range(2520):
        if (fault := plan.next(reused=False, data=True)) is not None:
            met[fault.name] = met.get(fault.name, 0) + 1

    if sum(1 / every for every in faults.values()) <= 1:
        assert met.keys() == faults.keys()
        # One that was crowded out at the very end may be due still.
        assert all(2520 // every - met[name] in (0, 1) for name, every in faults.items())
    else:
        assert sum(met.values()) > 2500


def test_one_fault_comes_exactly_every_so_often() -> None:
    plan = FaultPlan({"503": 3})

    assert [plan.next(reused=False, data=False) is not None for _ in range(7)] == [False, False, True] * 2 + [False]


def test_a_schedule_may_be_a_function() -> None:
    plan = FaultPlan(lambda number: "503" if number == 2 else "close-reused" if number == 3 else None)

    assert [fault and fault.name for fault in (plan.next(reused=False, data=True) for _ in range(3))] == [
        None,
        "503",
        None,
    ]


@given(st.integers(0, 2**64), st.floats(0, 1))
def test_random_faults_are_the_same_for_the_same_seed(seed: int, rate: float) -> None:
    schedule = [random_faults(rate, seed)(number) for number in range(300)]

    assert schedule == [random_faults(rate, seed)(number) for number in range(300)]
    assert abs(sum(name is not None for name in schedule) / 300 - rate) < 0.2
    assert all(FAULTS[name].expected in (Reaction.RETRY, Reaction.ACCEPT) for name in schedule if name is not None)


@pytest.mark.parametrize("text", ["503", "503:", "503:0", "503:x", ":3", "nothing:3", "503:-1"])
def test_a_malformed_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"NAME:EVERY|no fault is called"):
        parse_fault(text)


def test_an_unknown_fault_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"no fault is called 'gzip'.*gzip-cut"):
        Emulator(faults={"gzip": 3})
    with pytest.raises(ValueError, match="1 or more"):
        Emulator(faults={"503": 0})
    assert parse_fault("gzip-cut:12") == ("gzip-cut", 12)
