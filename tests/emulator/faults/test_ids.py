"""Faults of Tweet IDs."""

from __future__ import annotations

import aiohttp
import pytest

from engagement_async.emulator import FaultKind
from tests.support.emulator_faults import meet, names_of
from tests.support.emulator_requests import BY_TWEET, IDS, make_emulator, request_body, send


@pytest.mark.parametrize("name", names_of(FaultKind.IDS))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name)


async def test_missing_ids_are_missing_from_sums_too() -> None:
    groupings = {**BY_TWEET, "sum": ["engagement.type"]}
    async with aiohttp.ClientSession() as session, make_emulator(faults={"missing-ids": 1}) as emulator:
        _, body, _ = await send(session, emulator, "totals", request_body(IDS, ["impressions"], groupings))
        expected = emulator.expected("totals", body["by_tweet"], ["impressions"], groupings)

    assert 0 < len(body["by_tweet"]) < len(IDS)
    assert int(body["sum"]["impressions"]) == expected["sum"]["impressions"]
