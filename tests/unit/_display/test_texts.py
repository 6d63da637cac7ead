from __future__ import annotations

import pytest

from engagement_async._display.texts import call_line, waiting_text
from engagement_async._progress import CallProgress, WaitReason


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (
            CallProgress(500, 4000, 2, 10.0, 70.0, 34.2, WaitReason.CONTRACT),
            "500 of 4,000 IDs · 2 requests · 1 min 10 s left · waiting 34 s for the contract",
        ),
        (CallProgress(0, 4000, 0, 0.0, None, 0.0, None), "0 of 4,000 IDs · 0 requests"),
        (CallProgress(1, None, 1, 3.0, None, 0.0, None), "1 ID so far · 1 request"),
        (
            CallProgress(4000, 4000, 16, 65.0, 0.0, 0.0, None, is_finished=True),
            "4,000 of 4,000 IDs · 16 requests · in 1 min 05 s",
        ),
    ],
)
def test_the_line_of_a_call(now: CallProgress, line: str) -> None:
    assert call_line(now) == line


@pytest.mark.parametrize(
    ("waiting_s", "reason", "trouble", "text"),
    [
        (0.4, WaitReason.CONTRACT, None, ""),  # it is like that most of the time
        (7.0, WaitReason.RATE_LIMITED, None, "waiting 7 s for the API's rate limit"),
        (0.0, WaitReason.OUTAGE, "HTTP 500", "waiting for the API to answer again · HTTP 500"),
        (0.0, None, "a\n\x1b[2J", r"a \x1b[2J"),
    ],
)
def test_what_is_waited_for(waiting_s: float, reason: WaitReason | None, trouble: str | None, text: str) -> None:
    assert waiting_text(CallProgress(0, 10, 0, 0.0, None, waiting_s, reason, trouble)) == text
