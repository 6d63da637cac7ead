"""One value becomes a Tweet ID, or the reason why it is none: prefixes, quotes, addresses of Tweets. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engagement_async._core.batches import MAX_TWEET_ID

__all__ = [
    "STRONG_DIGITS",
    "find_id",
    "has_long_number",
    "has_many_digits",
    "is_strong",
    "plain_addresses",
    "plain_lines",
    "plain_values",
    "why_not_an_id",
]

_DIGITS_AND_ENDS = b"0123456789\n"
_DIGITS = 19
_MAY_BE_LARGER = re.compile(rb"\n9[0-9]{18}")
"""19 digits that start with 9 may exceed 2^63-1."""

_UNSEEN = dict.fromkeys(
    map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
)
"""Characters without a width, which pages and chats put into what is copied from them."""
_AROUND = " \t\r\n\f\v\u00a0\u202f\u3000\"'`“”„‘’‚«»‹›<>()[]{},;"
_SITES = r"(?:twitter|x|fxtwitter|vxtwitter|fixupx|fixvx|nitter)(?:\.[a-z]{2,})+"
_NOT_YET = r"(?!status(?:es)?/[0-9]|/?[0-9]{6})"
"""Before each character around an address's ID, so that no address with two is taken for one."""
_FORMS = re.compile(
    "|".join(
        (
            r"(?P<digits>[0-9]+)",
            r"[0-9]{1,3}(?:(?P<sep>[,.'’_ \u00a0\u202f])[0-9]{3})(?:(?P=sep)[0-9]{3}){4,5}",  # 1,070,059,276,213,702,656
            r"(?P<whole>[0-9]+)[.,]0+",  # all digits are there, and the fraction is none
            r"[xX](?P<x>[0-9]{9,})",  # as R packages write them, so that no spreadsheet rounds them
            r"(?:tag|object):[^\s,]+,[0-9]{4}:(?:[a-z]+:)*(?P<tag>[0-9]+)",  # activity streams
            rf"(?:(?:{_NOT_YET}\S)*?/)?(?:[a-z0-9-]+\.)*{_SITES}(?::[0-9]+)?/(?:#!/)?(?:(?:{_NOT_YET}[^?#\s])*?/)?status(?:es)?/(?P<url>[0-9]+)"
            rf"(?:[/?#&]{_NOT_YET}(?:{_NOT_YET}\S)*)?[.,:;!)]*",
        )
    ),
    re.IGNORECASE,
)
_FLOAT = re.compile(r"[0-9]+(?:[.,][0-9]*)?[eE][+]?[0-9]+|[0-9]+[.,][0-9]*")
_ADDRESS = re.compile(r"(?:https?:)?//|(?:www\.|mobile\.)?(?:twitter|x|t)\.com?/", re.IGNORECASE)
_MISSING = frozenset({"na", "n/a", "nan", "nat", "<na>", "none", "null", "nil", "\\n", "-", "--"})
STRONG_DIGITS = 9
"""Digits of an ID that is too large for a row number or a count."""
_LONGEST = 4096
"""Characters of a value: no address of a Tweet is longer."""
_ADDRESS_LINES = re.compile(
    r"^https?://(?:www\.|mobile\.)?(?:twitter|x)\.com/(?:i/web|\w{1,20})/status/([1-8][0-9]{0,18}|9[0-9]{0,17})"
    r"(?:\?[\w=&%-]*)?\r?$",
    re.MULTILINE | re.ASCII,
)
_LONG_NUMBER = re.compile(r"[0-9]{15}")
_MANY_DIGITS = re.compile(r"[0-9]{4}|[0-9][eE.,][0-9]")


def plain_lines(block: bytes) -> list[str] | None:
    """Return the lines of a block if each is an ID and nothing else; None where they need a closer look.

    `block` ends with a line end. This is what is quick about reading: it never looks at single lines.
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if block.translate(None, _DIGITS_AND_ENDS):
        return None
    lines = block.decode("ascii").split("\n")
    lines.pop()
    return lines if _are_ids(block, lines) else None


def plain_addresses(text: str) -> list[str] | None:
    """Return the IDs of a block if each of its lines is a Tweet's address as X writes it; None for a closer look."""
    found: list[str] = _ADDRESS_LINES.findall(text)
    return found if len(found) == text.count("\n") else None


def plain_values(values: Sequence[str]) -> list[str] | None:
    """Return the values if each is an ID and nothing else; None where they need a closer look."""
    text = "\n".join(values) + "\n"
    if not text.isascii():
        return None
    block = text.encode("ascii")
    if b"\r" in block or block.translate(None, _DIGITS_AND_ENDS):
        return plain_lines(block) if block.count(b"\n") == len(values) else None
    return list(values) if block.count(b"\n") == len(values) and _are_ids(block, values) else None


def _are_ids(block: bytes, lines: Sequence[str]) -> bool:
    """Return whether lines of digits are IDs: none is empty, begins with 0, or is too large."""
    block = b"\n" + block
    if b"\n\n" in block or b"\n0" in block:
        return False
    longest = max(map(len, lines), default=0)
    return longest < _DIGITS or (longest == _DIGITS and _MAY_BE_LARGER.search(block) is None)


def find_id(text: str) -> str | None:
    """Return the one Tweet ID that a value holds, or None. Whatever surrounds it must be a form that is known."""
    bare = _bare(text)
    match = _FORMS.fullmatch(bare) if len(bare) <= _LONGEST else None
    if match is None:
        return None
    digits = re.sub("[^0-9]", "", match[0]) if match["sep"] else match[match.lastgroup or 0]
    return digits if _why_not_digits(digits) is None else None


def why_not_an_id(text: str) -> str | None:
    """Return None if `text` holds a Tweet ID (digits, not 0, at most 2^63-1), otherwise the reason and the fix."""
    if find_id(text) is not None:
        return None
    bare = _bare(text)
    if bare.isascii() and bare.isdigit():
        return _why_not_digits(bare)
    if not bare:
        return "is empty"
    if bare.lower() in _MISSING:
        return "is a missing value"
    if "\0" in bare:
        return "holds a NUL: save the file as UTF-8 text"
    if "\n" in bare:
        return "runs over several lines: a quote is not closed"
    if _FLOAT.fullmatch(bare):
        return "is a float: a spreadsheet made it one, and its last digits are lost; format the column as text"
    if bare[0] == "-" and bare[1:].isdigit():
        return "is negative"
    if _ADDRESS.match(bare):
        return "is not a Tweet's address: give https://x.com/NAME/status/ID"
    return "is not a Tweet ID: give its digits alone, or the Tweet's address"


def is_strong(tweet_id: str) -> bool:
    """Return whether an ID is too large for a row number or a count: 10^8 or more, as all since the year 2007."""
    return len(tweet_id) >= STRONG_DIGITS


def has_many_digits(text: str) -> bool:
    """Return whether a cell is a value, a good one or a bad one, rather than a column's name."""
    return _MANY_DIGITS.search(text) is not None or text.strip(_AROUND)[:1].isdigit()


def has_long_number(text: str) -> bool:
    """Return whether there is a number in a text that is as long as an ID."""
    return _LONG_NUMBER.search(text) is not None


def _bare(text: str) -> str:
    if not text.isascii():
        text = text.translate(_UNSEEN)
    return text.strip(_AROUND).lstrip("=").strip(_AROUND)


def _why_not_digits(digits: str) -> str | None:
    if digits[0] == "0":
        return "starts with 0: a Tweet ID has no leading zeros"
    if len(digits) > 19 or int(digits) > MAX_TWEET_ID:
        return "is larger than 2^63-1, the largest Tweet ID"
    return None
