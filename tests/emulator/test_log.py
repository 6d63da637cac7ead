"""What the log holds of each request, and that it stays small."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.emulator_requests import (
    BY_TWEET,
    HOURLY,
    IDS,
    make_emulator,
    request_body,
    send,
)

GOOD = request_body(IDS, ["favorites", "impressions"], BY_TWEET)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_log_knows_each_request(session: aiohttp.ClientSession) -> None:
    async with make_emulator(count_ids=True, unavailable_fraction=0) as emulator:
        bounds = {"start": "2026-11-01", "end": "2026-11-02T00:30:00Z"}
        await send(
            session, emulator, "historical", request_body([IDS[0], IDS[0], IDS[1]], ["favorites"], HOURLY, **bounds)
        )
        (entry,) = emulator.log

    assert (entry.number, entry.path, entry.endpoint) == (1, "/insights/engagement/historical", "historical")
    assert entry.tweet_ids == (IDS[0], IDS[0], IDS[1])
    assert entry.engagement_types == ("favorites",)
    assert entry.groupings == (("hourly", tuple(HOURLY["hourly"])),)
    assert entry.start is not None
    assert entry.end == entry.start + 25
    assert entry.nonce
    assert (entry.status, entry.fault, entry.delivered) == (200, None, True)
    assert (emulator.log.ids_received, emulator.log.duplicates) == (3, 1)
    assert emulator.log.answered == {IDS[0]: 2, IDS[1]: 1}


async def test_the_log_stays_small(session: aiohttp.ClientSession) -> None:
    async with make_emulator(log_size=2) as emulator:
        for _ in range(5):
            await send(session, emulator, "totals", GOOD)

        assert [entry.number for entry in emulator.log] == [4, 5]
        assert (len(emulator.log), emulator.log.statuses[200], emulator.peak(), emulator.peak(60)) == (5, 5, 5, 2)
