"""A series as files, in all formats of an export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from engagement_async._core.tables import TableShape
from engagement_async._export.files import check_outputs
from engagement_async._export.formats import ArrowTable
from engagement_async._export.layout import TableLayout
from engagement_async._export.outputs import open_output, open_tables
from engagement_async.errors import UsageError
from engagement_async.series.tables import SeriesTable, TableQuery, pieces

__all__ = ["export_series"]


def export_series(
    path: Any, output: str, format_: str | None, wanted: TableQuery, metrics: Sequence[str], *, excel: bool
) -> list[str]:
    """Write a table of a store, and return the paths of the files.

    Args:
        path: The store.
        output: A file; `-`, the standard output; or a folder.
        format_: The format, if not the one of the suffix.
        wanted: Which rows.
        metrics: The metrics of the series.
        excel: Whether CSV is written so that Excel keeps IDs.

    Raises:
        UsageError: There can be no such file.
    """
    name = str(wanted.table)
    shape = TableShape(tuple(metrics) if wanted.wide else (), has_observed_at=wanted.observed_at)
    layout = TableLayout(output, format_, {name: wanted.levels}, shape=shape, excel=excel)
    if layout.format.name == "json" and wanted.table is not SeriesTable.HOURS:
        raise UsageError(f"json is the API's own format, which has no {wanted.table} of several times: take jsonl")
    check_outputs(layout.files(), [str(path)])
    if layout.is_folder:
        layout.make_folder()
    found = (ArrowTable(table) for table in pieces(path, wanted, metrics))
    if layout.format.name == "json":
        with open_output(layout.output, layout.format.compression) as file:
            file.write(orjson.dumps({name: _nested(found)}, option=orjson.OPT_APPEND_NEWLINE))
        return layout.files()
    first = next(found)
    with open_tables(layout, {name: lambda: ArrowTable(first.table.slice(0, 0))}, types=metrics) as sinks:
        sinks[name](first)
        for piece in found:
            sinks[name](piece)
    return layout.files()


def _nested(found: Iterator[ArrowTable]) -> dict[str, Any]:
    """Return hours or days as the API writes them: Tweet, metric, day, hour; values are strings."""
    nested: dict[str, Any] = {}
    for piece in found:
        for row in piece.rows():
            inner = nested
            keys = [str(row[name]) for name in ("owner", "tweet_id", "engagement_type") if name in row]
            at: Any = row.get("engagement_hour") or row["engagement_day"]
            keys += [f"{at:%Y-%m-%d}", f"{at:%H}"] if "engagement_hour" in row else [at.isoformat()]
            for key in keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[keys[-1]] = str(row["value"])
    return nested
