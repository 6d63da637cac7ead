"""Virtual time: an event loop whose clock jumps to the next timer when nothing is left to do. Hours pass in milliseconds.

In-process sockets work under it, and so do functions in the loop's executor: while one runs, the clock stands still. Other
threads and processes do not.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_LONGEST_THREAD_S = 1.0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.in_threads:
            return super().select(_LONGEST_THREAD_S)  # real time: until a thread wakes the loop
        if timeout is None:
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that starts at instant 0 of its own clock."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def suspend(self, seconds: float) -> None:
        """Let the clock jump, as when the machine was asleep: timers that fell into that time are late by as much."""
        self._jumping.now += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._jumping.in_threads += 1
        future.add_done_callback(self._left_thread)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._jumping.in_threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jumping.in_threads -= 1

    def _left_thread(self, _: asyncio.Future[Any]) -> None:
        self._jumping.in_threads -= 1


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` under virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
