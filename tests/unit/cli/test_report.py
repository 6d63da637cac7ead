"""What is written to stderr, in each mode."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from datetime import datetime
from typing import Any

import click
import pytest

from engagement_async._ids.reading import Reject
from engagement_async._progress import Progress, ProgressMeter
from engagement_async.cli.app import Session
from engagement_async.cli.report import Mode, Reporter
from engagement_async.errors import JobDiskError
from tests.support.terminal import stderr_on_terminal

REJECT = Reject("ids.txt", 3, "x", "is not a Tweet ID")


def event(line: str) -> dict[str, Any]:
    """Return an event without its time."""
    found: dict[str, Any] = json.loads(line)
    datetime.fromisoformat(found.pop("time"))
    return found


def written(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_the_mode_follows_from_the_options_and_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def mode(*, as_json: bool = False, quiet: bool = False) -> Mode:
        return Reporter.of(Session(), as_json=as_json, quiet=quiet).mode

    assert mode() is Mode.LINES
    assert mode(as_json=True) is Mode.JSON
    assert mode(quiet=True) is Mode.QUIET
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert mode() is Mode.TERMINAL
    with pytest.raises(click.UsageError, match="take one of them"):
        mode(as_json=True, quiet=True)


def test_every_event_says_of_which_command_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(Mode.JSON, Session(context={"job": "may"})).event("started")

    assert [event(line) for line in written(capsys)] == [{"event": "started", "job": "may"}]


def test_of_long_work_no_more_is_said_than_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = Reporter(Mode.LINES)
    for second in range(25):
        monkeypatch.setattr("time.monotonic", lambda second=second: float(second))
        reporter.now_and_then("reading", f"read until {second}", second=second)

    assert written(capsys) == ["read until 10", "read until 20"]


def test_a_stream_that_nobody_reads_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", broken)

    Reporter(Mode.LINES).warn("lost")


def test_errors_are_events_too_once_events_are_wanted() -> None:
    session = Session()
    Reporter.of(session, as_json=True, quiet=False)

    assert session.json


@pytest.mark.parametrize("mode", Mode)
def test_notes_are_for_people_and_events_for_machines(mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(mode)
    reporter.note("for people")
    reporter.event("started", ids=3)

    lines = written(capsys)
    if mode is Mode.JSON:
        assert [event(line) for line in lines] == [{"event": "started", "ids": 3}]
    else:
        assert lines == ([] if mode is Mode.QUIET else ["for people"])


@pytest.mark.parametrize("mode", Mode)
def test_a_warning_is_always_written(mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(mode).warn("the clock is off")

    (line,) = written(capsys)
    if mode is Mode.JSON:
        assert event(line) == {"event": "warning", "message": "the clock is off"}
    else:
        assert line == "warning: the clock is off"


def test_machines_hear_of_each_rejected_line_and_people_of_those_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    for mode, show in ((Mode.JSON, False), (Mode.LINES, False), (Mode.LINES, True)):
        Reporter(mode).rejected(REJECT, show=show)

    first, line = written(capsys)
    assert event(first) == {
        "event": "rejected",
        "source": "ids.txt",
        "line": 3,
        "text": "x",
        "reason": "is not a Tweet ID",
    }
    assert "ids.txt:3" in line


def test_counts_stand_below_each_other_without_those_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(Mode.LINES).counts({"answered": 12_345, "unavailable": 6, "failed": 0})
    Reporter(Mode.LINES).counts({"answered": 0, "failed": 0})

    assert written(capsys) == ["  answered    12,345", "  unavailable      6", "  answered    0"]


@pytest.mark.parametrize("mode", [Mode.LINES, Mode.QUIET])
def test_a_long_list_is_cut(mode: Mode, capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(mode).listed("failed:", [str(number) for number in range(12)])
    Reporter(mode).listed("nothing:", [])

    assert written(capsys) == ["failed:", *(f"  {number}" for number in range(10)), "  and 2 more"]


def test_machines_get_no_lists(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(Mode.JSON).listed("failed:", ["1"])

    assert written(capsys) == []


METER = ProgressMeter(10, 60.0, lambda: 1.0)


def now() -> Progress:
    return METER.progress(requests=1)


@pytest.mark.virtual_time
async def test_every_ten_seconds_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for mode in (Mode.LINES, Mode.JSON, Mode.QUIET):
        async with Reporter(mode).watching(now):
            await asyncio.sleep(35.5)

    lines = written(capsys)
    assert len(lines) == 6
    assert [json.loads(line)["event"] for line in lines[3:]] == ["progress"] * 3


@pytest.mark.virtual_time
async def test_what_the_engine_logs_meanwhile_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("engagement_async")
    async with Reporter(Mode.QUIET).watching(now):
        log.warning("the API does not answer")
        log.info("a detail")
    handlers = list(log.handlers)

    assert written(capsys) == ["warning: the API does not answer"]
    assert not [each for each in handlers if type(each).__module__.startswith("engagement_async.cli")]


async def test_on_a_terminal_what_is_told_stands_above_what_is_drawn() -> None:
    asked: list[int] = []

    def owners() -> list[str]:
        asked.append(1)
        return ["1 of 2 done", "owner ann: 3 failed"]

    with stderr_on_terminal() as terminal:
        reporter = Reporter(Mode.TERMINAL)
        async with reporter.watching(now, owners):
            reporter.warn("the API \x1b[2J[red] does not answer")
            while not (asked and len(terminal.lines) > 6):
                await asyncio.sleep(0.01)
            reporter.stopping("stopping: a moment")
            while not any(line.endswith("IDs stopping") for line in terminal.lines):
                await asyncio.sleep(0.01)
            shown = terminal.lines

        told = [r"warning: the API \x1b[2J[red] does not answer", "stopping: a moment"]
        assert [re.sub(r"\d+ s ago", "n s ago", line) for line in shown] == [
            *told,
            "0% 0 of 10 IDs stopping",
            "IDs 0 answered · 10 pending",
            "requests 1 in 0 s, 1 of 60 in the last minute",
            "waits for answers",
            r"warned n s ago: the API \x1b[2J[red] does not answer",
            "owners 1 of 2 done",
            "owner ann: 3 failed",
        ]
        assert terminal.lines == told  # what was drawn is gone
        reporter.note("the end")
        assert terminal.lines == [*told, "the end"]


async def test_owners_that_cannot_be_read_are_left_out() -> None:
    def busy() -> list[str]:
        raise JobDiskError("the journal is busy")

    with stderr_on_terminal() as terminal:
        async with Reporter(Mode.TERMINAL).watching(now, busy):
            while not terminal.lines:
                await asyncio.sleep(0.01)

            assert terminal.lines[-1] == "waits for answers"


def test_a_terminal_that_cannot_draw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")

    assert Reporter.of(Session(), as_json=False, quiet=False).mode is Mode.LINES
