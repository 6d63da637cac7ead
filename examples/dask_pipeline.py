"""Dask: a dataframe of IDs becomes Parquet, partition by partition.

    python examples/dask_pipeline.py examples/tweets.txt output-folder

Write the result to files before anything else is done with it: Dask would fetch it anew for each `compute`.
"""

from __future__ import annotations

import sys

import dask.dataframe as dd
from settings import make_fetcher

from engagement_async import TOTALS, Query
from engagement_async.distributed.dask import fetch_dataframe

QUERY = Query(
    TOTALS, engagement_types=["favorites", "replies"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
)


def main(ids: str, folder: str) -> None:
    frame = dd.read_csv(ids, names=["id"], dtype="string")  # or read_parquet, ...
    fetch_dataframe(frame, make_fetcher(QUERY)).to_parquet(folder, write_index=False)
    print(dd.read_parquet(folder).groupby("state").size().compute())


if __name__ == "__main__":
    main(*sys.argv[1:3])
