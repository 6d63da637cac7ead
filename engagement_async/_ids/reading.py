"""Tweet IDs out of files: text, CSV, JSONL, Parquet, also compressed with gzip or zstd, and standard input. Lazy and strict.

Nothing here sends a request or prints: a line that is not an ID becomes a `Reject`, and the caller decides. No file is ever
completely in memory. A file that cannot be read at all (UTF-16, a cut archive, no such column) is a `UsageError`.

The fast path is a block of whole lines that one regular expression recognizes as IDs and nothing else. Only a block in which
it finds fewer IDs than lines is read line by line.
"""

from __future__ import annotations

import csv
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from io import FileIO, StringIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import orjson

from engagement_async.errors import UsageError

__all__ = ["FORMATS", "Reject", "read_id_chunks", "read_ids", "why_not_an_id"]

FORMATS = ("text", "csv", "tsv", "jsonl", "parquet")

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COLUMNS = ("tweet_id", "id_str", "id")
"""Columns that need not be named, best first: `id_str` before `id`, which is a number in older exports of Tweets."""

_READ_BYTES = 256 * 1024
_LINE_BYTES = 1024 * 1024
"""The longest line: no line with one ID needs more, and a file without line ends must not fill the memory."""
_ARCHIVE_BYTES = 4 * 1024
"""Compressed bytes decompressed at a time: at the worst ratio of zstd (128 KiB from 4 bytes) they become 128 MiB."""
_CHUNK_ROWS = 16 * 1024
_SUSPECT_IDS = 100
"""First IDs that all end in 00 before the warning comes at once: by chance that is one in 10^200."""
_SUSPECT_AT_END = 3
"""Minimum IDs for the warning when the file ends early."""

_MAX_ID = 2**63 - 1
_ID_LINES = re.compile(r"^([1-8][0-9]{0,18}|9[0-9]{0,17})\r?$", re.MULTILINE)
"""Lines that are certainly IDs. 19 digits that start with 9 may exceed 2^63-1: those take the slow path."""
_FLOAT = re.compile(r"[0-9]+(?:[.,][0-9]*)?[eE][+]?[0-9]+|[0-9]+[.,]0*")


@dataclass(frozen=True, slots=True)
class Reject:
    """One line of the input that is not an ID."""

    source: str
    """The file's path, or `standard input`."""
    line: int
    """Its number, from 1; in Parquet, that of the row."""
    text: str
    """Its text, cut to 80 characters."""
    reason: str
    """Why it is not an ID, and how to fix it."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.text!r} {self.reason}"


class _Decoder(Protocol):
    """What zlib's and zstandard's decompressobj have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


OnReject = Callable[[Reject], object]
_Refuse = Callable[[int, str, str], object]
_Block = tuple[Sequence[str], Sequence[int]]
"""Values, and the line of each."""


def read_ids(
    paths: Sequence[str | Path],
    *,
    id_column: str | None = None,
    format: str | None = None,  # noqa: A002 - the word of the command line
    on_reject: OnReject | None = None,
    on_warning: Callable[[str], object] | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[str]:
    """Return the Tweet IDs of all files in order, duplicates included, one by one.

    Args:
        paths: Files of text (one ID per line), CSV, TSV, JSONL or Parquet, also as gzip or zstd; `-` is `stdin`.
        id_column: Name of the column of CSV, JSONL and Parquet. By default `tweet_id`, `id_str`, `id`, or the only column.
        format: Format of all files: `text`, `csv`, `tsv`, `jsonl` or `parquet`. By default, by their suffix, otherwise text.
        on_reject: Called with each line that is not an ID. Without it, the first such line is an error.
        on_warning: Called with a message if every ID of a file ends in 00, as a spreadsheet rounds them.
        stdin: Read for `-`; the process's own standard input by default.

    Raises:
        UsageError: A file cannot be read, lacks the column, or has a line that is not an ID (without `on_reject`).
    """
    return chain.from_iterable(
        read_id_chunks(
            paths, id_column=id_column, format=format, on_reject=on_reject, on_warning=on_warning, stdin=stdin
        )
    )


def read_id_chunks(
    paths: Sequence[str | Path],
    *,
    id_column: str | None = None,
    format: str | None = None,  # noqa: A002 - the word of the command line
    on_reject: OnReject | None = None,
    on_warning: Callable[[str], object] | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[list[str]]:
    """Return the Tweet IDs of all files in order, in lists of up to about 20,000: millions per second from text.

    As `read_ids`. gzip and zstd are recognized by their first bytes.
    """
    for path in paths:
        name = "standard input" if str(path) == "-" else str(path)
        kind = format or _format_of(path)
        if kind not in FORMATS:
            raise UsageError(f"{name}: unknown format {kind!r}: one of {', '.join(FORMATS)}")
        yield from _watched(_chunks(path, name, kind, id_column, _refuser(name, on_reject), stdin), name, on_warning)


def why_not_an_id(text: str) -> str | None:
    """Return None if `text` is a Tweet ID (digits, not 0, at most 2^63-1), otherwise the reason and the fix."""
    if text.isascii() and text.isdigit():
        if text[0] == "0":
            return "starts with 0: a Tweet ID has no leading zeros"
        if len(text) > 19 or int(text) > _MAX_ID:
            return "is larger than 2^63-1, the largest Tweet ID"
        return None
    if not text:
        return "is empty"
    if "\0" in text:
        return "holds a NUL: save the file as UTF-8 text"
    if _FLOAT.fullmatch(text):
        return "is a float: a spreadsheet made it one, and its last digits are lost; format the column as text"
    if text[0] == "-" and text[1:].isdigit():
        return "is negative"
    return "is not a Tweet ID: digits alone"


def _refuser(name: str, on_reject: OnReject | None) -> _Refuse:
    def refuse(line: int, text: str, reason: str) -> None:
        reject = Reject(name, line, text if len(text) <= 80 else text[:79] + "…", reason)
        if on_reject is None:
            raise UsageError(str(reject))
        on_reject(reject)

    return refuse


def _watched(chunks: Iterator[list[str]], name: str, on_warning: Callable[[str], object] | None) -> Iterator[list[str]]:
    """Yield the chunks, and warn if all IDs end in 00: early, before anything was spent, or at the end."""
    seen = 0
    warning = (
        f"{name}: every ID ends in 00: most likely a spreadsheet has rounded them to 15 digits, and they name other "
        "Tweets or none. Take them from their source again, as text"
    )
    for chunk in chunks:
        seen += len(chunk)
        if on_warning is None or not all(tweet_id.endswith("00") for tweet_id in chunk):
            yield chunk
            break
        if seen >= _SUSPECT_IDS:
            on_warning(warning)
            yield chunk
            break
        yield chunk
    else:
        if on_warning is not None and seen >= _SUSPECT_AT_END:
            on_warning(warning)
        return
    yield from chunks


# --- one file -----------------------------------------------------------------------------------------------------


def _format_of(path: str | Path) -> str:
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst", ".zstd"):
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".xlsx", ".xls", ".ods"):
        raise UsageError(f"{path}: a spreadsheet: format its ID column as text, and save it as CSV")
    if suffix == ".json":
        raise UsageError(f"{path}: JSON is read line by line: make JSONL of it, as `jq -c '.[]'` does")
    return _SUFFIXES.get(suffix, "text")


def _chunks(
    path: str | Path, name: str, kind: str, id_column: str | None, refuse: _Refuse, stdin: BinaryIO | None
) -> Iterator[list[str]]:
    if id_column is not None and kind == "text":
        raise UsageError(f"{name}: text has no columns: name its format (csv, tsv, jsonl), or leave the ID column out")
    with _open(path, name, stdin) as file:
        if kind == "parquet":
            blocks: Iterable[_Block] = _parquet_blocks(file, id_column, name)
        else:
            lines = _line_blocks(_unpacked(file, name), refuse)
            if kind == "text":
                yield from _text_chunks(lines, refuse)
                return
            if kind == "jsonl":
                blocks = _jsonl_blocks(lines, id_column, name, refuse)
            else:
                blocks = _csv_blocks(lines, id_column, name, refuse, tabs=kind == "tsv")
        for values, numbers in blocks:
            chunk = _checked(values, numbers, refuse)
            if chunk:
                yield chunk


def _open(path: str | Path, name: str, stdin: BinaryIO | None) -> AbstractContextManager[BinaryIO]:
    if str(path) == "-":
        return nullcontext(stdin if stdin is not None else FileIO(0, closefd=False))
    try:
        return FileIO(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _unpacked(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Return the bytes of the file, decompressed if its first bytes are those of an archive."""
    pieces = iter(lambda: file.read(_READ_BYTES), b"")
    head = b""
    for piece in pieces:  # a pipe may give its first bytes one by one
        head += piece
        if len(head) >= 4:
            break
    pieces = chain((head,), pieces) if head else iter(())
    if head.startswith(b"\x1f\x8b"):
        return _inflated(pieces, lambda: zlib.decompressobj(wbits=31), zlib.error, f"{name}: the gzip file")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            import zstandard
        except ImportError:
            raise UsageError(f"{name}: zstd needs a library: pip install 'engagement-async[cli]'") from None
        new = zstandard.ZstdDecompressor().decompressobj
        return _inflated(pieces, new, zstandard.ZstdError, f"{name}: the zstd file")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{name}: is UTF-16: save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)")
    return pieces


def _inflated(
    pieces: Iterator[bytes], new: Callable[[], _Decoder], broken: type[Exception], what: str
) -> Iterator[bytes]:
    """Decompress member after member, and demand the end of the last: zstandard's readers accept a file that is cut."""
    decoder: _Decoder | None = None
    for piece in pieces:
        for start in range(0, len(piece), _ARCHIVE_BYTES):
            data = piece[start : start + _ARCHIVE_BYTES]
            while data:
                decoder = decoder or new()
                try:
                    yield decoder.decompress(data)
                except broken:
                    raise UsageError(f"{what} is corrupt: fetch it again") from None
                data = b""
                if decoder.eof:
                    data, decoder = decoder.unused_data, None
    if decoder is not None:
        raise UsageError(f"{what} is cut short: fetch it again")


def _line_blocks(pieces: Iterator[bytes], refuse: _Refuse) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of whole lines, each with the number of its first. A line that is too long is refused and never kept."""
    number, carry, skipping = 1, b"", False
    head = True
    for piece in pieces:
        block = carry + piece
        if head and len(block) >= 3:
            head = False
            block = block.removeprefix(b"\xef\xbb\xbf")
        if skipping:
            end = block.find(b"\n")
            if end < 0:
                carry = b""
                continue
            block, skipping = block[end + 1 :], False
            number += 1
        end = block.rfind(b"\n") + 1
        carry = block[end:]
        if end:
            yield number, block[:end]
            number += block.count(b"\n", 0, end)
        if len(carry) > _LINE_BYTES:
            refuse(number, carry[:80].decode("utf-8", "replace"), f"… is a line of over {_LINE_BYTES:,} bytes")
            carry, skipping = b"", True
    if carry and not skipping:
        yield number, carry.removeprefix(b"\xef\xbb\xbf") + b"\n"


# --- the formats --------------------------------------------------------------------------------------------------


def _text_chunks(blocks: Iterable[tuple[int, bytes]], refuse: _Refuse) -> Iterator[list[str]]:
    for number, block in blocks:
        text = block.decode("utf-8", "replace")
        ids = _ID_LINES.findall(text)
        if len(ids) != text.count("\n"):
            ids = []
            for line, raw in enumerate(text.split("\n")[:-1], number):
                value = raw.partition("#")[0].strip()
                if value:
                    ids.extend(_one(value, line, refuse))
        if ids:
            yield ids


def _csv_blocks(
    blocks: Iterable[tuple[int, bytes]], id_column: str | None, name: str, refuse: _Refuse, *, tabs: bool
) -> Iterator[_Block]:
    lines = _csv_lines(blocks)
    first = next(lines, "")
    delimiter = "\t" if tabs else max(",;\t", key=first.count)
    # strict: otherwise a quote that is never closed silently swallows the rows behind it
    reader = csv.reader(chain((first,), lines), delimiter=delimiter, strict=True)
    column = -1
    values: list[str] = []
    numbers: list[int] = []
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if reader.line_num > number or "end of data" in str(error):
                raise UsageError(f"{name}:{number}: a quote is opened here, and not closed well: {error}") from None
            refuse(number, "", f"is not CSV: {error}")
            continue
        if not row:
            continue
        if column < 0:
            if len(row) == 1 and id_column is None and row[0].strip()[:1].isdigit():
                column = 0  # one column and no header: this is a value, a good one or a bad one
            else:
                column = _column([cell.strip() for cell in row], id_column, name)
                continue
        if column < len(row):
            values.append(row[column])
            numbers.append(number)
        else:
            refuse(number, delimiter.join(row), f"has {len(row)} cells: the ID's is the {column + 1}th")
        if len(values) >= _CHUNK_ROWS:
            yield values, numbers
            values, numbers = [], []
    if column < 0 and id_column is not None:
        raise UsageError(f"{name}: has no header, so no column {id_column!r}")
    yield values, numbers


def _csv_lines(blocks: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    at = 1
    for number, block in blocks:
        for _ in range(at, number):
            yield "\n"  # in the place of a line that was too long, so that the reader's numbers stay right
        at = number + block.count(b"\n")
        yield from StringIO(block.decode("utf-8", "replace"), newline="\n")  # a lone CR ends no line


def _jsonl_blocks(
    blocks: Iterable[tuple[int, bytes]], id_column: str | None, name: str, refuse: _Refuse
) -> Iterator[_Block]:
    column = id_column
    for first, block in blocks:
        values: list[str] = []
        numbers: list[int] = []
        for number, line in enumerate(block.split(b"\n")[:-1], first):
            if not line.strip():
                continue
            try:
                value = orjson.loads(line)
            except ValueError:
                refuse(number, line[:81].decode("utf-8", "replace"), "is not JSON")
                continue
            if isinstance(value, dict):
                if column is None:
                    columns = list(value)
                    column = columns[_column(columns, None, name)]
                if column not in value:
                    refuse(number, line[:81].decode("utf-8", "replace"), f"has no key {column!r}")
                    continue
                value = value[column]
            if isinstance(value, str):
                values.append(value)
                numbers.append(number)
            elif isinstance(value, int) and not isinstance(value, bool):
                values.append(str(value))
                numbers.append(number)
            elif isinstance(value, float):
                refuse(number, repr(value), "is a float: its last digits are lost; write IDs as strings")
            else:
                refuse(number, line[:81].decode("utf-8", "replace"), "holds no ID: a string or an integer")
        yield values, numbers


def _parquet_blocks(file: BinaryIO, id_column: str | None, name: str) -> Iterator[_Block]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(f"{name}: Parquet needs a library: pip install 'engagement-async[arrow]'") from None
    with ExitStack() as stack:
        if not (file.seekable() and file.read(4) == b"PAR1"):
            # The footer is read first, so what comes from a pipe or an archive must be whole.
            if file.seekable():
                file.seek(0)
            pieces, file = _unpacked(file, name), stack.enter_context(tempfile.TemporaryFile())
            for piece in pieces:
                file.write(piece)
        try:
            table = pq.ParquetFile(file)
            columns = list(table.schema_arrow.names)
            column = columns[_column(columns, id_column, name)]
            kind = table.schema_arrow.field(column).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if pa.types.is_floating(kind):
                raise UsageError(
                    f"{name}: column {column!r} is a float: its last digits are lost; write IDs as strings"
                )
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
                raise UsageError(f"{name}: column {column!r} is {kind}: IDs are strings or integers")
            row = 1
            for batch in table.iter_batches(_CHUNK_ROWS, columns=[column]):
                values: list[str | None] = batch.column(0).cast(pa.string()).to_pylist()
                yield [value or "" for value in values], range(row, row + len(values))
                row += len(values)
        except pa.ArrowException as error:
            raise UsageError(f"{name}: is not a whole Parquet file: {str(error).splitlines()[0]}") from None


def _column(columns: Sequence[str], id_column: str | None, name: str) -> int:
    """Return the index of the column that holds the IDs."""
    wanted = (id_column,) if id_column is not None else _COLUMNS
    for column in wanted:
        if column in columns:
            return columns.index(column)
    if id_column is None and len(columns) == 1:
        return 0
    listed = ", ".join(repr(column[:40]) for column in columns[:20])
    if id_column is None:
        raise UsageError(f"{name}: which column holds the IDs? Name it with --id-column: {listed}")
    raise UsageError(f"{name}: has no column {id_column!r}, but {listed}")


# --- values -------------------------------------------------------------------------------------------------------


def _checked(values: Sequence[str], numbers: Sequence[int], refuse: _Refuse) -> list[str]:
    text = "\n".join(values)
    ids: list[str] = _ID_LINES.findall(text)
    if len(ids) == len(values) == text.count("\n") + 1:
        return ids
    return [tweet_id for value, number in zip(values, numbers, strict=True) for tweet_id in _one(value, number, refuse)]


def _one(value: str, number: int, refuse: _Refuse) -> tuple[str, ...]:
    """Return the ID of one value without the spaces and quotes around it, or nothing."""
    bare = value.strip().strip("\"'").strip()
    reason = "runs over several lines: a quote is not closed" if "\n" in bare else why_not_an_id(bare)
    if reason is None:
        return (bare,)
    refuse(number, value.strip(), reason)
    return ()
