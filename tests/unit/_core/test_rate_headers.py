"""What the headers say of the contract: read strictly, and nonsense is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engagement_async._core.rate_headers import LONGEST_WAIT_S, RateHeaders, per_minute

DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, RateHeaders()),
        ({"retry-after": "12"}, RateHeaders(retry_after_s=12.0)),
        ({"retry-after": "1.5"}, RateHeaders(retry_after_s=1.5)),
        ({"retry-after": "-1"}, RateHeaders()),
        ({"retry-after": "nan"}, RateHeaders()),
        ({"retry-after": "1e9"}, RateHeaders()),
        ({"retry-after": "soon"}, RateHeaders()),
        (
            {"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT", "date": DATE},
            RateHeaders(retry_after_s=60.0, date=datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        (
            {"x-per-minute-remaining": "7", "x-per-second-remaining": "0"},
            RateHeaders(minute_remaining=7, second_remaining=0),
        ),
        ({"x-per-minute-remaining": "-7"}, RateHeaders()),
        ({"x-per-minute-remaining": "٣"}, RateHeaders()),
        (
            {"x-per-minute-reset": "1767225630", "date": DATE},
            RateHeaders(minute_reset_s=30.0, date=datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        ({"x-per-minute-reset": "1767225630"}, RateHeaders()),  # never against the local clock
        ({"date": "yesterday"}, RateHeaders()),
    ],
)
def test_rate_headers_parse_themselves_and_ignore_nonsense(headers: dict[str, str], expected: RateHeaders) -> None:
    actual = RateHeaders.from_headers(headers)

    assert actual == expected


@pytest.mark.parametrize(("seconds", "expected"), [(LONGEST_WAIT_S, LONGEST_WAIT_S), (LONGEST_WAIT_S + 1, None)])
def test_a_wait_of_hours_is_not_believed(seconds: float, expected: float | None) -> None:
    assert RateHeaders.from_headers({"retry-after": str(seconds)}).retry_after_s == expected


def test_a_date_without_a_zone_is_utc() -> None:
    assert RateHeaders.from_headers({"date": "Thu, 01 Jan 2026 00:00:00"}).date == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (None, None)),
        ({"x-per-minute-limit": "60"}, (None, None)),
        ({"x-per-minute-remaining": "7"}, (7, None)),
        ({"x-per-minute-remaining": "7", "x-per-minute-limit": "60"}, (7, 60)),
        ({"x-per-minute-remaining": "seven", "x-per-minute-limit": "60"}, (None, 60)),
    ],
)
def test_what_is_left_of_the_minute(headers: dict[str, str], expected: tuple[int | None, int | None]) -> None:
    assert per_minute(headers) == expected
