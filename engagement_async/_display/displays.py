"""Which way progress is shown here: a bar on a terminal, one in a notebook, or lines where stderr is a file or a pipe."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from engagement_async._core.words import printable
from engagement_async._display.texts import call_line
from engagement_async._progress import CallProgress

if TYPE_CHECKING:
    from engagement_async._display.notebook import NotebookDisplay
    from engagement_async._display.terminal import TerminalDisplay

__all__ = ["LinesDisplay", "open_display"]


def open_display(label: str) -> LinesDisplay | NotebookDisplay | TerminalDisplay:
    """Return the display for where this runs. Raise `UsageError` when its library is not installed."""
    label = printable(label)
    if _is_in_notebook():
        from engagement_async._display.notebook import NotebookDisplay

        return NotebookDisplay(label)
    if _is_terminal(sys.stderr):
        from engagement_async._display.terminal import TerminalDisplay, can_draw

        if can_draw():
            return TerminalDisplay(label)
    return LinesDisplay(label)


def _is_in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _is_terminal(stream: object) -> bool:
    """Return whether a stream is a terminal: programs put objects of their own there, close it, or have none."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


class LinesDisplay:
    """A line on stderr every ten seconds, and one at the end."""

    every_s = 1.0
    _SHOWN_EVERY_S = 10.0

    def __init__(self, label: str) -> None:
        self._label = label
        self._shown_at = 0.0

    def show(self, now: CallProgress) -> None:
        """Write a line, if it is time for one. Nobody need read it."""
        if now.is_finished or now.elapsed_s - self._shown_at >= self._SHOWN_EVERY_S:
            self._shown_at = now.elapsed_s
            if sys.stderr is not None:
                with suppress(OSError, ValueError):  # closed, or the reader of the pipe is gone
                    print(f"{self._label}: {call_line(now)}", file=sys.stderr, flush=True)  # noqa: T201 - wanted

    def close(self) -> None:
        """Nothing is left open."""
