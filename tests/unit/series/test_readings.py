from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engagement_async import Answer, Failure, FailureKind, Window
from engagement_async.series.readings import Reading, TweetState, read_window, readings_of
from engagement_async.series.spans import HOUR, Span

ZERO = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("windows", "whole", "edge"),
    [
        # As in the reference's example: full hours. The last one is running; the first one may be cut.
        ([(0 * HOUR, 29 * HOUR)], (0 * HOUR, 28 * HOUR), 0 * HOUR),
        # To the minute: both ends are cut.
        ([(43 * MINUTE, 28 * HOUR + 43 * MINUTE)], (1 * HOUR, 28 * HOUR), None),
        # A full hour passed between two requests of a batch: whole is what both have.
        ([(0 * HOUR, 29 * HOUR), (1 * HOUR, 30 * HOUR)], (1 * HOUR, 28 * HOUR), 1 * HOUR),
        # Nothing in common.
        ([(0 * HOUR, 2 * HOUR), (9 * HOUR, 12 * HOUR)], (9 * HOUR, 9 * HOUR), 9 * HOUR),
    ],
)
def test_what_a_window_of_28_hours_holds_whole(
    windows: list[tuple[timedelta, timedelta]], whole: tuple[timedelta, timedelta], edge: timedelta | None
) -> None:
    answer = Answer(0, ("1",), windows=tuple(Window(ZERO + start, ZERO + end) for start, end in windows))

    read = read_window(answer)

    assert read is not None
    assert (read.whole_from - ZERO, read.whole_to - ZERO) == whole
    assert (None if read.edge is None else read.edge - ZERO) == edge


def test_a_window_of_historical_has_no_hour_that_is_running() -> None:
    span = Span(ZERO, ZERO + 4 * HOUR)
    for end, whole_to in ((4 * HOUR, 4 * HOUR), (3 * HOUR + MINUTE, 3 * HOUR), (9 * HOUR, 4 * HOUR)):
        read = read_window(Answer(0, ("1",), windows=(Window(ZERO, ZERO + end),)), span)
        assert read is not None
        assert (read.whole_from, read.whole_to, read.edge) == (ZERO, ZERO + whole_to, None)
    assert read_window(Answer(0, ("1",))) is None


def test_every_tweet_of_an_answer_has_its_state() -> None:
    late = ZERO + MINUTE
    answer = Answer(
        0,
        ("1", "2", "3", "4", "5"),
        unavailable_tweet_ids=("2",),
        forbidden_tweet_ids=("3",),
        failed_tweet_ids={"4": Failure("HTTP 500", kind=FailureKind.SERVER)},
        windows=(Window(ZERO, ZERO + 29 * HOUR),),
        owner="acme",
        observed_at=ZERO,
        observed_later={"5": late},
    )
    window = read_window(answer)

    assert list(readings_of(answer, window)) == [
        Reading("acme", "1", TweetState.ANSWERED, None, ZERO, window),
        Reading("acme", "2", TweetState.UNAVAILABLE, None, ZERO, None),
        Reading("acme", "3", TweetState.FORBIDDEN, None, ZERO, None),
        Reading("acme", "4", TweetState.FAILED, "HTTP 500", None, None),
        Reading("acme", "5", TweetState.ANSWERED, None, late, window),
    ]
