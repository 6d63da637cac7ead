"""Groupings that are regular, as Arrow tables: where every Tweet has the same keys, columns are made by repetition.

The usual answer is such a grid. It costs a third of what `grouping_table` takes, which looks at each key of each value.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pyarrow as pa

from engagement_async.answers import Grouping
from engagement_async.tables import grouping_table

__all__ = ["grid_table"]


def grid_table(grouping: Grouping, levels: tuple[str, ...]) -> pa.Table:
    """The same table as `grouping_table` makes of a grouping whose outermost level is `tweet.id`."""
    depth = len(levels) - 1
    if depth < 1 or levels[0] != "tweet.id" or not grouping:
        return grouping_table(grouping, levels)
    tweets = list(grouping)
    signature = _SIGNATURES.get(depth, _signature_of(depth))
    if len(set(map(signature, grouping.values()))) != 1:
        return grouping_table(grouping, levels)
    first = tweets[0]
    one = grouping_table({first: grouping[first]}, levels)
    leaves: Any = grouping.values()
    for _ in range(depth - 1):
        leaves = chain.from_iterable(map(dict.values, leaves))
    values = list(chain.from_iterable(map(dict.values, leaves)))
    size = one.num_rows
    # Row i is the row i % size of the first Tweet, of Tweet i // size.
    again = pa.array(list(range(size)) * len(tweets), pa.int32())
    columns: dict[str, pa.Array] = {}
    for name in one.column_names:
        if name == "tweet_id":
            at = pa.array([index for index in range(len(tweets)) for _ in range(size)], pa.int32())
            columns[name] = pa.array(tweets, pa.string()).take(at)
        elif name == "value":
            columns[name] = _integers(values, grouping, levels)
        else:
            columns[name] = one[name].combine_chunks().take(again)
    return pa.table(columns, one.schema)


def _integers(values: list[int], grouping: Grouping, levels: tuple[str, ...]) -> pa.Array:
    try:
        return pa.array(values, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return grouping_table(grouping, levels)["value"]  # says what is wrong


def _signature_of(depth: int) -> Callable[[Grouping], Any]:
    """What makes the keys of such a dict, of `depth` levels, and their order."""
    if depth == 1:
        return tuple
    inner = _signature_of(depth - 1)
    return lambda grouping: (tuple(grouping), *map(inner, grouping.values()))


_SIGNATURES = {depth: _signature_of(depth) for depth in (1, 2, 3)}
