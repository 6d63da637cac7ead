"""A result as a table for eyes: aligned columns of text, a column a metric where that fits."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import click

from engagement_async._core.result import EngagementResult
from engagement_async.cli.streams import printable
from engagement_async.errors import UsageError

__all__ = ["TABLE", "TableOutput", "result_lines", "table_lines"]

TABLE: Final = "table"
_ANY_WIDTH: Final = 10_000
_KEY: Final = "engagement_type"
_VALUE: Final = "value"


class TableOutput:
    """Where `--format table` goes: stdout. Raise `UsageError` for a file, which something other than eyes would read."""

    is_stream = True

    def __init__(self, output: str) -> None:
        if output != "-":
            raise UsageError(
                "--format table is for eyes: leave out --output, or write csv, jsonl or parquet to the file"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def write(self, result: EngagementResult) -> None:
        """Write the result, as wide as the terminal."""
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _ANY_WIDTH
        for line in result_lines(result, width):
            click.echo(printable(line))


def result_lines(result: EngagementResult, width: int) -> Iterator[str]:
    """Yield the lines of all groupings, each under its name if there are several.

    A table has a column for each metric; where that is wider than `width`, a line for each value.
    """
    for number, name in enumerate(result.groupings):
        if len(result.groupings) > 1:
            yield from ([""] if number else [])
            yield f"{name}:"
        yield from table_lines(result.columns(name), result.rows(name), result.query.engagement_types, width)


def table_lines(
    columns: Sequence[str], rows: Iterable[dict[str, Any]], metrics: Sequence[str], width: int
) -> Iterator[str]:
    """Yield the lines of one grouping."""
    given = list(rows)
    if not given:
        yield "(no values)"
        return
    if _KEY in columns:
        wide = _aligned(*_pivoted(columns, given, metrics))
        if len(wide[0]) <= width:
            yield from wide
            return
    yield from _aligned(list(columns), [[row.get(column) for column in columns] for row in given])


def _pivoted(
    columns: Sequence[str], rows: Sequence[dict[str, Any]], metrics: Sequence[str]
) -> tuple[list[str], list[list[Any]]]:
    """Return the heads and the rows of a table with a column a metric."""
    keys = [column for column in columns if column not in (_KEY, _VALUE)]
    seen = {row[_KEY] for row in rows}
    shown = [metric for metric in metrics if metric in seen]
    by_key: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        by_key.setdefault(tuple(row.get(key) for key in keys), {})[row[_KEY]] = row[_VALUE]
    return [*keys, *shown], [[*key, *(values.get(metric) for metric in shown)] for key, values in by_key.items()]


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return lines in which numbers stand to the right and all else to the left."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(len(head), *(len(row[at]) for row in texts)) for at, head in enumerate(heads)]
    is_number = [any(isinstance(row[at], int) for row in rows) for at in range(len(heads))]
    return [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in (list(heads), *texts)
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)
