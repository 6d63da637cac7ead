"""Faults of time: they end with the client, and keep nobody waiting."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from engagement_async.emulator import FaultKind
from tests.support.emulator_faults import GOOD, meet, names_of
from tests.support.emulator_requests import make_emulator, send


@pytest.mark.parametrize("name", names_of(FaultKind.TIMING))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name)


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
        asking = asyncio.create_task(send(session, emulator, "totals", GOOD))
        while not any(entry.fault for entry in emulator.log.entries):
            await asyncio.sleep(0.001)
        asking.cancel()
        while not emulator.log.faults:
            await asyncio.sleep(0.001)

        assert asking.cancelled()
