"""A nightly job: fetch the totals of many Tweets, however long it takes, export one table, and make a page to look at.

    python examples/nightly_job.py jobs examples/tweets.txt

Each night gets a directory of its own. If the program is killed, or the machine restarts, run it again: it resumes where it
was and requests nothing twice. Its exit code says what to do, as the command line's does: 0 done, 3 done but some IDs
failed, 5 run it again. The page needs the extra [report].
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from settings import BASE_URL, credentials, rate_limit

from engagement_async import TOTALS, Query
from engagement_async.backfill import BackfillJob, Progress
from engagement_async.reports import write_report

QUERY = Query(
    TOTALS,
    engagement_types=["favorites", "retweets", "replies"],
    groupings={"by_tweet": ["tweet.id", "engagement.type"]},
)


def report(progress: Progress) -> None:
    print(f"{progress.ids_done:,} of {progress.ids_total:,} IDs; requests sent: {progress.requests:,}", file=sys.stderr)


async def main(directory: Path, ids: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{datetime.now(UTC):%Y-%m-%d}"
    job = BackfillJob(path)
    await job.start(QUERY, files=[ids])  # does nothing if the job was started before
    progress = await job.run(
        credentials(), rate_limit=rate_limit(), base_url=BASE_URL, max_duration_s=6 * 3600, on_progress=report
    )
    if progress.outcome != "done":
        return 5
    await job.export(f"{path}.parquet", outcomes=f"{path}-outcomes.csv")
    await asyncio.to_thread(write_report, path, f"{path}.html")
    return 3 if progress.outcomes.failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]))))
