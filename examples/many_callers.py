"""Hundreds of concurrent callers, one client, one rate limit: each caller gets its own result.

    python examples/many_callers.py examples/tweets.txt

With `coalesce`, calls with the same query that are made within 20 ms share requests, because a request takes 250 Tweets. The
client shares the rate limit fairly between all others. A caller that gives up (here after 30 seconds) disturbs nobody.
"""

from __future__ import annotations

import asyncio
import sys

from settings import make_client, read_tweet_ids

from engagement_async import EngagementClient

CALLERS = 200
GROUPINGS = {"by_tweet": ["tweet.id", "engagement.type"]}


async def caller(client: EngagementClient, tweet_ids: list[str]) -> int:
    async with asyncio.timeout(30):
        result = await client.totals(tweet_ids, engagement_types=["favorites"], groupings=GROUPINGS)
    return sum(metrics["favorites"] for metrics in result.groupings.get("by_tweet", {}).values())


async def main(tweet_ids: list[str]) -> None:
    async with make_client(coalesce=0.02) as client:
        calls = [caller(client, tweet_ids[number % 10 :][:10]) for number in range(CALLERS)]
        favorites = await asyncio.gather(*calls, return_exceptions=True)
        requests = client.status().requests
    served = [each for each in favorites if isinstance(each, int)]
    print(f"{len(served)} of {CALLERS} callers were served; requests sent: {requests}")


if __name__ == "__main__":
    asyncio.run(main(read_tweet_ids(sys.argv[1])))
