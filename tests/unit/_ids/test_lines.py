"""Blocks of whole lines, whatever pieces the bytes come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._ids.lines import line_blocks

Told = list[tuple[int, str, str]]


def lines_of(pieces: list[bytes], told: Told, *, line_bytes: int = 1000) -> list[tuple[int, bytes]]:
    def refuse(line: int, text: str, reason: str) -> None:
        told.append((line, text, reason))

    blocks = line_blocks(pieces, refuse, line_bytes=line_bytes)
    return [(n, line) for number, block in blocks for n, line in enumerate(block.split(b"\n")[:-1], number)]


@given(st.lists(st.binary(max_size=8)))
def test_every_line_once_with_its_number(pieces: list[bytes]) -> None:
    pieces = [piece.replace(b"\r", b"") for piece in pieces]
    whole = b"".join(pieces)
    expected = whole.removesuffix(b"\n").split(b"\n") if whole else []

    assert lines_of(pieces, []) == list(enumerate(expected, 1))


def test_lines_of_an_old_macintosh() -> None:
    assert lines_of([b"a\rb\r", b"c\r"], []) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert lines_of([b"a\r\nb\r\n"], []) == [(1, b"a\r"), (2, b"b\r")]


@pytest.mark.parametrize("size", [1, 5, 64])
def test_a_line_that_is_too_long_is_told_and_the_numbers_stay(size: int) -> None:
    told: Told = []
    data = b"a\n" + b"x" * 100 + b"\nb\n"

    found = lines_of([data[at : at + size] for at in range(0, len(data), size)], told, line_bytes=20)

    assert [line for line in found if len(line[1]) < 20] == [(1, b"a"), (3, b"b")]
    assert [(line, reason) for line, _, reason in told] == [(2, "… is a line of over 20 bytes")] or size == 64
