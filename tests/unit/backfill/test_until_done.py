"""When a job is run again, and when not."""

from __future__ import annotations

import pytest

from engagement_async._core.outcomes import Outcomes
from engagement_async._progress import ProgressMeter, RunOutcome
from engagement_async.backfill.until_done import UntilDone
from engagement_async.errors import (
    AuthError,
    EngagementError,
    JobCorruptError,
    JobDiskError,
    JobLockedError,
    OtherJobError,
    RequestRefusedError,
    UsageError,
)


def after(outcome: RunOutcome, done: int = 0):  # type: ignore[no-untyped-def]
    meter = ProgressMeter(1000, None, lambda: 0.0)
    meter.add(Outcomes(answered=done))
    return meter.progress(1, outcome=outcome)


def test_pauses_double_and_begin_anew_after_progress() -> None:
    policy = UntilDone(jitter=lambda: 1.0)
    pauses = [policy.pause_after(after(RunOutcome.OUTAGE)) for _ in range(9)]
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]

    assert policy.pause_after(after(RunOutcome.OUTAGE, done=250)) == 10
    assert policy.pause_after(after(RunOutcome.OUTAGE, done=250)) == 20


def test_jitter_takes_off_half_at_most() -> None:
    assert UntilDone(jitter=lambda: 0.0).pause_after(after(RunOutcome.OUTAGE)) == 5


@pytest.mark.parametrize("outcome", [each for each in RunOutcome if each is not RunOutcome.OUTAGE])
def test_a_run_that_ended_as_it_was_told_to_is_the_last(outcome: RunOutcome) -> None:
    assert UntilDone().pause_after(after(outcome)) is None


@pytest.mark.parametrize("error", [JobDiskError("full"), EngagementError("whatever")])
def test_what_may_pass_is_waited_for(error: EngagementError) -> None:
    assert UntilDone(jitter=lambda: 1.0).pause_after_error(error) == 10


@pytest.mark.parametrize(
    "error",
    [
        UsageError("x"),
        AuthError("x"),
        RequestRefusedError("x"),
        JobLockedError("x"),
        OtherJobError("x"),
        JobCorruptError("x"),
    ],
)
def test_what_needs_a_person_is_final(error: EngagementError) -> None:
    assert UntilDone().pause_after_error(error) is None


def test_the_longest_duration_is_of_all_runs_together() -> None:
    now = 100.0
    policy = UntilDone(60, clock=lambda: now, jitter=lambda: 1.0)
    assert policy.left_s() == 60
    assert policy.pause_after(after(RunOutcome.OUTAGE)) == 10
    now = 145.0
    assert policy.left_s() == 15
    assert policy.pause_after(after(RunOutcome.OUTAGE)) is None  # the time is over before the pause is
    now = 170.0
    assert policy.left_s() == pytest.approx(0.001)
    assert UntilDone().left_s() is None
