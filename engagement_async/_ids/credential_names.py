"""By what a file of credentials is known that was named instead of one with IDs: none of it must be shown. Pure."""

from __future__ import annotations

import re

__all__ = ["has_credential", "names_credential"]

_NAMES = "(?:consumer_key|consumer_secret|access_token|access_token_secret|bearer_token)"
_NAME = re.compile(_NAMES, re.IGNORECASE)
_ASSIGNMENT = re.compile(_NAMES + r"[\"']?\s*[=:]", re.IGNORECASE)


def names_credential(text: str) -> bool:
    """Return whether the name of a credential is in a text, as in the header of a table of them."""
    return _NAME.search(text) is not None


def has_credential(text: str) -> bool:
    """Return whether such a name stands before a value, as in TOML, JSON or a file of environment variables."""
    return _ASSIGNMENT.search(text) is not None
