"""What a caller configures: each value that cannot be is refused when it is given, with the way to put it right."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engagement_async import SizeLimits, Timeouts, UsageError
from engagement_async.config import DEFAULT_BASE_URL, check_seconds, checked_base_url


@pytest.mark.parametrize("seconds", [0.001, 1, 15 * 60.0])
def test_seconds_are_numbers_above_0(seconds: float) -> None:
    check_seconds("period", seconds)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "5", None])
def test_what_is_no_span_of_time_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(UsageError, match="period is a number of seconds above 0"):
        check_seconds("period", value)


@pytest.mark.parametrize("name", ["connect_s", "read_s", "total_s"])
def test_each_timeout_is_checked(name: str) -> None:
    wrong: dict[str, Any] = {name: 0}
    with pytest.raises(UsageError, match=f"Timeouts.{name} is a number of seconds"):
        Timeouts(**wrong)


@pytest.mark.parametrize("name", ["wire_bytes", "decoded_bytes", "json_depth"])
@pytest.mark.parametrize("value", [0, True, 1.5, "1"])
def test_each_size_is_a_whole_number(name: str, value: object) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match=f"SizeLimits.{name} is a whole number from 1 on"):
        SizeLimits(**wrong)


@pytest.mark.parametrize(
    "text",
    [
        DEFAULT_BASE_URL,
        "https://proxy.example/behind/a/path",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ],
)
def test_https_and_this_machine_are_safe_for_credentials(text: str) -> None:
    assert str(checked_base_url(text)).rstrip("/") == text


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("http://data-api.twitter.com", "use https"),
        ("http://localhost.example", "use https"),
        ("http://10.0.0.1", "use https"),
        ("ftp://data-api.twitter.com", "is no web address"),
        ("data-api.twitter.com", "is no web address"),
        ("https://", "is no"),
        ("https://data-api.twitter.com:port", "is no address"),
        ("http://xn--:8791", "is no address"),
        ("https://user:canary@data-api.twitter.com", "credentials are given apart from it"),
        ("https://data-api.twitter.com?a=b", "leave them out"),
        ("https://data-api.twitter.com#part", "leave them out"),
    ],
)
def test_an_address_that_is_not_is_refused_with_the_fix(text: str, fix: str) -> None:
    with pytest.raises(UsageError, match=fix) as caught:
        checked_base_url(text)

    assert "canary" not in str(caught.value)
