"""Formats that hold all tables in one file: DuckDB and Excel workbooks. Sinks as those of formats.py, one a table."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engagement_async._export.files import FULL
from engagement_async._export.formats import Add, Table
from engagement_async._export.layout import SHEET_NAME_MAX, utf16_length

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SHEET_ROWS", "duckdb_disk_error", "duckdb_sinks", "xlsx_sinks"]

SHEET_ROWS = 2**20
"""Rows that a sheet of Excel holds, the header among them; what is more goes on to another sheet."""
_MEMORY = "64MB"
"""For DuckDB, which takes four fifths of the machine's by default."""
_EXACT = 10**15
"""Excel's numbers have 15 digits: larger values are written as text."""
_UNWRITTEN = "Could not write file"
"""In the texts of DuckDB."""
_MADE_AT = datetime(2000, 1, 1)
"""Of every workbook: the same rows make the same bytes."""


@contextmanager
def duckdb_sinks(
    path: Path, empty: Mapping[str, Callable[[], Table]], *, named: str | None = None
) -> Iterator[dict[str, Add]]:
    """Make a database with these tables. No transaction: it would hold all rows in memory, and who gives the path gives a
    file that nobody sees before it is whole; a full disk is an `OSError` of the file as it is `named`.
    """
    with _disk_errors(named or path), closing(_connected(path)) as connection:
        made: set[str] = set()

        def sink(name: str) -> Add:
            def add(table: Table) -> None:
                rows = table.to_arrow()
                if name not in made:
                    made.add(name)
                    columns = ", ".join(f"{_quoted(field.name)} {_sql_type(field.type)}" for field in rows.schema)
                    connection.execute(f"CREATE TABLE {_quoted(name)} ({columns})")
                connection.register("chunk", rows)
                connection.execute(f"INSERT INTO {_quoted(name)} SELECT * FROM chunk")  # noqa: S608 - quoted
                connection.unregister("chunk")

            return add

        sinks = {name: sink(name) for name in empty}
        yield sinks
        for name, make in empty.items():
            if name not in made:
                sinks[name](make())
        connection.execute("CHECKPOINT")


def _connected(path: Path) -> Any:
    import duckdb

    return duckdb.connect(str(path), config={"threads": 1, "memory_limit": _MEMORY})


def duckdb_disk_error(error: Exception, path: str | Path) -> OSError | None:
    """Return the `OSError` behind an error of DuckDB that could not write a file; None for any other.

    The class of the error does not tell: a full disk raises transaction, I/O and fatal errors. `path` is what the user calls
    the file.
    """
    text = str(error)
    for code in FULL:
        if os.strerror(code) in text:
            return OSError(code, os.strerror(code), str(path))
    if _UNWRITTEN in text:
        return OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return None


@contextmanager
def _disk_errors(path: str | Path) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise duckdb_disk_error(error, path) or error from None


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE"
    if pa.types.is_date(kind):
        return "DATE"
    if pa.types.is_int8(kind):
        return "TINYINT"
    return "BIGINT" if pa.types.is_integer(kind) else "VARCHAR"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def xlsx_sinks(
    file: BinaryIO, empty: Mapping[str, Callable[[], Table]], *, sheet_rows: int = SHEET_ROWS
) -> Iterator[dict[str, Add]]:
    """Make a workbook with a sheet for each of these tables. IDs are text cells, instants are in UTC.

    A table of more rows than a sheet holds goes on in `name (2)` and so on.
    """
    from xlsxwriter import Workbook

    with tempfile.TemporaryDirectory(prefix="engagement-") as folder:
        options = {
            "constant_memory": True,  # rows wait in files, not in memory
            "tmpdir": folder,
            "strings_to_formulas": False,
            "strings_to_numbers": False,
            "strings_to_urls": False,
        }
        guarded = _Guarded(file)
        workbook = Workbook(guarded, options)
        workbook.set_properties({"created": _MADE_AT})
        try:
            sheets = {name: _Sheets(workbook, name, sheet_rows) for name in empty}
            yield {name: sheet.add for name, sheet in sheets.items()}
            for name, make in empty.items():
                if not sheets[name].has_begun:
                    sheets[name].add(make())
            workbook.close()
            if guarded.error is not None:
                raise guarded.error
        finally:
            for sheet in workbook.worksheets():
                sheet.row_data_fh.close()


class _Guarded:
    """A file that keeps the first error to itself: a half-written archive would complain of it when it is collected."""

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Leave that to the file's owner."""


def _cut(name: str, length: int) -> str:
    while utf16_length(name) > length:
        name = name[:-1]
    return name


class _Sheets:
    """The sheets of one table, one after the other."""

    def __init__(self, workbook: Any, name: str, rows: int) -> None:
        self._workbook = workbook
        self._name = name
        self._most = rows
        self._count = 0
        self._row = 0
        self._formats = {
            date: workbook.add_format({"num_format": "yyyy-mm-dd"}),
            datetime: workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        self._bold = workbook.add_format({"bold": True})
        self._sheet: Any = None
        self._begin()

    @property
    def has_begun(self) -> bool:
        return self._row > 0

    def add(self, table: Table) -> None:
        columns = table.columns
        if not self._row:
            self._write_header(columns)
        for row in table.rows():
            if self._row == self._most:
                self._begin()
                self._write_header(columns)
            for at, column in enumerate(columns):
                self._write_cell(at, row.get(column))
            self._row += 1

    def _begin(self) -> None:
        taken = {sheet.name.lower() for sheet in self._workbook.worksheets()}
        while True:  # another table may begin with the same words, or be called so
            self._count += 1
            suffix = f" ({self._count})" if self._count > 1 else ""
            name = _cut(self._name, SHEET_NAME_MAX - len(suffix)) + suffix
            if self._count == 1 or name.lower() not in taken:
                break
        self._sheet = self._workbook.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        self._row = 0

    def _write_header(self, columns: Any) -> None:
        for at, column in enumerate(columns):
            self._sheet.set_column(at, at, 22 if column in ("tweet_id", "detail") or column.endswith("_at") else 18)
        for at, column in enumerate(columns):
            self._sheet.write_string(0, at, column, self._bold)
        self._row = 1

    def _write_cell(self, at: int, value: object) -> None:
        if isinstance(value, int) and abs(value) < _EXACT:
            self._sheet.write_number(self._row, at, value)
        elif isinstance(value, datetime):
            naive = value.astimezone(UTC).replace(tzinfo=None, microsecond=0)
            self._sheet.write_datetime(self._row, at, naive, self._formats[datetime])
        elif isinstance(value, date):
            self._sheet.write_datetime(self._row, at, value, self._formats[date])
        elif value is not None:
            self._sheet.write_string(self._row, at, str(value))
