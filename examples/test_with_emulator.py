"""Tests of your own code against the emulator: `pip install pytest`, then `pytest examples/test_with_emulator.py`.

The fixture `engagement_emulator` comes with the package; there is nothing to import. The marker takes the options of
`Emulator`: here every third request is answered with 503, and every fourth with a response that is cut.
"""

from __future__ import annotations

import asyncio

import pytest

from engagement_async import EngagementClient, OAuth1Credentials, RateLimit
from engagement_async.emulator import Emulator, tweet_ids

IDS = tweet_ids(1_000, newest_at=1_767_225_600)


async def sum_of_favorites(base_url: str, credentials: OAuth1Credentials) -> int:
    """The code under test."""
    async with EngagementClient(credentials, rate_limit=RateLimit(600), base_url=base_url) as client:
        result = await client.totals(IDS, engagement_types=["favorites"], groupings={"all": ["engagement.type"]})
    if result.failed_tweet_ids:
        raise RuntimeError(f"{len(result.failed_tweet_ids)} Tweets failed")
    favorites: int = result.groupings["all"]["favorites"]
    return favorites


def credentials_of(emulator: Emulator) -> OAuth1Credentials:
    return OAuth1Credentials(
        emulator.consumer_key, emulator.consumer_secret, emulator.access_token, emulator.access_token_secret
    )


@pytest.mark.engagement_emulator(requests_per_minute=600, unavailable_fraction=0.0, faults={"503": 3, "gzip-cut": 4})
def test_the_sum_is_right_on_a_bad_day(engagement_emulator: Emulator) -> None:
    favorites = asyncio.run(sum_of_favorites(engagement_emulator.base_url, credentials_of(engagement_emulator)))

    expected = engagement_emulator.expected("totals", IDS, ["favorites"], {"all": ["engagement.type"]})
    assert favorites == expected["all"]["favorites"]
    assert engagement_emulator.log.faults, "the emulator injected faults"
    assert engagement_emulator.peak() <= 600
