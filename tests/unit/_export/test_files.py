"""Tables out: right bytes, whole files or none, flat memory."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
import threading
import tracemalloc
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._export.files import atomic_file
from engagement_async._export.formats import write_parquet
from engagement_async._export.rows import Row, write_csv, write_jsonl
from engagement_async.errors import UsageError

AT = datetime(2015, 9, 14, 17, tzinfo=UTC)
ROWS: list[Row] = [
    {
        "tweet_id": "1070059276213702656",
        "engagement_type": "favorites",
        "engagement_day": date(2015, 9, 14),
        "value": 67,
    },
    {"tweet_id": "1", "engagement_type": "replies", "engagement_hour": AT, "value": -8},
]


def test_jsonl() -> None:
    file = io.BytesIO()
    write_jsonl(file, ROWS)

    assert file.getvalue().decode().splitlines() == [
        '{"tweet_id":"1070059276213702656","engagement_type":"favorites","engagement_day":"2015-09-14","value":67}',
        '{"tweet_id":"1","engagement_type":"replies","engagement_hour":"2015-09-14T17:00:00Z","value":-8}',
    ]


def test_csv() -> None:
    file = io.BytesIO()
    east = AT.astimezone(timezone(timedelta(hours=2)))
    write_csv(
        file,
        [*ROWS, {"tweet_id": "2", "engagement_hour": east}],
        ["tweet_id", "engagement_day", "engagement_hour", "value"],
    )

    assert file.getvalue().decode() == (
        "tweet_id,engagement_day,engagement_hour,value\n"
        "1070059276213702656,2015-09-14,,67\n"
        "1,,2015-09-14T17:00:00Z,-8\n"
        "2,,2015-09-14T17:00:00Z,\n"
    )
    assert not file.closed


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(text: str) -> None:
    file = io.BytesIO()
    write_csv(file, [{"name": text}], ["name"])

    assert list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))[1] == [f"'{text}"]


@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.integers(-(2**63), 2**63 - 1)})))
def test_csv_and_jsonl_come_back(rows: list[Row]) -> None:
    lines, table = io.BytesIO(), io.BytesIO()
    write_jsonl(lines, rows)
    write_csv(table, rows, ["a", "b"])

    assert [json.loads(line) for line in lines.getvalue().split(b"\n")[:-1]] == rows
    read = csv.DictReader(io.StringIO(table.getvalue().decode(), newline=""))
    for row, back in zip(rows, read, strict=True):
        assert back["b"] == str(row["b"])
        text = str(row["a"]).replace("\r", " ")
        assert back["a"] in (text, f"'{text}")


def test_parquet_comes_back_and_is_the_same_twice() -> None:
    tables = [pa.table({"tweet_id": [str(n)], "hour": pa.array([AT], pa.timestamp("s", "UTC"))}) for n in range(3)]
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_parquet(file, iter(tables))

    assert files[0].getvalue() == files[1].getvalue()
    back = pq.read_table(io.BytesIO(files[0].getvalue()))
    assert back.to_pylist() == [{"tweet_id": str(n), "hour": AT} for n in range(3)]


def test_a_file_appears_whole_with_the_mode_that_umask_leaves(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_file(path) as file:  # noqa: PT012 - the block is what is tested
        file.write(b"half")
        raise error

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_file(tmp_path / "link") as file:
        file.write(b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_what_is_no_regular_file_is_written_to_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with atomic_file(pipe) as file:
        file.write(b"through")
    reader.join()

    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_path_that_no_file_can_have_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"), atomic_file(tmp_path / "none" / "out"):
        pass
    with pytest.raises(UsageError, match="is a folder"), atomic_file(tmp_path):
        pass


def test_memory_stays_flat(tmp_path: Path) -> None:
    rows = ({"tweet_id": str(10**18 + n), "value": n} for n in range(100_000))
    tracemalloc.start()
    with atomic_file(tmp_path / "out.csv") as file:
        write_csv(file, rows, ["tweet_id", "value"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1_000_000
    assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 100_001
