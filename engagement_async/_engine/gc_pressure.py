"""Fewer runs of the garbage collector while answers stream in."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["relaxed_gc"]

GC_THRESHOLD = 50_000
_open = 0
_saved = 0


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Raise the process-wide threshold of the garbage collector while any stream is open.

    Answers are trees of dicts: thousands of objects each, without a cycle to be found. At CPython's own threshold the
    collector would run once an answer, and take up to a third of a run's time.
    """
    global _open, _saved
    _open += 1
    if _open == 1:
        _saved = gc.get_threshold()[0]
        if 0 < _saved < GC_THRESHOLD:
            gc.set_threshold(GC_THRESHOLD)
    try:
        yield
    finally:
        _open -= 1
        if not _open and 0 < _saved < GC_THRESHOLD and gc.get_threshold()[0] == GC_THRESHOLD:
            gc.set_threshold(_saved)
