"""Progress as numbers and as words, on a clock of the test's own."""

from __future__ import annotations

from engagement_async._core.outcomes import Outcomes
from engagement_async._progress import ProgressMeter, WaitReason
from engagement_async.cli.progress import progress_event, progress_line


def test_a_line_and_an_event() -> None:
    now = 1000.0
    meter = ProgressMeter(4000, 300, lambda: now)
    now += 120
    meter.add(Outcomes(answered=497, unavailable=2, failed=1))
    shown = meter.progress(480, 34.2, WaitReason.CONTRACT)

    assert progress_line(shown) == (
        "500 of 4,000 IDs · 480 requests · 0 of 300 in the last minute · 14 min 00 s left · 2 gone · 1 failed · "
        "waiting 34 s for the contract"
    )
    assert progress_event(shown)["waiting_s"] == 34.2
    assert progress_event(shown)["unavailable"] == 2
