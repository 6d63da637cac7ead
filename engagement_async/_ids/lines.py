"""Bytes become blocks of whole lines, each with the number of its first. No line is held that is too long for a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

__all__ = ["LINE_BYTES", "Block", "line_blocks"]

LINE_BYTES = 1024 * 1024
"""The longest line of text or CSV: no line with one ID needs more, and a file without line ends must not fill the memory."""

Block = tuple[int, bytes]
"""The number of its first line, and whole lines, each with its line end."""


def line_blocks(
    pieces: Iterable[bytes], refuse: Callable[[int, str, str], object], *, line_bytes: int = LINE_BYTES
) -> Iterator[Block]:
    """Yield blocks of whole lines. A line that is too long is refused and never kept.

    Lines end with LF or CRLF; with CR alone where the first piece has no other ends, as of a Macintosh of old.
    """
    number, carry, skipping = 1, b"", False
    has_cr_ends: bool | None = None
    for piece in pieces:
        if has_cr_ends is None and piece:
            has_cr_ends = b"\r" in piece[:-1] and b"\n" not in piece
        block = carry + (piece.replace(b"\r", b"\n") if has_cr_ends else piece)
        if skipping:
            end = block.find(b"\n")
            if end < 0:
                carry = b""
                continue
            block, skipping = block[end + 1 :], False
            number += 1
        end = block.rfind(b"\n") + 1
        carry = block[end:]
        if end:
            yield number, block[:end]
            number += block.count(b"\n", 0, end)
        if len(carry) > line_bytes:
            refuse(number, carry[:80].decode("utf-8", "replace"), f"… is a line of over {line_bytes:,} bytes")
            carry, skipping = b"", True
    if carry and not skipping:
        yield number, carry + b"\n"
