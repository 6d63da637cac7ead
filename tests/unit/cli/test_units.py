"""Spans of time and rates as people write them."""

from __future__ import annotations

import pytest

from engagement_async import RateLimit, UsageError
from engagement_async.cli.units import parse_limit, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("30 min", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1D2H3M4S", 93_784),
        ("", None),
        ("0", None),
        ("0h", None),
        ("-5s", None),
        ("1x", None),
        ("1h30", None),
        ("h", None),
        ("nan", None),
        ("9e9", None),
        ("99999999999d", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("20/s", RateLimit(20, period=1)),
        ("300/min", RateLimit(300)),
        (" 300 / m ", RateLimit(300)),
        ("1000/15min", RateLimit(1000, period=900)),
        ("5/0.5s", RateLimit(5, period=0.5)),
        ("28hr=100/min", RateLimit(100, endpoint="28hr")),
        ("totals = 7/h", RateLimit(7, period=3600, endpoint="totals")),
    ],
)
def test_limits(text: str, limit: RateLimit) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["20", "0/s", "20/", "/s", "20/x", "-1/s", "1.5/s", "20/0s", "9999999999/s", "a=b"])
def test_what_is_no_limit_is_told(text: str) -> None:
    with pytest.raises(UsageError, match=r"20/s|names no endpoint"):
        parse_limit(text)


def test_a_limit_of_no_endpoint_is_told() -> None:
    with pytest.raises(UsageError, match="names no endpoint: it is one of totals, 28hr, historical"):
        parse_limit("28h=20/s")
