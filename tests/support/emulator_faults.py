"""How the tests of faults meet them: one emulator whose second answer goes wrong, and a reader that trusts nothing."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from engagement_async.emulator import FAULTS, Emulator, FaultKind, FaultSettings, Reaction
from tests.support.emulator_requests import BY_TWEET, IDS, BrokenError, make_emulator, read_strictly, request_body, sign

GOOD = request_body(IDS, ["favorites", "impressions"], BY_TWEET)
QUICK = FaultSettings(hang_s=0.4, drip_s=0.02, slow_s=0.01, bomb_bytes=4 << 20)
BROKEN = (aiohttp.ClientError, BrokenError, ConnectionError, TimeoutError)


def names_of(kind: FaultKind) -> list[str]:
    """Return the faults of one kind."""
    return [fault.name for fault in FAULTS.values() if fault.kind is kind]


def emulator_with(**options: Any) -> Emulator:
    """Return an emulator without a limit and without unavailable Tweets, whose faults are quick."""
    return make_emulator(None, unavailable_fraction=0, fault_settings=QUICK, **options)


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
    numbers: dict[str, dict[str, int]] = {}
    for tweet_id in IDS:
        if not all(isinstance(leaf, str | int) for leaf in grouping[tweet_id].values()):
            raise BrokenError("no number")
        try:
            numbers[tweet_id] = {metric: int(leaf) for metric, leaf in grouping[tweet_id].items()}
        except ValueError as error:
            raise BrokenError("no number") from error
    return numbers


async def meet(name: str, *, changes_data: bool = False) -> None:
    """Have the fault injected into the second of three answers, and check all three.

    A harmless one leaves a true answer (unless it `changes_data`), a harmful one must be seen; the next answer is true.
    """
    timeout = aiohttp.ClientTimeout(sock_read=0.2, total=1)
    is_harmless = FAULTS[name].expected is Reaction.ACCEPT
    async with (
        aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session,
        emulator_with(faults={name: 2}) as emulator,
    ):
        expected = emulator.expected("totals", IDS, ["favorites", "impressions"], BY_TWEET)["by_tweet"]
        assert counts(await read(session, emulator)) == expected
        try:
            second = counts(await read(session, emulator))
        except BROKEN:
            assert not is_harmless
        else:
            assert is_harmless, "what went wrong was not seen"
            assert (second == expected) is not changes_data
        assert counts(await read(session, emulator)) == expected

        assert emulator.log.faults == {name: 1}
        assert [entry.fault for entry in emulator.log] == [None, name, None]
        assert [entry.delivered for entry in emulator.log] == [True, is_harmless, True]
