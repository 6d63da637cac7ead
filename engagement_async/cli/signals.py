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


class _Signals:
    """Counts signals. Those that come at once are one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.count = 0
        self.first: signal.Signals | None = None
        self._next_from = 0.0

    def note(self, number: int) -> bool:
        """Count a signal. False: it belongs to the one before."""
        now = self._clock()
        if now < self._next_from:
            return False
        self.count, self._next_from = self.count + 1, now + _AT_ONCE_S
        self.first = self.first or signal.Signals(number)
        return True


@contextmanager
def signals_raise(*, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Raise `Interrupted` in the main thread when a signal comes during the block, so that unfinished files are removed.

    Also where Python makes another error of it, as in a class that is being made. While a module is imported the signal has
    to wait: extension modules that are being initialized crash with an exception, or swallow it, as orjson does; the next
    one ends the process there. Python swallows what is raised in a finalizer, so a later one raises once more; the one after
    that ends the process.
    """
    signals = _Signals(clock)
    interrupted: Interrupted | None = None
    timer: threading.Timer | None = None
    """What sends the signal again that waits for an import."""
    is_waiting = is_sent_again = False
    imports_around = _imports(inspect.currentframe())

    def send_again(number: int) -> None:
        nonlocal is_waiting, is_sent_again
        is_waiting, is_sent_again = False, True  # before it is sent: this thread may go on late
        os.kill(os.getpid(), number)

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted, timer, is_waiting, is_sent_again
        is_new, is_sent_again = not is_sent_again, False
        if is_new and not signals.note(number):
            return
        is_importing = _imports(frame) > imports_around
        if is_new and signals.count > (1 if is_importing else _MOST_TIMES):
            _end_now(number, frame)
        interrupted = interrupted or Interrupted(_CODES[signal.Signals(number)])
        if not is_importing:
            raise interrupted
        if not is_waiting:
            is_waiting, timer = True, threading.Timer(_AGAIN_S, send_again, (number,))
            timer.daemon = True
            timer.start()

    handlers = {number: signal.getsignal(number) for number in handled_signals()}
    for number in handlers:
        signal.signal(number, interrupt)
    try:
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()  # what it sent has come then, and does not end the process afterwards
        if interrupted is not None and is_waiting:  # the import was the last that the block did
            raise interrupted
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


def run_async(
    main: Callable[[], Coroutine[Any, Any, _Result]], *, clock: Callable[[], float] = time.monotonic
) -> _Result:
    """Return the coroutine's result. A signal cancels it, and raises `Interrupted` once it has cleaned up; a later one
    ends the process immediately.
    """
    import asyncio  # `engagement --help` needs none

    handlers = {number: signal.getsignal(number) for number in _CODES}
    signals = _Signals(clock)
    try:
        with signals_held() as deliver, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            result = runner.run(_stoppable(main, deliver, signals))
        if signals.first is not None:  # it came while the loop was being closed
            raise Interrupted(_CODES[signals.first])
        return result
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _stoppable(
    main: Callable[[], Coroutine[Any, Any, _Result]], deliver: Callable[[], None], signals: _Signals
) -> _Result:
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    handled = handled_signals()

    def stop(number: signal.Signals) -> None:
        if signals.note(number):
            task.cancel()
            count_on()

    def count_on() -> None:
        for number in handled:
            loop.remove_signal_handler(number)
            signal.signal(number, end)

    def end(number: int, frame: FrameType | None) -> None:
        if signals.note(number) and signals.count > 1:
            _end_now(number, frame)

    for number in handled:
        loop.add_signal_handler(number, stop, number)
    deliver()
    try:
        return await task
    except asyncio.CancelledError:
        if signals.first is None:
            raise
        raise Interrupted(_CODES[signals.first]) from None
    finally:
        count_on()  # the loop has yet to close, and may wait for threads


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
