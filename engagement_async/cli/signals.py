"""Runs a command's coroutine: on uvloop if it is installed, and stopped gracefully by SIGINT and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from engagement_async.cli.exit_codes import INTERRUPTED, TERMINATED, Interrupted

__all__ = ["run_async"]

_Result = TypeVar("_Result")
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


def run_async(main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Return the coroutine's result. The first signal cancels it, and raises `Interrupted` once it has cleaned up;
    the second terminates the process immediately."""
    handlers = {number: signal.getsignal(number) for number in _CODES}
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_stoppable(main))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _stoppable(main: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    stopped_by: signal.Signals | None = None

    def stop(number: signal.Signals) -> None:
        nonlocal stopped_by
        stopped_by = number
        task.cancel()
        for each in _CODES:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    for number in _CODES:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped_by is None:
            raise
        raise Interrupted(_CODES[stopped_by]) from None
    finally:
        for number in _CODES:
            loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
