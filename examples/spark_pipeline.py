"""Spark: a dataframe of IDs becomes Parquet, by `mapInArrow`.

    python examples/spark_pipeline.py examples/tweets.txt output-folder

Write the result to files before anything else is done with it: Spark would fetch it anew for each action.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession
from settings import make_fetcher

from engagement_async import TOTALS, Query
from engagement_async.distributed.spark import fetch_dataframe

QUERY = Query(
    TOTALS, engagement_types=["favorites", "replies"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
)


def main(ids: str, folder: str) -> None:
    spark = SparkSession.builder.appName("engagement").getOrCreate()
    frame = spark.read.text(ids).withColumnRenamed("value", "id")  # or parquet, csv, a table, ...
    fetch_dataframe(frame, make_fetcher(QUERY)).write.parquet(folder)
    spark.read.parquet(folder).groupBy("state").count().show()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:3])
