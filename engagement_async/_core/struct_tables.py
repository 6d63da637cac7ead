"""Whole answers as Arrow tables, from their structs: no dict is made, and no row. Needs pyarrow (extra `[arrow]`)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from engagement_async._core.arrow import int32_array, int64_array
from engagement_async._core.tables import TableShape

__all__ = ["LEVELS", "struct_table"]

LEVELS = ("tweet.id", "engagement.type")
"""Of the groupings that become tables here."""


def struct_table(
    tweet_ids: Sequence[str], structs: Sequence[Any], metrics: Sequence[str], shape: TableShape
) -> pa.Table:
    """Return the table of `LEVELS` that `arrow.shaped_table` makes of the same values, without `observed_at`.

    `structs` has the values of each ID, with a field for each of the `metrics`, in their order.
    """
    ids = pa.array(tweet_ids, pa.string())
    rows, many = len(tweet_ids), len(metrics)
    if shape.metrics:
        columns = list(zip(*map(astuple, structs), strict=True)) if rows else [()] * many
        by_metric = {metric: int64_array([column]) for metric, column in zip(metrics, columns, strict=True)}
        return pa.table({"tweet_id": ids, **{metric: by_metric[metric] for metric in shape.metrics}})
    starts = int32_array(array("i", range(0, rows * many + 1, many)))
    parents = pc.list_parent_indices(pa.ListArray.from_arrays(starts, pa.nulls(rows * many)))
    types = pa.DictionaryArray.from_arrays(int32_array(array("i", range(many)) * rows), pa.array(metrics, pa.string()))
    values = int64_array([tuple(chain.from_iterable(map(astuple, structs)))])
    return pa.table({"tweet_id": ids.take(parents), "engagement_type": types, "value": values})
