"""The parameters of functions that callers pass in, whatever their annotations name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["call_signature"]


def call_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function. Raise `TypeError` or `ValueError` for one that does not say.

    From Python 3.14 on annotations are evaluated when they are looked at, and may name what only type checkers import:
    here they stay text.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)
