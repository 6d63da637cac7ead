"""The files of an output: each format, whole or not there, read back by other programs."""

from __future__ import annotations

import csv
import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard

from engagement_async._export.formats import Add, ArrowTable, GroupingTable, Table
from engagement_async._export.layout import TableLayout
from engagement_async._export.outputs import open_tables, written_behind

LEVELS = ("tweet.id", "engagement.type")
GROUPINGS = {"by_tweet": LEVELS}
TYPES = ("replies", "favorites", "impressions")
# The second piece has types in another order, and one more.
PIECES = [{"20": {"favorites": 1}, "21": {"replies": 2}}, {"22": {"impressions": 3, "replies": 4}}]
ROWS = [("20", "favorites", 1), ("21", "replies", 2), ("22", "impressions", 3), ("22", "replies", 4)]
KINDS = ("csv", "csv.gz", "csv.zst", "tsv", "jsonl", "ndjson.gz", "parquet", "arrow", "feather", "duckdb", "xlsx")


def write(layout: TableLayout, pieces: list[dict[str, Any]], fail: Exception | None = None) -> None:
    with open_tables(
        layout, {name: lambda: GroupingTable({}, LEVELS) for name in layout.groupings}, types=TYPES
    ) as sinks:
        add: Add = sinks["by_tweet"]
        for piece in pieces:
            add(GroupingTable(piece, LEVELS))
        if fail is not None:
            raise fail


def read(path: Path) -> list[tuple[Any, ...]]:
    kind = path.name.removeprefix("x.")
    raw = path.read_bytes()
    if kind.endswith(".gz"):
        raw = gzip.decompress(raw)
    elif kind.endswith(".zst"):
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    if kind.startswith(("csv", "tsv")):
        rows = list(csv.reader(raw.decode().splitlines(), delimiter="\t" if kind == "tsv" else ","))
        assert rows[0] == ["tweet_id", "engagement_type", "value"]
        return [(tweet_id, metric, int(value)) for tweet_id, metric, value in rows[1:]]
    if "json" in kind:
        return [tuple(json.loads(line).values()) for line in raw.splitlines()]
    if kind == "parquet":
        return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
    if kind in ("arrow", "feather"):
        table = pyarrow.feather.read_table(path)
        assert table.schema.field("engagement_type").type == pa.dictionary(pa.int32(), pa.string())
        assert pl.read_ipc(path).rows() == [tuple(row.values()) for row in table.to_pylist()]
        return pl.read_ipc(path).rows()
    if kind == "xlsx":
        return [tuple(cell.value for cell in row) for row in openpyxl.load_workbook(path)["by_tweet"].rows][1:]
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("SELECT * FROM by_tweet").fetchall()


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_comes_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    layout = TableLayout(str(path), None, GROUPINGS)

    write(layout, PIECES)
    assert read(path) == ROWS
    first = path.read_bytes()
    with pytest.raises(OSError, match="gone"):
        write(layout, PIECES, OSError("gone"))
    assert path.read_bytes() == first
    write(layout, PIECES)
    assert kind == "duckdb" or path.read_bytes() == first
    write(layout, [])
    assert read(path) == []
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_and_a_name_with_a_place_have_a_file_for_each(tmp_path: Path) -> None:
    groupings = {**GROUPINGS, "again": LEVELS}
    layout = TableLayout(f"{tmp_path}/out.tsv/", None, groupings)
    layout.make_folder()
    write(layout, PIECES)
    write(TableLayout(f"{tmp_path}/{{grouping}}.csv", None, groupings), PIECES)

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.?sv")) == [
        "again.csv", "by_tweet.csv", "out.tsv", "out.tsv/again.tsv", "out.tsv/by_tweet.tsv"
    ]  # fmt: skip


def test_pieces_are_written_on_another_thread_in_order_and_its_errors_are_raised() -> None:
    written: list[tuple[Any, bool]] = []

    def add(table: Table) -> None:
        numbers = table.to_arrow()["n"].to_pylist()
        if numbers == [2]:
            raise OSError("full")
        written.append((numbers, threading.current_thread() is threading.main_thread()))
        assert (list(table.columns), list(table.rows())) == (["n"], [{"n": n} for n in numbers])

    def piece(number: int) -> Table:
        return ArrowTable(pa.table({"n": [number]}))

    with written_behind({"t": add}, ["out.parquet"]) as sinks:
        sinks["t"](piece(0))
        sinks["t"](piece(1))
    assert written == [([0], False), ([1], False)]

    with pytest.raises(OSError, match="full"), written_behind({"t": add}, ["out.parquet"]) as sinks:
        sinks["t"](piece(2))


def test_pipes_are_written_where_a_signal_ends_it(tmp_path: Path) -> None:
    threads: list[threading.Thread] = []
    os.mkfifo(tmp_path / "pipe")

    for files in (["-"], ["out.csv", str(tmp_path / "pipe")]):
        with written_behind({"t": lambda _: threads.append(threading.current_thread())}, files) as sinks:
            sinks["t"](PIECES)  # type: ignore[arg-type]

    assert threads == [threading.main_thread()] * 2
