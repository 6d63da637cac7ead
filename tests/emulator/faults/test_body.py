"""Faults of the body as bytes."""

from __future__ import annotations

import aiohttp
import pytest

from engagement_async.emulator import FaultKind, FaultSettings
from tests.support.emulator_faults import BROKEN, meet, names_of, read
from tests.support.emulator_requests import make_emulator


@pytest.mark.parametrize("name", names_of(FaultKind.BODY))
async def test_each_is_what_it_says(name: str) -> None:
    await meet(name)


@pytest.mark.parametrize("offset", range(0, 400, 7))
async def test_a_gzip_cut_anywhere_is_seen(offset: int) -> None:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        make_emulator(None, faults={"gzip-cut": 1}, fault_settings=FaultSettings(seed=offset)) as emulator,
    ):
        with pytest.raises(BROKEN):
            await read(session, emulator)
