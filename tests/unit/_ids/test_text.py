"""Plain text: one or several IDs a line."""

from __future__ import annotations

import pytest

from engagement_async._ids.report import InputReport, Intake, Reject
from engagement_async._ids.text import ids_of_line, text_ids

A, B = "1070059276213702656", "1021817816134156288"


def read(text: str) -> tuple[list[str], list[Reject], InputReport]:
    rejects: list[Reject] = []
    intake = Intake(InputReport("a"), rejects.append)
    chunks = text_ids([(1, text.encode())], intake)
    return [tweet_id for chunk in chunks for tweet_id in chunk], rejects, intake.report


@pytest.mark.parametrize("line", [f"{A} {B}", f"{A},{B}", f"{A};{B};", f'"{A}","{B}"', f"['{A}', '{B}']", f"{A}|{B}"])
def test_several_ids_on_a_line(line: str) -> None:
    assert read(line + "\n")[:2] == ([A, B], [])


def test_items_of_a_list() -> None:
    assert read(f"- {A}\n* https://x.com/a/status/{B}\n1. {A}\n2) {B}\n")[:2] == ([A, B, A, B], [])


def test_comments_are_counted_and_fragments_are_none() -> None:
    ids, rejects, report = read(f"# mine\n{A} # the first\nhttps://x.com/#!/a/status/{B}#m\n\n")

    assert (ids, rejects, report.comments) == ([A, B], [], 2)


@pytest.mark.parametrize(
    ("line", "ids", "rejected"),
    [
        (f"{A} is the first", [], f"{A} is the first"),
        (f"{A} 15", [], f"{A} 15"),
        (f"{A}, 2020-01-01", [A], "2020-01-01"),
        ("7, x9y", [], "7, x9y"),
        ("1,7e18", [], "1,7e18"),
    ],
)
def test_a_line_with_other_things_is_no_list(line: str, ids: list[str], rejected: str) -> None:
    found, rejects, report = read(f"{line}\n")

    assert (found, [reject.text for reject in rejects], report.rejected) == (ids, [rejected], 1)


def test_small_numbers_alone_may_be_a_list() -> None:
    assert ids_of_line("20 30", 1, Intake(InputReport("a"))) == ["20", "30"]
