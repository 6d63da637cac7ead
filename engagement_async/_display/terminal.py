"""Progress bars of calls on a terminal, with rich (extra `[progress]`): calls at once share one live display."""

from __future__ import annotations

import threading
from contextlib import suppress

from engagement_async._core.words import count
from engagement_async._display.texts import done_text, time_text, waiting_text
from engagement_async._progress import CallProgress
from engagement_async.errors import UsageError

try:
    from rich.console import Console, Group, RenderableType
    from rich.constrain import Constrain
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError(
        "progress=True on a terminal needs rich: pip install 'engagement-async[progress]', or give a function"
    ) from error

__all__ = ["ECHOED", "TerminalDisplay", "bar", "can_draw"]

_BAR_WIDTH = 40
ECHOED = 3
"""Columns that are left free: Ctrl-C is echoed behind the last line, and must not begin another one."""


def can_draw() -> bool:
    """Return whether the terminal can move its cursor."""
    return not Console(stderr=True).is_dumb_terminal


class TerminalDisplay:
    """The bar of one call, among those of the other calls of this process."""

    every_s = 0.2

    def __init__(self, label: str) -> None:
        self._label = label

    def show(self, now: CallProgress) -> None:
        """Draw the call as it is now."""
        _board.set(self, _render(self._label, now))

    def close(self) -> None:
        """Leave the last of it on the terminal, above what still changes."""
        _board.remove(self)


class _Board:
    """All bars of this process, below each other: a terminal has one place for what changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # clients may be in several threads
        self._shown: dict[TerminalDisplay, RenderableType] = {}
        self._live: Live | None = None

    def set(self, display: TerminalDisplay, shown: RenderableType) -> None:
        """Show that, in the place of what was shown of this call."""
        with self._lock:
            self._shown[display] = shown
            if self._live is None:
                # Transient: what is left of each call is printed when it ends. What is printed meanwhile goes above.
                self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
                self._live.start()
            self._draw(self._live)

    def remove(self, display: TerminalDisplay) -> None:
        """Print the last that was shown of this call, and end the live display with the last call."""
        with self._lock:
            last, live = self._shown.pop(display, None), self._live
            if last is None or live is None:
                return
            try:
                self._draw(live)
            finally:
                if not self._shown:
                    self._live = None
                    live.stop()
                with suppress(OSError):
                    live.console.print(last)

    def _draw(self, live: Live) -> None:
        live.update(Constrain(Group(*self._shown.values()), live.console.width - ECHOED), refresh=True)


_board = _Board()


def _render(label: str, now: CallProgress) -> RenderableType:
    more = [count(now.requests, "request"), waiting_text(now)]
    below = Text(" · ".join(part for part in more if part), style="dim")
    return Group(bar(now.ids_done, now.ids_total, label, done_text(now), time_text(now)), below)


def bar(done: int, total: int | None, label: str, text: str, left: str) -> RenderableType:
    """Return a bar with its percentage: one that moves without end where nobody knows how many there are."""
    grid = Table.grid(padding=(0, 1))
    cells: list[RenderableType] = []
    if label:
        grid.add_column(style="bold", no_wrap=True)
        cells.append(Text(label))
    grid.add_column(max_width=_BAR_WIDTH)  # the one that a narrow terminal makes narrower
    for style in ("", "", "cyan"):
        grid.add_column(style=style, no_wrap=True)
    share = "" if total is None else f"{done / total if total else 1.0:4.0%}"
    cells += [ProgressBar(total=total, completed=done, pulse=total is None), share, Text(text), Text(left)]
    grid.add_row(*cells)
    return grid
