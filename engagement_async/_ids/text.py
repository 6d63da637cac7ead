"""Tweet IDs out of plain text: one or several a line, `#` starts a comment. Lazy, and as quick as one regular expression.

The fast path is a block of whole lines that are IDs and nothing else. Only a block in which it finds fewer IDs than lines is
read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from engagement_async._ids.lines import Block
from engagement_async._ids.report import Intake
from engagement_async._ids.values import find_id, is_strong, plain_addresses, plain_lines, why_not_an_id

__all__ = ["ids_of_line", "text_ids"]

_BETWEEN = re.compile(r"[\s,;|]+")
_BULLET = re.compile(r"(?:[-*+•·–]|[0-9]{1,6}[.)])\s+")
"""What begins an item of a list."""
_COMMENT = re.compile(r"#(?!!/)")
"""Not the `#!` in addresses of 2011."""


def text_ids(blocks: Iterable[Block], intake: Intake) -> Iterator[list[str]]:
    """Yield the IDs of each block of lines."""
    for number, block in blocks:
        ids = plain_lines(block)
        if ids is None:
            text = block.decode("utf-8", "replace")
            ids = plain_addresses(text) if text.startswith("http") else None
        if ids is None:
            ids = []
            for line, raw in enumerate(text.split("\n")[:-1], number):
                value = raw
                comment = _COMMENT.search(raw)
                if comment and ("://" not in raw or find_id(raw) is None):  # an address may have a fragment
                    value = raw[: comment.start()]
                    intake.report.comments += 1
                value = _BULLET.sub("", value.strip())
                if value:
                    ids.extend(ids_of_line(value, line, intake))
        if ids:
            yield ids


def ids_of_line(text: str, line: int, intake: Intake) -> list[str]:
    """Return the IDs of one line: one, or several between commas, semicolons or spaces.

    A line with words, or with counts beside IDs, is rejected as a whole: its numbers may be anything.
    """
    tokens = [token for token in _BETWEEN.split(text) if token]
    if len(tokens) < 2 or find_id(text) is not None:
        return list(intake.one(text, line))
    found = [find_id(token) for token in tokens]
    ids = [tweet_id for tweet_id in found if tweet_id is not None]
    bad = next((token for token, tweet_id in zip(tokens, found, strict=True) if tweet_id is None), None)
    are_strong = {is_strong(tweet_id) for tweet_id in ids}
    if bad is not None and (are_strong != {True} or not all(any(map(str.isdigit, token)) for token in tokens)):
        intake.reject(line, text, why_not_an_id(text) or "")
        return []
    if len(are_strong) > 1:
        intake.reject(line, text, "holds IDs beside small numbers: which are Tweet IDs? Give a line to each ID, or CSV")
        return []
    for token, tweet_id in zip(tokens, found, strict=True):
        if tweet_id is None:
            intake.reject(line, token, why_not_an_id(token) or "")
    return ids
