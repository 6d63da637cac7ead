"""Journals as they are after a stop in the middle: made for the tests that read those of earlier versions.

`python -m tests.support.journals FOLDER` makes them with the version that is there. tests/samples/journals holds those that
earlier versions made: schema 2, and schema 3 with owners.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from engagement_async import LAST_28_HOURS, OAuth1Credentials, Query, RateLimit
from engagement_async.backfill import BackfillJob
from tests.support.jobs import emulator, make_ids

__all__ = ["QUERY", "SAMPLES", "TWEETS", "finish", "make"]

SAMPLES = Path(__file__).parent.parent / "samples" / "journals"
QUERY = Query(
    LAST_28_HOURS,
    engagement_types=["favorites", "replies"],
    groupings={"days": ["tweet.id", "engagement.type", "engagement.day"], "all": ["engagement.type"]},
)
TWEETS = make_ids(110, seed=28)
STOPPED_AFTER = 2
"""Requests, of five."""


async def make(folder: Path, *, owned: bool) -> BackfillJob:
    """Start a job, and stop it in the middle."""
    job = BackfillJob(folder)
    await job.start(QUERY, {"acme": TWEETS[:60], "zeta": TWEETS[60:]} if owned else TWEETS)
    await finish(job, owned=owned, max_requests=STOPPED_AFTER)
    return job


async def finish(job: BackfillJob, *, owned: bool, max_requests: int | None = None) -> None:
    """Run a job, which asks of each Tweet what the same world says."""
    async with emulator(unavailable_fraction=0.1) as server:
        credentials = OAuth1Credentials(
            server.consumer_key, server.consumer_secret, server.access_token, server.access_token_secret
        )
        await job.run(
            {"acme": credentials, "zeta": credentials} if owned else credentials,
            rate_limit=RateLimit(6_000),
            base_url=server.base_url,
            concurrency=1,
            max_requests=max_requests,
        )


async def _main(folder: Path) -> None:
    for name, owned in (("plain", False), ("owned", True)):
        await make(folder / name, owned=owned)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
