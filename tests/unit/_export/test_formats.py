"""Sinks and writers of the formats."""

from __future__ import annotations

import io
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engagement_async._export.files import atomic_file
from engagement_async._export.formats import write_parquet
from engagement_async._export.rows import write_csv

AT = datetime(2015, 9, 14, 17, tzinfo=UTC)


def test_parquet_comes_back_and_is_the_same_twice() -> None:
    tables = [pa.table({"tweet_id": [str(n)], "hour": pa.array([AT], pa.timestamp("s", "UTC"))}) for n in range(3)]
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_parquet(file, iter(tables))

    assert files[0].getvalue() == files[1].getvalue()
    back = pq.read_table(io.BytesIO(files[0].getvalue()))
    assert back.to_pylist() == [{"tweet_id": str(n), "hour": AT} for n in range(3)]


def test_memory_stays_flat(tmp_path: Path) -> None:
    rows = ({"tweet_id": str(10**18 + n), "value": n} for n in range(100_000))
    tracemalloc.start()
    with atomic_file(tmp_path / "out.csv") as file:
        write_csv(file, rows, ["tweet_id", "value"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000
    assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 100_001
