"""Where an export's values go, chunk by chunk: JSONL, CSV, Parquet, DuckDB. Each is a context manager around a function
that takes a grouping and its levels, and each table is there even if no value came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from engagement_async._core.groupings import Grouping
from engagement_async._export.ordering import TableOrder
from engagement_async._export.rows import Row, RowText, table_columns

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Add", "duckdb_sinks", "parquet_sink", "text_sink", "text_tables", "write_parquet"]

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
def text_sink(file: BinaryIO, order: TableOrder, kind: str) -> Iterator[Add]:
    """JSONL or CSV, by the rules of `write_jsonl` and `write_csv`."""
    text: RowText | None = None

    def begin() -> RowText:
        begun = RowText(kind, table_columns(order.levels))
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
def parquet_sink(file: BinaryIO, order: TableOrder) -> Iterator[Add]:
    """Parquet: a row group a chunk, zstd-compressed, typed as `to_arrow`."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield lambda grouping, levels: write(_table(order, grouping, levels))
        if writer is None:
            write(_table(order, {}, order.levels))
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def duckdb_sinks(
    path: Path, orders: Mapping[str, TableOrder], outcomes: Sequence[str]
) -> Iterator[tuple[Callable[[Iterable[Row]], None], dict[str, Add]]]:
    """Write a database with a table for each grouping, and `outcomes`.

    There is no transaction, for it would hold all rows in memory: nobody sees the file at `path` before it is whole.
    """
    import duckdb

    connection = duckdb.connect(str(path), config={"threads": 1, "memory_limit": _MEMORY})
    try:
        made: set[str] = set()

        def insert(name: str, table: pa.Table) -> None:
            connection.register("chunk", table)
            connection.execute(f"INSERT INTO {_quoted(name)} SELECT * FROM chunk")  # noqa: S608 - quoted
            connection.unregister("chunk")

        def make(name: str, order: TableOrder) -> None:
            made.add(name)
            columns = ", ".join(
                f"{column} {_SQL_TYPES.get(column, 'VARCHAR')}" for column in table_columns(order.levels)
            )
            connection.execute(f"CREATE TABLE {_quoted(name)} ({columns})")

        def sink(name: str, order: TableOrder) -> Add:
            def add(grouping: Grouping, levels: tuple[str, ...]) -> None:
                if name not in made:
                    make(name, order)
                insert(name, _table(order, grouping, levels))

            return add

        def add_accounts(rows: Iterable[Row]) -> None:
            connection.execute(f"CREATE TABLE outcomes ({', '.join(f'{column} VARCHAR' for column in outcomes)})")
            for table in text_tables(rows, outcomes):
                insert("outcomes", table)

        yield add_accounts, {name: sink(name, order) for name, order in orders.items()}
        for name, order in orders.items():
            if name not in made:
                make(name, order)
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


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """Write a row group (or more) for each table, zstd-compressed. There is at least one table; all have one schema."""
    import pyarrow.parquet as pq

    tables = iter(tables)
    first = next(tables)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _table(order: TableOrder, grouping: Grouping, levels: tuple[str, ...]) -> pa.Table:
    from engagement_async._core.arrow import grouping_table

    return grouping_table(grouping, levels).select(list(table_columns(order.levels)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
