"""What is told of an input."""

from __future__ import annotations

import pytest

from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async.errors import UsageError


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (InputReport("a.txt", "text", ids=1), "a.txt: 1 ID from text"),
        (
            InputReport("a.csv", "csv", ("gzip", "UTF-16"), "Tweet id", 1200, 2, 1, 0, 3),
            "a.csv: 1,200 IDs from csv (gzip, UTF-16), column 'Tweet id'; 2 rejects; 1 notice skipped; 3 rows with another "
            "number of cells",
        ),
        (
            InputReport("a.csv", "csv", column="2", ids=3, comments=1),
            "a.csv: 3 IDs from csv, column 2; 1 comment skipped",
        ),
    ],
)
def test_one_line(report: InputReport, text: str) -> None:
    assert str(report) == text
    assert report.fields()["ids"] == report.ids


def test_a_reject_shows_no_more_than_80_characters_and_is_an_error_if_nobody_listens() -> None:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    intake.reject(3, "x" * 1000, "is bad")

    assert (len(rejects[0].text), intake.report.rejected) == (80, 1)
    with pytest.raises(UsageError, match=r"^a:3: 'x' is bad$"):
        Intake(InputReport("a")).reject(3, "x", "is bad")


def test_values_become_ids_or_rejects_in_their_order() -> None:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)

    assert intake.checked(["20", "x", "30", "9223372036854775808"], [1, 2, 3, 4]) == ["20", "30"]
    assert [reject.line for reject in rejects] == [2, 4]


def test_fractions_are_counted_by_what_a_float_holds() -> None:
    intake = Intake(InputReport("a"))
    values = [
        "1070059276213702656.0",
        "2124551806699486865.0",
        "20.0",
        "https://x.com/a.b/status/1070059276213702656?s=20",
    ]

    assert len(intake.checked(values, range(4))) == 4
    assert (intake.rounded_fractions, intake.fractions) == (1, 1)
