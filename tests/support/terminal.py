"""A terminal in memory: what a person would see on it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pyte
import pytest

__all__ = ["Terminal", "stderr_on_terminal"]

_BARS = dict.fromkeys(map(ord, "━╸╺"))


class Terminal(io.StringIO):
    """A terminal of so many columns and lines. A stream, and the screen that it is written on."""

    def __init__(self, columns: int = 100, lines: int = 24) -> None:
        super().__init__()
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty, without bars, with single spaces."""
        texts = (line.translate(_BARS) for line in self.screen.display)
        return [" ".join(text.split()) for text in texts if text.strip()]


@contextmanager
def stderr_on_terminal(columns: int = 100, lines: int = 24) -> Iterator[Terminal]:
    """Make stderr a terminal during the block; it must be left with its cursor, and as the stream that it was."""
    terminal = Terminal(columns, lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)  # not in a fixture: pytest puts its own there for each phase of a test
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", str(columns))
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        yield terminal
        assert sys.stderr is terminal
        assert not terminal.screen.cursor.hidden
