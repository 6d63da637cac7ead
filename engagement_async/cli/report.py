"""What a command says on stderr: to a person at a terminal, into a log, or as JSON events to a machine."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING

import click

from engagement_async._ids.reading import Reject
from engagement_async._progress import Progress
from engagement_async.cli.app import Session
from engagement_async.cli.logs import check_own_files
from engagement_async.cli.progress import progress_event, progress_line
from engagement_async.cli.streams import json_line, printable, utc_now
from engagement_async.errors import EngagementError

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Mode", "Reporter"]

_DRAWN_EVERY_S = 0.2
_SAMPLED_EVERY_S = 1.0
_OWNERS_EVERY_S = 5.0
_SHOWN_EVERY = 10
"""Samples: a line or an event every ten seconds."""


class Mode(StrEnum):
    """How stderr is written."""

    TERMINAL = "terminal"
    """Progress is drawn, for a person who watches."""
    LINES = "lines"
    """A line now and then, for a log."""
    JSON = "json"
    """One event per line, for machines."""
    QUIET = "quiet"
    """Warnings and errors alone."""


class Reporter:
    """Writes to stderr what happens, in the form of its mode."""

    def __init__(self, mode: Mode, session: Session | None = None) -> None:
        self.mode = mode
        self._session = session or Session()
        self._shown_at: dict[str, float] = {}
        self._live: Live | None = None
        self._warned: tuple[str, float] | None = None
        self._is_stopping = False

    @property
    def context(self) -> dict[str, object]:
        """What every event says of its command, as `job`."""
        return self._session.context

    @classmethod
    def of(cls, session: Session, *, as_json: bool, quiet: bool) -> Reporter:
        """As the options and stderr have it. From here on errors are events too, if `as_json`, and the run is measured."""
        if as_json and quiet:
            raise click.UsageError("--json and --quiet: take one of them")
        session.json = as_json
        context = click.get_current_context(silent=True)
        check_own_files(session, {} if context is None else context.params)
        can_draw = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        mode = Mode.TERMINAL if can_draw else Mode.LINES
        reporter = cls(Mode.JSON if as_json else Mode.QUIET if quiet else mode, session)
        if session.metrics is not None and (warning := session.metrics.begin()) is not None:
            reporter.warn(warning)
        return reporter

    def event(self, name: str, **fields: object) -> None:
        """For machines alone."""
        if self.mode is Mode.JSON:
            event = {"event": name, "time": utc_now(), **self._session.context, **fields}
            self._write(json_line(event))

    def note(self, text: str, *, is_trouble: bool = False) -> None:
        """For people alone; if `quiet`, only what is trouble."""
        if self.mode in (Mode.TERMINAL, Mode.LINES) or (is_trouble and self.mode is Mode.QUIET):
            self._write(printable(text))

    def now_and_then(self, name: str, text: str, **fields: object) -> None:
        """Report work that takes long, every ten seconds: an event for machines, a line for people."""
        now = time.monotonic()
        if now - self._shown_at.setdefault(name, now) >= _SHOWN_EVERY:
            self._shown_at[name] = now
            self.event(name, **fields)
            self.note(text)

    def warn(self, message: str) -> None:
        """Print a warning, also if `quiet`."""
        self._warned = message, time.monotonic()
        if self.mode is Mode.JSON:
            self.event("warning", message=message)
        else:
            self._write(printable(f"warning: {message}"))

    def rejected(self, reject: Reject, *, show: bool) -> None:
        """Report a line that is no ID; in JSON each one."""
        if self.mode is Mode.JSON:
            self.event("rejected", source=reject.source, line=reject.line, text=reject.text, reason=reject.reason)
        elif show:
            self.warn(str(reject))

    def counts(self, counts: Mapping[str, int]) -> None:
        """Write a line for people for each count: the first in any case, the others where there are any."""
        width = max(len(f"{number:,}") for number in counts.values())
        for place, (name, number) in enumerate(counts.items()):
            if number or place == 0:
                self.note(f"  {name:<12}{number:>{width},}")

    def listed(self, title: str, lines: Sequence[str], *, at_most: int = 10) -> None:
        """Print a list for people, cut where it gets long. Also if `quiet`: it is about what went wrong."""
        if self.mode is Mode.JSON or not lines:
            return
        self._write(title)
        for line in lines[:at_most]:
            self._write(printable(f"  {line}"))
        if len(lines) > at_most:
            self._write(f"  and {len(lines) - at_most:,} more")

    @asynccontextmanager
    async def watching(
        self, progress: Callable[[], Progress], owners: Callable[[], Sequence[str]] | None = None
    ) -> AsyncIterator[None]:
        """While the block runs, shows its progress: drawn, or every ten seconds; and what the engine logs as a warning.

        `owners` returns what became of the owners so far; it is called in a thread, now and then, where it is drawn.
        """
        with self._forwarding_log():
            async with self._showing(progress, owners), self._measuring(progress):
                yield

    def stopping(self, text: str) -> None:
        """Show people that nothing more is requested, and what is waited for."""
        self._is_stopping = True
        self.note(text)

    @contextmanager
    def _forwarding_log(self) -> Iterator[None]:
        log = logging.getLogger("engagement_async")
        handler = _Handler(self)
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)

    @asynccontextmanager
    async def _measuring(self, progress: Callable[[], Progress]) -> AsyncIterator[None]:
        """Keep the metrics of the run up to date, where they are wanted."""
        metrics = self._session.metrics
        if metrics is None:
            yield
            return
        try:
            async with _repeating(lambda: metrics.note(progress()), _SAMPLED_EVERY_S):
                yield
        finally:
            metrics.note(progress())

    @asynccontextmanager
    async def _showing(
        self, progress: Callable[[], Progress], owners: Callable[[], Sequence[str]] | None
    ) -> AsyncIterator[None]:
        if self.mode is Mode.QUIET:
            yield
            return
        if self.mode is Mode.TERMINAL:
            async with self._drawing(progress, owners):
                yield
            return
        samples = 0

        def show_sample() -> None:
            nonlocal samples
            samples += 1
            now = progress()
            if samples % _SHOWN_EVERY == 0:
                self.event("progress", **progress_event(now))
                self.note(progress_line(now))

        async with _repeating(show_sample, _SAMPLED_EVERY_S):
            yield

    @asynccontextmanager
    async def _drawing(
        self, progress: Callable[[], Progress], owners: Callable[[], Sequence[str]] | None
    ) -> AsyncIterator[None]:
        from rich.console import Console
        from rich.live import Live

        from engagement_async._display.terminal import ECHOED
        from engagement_async.cli.live import View, render

        lines: Sequence[str] = ()

        def show() -> None:
            warning, warned_at = self._warned or (None, 0.0)
            warned_s = time.monotonic() - warned_at
            view = View(progress(), warning, warned_s, lines, self._is_stopping)
            live.update(render(view, live.console.width - ECHOED), refresh=True)

        async def look() -> None:
            nonlocal lines
            while owners is not None:
                began_at = time.monotonic()
                with suppress(EngagementError):  # a journal that is busy, or about to be seen as damaged
                    lines = await asyncio.to_thread(owners)
                await asyncio.sleep(max(_OWNERS_EVERY_S, 20 * (time.monotonic() - began_at)))

        # What others write to stderr meanwhile is caught, and put above; what this class writes is printed there at once.
        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            self._live = live
            looking = asyncio.create_task(look())
            try:
                async with _repeating(show, _DRAWN_EVERY_S):
                    yield
            finally:
                self._live = None
                looking.cancel()

    def _write(self, text: str | bytes) -> None:
        """Write to stderr. Who reads it may be gone: a run that is paid for outlives its log."""
        with suppress(OSError):
            if self._live is not None and isinstance(text, str):
                self._live.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
            else:
                click.echo(text, err=True)


class _Handler(logging.Handler):
    """Makes what the engine logs a warning among the others."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.warn(record.getMessage())


@asynccontextmanager
async def _repeating(action: Callable[[], None], every_s: float) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def again() -> None:
        nonlocal timer
        action()
        timer = loop.call_later(every_s, again)

    timer = loop.call_later(every_s, again)
    try:
        yield
    finally:
        timer.cancel()
