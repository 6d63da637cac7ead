"""A terminal in memory: what a person would see on it."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pyte
import pytest

__all__ = ["OnTerminal", "Terminal", "stderr_on_terminal"]

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes its stdin the terminal of its session, so that keys become signals, and goes on as another program."""
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


class OnTerminal:
    """A program whose terminal this is: its output is seen, and keys can be pressed. A context manager, which ends it."""

    def __init__(self, command: list[str], environment: Mapping[str, str], columns: int = 100, lines: int = 30) -> None:
        self._screen = Terminal(columns, lines)
        self._screen_bytes = pyte.ByteStream(self._screen.screen)
        self._terminal, own = pty.openpty()
        fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            stdin=own,
            stdout=own,
            stderr=own,
            env={**os.environ, "TERM": "xterm", **environment},
            start_new_session=True,
        )
        os.close(own)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    def press(self, keys: bytes) -> None:
        """Type these keys."""
        os.write(self._terminal, keys)

    def until(self, is_there: Callable[[list[str]], bool]) -> list[str]:
        """Return the lines that are shown once they are as wanted. Raise `AssertionError` if the program ends before."""
        while not is_there(self._screen.lines):
            assert self._read(), self._screen.lines
        return self._screen.lines

    def until_end(self) -> tuple[int, list[str]]:
        """Return the exit code, and what is shown in the end."""
        while self._read():
            pass
        return self.process.wait(), self._screen.lines

    def _read(self) -> bool:
        try:
            shown = os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the program is gone
            shown = b""
        self._screen_bytes.feed(shown)
        return bool(shown)
