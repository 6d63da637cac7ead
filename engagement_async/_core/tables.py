"""Groupings as tables: which columns they have, long or wide, and their rows. Pure.

A long table has one row a value; a wide one has a column for each metric, and one row for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from engagement_async._core.groupings import Grouping, iter_rows, key_columns, leaf_dicts
from engagement_async.errors import UsageError

__all__ = ["LONG", "Observed", "TableShape", "check_shape", "table_columns", "table_rows", "wide_grouping"]

Observed = Mapping[str, datetime] | datetime | None
"""When values were received: by Tweet for a grouping by Tweet, by owner for sums by owner, one instant for other sums; None
when nobody knows."""

_TYPE = "engagement.type"


class TableShape(NamedTuple):
    """What a table has beside its keys."""

    metrics: tuple[str, ...] = ()
    """The columns of a wide table; none for a long one."""
    has_observed_at: bool = False
    """Whether the last column says when the response with the value was received."""

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns after the keys."""
        values = self.metrics or ("value",)
        return (*values, "observed_at") if self.has_observed_at else values


LONG = TableShape()


def check_shape(group_by: Sequence[str], shape: TableShape) -> None:
    """Raise `UsageError` where no such table can be made of a grouping."""
    if shape.metrics and _TYPE not in group_by:
        raise UsageError(
            f"a wide table has a column for each engagement.type, and this grouping has none: {','.join(group_by)}"
        )


def table_columns(levels: Sequence[str], shape: TableShape = LONG) -> tuple[str, ...]:
    """Return the columns of a table with these levels: the keys first. Raise `UsageError` as `check_shape`."""
    check_shape(levels, shape)
    keys = key_columns(tuple(level for level in levels if not (shape.metrics and level == _TYPE)))
    return (*keys, *shape.value_columns)


def table_rows(
    levels: tuple[str, ...], grouping: Grouping, shape: TableShape = LONG, observed: Observed = None
) -> Iterator[dict[str, Any]]:
    """Return the rows of a table, in the grouping's own order: column to value. Lazy."""
    rows = _wide_rows(levels, grouping, shape.metrics) if shape.metrics else iter_rows(levels, grouping)
    return _with_instants(levels, rows, observed) if shape.has_observed_at else rows


def _with_instants(
    levels: tuple[str, ...], rows: Iterator[dict[str, Any]], observed: Observed
) -> Iterator[dict[str, Any]]:
    if isinstance(observed, Mapping):
        key = "tweet_id" if "tweet.id" in levels else "owner"
        observed_at = observed.get
        for row in rows:
            row["observed_at"] = observed_at(row[key])
            yield row
    else:
        for row in rows:
            row["observed_at"] = observed
            yield row


def wide_grouping(levels: tuple[str, ...], grouping: Grouping) -> tuple[tuple[str, ...], Grouping]:
    """Return a grouping with `engagement.type` as its innermost level, and those levels."""
    at = levels.index(_TYPE)
    if at == len(levels) - 1 and all(leaves for _, leaves in leaf_dicts(grouping, at, ())):
        return levels, grouping
    turned: Grouping = {}
    is_innermost = at == len(levels) - 1
    for path, leaves in leaf_dicts(grouping, len(levels) - 1, ()):
        if not leaves:
            continue
        inner = turned
        for outer in path if is_innermost else (*path[:at], *path[at + 1 :]):
            inner = inner.setdefault(outer, {})
        if is_innermost:
            inner.update(leaves)
            continue
        metric = path[at]
        if not inner:
            inner.update({key: {metric: value} for key, value in leaves.items()})
            continue
        for key, value in leaves.items():
            try:
                inner[key][metric] = value
            except KeyError:
                inner[key] = {metric: value}
    return (*levels[:at], *levels[at + 1 :], _TYPE), turned


def _wide_rows(levels: tuple[str, ...], grouping: Grouping, metrics: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    (*keys, _), grouping = wide_grouping(levels, grouping)
    whole: list[dict[str, Any]] = [{"value": grouping}] if grouping else []
    for row in iter_rows(tuple(keys), grouping) if keys else whole:
        values = row.pop("value")  # the metrics of one path are one value to `iter_rows`
        # Mostly all are there, and in this order.
        row.update(values if tuple(values) == metrics else zip(metrics, map(values.get, metrics), strict=True))
        yield row
