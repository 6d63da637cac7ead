"""Where an export's values go, chunk by chunk: JSONL, CSV, Parquet, DuckDB. Each is a context manager around a function
that takes a grouping and its levels, and each table is there even if no value came."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from engagement_async._core.groupings import Grouping
from engagement_async._export.files import Row
from engagement_async._export.ordering import RowText, Shape, columns_of
from engagement_async.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Add", "duckdb_sinks", "new_file", "parquet_sink", "text_sink", "text_tables"]

Add = Callable[[Grouping, tuple[str, ...]], None]
_ROWS = 50_000
_MEMORY = "64MB"
"""For DuckDB, which takes four fifths of the machine's by default."""
_SQL_TYPES = {
    "engagement_day": "DATE",
    "engagement_hour": "TIMESTAMP WITH TIME ZONE",
    "engagement_hour_of_day": "TINYINT",
    "value": "BIGINT",
}


@contextmanager
def text_sink(file: BinaryIO, shape: Shape, kind: str) -> Iterator[Add]:
    """JSONL or CSV, by the rules of `write_jsonl` and `write_csv`."""
    text: RowText | None = None

    def begin() -> RowText:
        begun = RowText(kind, columns_of(shape.levels))
        file.write(begun.header)
        return begun

    def add(grouping: Grouping, levels: tuple[str, ...]) -> None:
        nonlocal text
        text = text or begin()
        file.write(text.lines(grouping, levels))

    yield add
    if text is None:
        begin()


@contextmanager
def parquet_sink(file: BinaryIO, shape: Shape) -> Iterator[Add]:
    """Parquet: a row group a chunk, zstd-compressed, typed as `to_arrow`."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield lambda grouping, levels: write(_table(shape, grouping, levels))
        if writer is None:
            write(_table(shape, {}, shape.levels))
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def duckdb_sinks(
    path: Path, shapes: Mapping[str, Shape], outcomes: Sequence[str]
) -> Iterator[tuple[Callable[[Iterable[Row]], None], dict[str, Add]]]:
    """A database with a table for each grouping, and `outcomes`. No transaction: it would hold all rows in memory, and who
    gives the path gives a file that nobody sees before it is whole."""
    import duckdb

    connection = duckdb.connect(str(path), config={"threads": 1, "memory_limit": _MEMORY})
    try:
        made: set[str] = set()

        def insert(name: str, table: pa.Table) -> None:
            connection.register("chunk", table)
            connection.execute(f"INSERT INTO {_quoted(name)} SELECT * FROM chunk")  # noqa: S608 - quoted
            connection.unregister("chunk")

        def make(name: str, shape: Shape) -> None:
            made.add(name)
            columns = ", ".join(f"{column} {_SQL_TYPES.get(column, 'VARCHAR')}" for column in columns_of(shape.levels))
            connection.execute(f"CREATE TABLE {_quoted(name)} ({columns})")

        def sink(name: str, shape: Shape) -> Add:
            def add(grouping: Grouping, levels: tuple[str, ...]) -> None:
                if name not in made:
                    make(name, shape)
                insert(name, _table(shape, grouping, levels))

            return add

        def add_accounts(rows: Iterable[Row]) -> None:
            connection.execute(f"CREATE TABLE outcomes ({', '.join(f'{column} VARCHAR' for column in outcomes)})")
            for table in text_tables(rows, outcomes):
                insert("outcomes", table)

        yield add_accounts, {name: sink(name, shape) for name, shape in shapes.items()}
        for name, shape in shapes.items():
            if name not in made:
                make(name, shape)
        connection.execute("CHECKPOINT")
    finally:
        connection.close()


def text_tables(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of text as Arrow tables, at least one."""
    import pyarrow as pa

    schema = pa.schema([(column, pa.string()) for column in columns])
    rest = iter(rows)
    chunk = list(islice(rest, _ROWS))
    while True:
        yield pa.Table.from_pylist(chunk, schema)
        chunk = list(islice(rest, _ROWS))
        if not chunk:
            return


@contextmanager
def new_file(path: str) -> Iterator[Path]:
    """The path of a file to be made by a library, that takes the place of `path` when the block ends well."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{path}: is a folder: name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {target.parent}: make it first")
    hidden = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        yield hidden
        for synced in (hidden, target.parent):
            if synced != hidden:
                hidden.replace(target)
            descriptor = os.open(synced, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except BaseException:
        for leftover in (hidden, hidden.with_name(f"{hidden.name}.wal")):
            with suppress(OSError):
                leftover.unlink()
        raise


def _table(shape: Shape, grouping: Grouping, levels: tuple[str, ...]) -> pa.Table:
    from engagement_async._core.arrow import grouping_table

    return grouping_table(grouping, levels).select(list(columns_of(shape.levels)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
