"""One value: what people's tools put around an ID, and why a value is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._ids.values import (
    find_id,
    has_many_digits,
    is_strong,
    plain_addresses,
    plain_lines,
    plain_values,
    why_not_an_id,
)

A = "1070059276213702656"


@pytest.mark.parametrize(
    "text",
    [
        A,
        f" {A}\r",
        f'"{A}"',
        f"'{A}",
        f"'{A}'",
        f"“{A}”",
        f'="{A}"',
        f"={A}",
        f"x{A}",
        f"X{A}",
        f"{A}.0",
        f"{A},00",
        f"\u200b{A}\u200d",
        f"\ufeff{A}",
        f"\u00a0{A}\u202f",
        f"<{A}>",
        f"({A}),",
        "1,070,059,276,213,702,656",
        "1 070 059 276 213 702 656",
        "1.070.059.276.213.702.656",
        f"tag:search.twitter.com,2005:{A}",
        f"object:search.twitter.com,2005:{A}",
        f"https://x.com/user/status/{A}",
        f"https://twitter.com/user/status/{A}?s=20&t=abc",
        f"http://mobile.twitter.com/user/statuses/{A}/photo/1",
        f"https://x.com/i/web/status/{A}",
        f"https://x.com/i/status/{A}/",
        f"x.com/user/status/{A}#m",
        f"www.twitter.com/user/status/{A}.",
        f"HTTPS://X.COM/user/status/{A}",
        f"https://twitter.com/#!/user/status/{A}",
        f"https://twitter.com/statuses/{A}",
        f"<https://x.com/user/status/{A}>",
        f"https://nitter.example.org/user/status/{A}#m",
        f"https://web.archive.org/web/2020/https://twitter.com/user/status/{A}",
    ],
)
def test_an_id_in_any_form(text: str) -> None:
    assert (find_id(text), why_not_an_id(text)) == (A, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1.7E+18", "is a float: a spreadsheet made it one, and its last digits are lost; format the column as text"),
        ("1,7e18", "is a float"),
        ("12.5", "is a float"),
        ("0", "starts with 0"),
        (f"0{A}", "starts with 0"),
        ("9223372036854775808", "is larger than 2^63-1"),
        ("1" * 20, "is larger than 2^63-1"),
        ("9" * 5000, "is larger than 2^63-1"),
        ("-5", "is negative"),
        ("\0001", "holds a NUL"),
        ("", "is empty"),
        ("nan", "is a missing value"),
        ("NULL", "is a missing value"),
        ("1\n2", "runs over several lines"),
        ("١٢٣", "is not a Tweet ID"),
        ("²", "is not a Tweet ID"),
        ("https://x.com/user", "is not a Tweet's address"),
        ("https://t.co/abc", "is not a Tweet's address"),
        (f"https://x.com/user/status/{A}x", "is not a Tweet's address"),
        (f"https://netflix.com/user/status/{A}", "is not a Tweet's address"),
        (f"https://x.com/a/status/{A}?s=1https://x.com/a/status/{A}", "is not a Tweet's address"),
        (f"https://x.com/a/status/12/{A}", "is not a Tweet's address"),
        (f"{A} {A}", "is not a Tweet ID"),
        ("x2", "is not a Tweet ID"),
        (f"id:twitter.com:{A}", "is not a Tweet ID"),
    ],
)
def test_the_reason_why_a_value_is_no_id(text: str, reason: str) -> None:
    assert find_id(text) is None
    assert (why_not_an_id(text) or "").startswith(reason)


@given(st.text())
def test_a_value_holds_an_id_or_there_is_a_reason(text: str) -> None:
    found = find_id(text)

    assert (found is None) == (why_not_an_id(text) is not None)
    assert found is None or 0 < int(found) < 2**63


def test_small_numbers_are_weak() -> None:
    assert [is_strong(text) for text in ("99999999", "100000000", A)] == [False, True, True]


@pytest.mark.parametrize(("text", "expected"), [("tweet_id", False), ("v2", False), ("12", True), (f"'{A[:9]}o", True)])
def test_a_value_is_told_from_a_name(text: str, expected: bool) -> None:
    assert has_many_digits(text) is expected


def test_blocks_of_ids_and_of_addresses_are_recognized_as_a_whole() -> None:
    assert plain_lines(f"{A}\r\n20\n".encode()) == [A, "20"]
    assert plain_values([A, "20"]) == [A, "20"]
    assert plain_addresses(f"https://x.com/a/status/{A}?s=20\r\nhttps://twitter.com/i/web/status/20\n") == [A, "20"]


@pytest.mark.parametrize("line", ["", "0", "007", "x", " 20", "9223372036854775808", "1" * 20, "1\r2", "²"])
def test_blocks_with_anything_else_are_not(line: str) -> None:
    assert plain_lines(f"{A}\n{line}\n{A}\n".encode()) is None
    assert plain_values([A, line, A]) is None
    assert plain_addresses(f"https://x.com/a/status/{A}\n{line}\n") is None
    assert plain_values([f"{A}\n{A}"]) is None
    assert plain_lines(b"9223372036854775807\n") is None  # so large that it needs a closer look
