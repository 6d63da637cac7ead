"""Bars in a notebook, as text: widgets are shown by a kernel (test_notebook.py beside this folder)."""

from __future__ import annotations

import sys

import pytest

from engagement_async import CallProgress, WaitReason
from engagement_async._display.notebook import NotebookDisplay


@pytest.fixture(autouse=True)
def _as_text_of_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    for name in (
        "COLUMNS",
        "LINES",
    ):  # by which tqdm would draw a bar as wide as the terminal of whoever runs the tests
        monkeypatch.delenv(name, raising=False)


def last_drawn(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.rpartition("\r")[2].strip()


def test_the_bar_is_drawn_with_what_the_call_says(capsys: pytest.CaptureFixture[str]) -> None:
    display = NotebookDisplay("totals")
    display.show(CallProgress(0, 1000, 0, 0.0, None, 0.0, None))
    assert last_drawn(capsys) == "totals:   0%|          | 0 of 1000 IDs, 0 requests"

    display.show(CallProgress(500, 1000, 2, 4.0, 4.0, 34.0, WaitReason.CONTRACT))
    assert last_drawn(capsys) == (
        "totals:  50%|#####     | 500 of 1000 IDs, 2 requests · 4 s left · waiting 34 s for the contract".replace(
            "#", "█"
        )
    )

    display.show(CallProgress(990, 990, 4, 7.0, 0.0, 0.0, None, is_finished=True))
    display.close()
    assert last_drawn(capsys).endswith("| 990 of 990 IDs, 4 requests · in 7 s")


def test_how_many_there_are_may_be_known_late(capsys: pytest.CaptureFixture[str]) -> None:
    display = NotebookDisplay("totals")
    display.show(CallProgress(250, None, 1, 1.0, None, 0.0, None))
    assert last_drawn(capsys) == "totals: 250 IDs so far, 1 request"

    display.show(CallProgress(300, 300, 2, 2.0, 0.0, 0.0, None, is_finished=True))
    display.close()
    assert last_drawn(capsys).endswith("| 300 of 300 IDs, 2 requests · in 2 s")


def test_one_that_showed_nothing_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    NotebookDisplay("totals").close()

    assert capsys.readouterr().err == ""
