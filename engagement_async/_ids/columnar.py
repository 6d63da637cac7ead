"""Tweet IDs out of Parquet and Arrow (Feather, IPC): one column of integers, text, decimals or bytes, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from engagement_async._ids.columns import best_column, named_column, rank
from engagement_async._ids.formats import Format
from engagement_async._ids.report import Intake
from engagement_async.errors import UsageError

__all__ = ["columnar_ids"]

_ROWS = 28 * 1024
_SAMPLE_ROWS = 50


def columnar_ids(
    file: BinaryIO, intake: Intake, *, kind: Format, id_column: str | None, owner_column: str | None = None
) -> Iterator[list[str]]:
    """Yield the IDs of one column. `file` must be seekable, for the end of these formats is read first.

    Their owners go to `intake.owners` if `owner_column` names the column of these.

    Raise `UsageError` for a file that is damaged, or a column of a type that cannot hold IDs.
    """
    try:
        import pyarrow as pa
    except ImportError:
        name = kind.capitalize()
        raise intake.refused(f"{name} needs a library: pip install 'engagement-async[arrow]'") from None
    try:
        reader = _ParquetReader(file) if kind is Format.PARQUET else _ArrowReader(file)
        column = _column(reader, intake, id_column)
        intake.use_column(reader.names[column])
        columns = [column] if owner_column is None else [column, _owner_column(reader, column, owner_column, intake)]
        row = 1
        for arrays in reader.tables(columns):
            values, *owners = (_texts(array, intake) for array in arrays)
            lines = range(row, row + len(values))
            ids = intake.owned(values, owners[0], lines) if owners else intake.checked(values, lines)
            row += len(values)
            if ids:
                yield ids
        if reader.rows is not None and row - 1 != reader.rows:
            raise intake.refused(f"says that it has {reader.rows:,} rows, and has {row - 1:,}: fetch it again")
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise intake.refused(f"is not a whole {kind.capitalize()} file: {text}") from None


class _ParquetReader:
    """Columns of a Parquet file."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(file, page_checksum_verification=True)
        self._schema = self._file.schema_arrow
        self.names: list[str] = list(self._schema.names)
        self.rows: int | None = self._file.metadata.num_rows

    def type_of(self, column: int) -> Any:
        """Return the type of a column."""
        return self._schema.field(column).type

    def tables(self, columns: Sequence[int], rows: int = _ROWS) -> Iterator[list[Any]]:
        """Yield the columns' values, in arrays of one length."""
        names = [self.names[column] for column in columns]
        for name in names:
            if self.names.count(name) > 1:  # the reader chooses by name
                raise UsageError(f"two columns are called {name!r}: write the file again without one of them")
        for batch in self._file.iter_batches(rows, columns=names):
            yield [batch.column(name) for name in names]


class _ArrowReader:
    """Columns of an Arrow file or stream."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa

        self._pa = pa
        self._file = file
        magic = file.read(6)
        self._is_file = magic == b"ARROW1"
        self._schema = self._open().schema
        self.names: list[str] = list(self._schema.names)
        self.rows: int | None = None

    def _open(self) -> Any:
        self._file.seek(0)
        return self._pa.ipc.open_file(self._file) if self._is_file else self._pa.ipc.open_stream(self._file)

    def type_of(self, column: int) -> Any:
        """Return the type of a column."""
        return self._schema.field(column).type

    def tables(self, columns: Sequence[int], rows: int = _ROWS) -> Iterator[list[Any]]:
        """Yield the columns' values, in arrays of one length."""
        reader = self._open()
        found = (reader.get_batch(n) for n in range(reader.num_record_batches)) if self._is_file else iter(reader)
        for batch in found:
            arrays = [batch.column(column) for column in columns]
            for array in arrays:
                array.validate(full=True)  # these files have no checksums, and a wrong offset would end the process
            for at in range(0, batch.num_rows, rows):
                yield [array.slice(at, rows) for array in arrays]


def _column(reader: _ParquetReader | _ArrowReader, intake: Intake, id_column: str | None) -> int:
    names = reader.names
    if id_column is not None:
        column = named_column(names, id_column, intake.source)
        _check_type(reader, column, intake)
        return column
    known = [index for index, name in enumerate(names) if rank(name) is not None]
    if len(names) == 1:
        column = 0
    else:
        samples = {
            i: _sample(reader, i, intake) for i in known if len(known) > 1 and _problem(reader.type_of(i)) is None
        }
        column = best_column(names, samples, intake.source)
    _check_type(reader, column, intake)
    return column


def _sample(reader: _ParquetReader | _ArrowReader, column: int, intake: Intake) -> Sequence[str]:
    first = next(reader.tables([column], _SAMPLE_ROWS), None)
    return [] if first is None else _texts(first[0], intake)


def _owner_column(reader: _ParquetReader | _ArrowReader, column: int, owner_column: str, intake: Intake) -> int:
    owner = named_column(reader.names, owner_column, intake.source, option="--owner-column")
    if owner == column:
        raise intake.refused(f"column {owner_column!r} holds the IDs: which one holds their owners?")
    problem = _problem(reader.type_of(owner))
    if problem is not None:
        raise intake.refused(
            f"column {reader.names[owner]!r} is {problem.partition(':')[0]}: owners are strings or integers"
        )
    intake.use_owner_column(reader.names[owner])
    return owner


def _check_type(reader: _ParquetReader | _ArrowReader, column: int, intake: Intake) -> None:
    problem = _problem(reader.type_of(column))
    if problem is not None:
        raise intake.refused(f"column {reader.names[column]!r} is {problem}")


def _problem(kind: Any) -> str | None:
    """Return why a type cannot hold IDs, or None."""
    import pyarrow.types as types

    kind = _inner(kind)
    if types.is_floating(kind):
        return "a float: its last digits are lost; write IDs as strings"
    if (
        types.is_integer(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_decimal(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_null(kind)
    ):
        return None
    return f"{kind}: IDs are strings or integers"


def _inner(kind: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as types

    while True:
        if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def _texts(array: Any, intake: Intake) -> list[str]:
    """Return the values as text, a null as nothing."""
    import pyarrow as pa
    import pyarrow.types as types

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = _inner(array.type)
    if types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind):
        texts: list[str | None] = array.cast(pa.string()).to_pylist() if array.type == kind else _plain(array)
        return texts if not array.null_count and None not in texts else [text or "" for text in texts]  # type: ignore[return-value]
    return [text or "" for text in _plain(array)]


def _plain(array: Any) -> list[str | None]:
    return [_text(value) for value in array.to_pylist()]


def _text(value: object) -> str | None:
    match value:
        case None | str():
            return value
        case bytes():
            return value.decode("utf-8", "replace")
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)
