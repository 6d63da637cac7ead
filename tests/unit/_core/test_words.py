from __future__ import annotations

import pytest

from engagement_async._core.words import count, duration, owner_text, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ü, 漢字, 🙂", "plain, ü, 漢字, 🙂"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x07red", r"\x1b[2J\x07red"),
        ("back\rwards\x9b", r"back\rwards\x9b"),
        ("right\u202eleft", r"right\u202eleft"),
    ],
)
def test_what_a_terminal_acts_on_is_spelt_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (92, "1 min 32 s"), (7500, "2 h 05 min"), (273600, "3 d 04 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("four", "four"), ("fiver", "fiv…"), ("x" * 10_000, "xxx…")])
def test_shortened(text: str, shown: str) -> None:
    assert shortened(text, 4) == shown


def test_an_owner() -> None:
    assert owner_text("acme") == "acme"
    assert owner_text("acme" * 2_500) == "acme" * 14 + "acm…"


def test_count() -> None:
    assert (count(1, "request"), count(2000, "request")) == ("1 request", "2,000 requests")
