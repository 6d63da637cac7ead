"""Text of others on a terminal: without what that would act on."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return the text without what a terminal would act on, as an escape sequence in an API's message."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "replace").decode()
        for char in text
    )
