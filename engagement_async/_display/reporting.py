"""`progress=` of awaited calls: shows how far they are, or gives it to a function, without ever ending or delaying them.

What is shown can fail, be slow, or have nobody who looks at it. The call is paid for: it goes on.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol, TypeVar

from engagement_async._core.callables import call_signature
from engagement_async._display.displays import open_display
from engagement_async._progress import CallProgress
from engagement_async.errors import UsageError

__all__ = ["ProgressOption", "check_progress", "harmless", "reporting"]

ProgressOption = bool | Callable[[CallProgress], object]
"""What callers give as `progress`: whether it is shown, or a function that gets it. One that is async is awaited."""

_REST = 9
"""A function that takes a second is left alone for nine: it may hold up the loop for a tenth of the time at most."""
_LAST_S = 5.0
"""How long the end of a call waits for an async function that is still at work."""
_FAILED = "progress is not shown any more: showing it failed, and the call goes on"
_Value = TypeVar("_Value")

logger = logging.getLogger("engagement_async")


class Sample(Protocol):
    """Returns the progress of this moment, or of the end."""

    def __call__(self, *, is_finished: bool) -> CallProgress: ...


class Display(Protocol):
    """Where progress is shown."""

    every_s: float
    """Seconds between two times."""

    def show(self, now: CallProgress) -> object:
        """Show it. What is awaitable is awaited."""

    def close(self) -> None:
        """Show nothing more, and leave the terminal as it was."""


def check_progress(progress: object) -> None:
    """Raise `UsageError` for what is no `ProgressOption`. A call outlives a display that fails: later is too late."""
    if isinstance(progress, bool):
        return
    if not callable(progress):
        raise UsageError(f"progress is True, or a function that takes a CallProgress, not {progress!r}")
    if any(map(_is_generator, (progress, type(progress).__call__))):
        raise UsageError(
            f"progress is called anew each time, and the generator of {_name(progress)} would never be run: give a function "
            "without yield"
        )
    try:
        signature = call_signature(progress)
    except (TypeError, ValueError):
        return  # some built-in functions do not say
    try:
        signature.bind(None)
    except TypeError:
        taken = [each.replace(default=each.empty, annotation=each.empty) for each in signature.parameters.values()]
        raise UsageError(
            f"progress is called with one argument, a CallProgress, and {_name(progress)} takes "
            f"{inspect.Signature(taken)}: give a function of one argument"
        ) from None


def _name(function: object) -> str:
    """Return what a function is called, without its values: those of a partial may be secrets."""
    return getattr(function, "__qualname__", None) or f"a {type(function).__name__}"


def _is_generator(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


@asynccontextmanager
async def reporting(progress: ProgressOption, label: str, sample: Sample) -> AsyncIterator[None]:
    """Show progress while the block runs, and once more when it came to its end.

    Args:
        progress: Where to: True for a bar on the terminal or in the notebook, or a function.
        label: What it is the progress of.
        sample: Returns the progress of this moment.

    Raises:
        UsageError: What shows it here is not installed.
    """
    display: Display = _Given(progress) if callable(progress) else open_display(label)
    ticker = _Ticker(display, sample)
    try:
        yield
        await ticker.finish()
    except BaseException:
        await ticker.cancel()
        raise
    finally:
        with suppress(Exception):
            display.close()


def harmless(function: Callable[[_Value], object]) -> Callable[[_Value], None]:
    """Return a function that does the same, and does nothing more once that has raised."""
    is_called = True

    def call(value: _Value) -> None:
        nonlocal is_called
        if is_called:
            try:
                function(value)
            except Exception:
                is_called = False
                logger.warning(_FAILED, exc_info=True)

    return call


class _Given:
    """A caller's own function."""

    every_s = 0.5

    def __init__(self, function: Callable[[CallProgress], object]) -> None:
        self.show = function

    def close(self) -> None:
        pass


class _Ticker:
    """A task that shows progress now and then, one at a time."""

    def __init__(self, display: Display, sample: Sample) -> None:
        self._display = display
        self._sample = sample
        self._has_ended = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Show the end, and wait until that is done."""
        self._has_ended.set()
        done, _ = await asyncio.wait({self._task}, timeout=_LAST_S)
        if not done:
            logger.warning("progress: the function was still at work %g s after the call, and is cancelled", _LAST_S)
            await self.cancel()

    async def cancel(self) -> None:
        """Show nothing more."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_LAST_S)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._has_ended.is_set():
                began_at = loop.time()
                await self._show(is_finished=False)
                pause_s = max(self._display.every_s, _REST * (loop.time() - began_at))
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._has_ended.wait()
            await self._show(is_finished=True)
        except Exception:
            logger.warning(_FAILED, exc_info=True)

    async def _show(self, *, is_finished: bool) -> None:
        shown = self._display.show(self._sample(is_finished=is_finished))
        if inspect.isawaitable(shown):
            await shown
