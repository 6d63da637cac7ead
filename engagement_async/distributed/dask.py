"""Dask: a dataframe of IDs in, a dataframe of values and outcomes out, partition by partition."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from engagement_async.distributed.arrow_fetcher import ArrowFetcher
from engagement_async.errors import UsageError

try:
    import pandas as pd
    import pyarrow as pa
except ImportError as error:
    raise UsageError("pipelines on Dask need dask[dataframe]: pip install 'engagement-async[dask]'") from error

if TYPE_CHECKING:
    from dask.dataframe import DataFrame

__all__ = ["fetch_dataframe"]


def fetch_dataframe(frame: DataFrame, fetcher: ArrowFetcher) -> DataFrame:
    """Return the values and outcomes of a dataframe of IDs, lazily: with the columns of `fetcher.schema`, in Arrow's types.

    Each distinct ID is requested once, as long as Dask computes each partition once: write the result to files before
    anything else is done with it. When a worker dies, Dask computes anew what was in its memory.

    Examples:
        >>> fetch_dataframe(dask.dataframe.read_parquet("ids/"), fetcher).to_parquet("/data/engagement")

    Args:
        frame: A column `id` (or `tweet_id`), and `owner` where credentials are those of many owners. Duplicates are dropped;
            an ID with two owners belongs to one of them.
        fetcher: What fetches them. Its `scheduler` is one that processes share: a `RedisScheduler`, or a `MachineScheduler`
            where Dask has one machine.

    Raises:
        UsageError: The dataframe has no such column, or the fetcher cannot be sent to other processes.
    """
    pickle.dumps(fetcher)  # Dask would hide what is wrong with it
    name = next((name for name in ("id", "tweet_id") if name in frame.columns), None)
    if name is None:
        raise UsageError(f"the dataframe has no column id: it has {', '.join(map(str, frame.columns))}")
    columns = [name, "owner"] if "owner" in frame.columns else [name]
    distinct = frame[columns].drop_duplicates(subset=[name], split_out=frame.npartitions)
    return distinct.map_partitions(_fetch, fetcher, meta=_pandas(fetcher.schema.empty_table()))


def _fetch(frame: pd.DataFrame, fetcher: ArrowFetcher) -> pd.DataFrame:
    return _pandas(fetcher(pa.Table.from_pandas(frame, preserve_index=False)))


def _pandas(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper=pd.ArrowDtype)
