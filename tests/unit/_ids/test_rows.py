"""Rows of any table: where the IDs are, and what becomes of each row. More of it, through CSV: test_delimited.py."""

from __future__ import annotations

import pytest

from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async._ids.rows import Layout, Row, choose_layout, ids_of_rows

A, B = "1070059276213702656", "1021817816134156288"


def rows(*cells: list[str]) -> list[Row]:
    return [Row(line, each, ()) for line, each in enumerate(cells, 1)]


@pytest.mark.parametrize(
    ("table", "id_column", "expected", "name"),
    [
        (rows(["x", "Tweet id"], ["1", A]), None, Layout(1, 2, ["x", "Tweet id"]), "Tweet id"),
        (rows(["whatever"], [A]), None, Layout(0, 1, ["whatever"]), "whatever"),
        (rows([A], [B]), None, Layout(0, 1, None), None),
        (rows([f"'{A[:9]}o"], [B]), None, Layout(0, 1, None), None),
        (rows(["x", A], ["y", B]), None, Layout(1, 2, None), "2"),
        (rows(["x", A], ["y", B]), "2", Layout(1, 2, None), "2"),
        (rows(["x", "y"], ["1", A]), "2", Layout(1, 2, ["x", "y"]), "y"),
        (rows([A, B]), None, None, None),
    ],
)
def test_where_the_ids_are(table: list[Row], id_column: str | None, expected: Layout | None, name: str | None) -> None:
    found = choose_layout(table, id_column, Intake(InputReport("a")))

    assert found == expected
    assert found is None or found.name == name


def test_every_row_is_an_id_or_counted() -> None:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    layout = Layout(1, 2, ["x", "id"])
    table = rows(["1", A], ["x", "id"], ["2"], ["", ""], ["3", "oops"], ["4", B, "more"], ["a", "b", "5"])

    assert ids_of_rows(table, ",", layout, intake) == [A, B]
    assert [reject.line for reject in sorted(rejects, key=lambda reject: reject.line)] == [3, 5, 7]
    assert (intake.report.rejected, intake.report.notices, intake.report.irregular) == (3, 1, 1)


def test_a_row_within_the_quotes_of_another_is_rejected() -> None:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    row = Row(2, [A, f"a\n{B},b"], (f'{A},"a', f'{B},b"'))

    assert ids_of_rows([row], ",", Layout(0, 2, ["id", "text"]), intake) == [A]
    assert [(reject.line, reject.text) for reject in rejects] == [(3, f'{B},b"')]
