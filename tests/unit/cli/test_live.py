"""What a terminal shows of a run, at some moments of it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from engagement_async._core.outcomes import Outcomes
from engagement_async._progress import Progress, ProgressMeter, RunOutcome, WaitReason
from engagement_async.cli.live import View, render


def lines_of(view: View, width: int = 90) -> list[str]:
    console = Console(file=io.StringIO(), width=width + 3, force_terminal=True, color_system=None)
    console.print(render(view, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    return [" ".join(line.translate(dict.fromkeys(map(ord, "━╸╺"))).split()) for line in text.splitlines()]


def progress(waiting_s: float = 0.0, waiting_for: WaitReason | None = None, trouble: str | None = None) -> Progress:
    now = 0.0
    meter = ProgressMeter(4000, 300, lambda: now)
    now = 120.0
    meter.add(Outcomes(answered=490, unavailable=7, unsupported=2, failed=1))
    return meter.progress(480, waiting_s, waiting_for, trouble=trouble)


def test_a_run_at_work() -> None:
    assert lines_of(View(progress(0.2, WaitReason.CONTRACT))) == [
        "12% 500 of 4,000 IDs 14 min 00 s left at this rate",
        "IDs 490 answered · 7 unavailable · 2 unsupported · 1 failed · 3,500 pending",
        "requests 480 in 2 min 00 s, 0 of 300 in the last minute",
        "waits for the contract",
    ]


def test_a_run_that_has_just_begun() -> None:
    meter = ProgressMeter(4000, None, lambda: 0.0)
    meter.rejected = 2

    assert lines_of(View(meter.progress(0))) == [
        "0% 0 of 4,000 IDs",
        "IDs 0 answered · 4,000 pending · 2 lines without an ID",
        "requests 0 in 0 s, 0 in the last minute",
        "waits for answers",
    ]


@pytest.mark.parametrize(
    ("waiting_s", "reason", "line"),
    [
        (34.2, WaitReason.CONTRACT, "waits for the contract, 34 s"),
        (7, WaitReason.RATE_LIMITED, "waits for the API's rate limit, 7 s"),
        (0, WaitReason.OUTAGE, "waits for the API to answer again"),
    ],
)
def test_what_it_waits_for(waiting_s: float, reason: WaitReason, line: str) -> None:
    assert lines_of(View(progress(waiting_s, reason)))[3] == line


def test_between_two_runs_it_waits_for_the_next_one() -> None:
    ended = replace(progress(), outcome=RunOutcome.OUTAGE)

    assert lines_of(View(ended))[3] == "waits for the next run"


def test_what_went_wrong_last_is_one_line_and_does_nothing_to_the_terminal() -> None:
    trouble = "HTTP 500: [bold]\x1b[2J" + "x" * 200
    shown = lines_of(View(progress(0, WaitReason.OUTAGE, trouble), "the API\nanswers nobody", 92.0))

    assert shown[4].startswith(r"trouble HTTP 500: [bold]\x1b[2Jxxx")
    assert shown[4].endswith("…")
    assert shown[5] == "warned 1 min 32 s ago: the API answers nobody"
    assert len(shown) == 6


def test_owners_are_listed_the_worst_first_and_only_some() -> None:
    owners = ["17 of 40 done", *(f"owner o{n}: {9 - n} failed" for n in range(9))]

    assert lines_of(View(progress(), owners=owners))[4:] == [
        "owners 17 of 40 done",
        *(f"owner o{n}: {9 - n} failed" for n in range(5)),
        "...",
    ]


def test_a_run_that_stops_has_no_time_left() -> None:
    assert lines_of(View(progress(), is_stopping=True))[0] == "12% 500 of 4,000 IDs stopping"


def test_a_narrow_terminal() -> None:
    shown = lines_of(View(progress()), width=60)

    assert shown[0] == "12% 500 of 4,000 IDs 14 min 00 s left at this rate"
    assert shown[-1] == "waits for answers"
