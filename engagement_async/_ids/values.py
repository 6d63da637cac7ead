"""One value becomes a Tweet ID, or the reason why it is none: prefixes, quotes, addresses of Tweets. Pure."""

from __future__ import annotations

import re

from engagement_async._core.batches import MAX_TWEET_ID

__all__ = ["find_id", "has_long_number", "has_many_digits", "is_strong", "plain_ids", "why_not_an_id"]

_ID_LINES = re.compile(r"^([1-8][0-9]{0,18}|9[0-9]{0,17})\r?$", re.MULTILINE)
"""Lines that are certainly IDs. 19 digits that start with 9 may exceed 2^63-1: those take the slow path."""

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
            r"[xX](?P<x>[0-9]+)",  # as R packages write them, so that no spreadsheet rounds them
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
_STRONG_DIGITS = 9
_LONGEST = 4096
"""Characters of a value: no address of a Tweet is longer."""
_LONG_NUMBER = re.compile(r"[0-9]{15}")
_MANY_DIGITS = re.compile(r"[0-9]{4}|[0-9][eE.,][0-9]")


def plain_ids(text: str) -> list[str]:
    """Return the lines that are IDs and nothing else: if there are as many as lines, there is nothing else."""
    found: list[str] = _ID_LINES.findall(text)
    return found


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
    return len(tweet_id) >= _STRONG_DIGITS


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
