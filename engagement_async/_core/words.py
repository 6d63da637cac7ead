"""Numbers and spans of time in words, and text of others without what a terminal would act on."""

from __future__ import annotations

__all__ = ["count", "duration", "owner_error_text", "owner_text", "printable", "shortened"]

_OWNER_WIDTH = 60


def printable(text: str) -> str:
    """Return the text without what a terminal would act on, as an escape sequence in an API's message."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "replace").decode()
        for char in text
    )


def shortened(text: str, at_most: int) -> str:
    """Return the text, cut to so many characters: somebody else's may be of any length."""
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def owner_text(owner: str) -> str:
    """Return an owner's name as people are shown it."""
    return shortened(owner, _OWNER_WIDTH)


def owner_error_text(owner: str, error: str) -> str:
    """Return why an owner's credentials were of no use, without the name before it, as people are shown it."""
    return error.removeprefix(f"owner {owner}: ").replace(owner, owner_text(owner))


def count(number: int, what: str) -> str:
    """Return `1 request`, `2 requests`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return `8 s`, `1 min 32 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02} h"
