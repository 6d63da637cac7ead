"""An answer's time is that of its windows together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engagement_async import Answer, Window

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_an_answer_without_windows_has_no_time() -> None:
    answer = Answer(0, ("20",))

    assert (answer.start, answer.end) == (None, None)


def test_several_windows_are_one_span() -> None:
    windows = (Window(MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR), Window(MIDNIGHT, MIDNIGHT + 2 * HOUR))
    answer = Answer(0, ("20",), windows=windows)

    assert (answer.start, answer.end) == (MIDNIGHT, MIDNIGHT + 3 * HOUR)
