"""Faults of the rate limit: refusals with every kind of header."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from engagement_async.emulator import FaultKind
from tests.support.emulator_faults import GOOD, meet, names_of
from tests.support.emulator_requests import make_emulator, send


@pytest.mark.parametrize("name", names_of(FaultKind.RATE))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name)


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
