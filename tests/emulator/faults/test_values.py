"""Faults of values."""

from __future__ import annotations

import aiohttp
import pytest

from engagement_async.emulator import FaultKind
from tests.support.emulator_faults import GOOD, meet, names_of
from tests.support.emulator_requests import IDS, make_emulator, send


@pytest.mark.parametrize("name", names_of(FaultKind.VALUES))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name, changes_data=name == "negative")


async def test_faults_of_data_wait_for_data() -> None:
    async with aiohttp.ClientSession() as session, make_emulator(faults={"null-leaf": 1}) as emulator:
        refused, _, _ = await send(session, emulator, "totals", {})
        _, body, _ = await send(session, emulator, "totals", GOOD)

        assert refused == 400
        assert None in body["by_tweet"][min(IDS)].values()
        assert emulator.log.faults == {"null-leaf": 1}
