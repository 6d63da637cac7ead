"""Excel workbooks: text cells are exact, numbers are not."""

from __future__ import annotations

import io
from pathlib import Path

import openpyxl
import pytest

from engagement_async._ids.reading import InputReport, Reject, read_ids, read_owned_chunks
from engagement_async.errors import UsageError

A, B = "1070059276213702656", "2124551806699486865"
Rows = list[list[object]]


def read(
    path: Path, *sheets: Rows, id_column: str | None = None
) -> tuple[list[str], list[tuple[int, str]], InputReport]:
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.worksheets[0])
    for rows in sheets:
        sheet = workbook.create_sheet()
        for row in rows:
            sheet.append(row)
    workbook.save(path)
    return taken(path, id_column)


def taken(path: Path, id_column: str | None = None) -> tuple[list[str], list[tuple[int, str]], InputReport]:
    rejects: list[Reject] = []
    reports: list[InputReport] = []
    ids = list(read_ids([path], id_column=id_column, on_reject=rejects.append, on_input=reports.append))
    return ids, [(reject.line, reject.reason.split(":")[0]) for reject in rejects], reports[0]


def test_a_column_of_text(tmp_path: Path) -> None:
    rows: Rows = [["Date", "Tweet id"], ["2026-01-01", A], [None, None], ["2026-01-02", B], ["x", "oops"]]
    ids, rejects, report = read(tmp_path / "a.xlsx", rows)

    assert (ids, rejects) == ([A, B], [(5, "is not a Tweet ID")])
    assert (report.format, report.column) == ("xlsx", "Tweet id")


def test_numbers_that_excel_has_rounded_are_rejected(tmp_path: Path) -> None:
    ids, rejects, _ = read(tmp_path / "a.xlsx", [["tweet_id"], [float(B)], [20.0], [B]])

    assert (ids, rejects) == (["20", B], [(2, "is a float")])


def test_sheets_without_ids_are_notices(tmp_path: Path) -> None:
    ids, _, report = read(tmp_path / "a.xlsx", [["a", "b"], ["x", "y"]], [], [["id", "n"], [A, 1]], [["id"], [B]])

    assert (ids, report.notices) == ([A, B], 1)


def test_the_caller_names_the_column(tmp_path: Path) -> None:
    assert read(tmp_path / "a.xlsx", [["a", "b"], [A, B]], id_column="2")[0] == [B]
    assert read(tmp_path / "a.xlsx", [[A, B]])[0] == [A, B]


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with pytest.raises(UsageError, match=r"a\.xlsx: which column holds the IDs"):
        read(path, [["a", "b"], ["x", "y"]])
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"a\.xlsx: (is not a whole Excel workbook|the zip file is cut short)"):
            taken(path)


def test_from_a_pipe(tmp_path: Path) -> None:
    read(tmp_path / "a.xlsx", [["id"], [A]])

    assert list(read_ids(["-"], stdin=io.BytesIO((tmp_path / "a.xlsx").read_bytes()))) == [A]


def test_ids_come_with_their_owners(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    read(
        path, [["Date", "Handle", "Tweet id"], ["x", "acme", A], ["y", None, A], ["z", "globex", B]], [["no", "table"]]
    )
    rejects: list[Reject] = []
    chunks = list(read_owned_chunks([path], owner_column="handle", on_reject=rejects.append))

    assert chunks == [(["acme", "globex"], [A, B])]
    assert [reject.reason for reject in rejects] == ["has no owner in column 'Handle'"]
