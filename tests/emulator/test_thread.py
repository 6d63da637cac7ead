"""The emulator in a thread of its own, for code that is not async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from engagement_async.emulator import Emulator, EmulatorCredentials
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


def test_in_a_thread_for_code_that_is_not_async() -> None:
    before = threading.active_count()
    with make_emulator(credentials=EmulatorCredentials.new(1)) as emulator:
        status, body, _ = asyncio.run(send_once(emulator))
        assert emulator.log.requests == 1
        with pytest.raises(OSError, match="address already in use"), make_emulator(port=emulator.port):
            pass

    assert status == 200
    assert "by_tweet" in body
    assert threading.active_count() == before


async def send_once(emulator: Emulator) -> tuple[int, Any, dict[str, str]]:
    async with aiohttp.ClientSession() as session:
        return await send(session, emulator, "totals", GOOD)


def test_where_no_event_loop_can_be_made_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with pytest-socket, or with no file descriptor left."""

    def refuse() -> asyncio.AbstractEventLoop:
        raise PermissionError("no sockets here")

    monkeypatch.setattr(asyncio.events, "new_event_loop", refuse)
    with pytest.raises(PermissionError, match="no sockets here"), make_emulator():
        pass
