"""Rows out of a damaged SQLite file, without SQLite: whatever page still holds them, however its tree is broken. Pure.

The format is that of https://www.sqlite.org/fileformat2.html. Nothing here judges what it finds: rows carry checksums, and
whoever takes them looks at those. Cells are searched where a page says that they are, and, where that fails, at every
byte of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["PAGE_SIZE", "Row", "rows_of_pages"]

PAGE_SIZE = 4096
_TABLE_LEAF, _INDEX_LEAF = 0x0D, 0x0A
_LEAF_HEADER = 8
_SHA256_TYPE = bytes([2 * 32 + 12])
_LONGEST_HEAD, _LONGEST_TYPE, _LONGEST_VARINTS = 16, 4, 14
Value = int | str | bytes | None


class Row(NamedTuple):
    """One row; `rowid` is None in a table that has none."""

    rowid: int | None
    values: tuple[Value, ...]


def rows_of_pages(data: bytes) -> Iterator[Row]:
    """Yield what looks like a row on any page: more than once if two places point to it, also if it was deleted."""
    for start in range(0, len(data) - PAGE_SIZE + 1, PAGE_SIZE):
        header = start + (100 if start == 0 else 0)
        for kind in (_TABLE_LEAF, _INDEX_LEAF):
            if data[header] == kind:
                yield from _rows_of_page(data, start, header, has_rowid=kind == _TABLE_LEAF)
                break
        else:
            yield from _rows_anywhere(data, start)


def _rows_of_page(data: bytes, start: int, header: int, *, has_rowid: bool) -> Iterator[Row]:
    """Yield the rows to which the page points, then those that lie on it: a bent pointer hides one."""
    count = int.from_bytes(data[header + 3 : header + 5], "big")
    pointers = header + _LEAF_HEADER
    for at in range(pointers, min(pointers + 2 * count, start + PAGE_SIZE - 1), 2):
        row = _row_at(data, start, start + int.from_bytes(data[at : at + 2], "big"), has_rowid=has_rowid)
        if row is not None:
            yield row
    yield from _rows_anywhere(data, start)


def _rows_anywhere(data: bytes, start: int) -> Iterator[Row]:
    """Yield the rows on a page that have a SHA-256 as their last value or the one before it, as those of a journal have.

    The head of such a record ends with the type of a blob of 32 bytes, perhaps followed by one more type.
    """
    end = start + PAGE_SIZE
    at = data.find(_SHA256_TYPE, start, end)
    while at >= 0:
        for head in range(max(start + 2, at - _LONGEST_HEAD), at):
            if 0 <= head + data[head] - 1 - at <= _LONGEST_TYPE:
                for first in range(max(start, head - _LONGEST_VARINTS), head):
                    for has_rowid in (True, False):
                        row = _row_at(data, start, first, has_rowid=has_rowid, head_at=head)
                        if row is not None:
                            yield row
        at = data.find(_SHA256_TYPE, at + 1, end)


def _row_at(data: bytes, start: int, at: int, *, has_rowid: bool, head_at: int | None = None) -> Row | None:
    """Return the row that begins there, if one can; with `head_at` only one whose head begins there."""
    end = start + PAGE_SIZE
    size, at = _varint(data, at, end)
    rowid: int | None = None
    if has_rowid:
        rowid, at = _varint(data, at, end)
    if not 2 <= size <= len(data) or at >= end or (head_at is not None and at != head_at):
        return None
    head_size, body = _varint(data, at, end)
    if not 2 <= head_size <= 64:
        return None
    types: list[int] = []
    while body < at + head_size:
        kind, body = _varint(data, body, end)
        if kind < 0:
            return None  # the head runs out of its page
        types.append(kind)
    lengths = [_length(kind) for kind in types]
    if body != at + head_size or min(lengths, default=-1) < 0 or head_size + sum(lengths) != size:
        return None
    payload = _payload(
        data, at, end, size, most_local=PAGE_SIZE - 35 if has_rowid else (PAGE_SIZE - 12) * 64 // 255 - 23
    )
    if payload is None:
        return None
    return _decoded(payload, head_size, types, lengths, rowid)


def _decoded(payload: bytes, at: int, types: list[int], lengths: list[int], rowid: int | None) -> Row | None:
    values: list[Value] = []
    for kind, length in zip(types, lengths, strict=True):
        raw = payload[at : at + length]
        at += length
        if kind == 0:
            values.append(None)
        elif kind >= 12:
            try:
                values.append(raw.decode() if kind % 2 else raw)
            except UnicodeDecodeError:
                return None
        elif kind in (8, 9):
            values.append(kind - 8)
        else:
            values.append(int.from_bytes(raw, "big", signed=True))
    return Row(rowid, tuple(values))


def _payload(data: bytes, at: int, end: int, size: int, *, most_local: int) -> bytes | None:
    """Return the bytes of a record, those on overflow pages too."""
    if size <= most_local:
        return data[at : at + size] if at + size <= end else None
    least = (PAGE_SIZE - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE_SIZE - 4)
    local = local if local <= most_local else least
    if at + local + 4 > end:
        return None
    parts = [data[at : at + local]]
    page, left = int.from_bytes(data[at + local : at + local + 4], "big"), size - local
    while left > 0:
        first = (page - 1) * PAGE_SIZE
        if page < 2 or first + PAGE_SIZE > len(data):
            return None
        part = data[first + 4 : first + 4 + min(left, PAGE_SIZE - 4)]
        parts.append(part)
        left -= len(part)
        page = int.from_bytes(data[first : first + 4], "big")
    return b"".join(parts)


def _length(kind: int) -> int:
    """Return how many bytes a value of that serial type takes; -1 for a type that there is not."""
    if kind >= 12:
        return (kind - 12) // 2
    return (0, 1, 2, 3, 4, 6, 8, -1, 0, 0, -1, -1)[kind]


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of 64 bits with a sign, and where it ends; -1 and `end` if it runs out of its page."""
    value = 0
    for length in range(9):
        if at + length >= end:
            return -1, end
        byte = data[at + length]
        if length == 8:
            value = value << 8 | byte
            return value - (value >> 63 << 64), at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + length + 1
    return -1, end
