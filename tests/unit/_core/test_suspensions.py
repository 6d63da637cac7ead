from __future__ import annotations

from engagement_async._core.suspensions import Suspensions


def test_what_is_beyond_a_step_of_waiting_is_a_suspension() -> None:
    suspensions = Suspensions(longest_step_s=100.0)
    suspensions.note(0.0, 100.0)
    assert suspensions.seconds_since(0.0) == 0.0

    suspensions.note(100.0, 5_000.0)

    assert suspensions.seconds_since(100.0) == 4_800.0
    assert suspensions.seconds_since(4_999.0) == 4_800.0
    assert suspensions.seconds_since(5_000.0) == 0.0, "who begins when it is noted did not wait meanwhile"


def test_a_suspension_that_two_look_back_on_counts_once() -> None:
    suspensions = Suspensions(longest_step_s=100.0)
    suspensions.note(50.0, 5_000.0)

    suspensions.note(0.0, 5_010.0)

    assert suspensions.seconds_since(0.0) == 4_910.0
