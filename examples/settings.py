"""What the examples share: a client from the variables that `engagement emulator` prints and the command line reads."""

from __future__ import annotations

import os
from pathlib import Path

from engagement_async import (
    ArrowFetcher,
    EngagementClient,
    EnvironmentCredentials,
    OAuth1Credentials,
    Query,
    RateLimit,
    Scheduler,
)
from engagement_async.distributed import MachineScheduler, RedisScheduler

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


def make_fetcher(query: Query) -> ArrowFetcher:
    """Return what the processes of an engine fetch with: one row a Tweet. They read their own environment."""
    return ArrowFetcher(
        query, credentials=EnvironmentCredentials(), scheduler=shared_scheduler(), base_url=BASE_URL, wide=True
    )


def shared_scheduler() -> Scheduler:
    """Return a scheduler that all processes share: in Redis, if it is named, else on this machine."""
    redis = os.environ.get("ENGAGEMENT_SCHEDULER")
    if redis:
        return RedisScheduler(redis, rate_limit(), contract=os.environ.get("ENGAGEMENT_CONTRACT", "examples"))
    return MachineScheduler(rate_limit(), credentials=EnvironmentCredentials(), base_url=BASE_URL)


def read_tweet_ids(path: str | Path) -> list[str]:
    """Return the IDs of a text file with one ID per line."""
    return Path(path).read_text().split()
