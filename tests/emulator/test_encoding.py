"""How an answer is encoded: gzip, decimal strings, integers on demand."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from engagement_async.emulator import Interpretation
from tests.support.emulator_requests import (
    BY_TWEET,
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


async def test_leaves_may_be_integers_now_and_then(session: aiohttp.ClientSession) -> None:
    async with make_emulator(interpretation=Interpretation(integers_every=3), unavailable_fraction=0) as emulator:
        _, body, _ = await send(session, emulator, "totals", GOOD)

    leaves = [leaf for metrics in body["by_tweet"].values() for leaf in metrics.values()]
    assert sum(isinstance(leaf, int) for leaf in leaves) == 6
    assert sum(isinstance(leaf, str) for leaf in leaves) == 14


async def test_the_answer_really_is_gzip(session: aiohttp.ClientSession) -> None:
    async with (
        make_emulator() as emulator,
        aiohttp.ClientSession(auto_decompress=False) as plain,
        plain.post(
            f"{emulator.base_url}/insights/engagement/totals",
            data=orjson.dumps(request_body(IDS, ["favorites"], BY_TWEET)),
            headers={"Authorization": f"Bearer {emulator.bearer_token}", "Content-Type": "application/json"},
        ) as response,
    ):
        data = await response.read()

    assert response.headers["Content-Encoding"] == "gzip"
    assert "by_tweet" in orjson.loads(gzip.decompress(data))
