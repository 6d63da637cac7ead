"""Ray: a dataset of IDs becomes a folder of Parquet files, each ID once.

    python examples/ray_pipeline.py examples/tweets.txt output-folder

Run it again to resume it: whatever was killed, what is in the files is not requested again. With several machines, name a
Redis server in `ENGAGEMENT_SCHEDULER`, and a folder that all of them have.
"""

from __future__ import annotations

import sys

import ray
from settings import make_fetcher

from engagement_async import TOTALS, Query
from engagement_async.distributed.ray import fetch_to_parquet

QUERY = Query(
    TOTALS, engagement_types=["favorites", "replies"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
)


def main(ids: str, folder: str) -> None:
    ray.init()
    dataset = ray.data.read_text(ids).rename_columns({"text": "id"})  # or read_parquet, read_csv, ...
    report = fetch_to_parquet(dataset, make_fetcher(QUERY), folder)
    print(f"{report.tweet_ids:,} Tweets were fetched, and {report.found:,} were there; {report.pending:,} are pending")
    ray.data.read_parquet(folder).show(3)


if __name__ == "__main__":
    main(*sys.argv[1:3])
