"""Signals: a command is stopped gracefully by the first one, and ended at once by the second. Ignored ones stay ignored."""

from __future__ import annotations

import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from engagement_async.cli.exit_codes import HANGUP, INTERRUPTED, TERMINATED, Interrupted

if TYPE_CHECKING:
    import asyncio

__all__ = ["handled_signals", "run_async", "signals_held", "signals_raise"]

_Result = TypeVar("_Result")
_AGAIN_S = 0.02
_AT_ONCE_S = 0.25
"""Signals within this time are one: SIGTERM and SIGHUP often come together."""
_MOST_TIMES = 2
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED, signal.SIGHUP: HANGUP}


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Interrupted` in the main thread when a signal comes during the block, so that unfinished files are removed.

    Also where Python makes another error of it, as in a class that is being made. While a module is imported the signal has
    to wait: extension modules that are being initialized crash with an exception, or swallow it, as orjson does. Signals
    often come in twos, as SIGTERM and SIGHUP do: both are one. Python swallows what is raised in a finalizer, so a later one
    raises once more; the next ends the process.
    """
    interrupted: Interrupted | None = None
    times = 0
    next_from = 0.0
    again: threading.Timer | None = None
    imports_around = _imports(inspect.currentframe())

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted, times, next_from, again
        if time.monotonic() < next_from:
            return
        if times == _MOST_TIMES:
            _end_now(number, frame)
        if _imports(frame) > imports_around:
            if again is None or not again.is_alive():
                again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
                again.daemon = True
                again.start()
            return
        interrupted = interrupted or Interrupted(_CODES[signal.Signals(number)])
        times, next_from = times + 1, time.monotonic() + _AT_ONCE_S
        raise interrupted

    handlers = {number: signal.getsignal(number) for number in handled_signals()}
    for number in handlers:
        signal.signal(number, interrupt)
    try:
        yield
    except Exception:
        if interrupted is not None:
            raise interrupted from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _imports(frame: FrameType | None) -> int:
    """Return how many frames of the import system are on the stack."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count


def handled_signals() -> list[signal.Signals]:
    """Return the signals that end a command, except those that the parent process had it ignore."""
    return [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]


def _end_now(number: int, _frame: object) -> None:
    """End the process by this signal: as process 1 of a container, which no signal ends by default, by itself."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


@contextmanager
def signals_held() -> Iterator[Callable[[], None]]:
    """Hold signals back until the function that it yields is called: until an event loop is there that handles them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _CODES)

    def deliver() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    try:
        yield deliver
    finally:
        deliver()


def run_async(main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Return the coroutine's result. A signal cancels it, and raises `Interrupted` once it has cleaned up; a later one
    ends the process immediately.
    """
    import asyncio  # `engagement --help` needs none

    handlers = {number: signal.getsignal(number) for number in _CODES}
    try:
        with signals_held() as deliver, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_stoppable(main, deliver))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _stoppable(main: Callable[[], Coroutine[Any, Any, _Result]], deliver: Callable[[], None]) -> _Result:
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    handled = handled_signals()
    stopped_by: signal.Signals | None = None

    def stop(number: signal.Signals) -> None:
        nonlocal stopped_by
        if stopped_by is not None:
            return
        stopped_by = number
        task.cancel()
        ends_from = time.monotonic() + _AT_ONCE_S

        def end(number: int, frame: FrameType | None) -> None:
            if time.monotonic() >= ends_from:
                _end_now(number, frame)

        for each in handled:
            loop.remove_signal_handler(each)
            signal.signal(each, end)

    for number in handled:
        loop.add_signal_handler(number, stop, number)
    deliver()
    try:
        return await task
    except asyncio.CancelledError:
        if stopped_by is None:
            raise
        raise Interrupted(_CODES[stopped_by]) from None
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
