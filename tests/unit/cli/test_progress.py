"""Progress as numbers and as words, on a clock of the test's own."""

from __future__ import annotations

import pytest

from engagement_async._core.answer import Answer
from engagement_async._core.rate_limit import RateLimit
from engagement_async._progress import WaitReason
from engagement_async.cli.progress import Meter, duration


def answer(number: int, ids: int, gone: int = 0, failed: int = 0) -> Answer:
    tweet_ids = tuple(str(n + 1) for n in range(ids))
    return Answer(
        number,
        tweet_ids,
        unavailable_tweet_ids=tweet_ids[:gone],
        failed_tweet_ids=dict.fromkeys(tweet_ids[gone : gone + failed], "because"),
    )


def test_requests_are_those_of_the_last_minute_and_the_eta_is_this_runs() -> None:
    now = 1000.0
    meter = Meter(4000, RateLimit(300), lambda: now)
    assert meter.snapshot(0).eta_s is None

    for second in range(1, 121):
        now = 1000.0 + second
        shown = meter.snapshot(requests=second * 4)
        assert shown.requests_last_minute == min(second, 60) * 4

    meter.add(answer(0, 250))
    meter.add(answer(1, 250, gone=2, failed=1))
    shown = meter.snapshot(480, 34.2, WaitReason.CONTRACT)
    assert (shown.ids_done, shown.unavailable, shown.failed) == (500, 2, 1)
    assert shown.eta_s == pytest.approx(120 * 3500 / 500)
    assert shown.line() == (
        "500 of 4,000 IDs · 480 requests · 240 of 300 in the last minute · 14 min 00 s left · 2 gone · 1 failed · "
        "waiting 34 s for the contract"
    )
    assert shown.event()["waiting_s"] == 34.2


def test_a_contract_by_the_second_is_told_by_the_minute() -> None:
    assert Meter(1, RateLimit(5, period=1), lambda: 0.0).snapshot(0).contract_per_minute == 300


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (92, "1 min 32 s"), (7500, "2 h 05 min"), (273600, "3 d 04 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
