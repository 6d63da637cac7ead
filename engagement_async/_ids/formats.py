"""What a file is, by its first bytes, and by its suffix where these leave it open. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePath

from engagement_async._ids.columns import is_known_name, rank
from engagement_async._ids.values import find_id, has_long_number, is_strong
from engagement_async.errors import UsageError

__all__ = ["Format", "delimiter_of", "detect", "is_sep_line", "suffix_format"]


class Format(StrEnum):
    """The formats that are read, as `--ids-format` names them."""

    TEXT = "text"
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"
    XLSX = "xlsx"


_SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".json": Format.JSON,
    ".js": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".arrow": Format.ARROW,
    ".feather": Format.ARROW,
    ".ipc": Format.ARROW,
    ".xlsx": Format.XLSX,
    ".xlsm": Format.XLSX,
}
_PACKED = frozenset({".gz", ".zst", ".zstd", ".bz2", ".xz"})
_JSON_START = re.compile(
    rb"\s*(?:\{|\[\s*(?:[\[\]{\"0-9tfn-]|$)|(?:(?:var|let|const)\s+)?[A-Za-z_$][\w.$]*(?:\[[^\]]*\])?\s*=\s*[\[{])"
)
_MARKUP = re.compile(rb"\s*<(?:!doctype|\?xml|html|head|body|div|table|svg|rss|feed)\b|\s*<!--", re.IGNORECASE)
_FOREIGN = {
    b"\xd0\xcf\x11\xe0": "an Excel workbook of before 2007, or with a password: save it as CSV, its ID column as text",
    b"SQLite format 3\0": "an SQLite database: export the IDs, as `sqlite3 -csv FILE 'select tweet_id from tweets'` does",
    b"Obj\x01": "Avro: convert it to Parquet or CSV",
    b"ORC": "ORC: convert it to Parquet or CSV",
    b"FEA1": "Feather of version 1: write it again with a library of today",
    b"%PDF": "a PDF: give the IDs as text or CSV",
    b"\x89HDF": "HDF5: convert it to Parquet or CSV",
    b"\x80\x04\x95": "a pickle: convert it to Parquet or CSV",
    b"\x80\x05\x95": "a pickle: convert it to Parquet or CSV",
    b"\x93NUMPY": "a numpy array: write it as text, as `numpy.savetxt('ids.txt', ids, '%d')` does",
}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b")) + b"\x7f"
_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_SAMPLE_LINES = 20


def suffix_format(name: str) -> Format | None:
    """Return the format that a file's suffix promises, if it is known. A suffix of an archive is left out."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    while suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def detect(head: bytes, hint: Format | None, source: str, *, has_column: bool = False) -> Format:
    """Return what a file is. `head` is its beginning, as UTF-8 where it is text; `hint` is what its suffix says.

    `has_column` tells that the caller named a column, so that it is no list. Raise `UsageError` with the fix for what
    cannot be read.
    """
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Format.ARROW
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise UsageError(f"{source}: is {what}")
    if head.startswith(b"PK\x03\x04"):
        raise UsageError(f"{source}: is a ZIP archive within another: unpack it first")
    if hint in (Format.PARQUET, Format.ARROW, Format.XLSX):
        raise UsageError(f"{source}: is not a whole {hint.capitalize()} file: it begins with {head[:8]!r}")
    if _MARKUP.match(head):
        raise UsageError(f"{source}: is HTML or XML: give the IDs as text, CSV or JSON")
    if _is_binary(head):
        raise UsageError(
            f"{source}: is neither text nor a format that is known here: give text, CSV, JSON, Parquet or Arrow"
        )
    if _JSON_START.match(head):
        return Format.JSON
    if hint in (Format.JSON, Format.JSONL) and head.lstrip()[:1] in (b"[", b"{"):
        raise UsageError(f"{source}: is not JSON: it begins with {head[:20]!r}")
    if hint in (Format.JSON, Format.JSONL):
        return (
            Format.JSON if head.lstrip()[:1] in (b'"', b"-", *(b"%d" % digit for digit in range(10))) else _text(head)
        )
    if hint in (Format.CSV, Format.TSV):
        return hint
    if has_column:
        return Format.CSV
    return _text(head)


def _is_binary(head: bytes) -> bool:
    """Return whether bytes are no text: one of a nation's older encodings may be no UTF-8 either, but has no controls."""
    controls = 1 - len(head.translate(None, _CONTROLS)) / len(head)
    if controls < 0.02:
        return False
    return controls > 0.1 or head.decode("utf-8", "replace").count("\ufffd") > 0.05 * len(head)


def _text(head: bytes) -> Format:
    """Return CSV if the text is a table: a header with a known name, or the same column of IDs beside other cells."""
    lines = [line for line in head.decode("utf-8", "replace").split("\n") if line.strip()][: _SAMPLE_LINES + 1]
    if len(lines) > 1 and not head.endswith(b"\n"):
        lines.pop()  # it may go on
    if not lines:
        return Format.TEXT
    if _SEP_LINE.fullmatch(lines[0]):
        return Format.CSV
    first = lines[0].strip()
    if is_known_name(first) or (rank(first) is not None and len(lines) > 1 and find_id(lines[1])):
        return Format.CSV
    delimiter = delimiter_of(lines[0])
    cells = lines[0].split(delimiter)
    if len(cells) > 1:
        if any(is_known_name(cell) for cell in cells) and not any(find_id(cell) for cell in cells):
            return Format.CSV
        if '"' in lines[0] or all(len(line.split(delimiter)) >= len(cells) for line in lines):
            places = {place for line in lines for place, cell in enumerate(_cells(line, delimiter)) if _strong(cell)}
            holds = all(any(_strong(cell) for cell in _cells(line, delimiter)) for line in lines)
            others = [cell for line in lines for cell in _cells(line, delimiter) if cell.strip() and not find_id(cell)]
            if holds and len(places) == 1 and others and not any(map(has_long_number, others)):
                return Format.CSV
    return Format.TEXT


def _cells(line: str, delimiter: str) -> list[str]:
    return _QUOTED.sub(lambda match: match[0].replace(delimiter, " "), line).split(delimiter)


def _strong(cell: str) -> bool:
    found = find_id(cell)
    return found is not None and is_strong(found)


def delimiter_of(line: str) -> str:
    """Return what separates the cells of a table's first line: what leaves a known name, else the commonest."""
    sep = _SEP_LINE.fullmatch(line)
    if sep:
        return sep[1]
    bare = _QUOTED.sub("x", line)
    named = [d for d in _DELIMITERS if d in bare and any(is_known_name(cell) for cell in _cells(line, d))]
    return max(named or _DELIMITERS, key=bare.count)


def is_sep_line(line: str) -> bool:
    """Return whether a line is Excel's word on the delimiter, as `sep=;`."""
    return _SEP_LINE.fullmatch(line) is not None
