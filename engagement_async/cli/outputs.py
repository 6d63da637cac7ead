"""The files of one result, opened before the first request, and whole at the end or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO, TypeVar

import orjson

from engagement_async._core.query import OWNER, Query
from engagement_async._core.result import EngagementResult
from engagement_async._export.files import check_outputs
from engagement_async._export.formats import Add, GroupingTable, ResultTable, Table, TextTable, text_tables
from engagement_async._export.layout import OUTCOMES, TableLayout
from engagement_async._export.outcomes import outcome_columns, outcome_rows
from engagement_async._export.outputs import open_output, open_tables
from engagement_async._ids.sources import files_of

__all__ = ["Outputs"]

_Table = TypeVar("_Table", bound=Table)


class Outputs:
    """The files of one result: opened before the first request, whole at the end or not there.

    `inputs` are files and folders of files. Raises `UsageError` where there can be no such outputs, as when one is an input.
    """

    def __init__(self, layout: TableLayout, query: Query, inputs: Sequence[str], *, has_owners: bool = False) -> None:
        self._layout = layout
        self._query = query
        self._has_owners = has_owners
        if layout.is_folder:
            layout.check_folder()
        if not layout.is_folder or os.path.isdir(layout.output):
            check_outputs(layout.files(), map(str, files_of(inputs)))
        self._json: BinaryIO | None = None
        self._sinks: dict[str, Add] = {}
        self._open = ExitStack()

    @property
    def is_stream(self) -> bool:
        """Whether it goes to a stream, which has nothing to lose."""
        return self._layout.is_stream

    def __enter__(self) -> Outputs:
        with ExitStack() as stack:
            if self._layout.is_folder and self._layout.make_folder():
                stack.callback(_remove_if_empty, self._layout.output)
            if self._layout.format.name == "json":
                self._json = stack.enter_context(open_output(self._layout.output, self._layout.format.compression))
            else:
                tables = open_tables(self._layout, self._empty(), types=self._query.engagement_types)
                self._sinks = stack.enter_context(tables)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> bool | None:
        return self._open.__exit__(*raised)  # type: ignore[arg-type]

    def write(self, result: EngagementResult) -> None:
        """Write the result; the files are in place when the block ends."""
        if self._json is not None:
            indent = orjson.OPT_INDENT_2 if self._json.isatty() else 0
            self._json.write(orjson.dumps(result.to_response(), option=orjson.OPT_APPEND_NEWLINE | indent))
            self._json.flush()
        for name, add in self._sinks.items():
            if name in self._query.groupings:
                add(ResultTable(result, name, self._layout.shape))
            else:
                for table in text_tables(outcome_rows(result, self._query.engagement_types), self._outcome_columns):
                    add(table)

    @property
    def _outcome_columns(self) -> tuple[str, ...]:
        return outcome_columns(has_observed_at=self._layout.shape.has_observed_at, has_owner=self._has_owners)

    def _empty(self) -> dict[str, Callable[[], Table]]:
        """Return a function for each table that makes it without rows."""
        empty: dict[str, Callable[[], Table]] = {}
        for name, group_by in self._query.groupings.items():
            if self._has_owners and "tweet.id" in group_by and group_by[0] != OWNER:
                group_by = (OWNER, *group_by)
            empty[name] = _returning(GroupingTable({}, group_by, self._layout.shape))
        if self._layout.has_all_in_one:
            empty[OUTCOMES] = _returning(TextTable(self._outcome_columns))
        return empty


def _returning(table: _Table) -> Callable[[], _Table]:
    return lambda: table


def _remove_if_empty(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)
