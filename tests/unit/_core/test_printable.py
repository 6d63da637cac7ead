from __future__ import annotations

import pytest

from engagement_async._core.printable import printable


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
