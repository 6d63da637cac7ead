"""Tables out: JSONL, CSV and Parquet from tidy rows or Arrow tables, streamed, and files that are whole or not there.

The same rows give the same bytes. Nothing here knows what a row means; pyarrow is imported for Parquet alone.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import orjson

from engagement_async.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TABLE_FORMATS", "Row", "atomic_file", "rows_of", "write_csv", "write_jsonl", "write_parquet"]

TABLE_FORMATS = ("jsonl", "csv", "parquet")

Row = Mapping[str, object]
"""Column to value: str, int, date, aware datetime or None."""

_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
_FORMULA = ("=", "+", "-", "@", "\t")
"""What makes a spreadsheet run a text cell: OWASP, "CSV Injection"."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` when the block ends well; else `path` is as it was.

    It grows beside its target under a hidden name, is synced, renamed, and its folder synced. What is no regular file
    (`/dev/null`, a named pipe) is written to directly. Raises `UsageError` if the folder is missing or `path` is one.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path}: is a folder: name a file in it")
        if not stat.S_ISREG(mode):
            with target.open("wb") as file:
                yield file
            return
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {target.parent}: make it first")
    hidden = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        with hidden.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(target)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_jsonl(file: BinaryIO, rows: Iterable[Row]) -> None:
    """One object a row. Dates are `2015-09-14`, instants `2015-09-14T17:00:00Z`."""
    file.writelines(orjson.dumps(row, option=_JSON) for row in rows)


def write_csv(file: BinaryIO, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """With a header, and `\\n` after each row. A text that a spreadsheet would run as a formula gets a `'` in front."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    text.flush()
    text.detach()


def write_parquet(file: BinaryIO, tables: Iterable[pa.Table]) -> None:
    """A row group (or more) for each table, zstd-compressed. There is at least one table; all have one schema."""
    import pyarrow.parquet as pq

    tables = iter(tables)
    first = next(tables)
    with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def rows_of(tables: Iterable[pa.Table], *, rows_at_once: int = 10_000) -> Iterator[Row]:
    """The rows of Arrow tables as the other writers take them."""
    for table in tables:
        for batch in table.to_batches(rows_at_once):
            yield from batch.to_pylist()


def _cell(value: object) -> object:
    if type(value) is int:
        return value
    if isinstance(value, str):
        text = value.replace(
            "\r", " "
        )  # the csv module quotes a CR from Python 3.13 on alone; readers end the row at it
        return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not _is_number(text) else text
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _is_number(text: str) -> bool:
    digits = text[1:] if text[0] in "+-" else text
    return digits.isascii() and digits.isdigit()
