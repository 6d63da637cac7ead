"""What an installed package must do, whatever its extras: run by `make wheel-test` in an environment without the tests."""

from __future__ import annotations

import asyncio
import sys
import time

import engagement_async
from engagement_async import BearerCredentials, CallProgress, EngagementClient, RateLimit, UsageError, backfill
from engagement_async.emulator import Emulator, tweet_ids

GROUPINGS = {"by_tweet": ["tweet.id", "engagement.type"]}


async def main(*, has_arrow: bool, has_report: bool) -> None:
    assert "site-packages" in str(engagement_async.__file__), engagement_async.__file__
    for module in (engagement_async, backfill):
        for name in module.__all__:
            getattr(module, name)
    ids = tweet_ids(600, newest_at=time.time())
    async with (
        Emulator(None, unavailable_fraction=0) as emulator,
        EngagementClient(
            BearerCredentials(emulator.bearer_token), rate_limit=RateLimit(6000, period=60), base_url=emulator.base_url
        ) as client,
    ):
        seen: list[CallProgress] = []
        result = await client.totals(ids, engagement_types=["favorites"], groupings=GROUPINGS, progress=seen.append)
    assert seen[-1].ids_done == len(ids), seen
    assert result.outcomes["answered"] == len(ids), result.outcomes
    assert len(result.groupings["by_tweet"]) == len(ids)
    try:
        told = f"{result.to_arrow('by_tweet').num_rows} rows"
    except UsageError as error:
        told = str(error)
    assert ("600 rows" if has_arrow else "engagement-async[arrow]") in told, told
    try:
        told = str(result.plot("by_tweet").to_dict())
    except UsageError as error:
        told = str(error)
    assert ("vconcat" if has_report else "engagement-async[report]") in told, told


if __name__ == "__main__":
    asyncio.run(main(has_arrow="arrow" in sys.argv, has_report="report" in sys.argv))
