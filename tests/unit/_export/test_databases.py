"""Workbooks and databases: all tables in one file, IDs as text."""

from __future__ import annotations

import errno
import io
import resource
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest

from engagement_async._core.tables import TableShape
from engagement_async._export.databases import duckdb_sinks, xlsx_sinks
from engagement_async._export.formats import GroupingTable, TextTable

AT = datetime(2026, 3, 2, 12, 30, 15, 123456, tzinfo=UTC)
LEVELS = ("tweet.id", "engagement.type")
VALUES = {"2115541418866456216": {"replies": 3, "favorites": 2**60}, "20": {"replies": -1, "favorites": 0}}
SHAPE = TableShape((), has_observed_at=True)
TABLE = GroupingTable(VALUES, LEVELS, SHAPE, {"20": AT})


def cells(sheet: Any) -> list[list[object]]:
    return [[cell.value for cell in row] for row in sheet.rows]


def test_a_workbook_keeps_ids_values_and_instants() -> None:
    file = io.BytesIO()
    hours = GroupingTable({"2026-03-01": {"05": 7}}, ("engagement.day", "engagement.hour"))
    days = GroupingTable({"2026-03-01": 7}, ("engagement.day",))
    bad = TextTable(("tweet_id", "detail"), [{"tweet_id": "21", "detail": "=1+1"}])
    empty = {name: lambda: TextTable(("a", "b")) for name in ("g", "hours", "days", "bad", "none")}
    with xlsx_sinks(file, empty) as sinks:
        sinks["bad"](bad)
        sinks["g"](TABLE)
        sinks["hours"](hours)
        sinks["days"](days)

    book = openpyxl.load_workbook(io.BytesIO(file.getvalue()))
    assert book.sheetnames == ["g", "hours", "days", "bad", "none"]
    assert cells(book["g"]) == [
        ["tweet_id", "engagement_type", "value", "observed_at"],
        ["2115541418866456216", "replies", 3, None],
        ["2115541418866456216", "favorites", str(2**60), None],  # Excel's numbers have 15 digits
        ["20", "replies", -1, AT.replace(tzinfo=None, microsecond=0)],
        ["20", "favorites", 0, AT.replace(tzinfo=None, microsecond=0)],
    ]
    assert cells(book["hours"])[1] == [datetime(2026, 3, 1, 5), 7]
    assert cells(book["days"])[1] == [datetime(2026, 3, 1), 7]
    assert (book["bad"]["B2"].value, book["bad"]["B2"].data_type) == ("=1+1", "s")
    assert cells(book["none"]) == [["a", "b"]]


def test_the_same_rows_make_the_same_workbook() -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        with xlsx_sinks(file, {"g": lambda: TABLE}) as sinks:
            sinks["g"](TABLE)

    assert files[0].getvalue() == files[1].getvalue()


def test_what_no_sheet_holds_goes_on_in_another() -> None:
    file = io.BytesIO()
    name = "a" * 31
    with xlsx_sinks(file, {name: lambda: TABLE}, sheet_rows=3) as sinks:
        sinks[name](TABLE)
        sinks[name](TABLE)

    book = openpyxl.load_workbook(io.BytesIO(file.getvalue()))
    assert book.sheetnames == [name, "a" * 27 + " (2)", "a" * 27 + " (3)", "a" * 27 + " (4)"]
    assert [len(cells(sheet)) for sheet in book.worksheets] == [3, 3, 3, 3]
    assert all(cells(sheet)[0][0] == "tweet_id" for sheet in book.worksheets)


def test_sheets_that_go_on_have_names_that_excel_takes_and_no_two_the_same() -> None:
    file = io.BytesIO()
    names = ("😀" * 15, "a" * 30 + "b", "a" * 30 + "c", "a" * 27 + " (2)")
    with xlsx_sinks(file, {name: lambda: TABLE for name in names}, sheet_rows=3) as sinks:
        for name in names:
            sinks[name](TABLE)

    found = openpyxl.load_workbook(io.BytesIO(file.getvalue())).sheetnames
    assert found[:4] == list(names)
    assert found[4:7] == ["😀" * 13 + " (2)", "a" * 27 + " (3)", "a" * 27 + " (4)"]


def test_a_workbook_that_fails_leaves_nothing_open() -> None:
    with pytest.raises(OSError, match="gone"), xlsx_sinks(io.BytesIO(), {"g": lambda: TABLE}) as sinks:  # noqa: PT012
        sinks["g"](TABLE)
        raise OSError("gone")


def test_a_disk_that_is_full_is_told_as_the_system_does() -> None:
    with (
        open("/dev/full", "wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left"),
        xlsx_sinks(file, {"g": lambda: TABLE}),
    ):
        pass


def test_a_database_has_types(tmp_path: Path) -> None:
    wide = GroupingTable(
        {"20": {"2026-03-01": {"replies": 1}}},
        ("tweet.id", "engagement.day", "engagement.type"),
        TableShape(("replies", "favorites"), has_observed_at=True),
        {"20": AT},
    )
    with duckdb_sinks(
        tmp_path / "x", {"g": lambda: TABLE, "wide": lambda: wide, "out": lambda: TextTable(("a",))}
    ) as sinks:
        sinks["g"](TABLE)
        sinks["g"](TABLE)

    with duckdb.connect(str(tmp_path / "x"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        assert connection.execute("SELECT count(*), max(value) FROM g").fetchall() == [(8, 2**60)]
        assert [(name, kind) for name, kind, *_ in connection.execute("DESCRIBE wide").fetchall()] == [
            ("tweet_id", "VARCHAR"),
            ("engagement_day", "DATE"),
            ("replies", "BIGINT"),
            ("favorites", "BIGINT"),
            ("observed_at", "TIMESTAMP WITH TIME ZONE"),
        ]
        rows = connection.execute("SELECT engagement_day, replies, favorites, epoch_us(observed_at) FROM wide")
        assert rows.fetchall() == [(date(2026, 3, 1), 1, None, int(AT.timestamp()) * 10**6 + 123456)]
        assert connection.execute("SELECT * FROM out").fetchall() == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            duckdb.TransactionException("Failed to commit: Could not write file x: No space left on device"),
            errno.ENOSPC,
        ),
        (duckdb.FatalException("FATAL Error: Failed to write: Disk quota exceeded"), errno.EDQUOT),
        (duckdb.IOException('IO Error: Could not write file "x": Input/output error'), errno.EIO),
    ],
)
def test_a_full_disk_is_the_systems_error_whatever_duckdb_makes_of_it(
    error: duckdb.Error, code: int, tmp_path: Path
) -> None:
    with (
        pytest.raises(OSError, match=r"out\.duckdb") as raised,
        duckdb_sinks(tmp_path / "hidden", {"g": lambda: TABLE}, named="out.duckdb"),
    ):
        raise error
    assert raised.value.errno == code


def test_another_error_of_duckdb_stays_what_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(duckdb.CatalogException),
        duckdb_sinks(tmp_path / "hidden", {"g": lambda: TABLE}),
    ):
        raise duckdb.CatalogException("no")


def test_a_database_for_which_there_is_no_room_is_told_as_the_system_does(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with (
            pytest.raises(OSError, match=r"File too large: 'x\.duckdb'"),
            duckdb_sinks(tmp_path / "hidden", {"g": lambda: TABLE}, named="x.duckdb") as sinks,
        ):
            sinks["g"](TABLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
