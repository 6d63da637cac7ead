"""Bars on a terminal: what is drawn of one call, of two at once, and what is left when they end."""

from __future__ import annotations

import sys

from engagement_async import CallProgress, WaitReason
from engagement_async._display.terminal import TerminalDisplay
from tests.support.terminal import stderr_on_terminal


def done(ids: int, total: int | None = 1000, *, is_finished: bool = False) -> CallProgress:
    return CallProgress(ids, total, ids // 250, 2.0, 6.0, 0.0, None, is_finished=is_finished)


def test_a_call_leaves_its_last_line() -> None:
    with stderr_on_terminal() as terminal:
        display = TerminalDisplay("totals")
        display.show(done(250))
        assert terminal.lines == ["totals 25% 250 of 1,000 IDs 6 s left", "1 request"]
        assert terminal.screen.cursor.hidden

        display.show(CallProgress(500, 1000, 2, 4.0, 4.0, 34.0, WaitReason.CONTRACT, "[red]HTTP 500[/red]"))
        assert terminal.lines[1] == "2 requests · waiting 34 s for the contract · [red]HTTP 500[/red]"

        display.show(done(1000, is_finished=True))
        display.close()
        assert terminal.lines == ["totals 100% 1,000 of 1,000 IDs in 2 s", "4 requests"]


def test_nobody_knows_how_many_there_are() -> None:
    with stderr_on_terminal() as terminal:
        display = TerminalDisplay("totals")
        display.show(done(250, None))
        display.close()

        assert terminal.lines[0].startswith("totals 250 IDs so far")


def test_no_ids_are_all_of_them() -> None:
    with stderr_on_terminal() as terminal:
        display = TerminalDisplay("totals")
        display.show(done(0, 0))
        display.close()

        assert terminal.lines[0].startswith("totals 100% 0 of 0 IDs")


def test_a_narrow_terminal_has_a_narrow_bar() -> None:
    with stderr_on_terminal(columns=60) as terminal:
        display = TerminalDisplay("historical")
        display.show(done(250))
        display.close()

        assert terminal.lines == ["historical 25% 250 of 1,000 IDs 6 s left", "1 request"]


def test_two_calls_at_once_share_the_terminal() -> None:
    with stderr_on_terminal() as terminal:
        one, two = TerminalDisplay("totals"), TerminalDisplay("historical")
        one.show(done(250))
        two.show(done(500))
        assert [line.split()[0] for line in terminal.lines] == ["totals", "1", "historical", "2"]

        one.show(done(1000, is_finished=True))
        one.close()
        two.show(done(750))
        assert terminal.lines == [
            "totals 100% 1,000 of 1,000 IDs in 2 s",
            "4 requests",
            "historical 75% 750 of 1,000 IDs 6 s left",
            "3 requests",
        ]
        sys.stderr.write("a log line\n")
        assert terminal.lines[2] == "a log line"  # above what still changes
        two.close()
        assert terminal.lines[3].startswith("historical 75%")


def test_one_that_showed_nothing_leaves_nothing() -> None:
    with stderr_on_terminal() as terminal:
        TerminalDisplay("totals").close()

        assert terminal.lines == []
