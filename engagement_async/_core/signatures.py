"""Which arguments a caller's function takes, whatever its annotations name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["signature_of"]


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function. Raise `TypeError` or `ValueError` for one that does not tell.

    From Python 3.14 on annotations are evaluated when somebody looks, and may name what only type checkers import: here
    they stay text.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)
