"""Spark: a dataframe of IDs in, a dataframe of values and outcomes out, by `mapInArrow`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from engagement_async.distributed.arrow_fetcher import ArrowFetcher
from engagement_async.errors import UsageError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["fetch_dataframe"]

_SPARK_TYPES = {"string": "string", "int64": "bigint", "int8": "tinyint", "date32[day]": "date"}


def fetch_dataframe(frame: DataFrame, fetcher: ArrowFetcher, *, ids_per_call: int = 10_000) -> DataFrame:
    """Return the values and outcomes of a dataframe of IDs, lazily, with the columns of `fetcher.schema`.

    Each distinct ID is requested once, as long as Spark computes each partition once: write the result to files before
    anything else is done with it. A task that Spark repeats requests the IDs of its partition again.

    Examples:
        >>> fetch_dataframe(spark.read.parquet("ids/"), fetcher).write.parquet("/data/engagement")

    Args:
        frame: A column `id` (or `tweet_id`), and `owner` where credentials are those of many owners. Duplicates are dropped;
            an ID with two owners belongs to one of them.
        fetcher: What fetches them. Its `scheduler` is one that processes share: a `RedisScheduler`, or a `MachineScheduler`
            where Spark has one machine.
        ids_per_call: IDs that a task fetches at once, in whole requests.

    Raises:
        UsageError: An option is not what it must be, the dataframe has no such column, or the fetcher cannot be sent to
            other processes.
    """
    if isinstance(ids_per_call, bool) or not isinstance(ids_per_call, int) or ids_per_call < 1:
        raise UsageError(f"ids_per_call is a whole number from 1 on, not {ids_per_call!r}")
    pickle.dumps(fetcher)  # Spark would hide what is wrong with it
    name = next((name for name in ("id", "tweet_id") if name in frame.columns), None)
    if name is None:
        raise UsageError(f"the dataframe has no column id: it has {', '.join(frame.columns)}")
    distinct = frame.select(name, *(["owner"] if "owner" in frame.columns else [])).dropDuplicates([name])
    if "owner" in frame.columns:
        distinct = distinct.sortWithinPartitions("owner")  # so that an owner's requests are full
    per_request = fetcher.query.endpoint.ids_per_request
    fetch = _Fetch(fetcher, max(ids_per_call // per_request, 1) * per_request)
    return distinct.mapInArrow(
        fetch, ", ".join(f"`{column.name}` {_spark_type(column.type)}" for column in fetcher.schema)
    )


class _Fetch:
    """What a task does: it goes to its process as the fetcher that it holds."""

    def __init__(self, fetcher: ArrowFetcher, ids_per_call: int) -> None:
        self._fetcher = fetcher
        self._ids_per_call = ids_per_call

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the answers to a partition, batch by batch."""
        for table in _tables(batches, self._ids_per_call):
            yield from self._fetcher(table).to_batches()


def _tables(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield the batches as tables of that many rows, the last one shorter."""
    gathered: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        gathered.append(batch)
        count += batch.num_rows
        if count >= rows:
            table = pa.Table.from_batches(gathered)
            full = count // rows * rows
            for at in range(0, full, rows):
                yield table.slice(at, rows)
            gathered, count = table.slice(full).to_batches(), count - full
    if count:
        yield pa.Table.from_batches(gathered)


def _spark_type(kind: pa.DataType) -> str:
    return "timestamp" if pa.types.is_timestamp(kind) else _SPARK_TYPES[str(kind)]
