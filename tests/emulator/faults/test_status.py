"""Faults of the status and the headers beside it."""

from __future__ import annotations

import aiohttp
import pytest

from engagement_async.emulator import FaultKind
from tests.support.emulator_faults import GOOD, meet, names_of
from tests.support.emulator_requests import make_emulator, send


@pytest.mark.parametrize("name", names_of(FaultKind.STATUS))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name)


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
