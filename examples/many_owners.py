"""Tweets of many owners, each with a token of their own: one job, one contract, one table.

    engagement emulator --owners 50 --owners-file owners.csv
    python examples/many_owners.py owners.csv ids.csv jobs/owners

`owners.csv` has `owner`, `access_token` and `access_token_secret`, and only you may be able to read it; `ids.csv` has
`owner` and `tweet_id`. An owner whose token was revoked fails alone: put new tokens into `owners.csv`, and run it again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from settings import BASE_URL, rate_limit

from engagement_async import LAST_28_HOURS, CredentialFile, Query
from engagement_async.backfill import BackfillJob

QUERY = Query(
    LAST_28_HOURS,
    engagement_types=["impressions", "engagements"],
    groupings={"by_tweet": ["tweet.id", "engagement.type"], "by_owner": ["owner", "engagement.type"]},
)


async def main(owners: Path, ids: Path, directory: Path) -> int:
    store = CredentialFile(
        owners,
        consumer_key=os.environ["ENGAGEMENT_CONSUMER_KEY"],
        consumer_secret=os.environ["ENGAGEMENT_CONSUMER_SECRET"],
    )
    job = BackfillJob(directory)
    started = await job.start(QUERY, files=[ids], owner_column="owner")
    progress = await job.run(store, rate_limit=rate_limit(), base_url=BASE_URL, failed_only=started.totals.pending == 0)
    for owner, its in (await job.status()).owners.items():
        if its.error:
            print(f"{owner}: {its.outcomes.failed:,} Tweets failed: {its.error}", file=sys.stderr)
    await job.export(f"{directory}-{{grouping}}.csv", partial=True)
    return 3 if progress.outcomes.failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*map(Path, sys.argv[1:4]))))
