"""By what a file of credentials is known that was named instead of one with IDs: none of it must be shown. Pure."""

from __future__ import annotations

import re

__all__ = ["has_credential", "is_header_of_credentials", "names_credential"]

_ASSIGNMENT = re.compile(
    r"(?:consumer_key|consumer_secret|access_token|access_token_secret|bearer_token)[\"']?\s*[=:]", re.IGNORECASE
)
_NAME = re.compile(
    r"[\s\"']*(?:[\w.]+\.)?(?:consumer[\s_-]?(?:key|secret)|access[\s_-]?token(?:[\s_-]?secret)?|bearer[\s_-]?token)[\s\"']*",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[,;\t|]")


def names_credential(name: str) -> bool:
    """Return whether a column, or a key, of that name holds credentials."""
    return _NAME.fullmatch(name) is not None


def is_header_of_credentials(line: str) -> bool:
    """Return whether a line is the header of a table that has such a column."""
    return any(map(names_credential, _SEPARATOR.split(line)))


def has_credential(text: str) -> bool:
    """Return whether such a name stands before a value, as in TOML, JSON or a file of environment variables."""
    return _ASSIGNMENT.search(text) is not None
