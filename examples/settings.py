"""What the examples share: a client from the variables that `engagement emulator` prints and the command line reads."""

from __future__ import annotations

import os
from pathlib import Path

from engagement_async import EngagementClient, OAuth1Credentials, RateLimit

BASE_URL = os.environ.get("ENGAGEMENT_BASE_URL", "https://data-api.twitter.com")


def credentials() -> OAuth1Credentials:
    """Return the credentials of the Tweets' owner."""
    return OAuth1Credentials(
        os.environ["ENGAGEMENT_CONSUMER_KEY"],
        os.environ["ENGAGEMENT_CONSUMER_SECRET"],
        os.environ["ENGAGEMENT_ACCESS_TOKEN"],
        os.environ["ENGAGEMENT_ACCESS_TOKEN_SECRET"],
    )


def rate_limit() -> RateLimit:
    """Return the rate limit of the contract. There is no default: only the contract says what it is."""
    return RateLimit(int(os.environ["ENGAGEMENT_REQUESTS_PER_MINUTE"]), period=60)


def make_client(*, coalesce: float | None = None) -> EngagementClient:
    """Return a client that is not open yet: use it as an async context manager."""
    return EngagementClient(credentials(), rate_limit=rate_limit(), base_url=BASE_URL, coalesce=coalesce)


def read_tweet_ids(path: str | Path) -> list[str]:
    """Return the IDs of a text file with one ID per line."""
    return Path(path).read_text().split()
