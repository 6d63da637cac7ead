from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engagement_async.series.schedule import LONGEST_NAP_S, nap_s, next_pull_at, retry_s

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("last_at", "due_at"),
    [
        (None, NOW),
        (NOW, NOW + 6.5 * HOUR),
        (NOW - 2 * HOUR, NOW + 4.5 * HOUR),
        (NOW - 7 * HOUR, NOW),
        (NOW - 700 * HOUR, NOW),  # however often it was missed: once
        (NOW + 99 * HOUR, NOW + 6.5 * HOUR),  # the clock was set back
    ],
)
def test_when_the_next_pull_is_due(last_at: datetime | None, due_at: datetime) -> None:
    assert next_pull_at(last_at, NOW, 6 * 3600, 3600, 0.5) == due_at


def test_naps_are_short_as_the_clock_may_jump() -> None:
    assert nap_s(NOW + 6 * HOUR, NOW) == LONGEST_NAP_S
    assert nap_s(NOW + timedelta(seconds=3), NOW) == 3
    assert nap_s(NOW - HOUR, NOW) == 0


def test_pauses_after_failures_grow_up_to_the_schedule() -> None:
    assert [retry_s(failures, 600) for failures in (1, 2, 3, 4, 5, 10_000)] == [60, 120, 240, 480, 600, 600]
