"""What somebody may have meant who misspelt a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = ["did_you_mean"]

_NONE: Mapping[str, str] = {}


def did_you_mean(name: object, names: Iterable[str], *, also_called: Mapping[str, str] = _NONE) -> str:
    """Return ` (did you mean 'x'?)` if one of these names is like the given one, else nothing.

    `also_called` has other words for some of the names.
    """
    known = list(names)
    if not isinstance(name, str):
        return ""
    other = also_called.get(name.lower())
    close = [other] if other in known else get_close_matches(name.lower(), known, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(each) for each in close)}?)" if close else ""
