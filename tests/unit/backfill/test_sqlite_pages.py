"""Rows out of SQLite files that SQLite itself may not read any more."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from engagement_async.backfill.sqlite_pages import PAGE_SIZE, rows_of_pages

SHA = bytes(range(32))
SIZES = [0, 1, 100, 479, 480, 4000, 4030, 4100, 9000, 70_000]


@pytest.fixture
def file(tmp_path: Path) -> tuple[bytes, dict[int, bytes]]:
    """Make a database with rows of all sizes; return its bytes, and what is in it."""
    draw = random.Random(5)
    rows = {number * 1000 - 5: draw.randbytes(size) for number, size in enumerate(SIZES * 5)}
    connection = sqlite3.connect(tmp_path / "x.sqlite")
    connection.executescript(
        f"PRAGMA page_size={PAGE_SIZE}; CREATE TABLE t (n INTEGER PRIMARY KEY, c, s BLOB, b BLOB);"
    )
    connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [(n, n % 3, SHA, body) for n, body in rows.items()])
    connection.execute("CREATE TABLE d (name TEXT PRIMARY KEY, value BLOB, s BLOB) WITHOUT ROWID")
    connection.executemany("INSERT INTO d VALUES (?, ?, ?)", [(f"n{n}", bytes(n * 100), SHA) for n in range(40)])
    connection.commit()
    connection.close()
    return (tmp_path / "x.sqlite").read_bytes(), rows


def found(data: bytes) -> dict[int, set[bytes]]:
    rows: dict[int, set[bytes]] = {}
    for rowid, values in rows_of_pages(data):
        if rowid is not None and len(values) == 4 and isinstance(values[3], bytes):
            rows.setdefault(rowid, set()).add(values[3])
    return rows


def test_every_row_of_every_size_is_found(file: tuple[bytes, dict[int, bytes]]) -> None:
    data, rows = file
    assert {n: bodies for n, bodies in found(data).items() if n in rows} == {n: {body} for n, body in rows.items()}
    names = {values[0] for rowid, values in rows_of_pages(data) if rowid is None and len(values) == 3}
    assert {f"n{n}" for n in range(40)} <= names


def test_broken_trees_hide_no_row(file: tuple[bytes, dict[int, bytes]]) -> None:
    """Neither the header of the file, nor those of its pages, nor the pointers of a page are needed."""
    data, rows = file
    broken = bytearray(data)
    for start in range(0, len(data), PAGE_SIZE):
        if data[start] in (0x0D, 0x05, 0x0A, 0x02):
            broken[start : start + 12] = bytes(12)
    broken[:100] = bytes(100)

    assert {n: bodies for n, bodies in found(bytes(broken)).items() if n in rows} == {n: {b} for n, b in rows.items()}


def test_anything_can_be_read() -> None:
    draw = random.Random(1)
    for data in (b"", b"x" * 10_000, draw.randbytes(3 * PAGE_SIZE), bytes([0x0D, 76]) * (2 * PAGE_SIZE)):
        list(rows_of_pages(data))


def test_a_head_that_runs_out_of_its_page_ends() -> None:
    """The types of its values would be looked for beyond it for ever."""
    page = bytearray(PAGE_SIZE)
    page[:8] = bytes([0x0D, 0, 0, 0, 1, 0x0F, 0xF0, 0])
    page[8:10] = (PAGE_SIZE - 6).to_bytes(2, "big")
    page[-6:] = bytes([60, 1, 60, 1, 1, 1])

    assert list(rows_of_pages(bytes(page))) == []


def test_pages_that_point_to_each_other_cost_no_memory() -> None:
    """A record that claims a quarter of a gigabyte is in no file that is smaller."""
    page = bytearray(2 * PAGE_SIZE)
    page[:8] = bytes([0x0D, 0, 0, 0, 1, 0, 100, 0])
    page[8:10] = (100).to_bytes(2, "big")
    head = bytes([0xFF, 0xFF, 0xFF, 0x7F, 1, 6, 0xFF, 0xFF, 0xFF, 0x6C])
    page[100 : 100 + len(head)] = head
    page[PAGE_SIZE : PAGE_SIZE + 4] = (2).to_bytes(4, "big")

    assert list(rows_of_pages(bytes(page))) == []
