"""Progress as numbers, on a clock of the test's own."""

from __future__ import annotations

import pytest

from engagement_async import RateLimit
from engagement_async._core.outcomes import Outcomes
from engagement_async._progress import ProgressMeter, RunOutcome, WaitReason, contract_per_minute


def test_requests_are_those_of_the_last_minute_and_the_eta_is_this_runs() -> None:
    now = 1000.0
    meter = ProgressMeter(4000, 300, lambda: now)
    assert meter.progress(0).eta_s is None

    for second in range(1, 121):
        now = 1000.0 + second
        shown = meter.progress(requests=second * 4)
        assert shown.requests_last_minute == min(second, 60) * 4

    meter.add(Outcomes(answered=250))
    meter.add(Outcomes(answered=247, unavailable=2, failed=1))
    shown = meter.progress(480, 34.2, WaitReason.CONTRACT, RunOutcome.STOPPED)
    assert shown.eta_s == pytest.approx(120 * 3500 / 500)
    assert (shown.ids_done, shown.pending) == (500, 3500)
    assert (shown.outcomes.unavailable, shown.outcomes.failed) == (2, 1)
    assert (shown.waiting_for, shown.outcome) == ("contract", "stopped")


def test_the_eta_of_a_run_is_of_what_that_run_is_to_ask() -> None:
    now = 0.0
    meter = ProgressMeter(4000, None, lambda: now, ids_to_ask=100)
    meter.outcomes = Outcomes(answered=3900)
    now = 10.0
    meter.add(Outcomes(answered=50))

    assert meter.progress(1).eta_s == pytest.approx(10)


def test_a_contract_by_the_second_is_shown_by_the_minute() -> None:
    assert contract_per_minute([RateLimit(5, period=1)]) == 300
    assert contract_per_minute([RateLimit(5, period=1), RateLimit(200, period=60)]) == 200


def test_ids_that_a_run_can_give_no_outcome_take_no_time() -> None:
    instants = iter([0.0, 10.0])
    meter = ProgressMeter(100, None, lambda: next(instants))
    meter.ids_skipped = 40
    meter.add(Outcomes(answered=30))

    assert meter.progress(3).eta_s == 10.0
