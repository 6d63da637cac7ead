"""Where the tables of an output go, piece by piece: text, Parquet, Arrow. Each sink is a context manager around a function
that takes pieces of one table, and writes an empty table if none came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from engagement_async._core.groupings import Grouping
from engagement_async._core.result import EngagementResult
from engagement_async._core.tables import LONG, Observed, TableShape, table_columns, table_rows
from engagement_async._export.rows import Row, RowText, write_csv, write_jsonl

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Add",
    "ArrowTable",
    "GroupingTable",
    "ResultTable",
    "StructTable",
    "Table",
    "TextTable",
    "table_sink",
    "text_tables",
    "write_parquet",
]

_ROWS = 50_000


class Table(Protocol):
    """A table, or a piece of one."""

    @property
    def columns(self) -> Sequence[str]: ...

    def rows(self) -> Iterable[Row]: ...

    def to_arrow(self) -> pa.Table: ...


Add = Callable[[Table], None]


@dataclass(frozen=True, slots=True)
class GroupingTable:
    """The rows of a grouping that has these levels throughout; its columns are in the order of `named` levels."""

    grouping: Grouping
    levels: tuple[str, ...]
    shape: TableShape = LONG
    observed: Observed = None
    named: tuple[str, ...] | None = None
    owners: Mapping[str, str] | None = None
    """The owners of Tweets, of a grouping with `tweet.id` outermost that gets a column `owner`."""

    @property
    def is_quick(self) -> bool:
        """Whether `RowText` writes it."""
        return self.shape == LONG and not (self.owners is not None and self.levels == ("tweet.id",))

    @property
    def columns(self) -> Sequence[str]:
        columns = table_columns(self.named or self.levels, self.shape)
        return columns if self.owners is None else ("owner", *columns)

    def rows(self) -> Iterable[Row]:
        rows = table_rows(self.levels, self.grouping, self.shape, self.observed)
        owners = self.owners
        return rows if owners is None else ({"owner": owners[row["tweet_id"]], **row} for row in rows)

    def to_arrow(self) -> pa.Table:
        from engagement_async._core.arrow import shaped_table, with_owners

        table = shaped_table(self.grouping, self.levels, self.shape, self.observed)
        if self.owners is not None:
            table = with_owners(table, self.owners)
        return table.select(list(self.columns))


@dataclass(frozen=True, slots=True)
class StructTable:
    """The rows of whole answers: of a grouping by Tweet and metric, straight from the decoder's structs."""

    tweet_ids: Sequence[str]
    structs: Sequence[Any]
    """The values of each ID: see `WholeAnswer`."""
    metrics: Sequence[str]
    shape: TableShape = LONG
    owners: Mapping[str, str] | None = None

    @property
    def columns(self) -> Sequence[str]:
        columns = table_columns(("tweet.id", "engagement.type"), self.shape)
        return columns if self.owners is None else ("owner", *columns)

    def rows(self) -> Iterable[Row]:
        return ArrowTable(self.to_arrow()).rows()

    def to_arrow(self) -> pa.Table:
        from engagement_async._core.arrow import with_owners
        from engagement_async._core.struct_tables import struct_table

        table = struct_table(self.tweet_ids, self.structs, self.metrics, self.shape)
        return table if self.owners is None else with_owners(table, self.owners)


@dataclass(frozen=True, slots=True)
class ArrowTable:
    """The rows of an Arrow table, or of a piece of one."""

    table: pa.Table

    @property
    def columns(self) -> Sequence[str]:
        columns: list[str] = self.table.column_names
        return columns

    def rows(self) -> Iterable[Row]:
        rows: list[Row] = self.table.to_pylist()
        return rows

    def to_arrow(self) -> pa.Table:
        return self.table


@dataclass(frozen=True, slots=True)
class ResultTable:
    """The rows of one grouping of a result."""

    result: EngagementResult
    name: str
    shape: TableShape = LONG

    @property
    def columns(self) -> Sequence[str]:
        return self.result.columns(self.name, **self._options)

    def rows(self) -> Iterable[Row]:
        return self.result.rows(self.name, **self._options)

    def to_arrow(self) -> pa.Table:
        return self.result.to_arrow(self.name, **self._options)

    @property
    def _options(self) -> dict[str, bool]:
        return {"wide": bool(self.shape.metrics), "observed_at": self.shape.has_observed_at}


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows of text."""

    columns: Sequence[str]
    listed: Sequence[Row] = ()

    def rows(self) -> Iterable[Row]:
        return ({column: row[column] for column in self.columns} for row in self.listed)

    def to_arrow(self) -> pa.Table:
        import pyarrow as pa

        return pa.Table.from_pylist(list(self.listed), pa.schema([(column, pa.string()) for column in self.columns]))


def text_tables(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[TextTable]:
    """Yield rows of text in pieces."""
    rest = iter(rows)
    while chunk := list(islice(rest, _ROWS)):
        yield TextTable(columns, chunk)


@contextmanager
def table_sink(
    file: BinaryIO, kind: str, empty: Callable[[], Table], *, types: Sequence[str] = (), excel: bool = False
) -> Iterator[Add]:
    """Write one table as a format that holds one a file.

    Args:
        file: Where to.
        kind: One of `TABLE_FORMATS`.
        empty: Called at the end, if no piece came, for a table without rows.
        types: All engagement types that there may be.
        excel: Whether CSV is written so that Excel keeps IDs.
    """
    write: _TextWriter | _ParquetWriter | _ArrowWriter
    if kind == "parquet":
        write = _ParquetWriter(file)
    elif kind == "arrow":
        write = _ArrowWriter(file, types)
    else:
        write = _TextWriter(file, kind, excel=excel)
    try:
        yield write
        if not write.has_begun:
            write(empty())
    finally:
        write.close()


class _TextWriter:
    def __init__(self, file: BinaryIO, kind: str, *, excel: bool) -> None:
        self.has_begun = False
        self._file = file
        self._kind = kind
        self._is_json = kind == "jsonl"
        self._excel = excel
        self._text: RowText | None = None

    def __call__(self, table: Table) -> None:
        is_first, self.has_begun = not self.has_begun, True
        if isinstance(table, GroupingTable) and table.is_quick and not self._excel:
            self._write_quickly(table)
        elif self._is_json:
            write_jsonl(self._file, table.rows())
        else:
            write_csv(self._file, table.rows(), table.columns, kind=self._kind, excel=self._excel, has_header=is_first)

    def _write_quickly(self, table: GroupingTable) -> None:
        if self._text is None:
            self._text = RowText(self._kind, table.columns)
            self._file.write(self._text.header)
        self._file.write(self._text.lines(table.grouping, table.levels, table.owners))

    def close(self) -> None:
        pass


class _ParquetWriter:
    """A row group (or more) for each piece, zstd-compressed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    @property
    def has_begun(self) -> bool:
        return self._writer is not None

    def __call__(self, table: Table) -> None:
        self.write(table.to_arrow())

    def write(self, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._file, table.schema, compression="zstd", use_dictionary=_repeating(table.schema)
            )
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _repeating(schema: pa.Schema) -> list[str]:
    """Return the columns whose values repeat: a dictionary of others takes a third more room and time."""
    import pyarrow as pa

    return [field.name for field in schema if field.name != "tweet_id" and not pa.types.is_int64(field.type)]


class _ArrowWriter:
    """An Arrow IPC file (Feather V2): a record batch (or more) for each piece, zstd-compressed."""

    def __init__(self, file: BinaryIO, types: Sequence[str]) -> None:
        self._file = file
        self._types = types
        self._writer: Any = None

    @property
    def has_begun(self) -> bool:
        return self._writer is not None

    def __call__(self, table: Table) -> None:
        import pyarrow as pa

        rows = self._with_one_dictionary(table.to_arrow())
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writer = pa.ipc.new_file(self._file, rows.schema, options=options)
        self._writer.write_table(rows)

    def _with_one_dictionary(self, table: pa.Table) -> pa.Table:
        """Return the table with the same dictionary as all others: the format takes no second one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for at, field in enumerate(table.schema):
            if field.name != "engagement_type" and pa.types.is_dictionary(field.type):
                table = table.set_column(
                    at, field.name, table[field.name].cast(pa.string())
                )  # its values are not known
        if "engagement_type" not in table.column_names:
            return table
        types = pa.array(self._types, pa.string())
        column = table["engagement_type"].cast(pa.string())
        codes = [pc.index_in(chunk, value_set=types) for chunk in column.chunks]
        kind = pa.dictionary(pa.int32(), pa.string())
        coded = pa.chunked_array([pa.DictionaryArray.from_arrays(each, types) for each in codes], kind)
        return table.set_column(table.column_names.index("engagement_type"), "engagement_type", coded)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """Write Arrow tables of one schema, at least one, as a Parquet file: a row group (or more) for each."""
    writer = _ParquetWriter(file)
    try:
        for table in tables:
            writer.write(table)
    finally:
        writer.close()
