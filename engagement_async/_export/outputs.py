"""The files of an output, open to be written: one for each table, or one for all. They are in their places when the block
ends well, else what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from engagement_async._export.compression import compressed
from engagement_async._export.databases import duckdb_sinks, xlsx_sinks
from engagement_async._export.files import atomic_file, atomic_path, has_stream, output_stream
from engagement_async._export.formats import Add, ArrowTable, Table, table_sink
from engagement_async._export.layout import OutputFormat, TableLayout

__all__ = ["open_output", "open_table", "open_tables", "written_behind"]

_STDOUT = 1


@contextmanager
def open_output(path: str, compression: str | None = None) -> Iterator[BinaryIO]:
    """Open a file, a stream, or the standard output as `-`."""
    with (
        output_stream(_STDOUT) if path == "-" else atomic_file(path) as file,
        compressed(file, compression) as stream,
    ):
        yield stream


@contextmanager
def open_table(
    path: str,
    format_: OutputFormat,
    empty: Callable[[], Table],
    *,
    types: Sequence[str] = (),
    excel: bool = False,
) -> Iterator[Add]:
    """Open the file of one table: see `table_sink`."""
    with (
        open_output(path, format_.compression) as file,
        table_sink(file, format_.name, empty, types=types, excel=excel) as add,
    ):
        yield add


@contextmanager
def open_tables(
    layout: TableLayout, empty: Mapping[str, Callable[[], Table]], *, types: Sequence[str]
) -> Iterator[dict[str, Add]]:
    """Open the files of these tables, which are the query's groupings, and others where one file holds all."""
    with ExitStack() as stack:
        if layout.format.name == "duckdb":
            path = stack.enter_context(atomic_path(layout.output))
            yield stack.enter_context(duckdb_sinks(path, empty, named=layout.output))
        elif layout.format.name == "xlsx":
            file = stack.enter_context(open_output(layout.output))
            yield stack.enter_context(xlsx_sinks(file, empty))
        else:
            yield {
                name: stack.enter_context(
                    open_table(layout.file_of(name), layout.format, make, types=types, excel=layout.excel)
                )
                for name, make in empty.items()
            }


@contextmanager
def written_behind(sinks: Mapping[str, Add], files: Iterable[str]) -> Iterator[dict[str, Add]]:
    """Yield sinks of Arrow tables that write on a thread of their own, which needs no interpreter, while the next is made.

    One piece is written at a time, in order. What goes wrong is raised with the next one, or at the end. Where one of the
    files is a pipe, nothing is: its reader may make a thread wait for ever, and only the main one is ended by a signal.
    """
    if has_stream(files):
        yield dict(sinks)
        return
    last: Future[object] | None = None

    def behind(add: Add) -> Add:
        def put(table: Table) -> None:
            nonlocal last
            made = ArrowTable(table.to_arrow())  # here: two threads that both need the interpreter hinder each other
            if last is not None:
                last.result()
            last = writer.submit(add, made)

        return put

    with ThreadPoolExecutor(1, thread_name_prefix="engagement-export") as writer:
        yield {name: behind(add) for name, add in sinks.items()}
        if last is not None:
            last.result()
