"""Arrow tables of IDs become IDs, and answers become Arrow tables of one schema, whatever came of the IDs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from engagement_async._core.arrow import TYPES, concat
from engagement_async._core.batches import check_tweet_ids
from engagement_async._core.columnar import ColumnarAnswer
from engagement_async._core.query import Query
from engagement_async._core.tables import TableShape, table_columns
from engagement_async._export.outcomes import outcome_rows
from engagement_async.errors import UsageError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("ArrowFetcher needs pyarrow: pip install 'engagement-async[arrow]'") from error

__all__ = ["PENDING", "answers_table", "grouping_of", "ids_of", "owners_of", "schema_of"]

PENDING = "pending"
"""The state of an ID that was not answered because the API answered nobody: it is to be requested again."""
_INSTANT = pa.timestamp("us", tz="UTC")
_TYPES = {
    **TYPES,
    "owner": pa.string(),
    "engagement_type": pa.string(),
    "engagement_hour": _INSTANT,
}
"""Engines want plain types: blocks of dictionaries do not join well, and Spark has microseconds alone."""


def grouping_of(query: Query) -> str:
    """Return the name of the query's one grouping. Raise `UsageError` if there are several, or it is not by Tweet."""
    if len(query.groupings) != 1:
        raise UsageError(
            f"an ArrowFetcher returns one table: give a query with one grouping, not {len(query.groupings)}"
        )
    ((name, group_by),) = query.groupings.items()
    if "tweet.id" not in group_by:
        raise UsageError(
            f"grouping {name!r} is no grouping by Tweet, and its sums would be over one table's IDs alone: put tweet.id "
            "into it, and add up what comes out"
        )
    return name


def schema_of(query: Query, *, wide: bool) -> pa.Schema:
    """Return the columns of all tables of a query: keys, values, and what came of each ID."""
    group_by = query.groupings[grouping_of(query)]
    columns = table_columns(group_by, TableShape(query.engagement_types if wide else ()))
    if "engagement_hour_of_day" in columns:  # of hours without days, under which the API may put them all the same
        at = columns.index("engagement_hour_of_day")
        columns = (*columns[:at], "engagement_hour", *columns[at:])
    values = query.engagement_types if wide else ("value",)
    keys = dict.fromkeys(("owner", "tweet_id", *(name for name in columns if name not in values)))
    return pa.schema(
        [
            *((name, _TYPES[name]) for name in keys),
            *((name, pa.int64()) for name in values),
            ("observed_at", _INSTANT),
            ("state", pa.string()),
            ("detail", pa.string()),
        ]
    )


def ids_of(table: pa.Table) -> list[str]:
    """Return the IDs of a table, checked. Raise `UsageError` for a table without IDs, or for a value that is none."""
    if not isinstance(table, (pa.Table, pa.RecordBatch)):
        raise UsageError(f"ArrowFetcher takes a pyarrow.Table, not a {type(table).__name__}: pa.Table.from_pandas(df)")
    name = next((name for name in ("id", "tweet_id") if name in table.column_names), None)
    if name is None:
        raise UsageError(f"the table has no column id: it has {', '.join(table.column_names) or 'none at all'}")
    column = _column(table, name)
    kind = column.type
    if pa.types.is_floating(kind):
        raise UsageError(
            f"column {name} is {kind}, and floats lose the last digits of IDs: read it anew as text or int64"
        )
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    if not is_whole and not _is_text(kind) and not pa.types.is_null(kind):
        raise UsageError(f"column {name} is {kind}: give IDs as int64, uint64 or text")
    given = column.to_pylist() if pa.types.is_null(kind) else column.cast(pa.string()).to_pylist()
    return check_tweet_ids(given)


def owners_of(table: pa.Table) -> list[str] | None:
    """Return the owners of a table's IDs, one a row. Raise `UsageError` for what is none.

    Return None without a column `owner`, and where it is all nulls, as in a table that was returned for one owner.
    """
    if "owner" not in table.column_names:
        return None
    column = _column(table, "owner")
    if not _is_text(column.type) and not pa.types.is_null(column.type):
        raise UsageError(f"column owner is {column.type}: give the names of owners as text")
    if column.null_count == len(column):
        return None
    if column.null_count:
        raise UsageError(f"column owner has {column.null_count:,} nulls: each Tweet needs its owner")
    owners: list[str] = column.cast(pa.string()).to_pylist()
    return owners


def _column(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """Return a column, its dictionary taken apart. Raise `UsageError` where several have that name."""
    if (many := table.column_names.count(name)) > 1:
        raise UsageError(f"the table has {many} columns {name}: which one is meant? Drop or rename the others")
    column = table[name]
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def answers_table(answers: Sequence[ColumnarAnswer], query: Query, ids: list[str], *, wide: bool) -> pa.Table:
    """Return the values and outcomes of distinct `ids`, in their order: one row a value, and one of an ID without any.

    `answers` are those to batches of these IDs, in any order.
    """
    schema = schema_of(query, wide=wide)
    name = grouping_of(query)
    values = concat([answer.to_arrow(name, wide=wide) for answer in answers])
    order = pa.array(ids, pa.string())
    tweet_ids = values["tweet_id"].combine_chunks()
    has_none = pc.invert(pc.is_in(order, value_set=tweet_ids))
    of_rows = pa.concat_arrays([pc.index_in(tweet_ids, value_set=order), pc.indices_nonzero(has_none).cast(pa.int32())])
    sorting = pc.sort_indices(of_rows)  # stable: the values of an ID stay as they are
    of_rows = of_rows.take(sorting)
    with_values = pc.if_else(pc.less(sorting, len(values)), sorting, pa.scalar(None, sorting.type))
    of_ids = _of_ids(answers, query, ids)
    columns = {}
    for column in schema:
        if column.name in of_ids:
            columns[column.name] = pa.array(of_ids[column.name], column.type).take(of_rows)
        elif column.name in values.column_names:
            columns[column.name] = values[column.name].cast(column.type).combine_chunks().take(with_values)
        else:
            columns[column.name] = pa.nulls(len(of_rows), column.type)
    return pa.table(columns, schema=schema)


def _of_ids(answers: Sequence[ColumnarAnswer], query: Query, ids: list[str]) -> dict[str, list[Any]]:
    """Return the columns that an ID has, whatever its values are: one item for each of `ids`."""
    owners: dict[str, str | None] = {}
    observed_at: dict[str, datetime | None] = {}
    outcomes: dict[str, tuple[Any, Any]] = {}
    for answer in answers:
        owners.update(dict.fromkeys(answer.tweet_ids, answer.owner))
        observed_at.update((i, answer.observed_at_of(i)) for i in answer.tweet_ids)
        for row in outcome_rows(answer, query.engagement_types, outage_is=PENDING):
            outcomes[str(row["tweet_id"])] = row["state"], row["detail"] or None
    states = [outcomes.get(i, ("answered", None)) for i in ids]
    return {
        "owner": [owners[i] for i in ids],
        "tweet_id": ids,
        "observed_at": [observed_at[i] for i in ids],
        "state": [state for state, _ in states],
        "detail": [detail for _, detail in states],
    }
