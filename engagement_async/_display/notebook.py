"""Progress bars of calls in a notebook, with tqdm (extra `[progress]`)."""

from __future__ import annotations

from typing import Any

from engagement_async._core.words import count
from engagement_async._display.texts import time_text, waiting_text
from engagement_async._progress import CallProgress
from engagement_async.errors import UsageError

try:
    from tqdm import std
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError(
        "progress=True in a notebook needs tqdm: pip install 'engagement-async[progress]', or give a function"
    ) from error

__all__ = ["NotebookDisplay"]

_KNOWN = "{desc} {percentage:3.0f}%|{bar}| {n_fmt} of {total_fmt} IDs{postfix}"
_UNKNOWN = "{desc} {n_fmt} IDs so far{postfix}"


class NotebookDisplay:
    """The bar of one call: a widget where there are widgets, else text that is written over itself."""

    every_s = 0.5

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None

    def show(self, now: CallProgress) -> None:
        """Draw the call as it is now."""
        form = _UNKNOWN if now.ids_total is None else _KNOWN
        if self._bar is None:
            self._bar = _bar_class()(total=now.ids_total, desc=f"{self._label}:", bar_format=form)
        elif self._bar.total != now.ids_total:
            self._bar.reset(now.ids_total)
        # Of its own, tqdm draws and estimates on each update: here that is done by the clock, and by the call.
        self._bar.n = now.ids_done
        self._bar.bar_format = form
        more = [count(now.requests, "request"), time_text(now), waiting_text(now)]
        self._bar.set_postfix_str(" · ".join(part for part in more if part), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _bar_class() -> Any:
    try:
        import ipywidgets  # noqa: F401 - tqdm warns where it is missing
        from tqdm.notebook import tqdm
    except ImportError:
        return std.tqdm
    return tqdm
