"""Recognizes a file of credentials that is given in place of one with IDs: nothing of it may be shown. Pure."""

from __future__ import annotations

import re

__all__ = ["has_credential", "is_header_of_credentials", "may_show", "names_credential"]

_ASSIGNMENT = re.compile(
    r"(?:consumer_key|consumer_secret|access_token|access_token_secret|bearer_token)[\"']?\s*[=:]", re.IGNORECASE
)
_WORDS = (
    r"(?:(?:api|consumer|client)[\s_-]?(?:key|secret)|(?:access|bearer|oauth)[\s_-]?(?:token|key|secret))"
    r"(?:[\s_-]?(?:key|secret))?"
)
"""Of X's portal, of its documentation, and of the libraries that people come from."""
_NAME = re.compile(rf"[\s\"'#]*(?:[\w.]+[._])?{_WORDS}[\s\"']*", re.IGNORECASE)
_VALUE = re.compile(rf"(?:{_WORDS}|authorization)[\"']?\s*[=:]|\bbearer\s+\S", re.IGNORECASE)
_SEPARATOR = re.compile(r"[,;\t|]")


def names_credential(name: str) -> bool:
    """Return whether a column, or a key, of that name holds credentials."""
    return _NAME.fullmatch(name) is not None


def is_header_of_credentials(line: str) -> bool:
    """Return whether a line is the header of a table that has such a column, or, between blanks, two of them."""
    return any(map(names_credential, _SEPARATOR.split(line))) or sum(map(names_credential, line.split())) > 1


def has_credential(text: str) -> bool:
    """Return whether a name of ours stands before a value, as in TOML, JSON or a file of environment variables."""
    return _ASSIGNMENT.search(text) is not None


def may_show(text: str) -> bool:
    """Return whether a text that is no ID may be shown: one that has a credential by any of its names may not."""
    return _VALUE.search(text) is None
