"""Virtual time: an event loop whose clock jumps to the next timer when nothing is left to do. Hours pass in milliseconds.

In-process sockets work under it, and so do functions in the loop's executor: while one runs, the clock stands still. Other
threads and processes do not.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

__all__ = ["VirtualLoop", "run_virtual"]

T = TypeVar("T")
_LONGEST_THREAD_S = 1.0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, tick_s: float, *, has_sockets: bool) -> None:
        super().__init__()
        self.now = 0.0
        self.in_threads = 0
        self._tick_s = tick_s
        self._has_sockets = has_sockets

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if (self._has_sockets or self.in_threads) and (events := super().select(0)):
            return events
        if timeout == 0:
            return []
        if self.in_threads:
            return super().select(_LONGEST_THREAD_S)  # real time: until a thread wakes the loop
        if timeout is None:
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        self.now += max(timeout, self._tick_s)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that starts at instant 0 of its own clock.

    `tick_s`: how far the clock moves with every turn at least, as a real one does. Code that wakes a rounding error too
    early, and sleeps for the rest, spins for ever without it. `has_sockets`: False saves the system call of each turn.
    """

    def __init__(self, *, tick_s: float = 0.0, has_sockets: bool = True) -> None:
        self._jumping = _JumpingSelector(tick_s, has_sockets=has_sockets)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    @property
    def is_in_thread(self) -> bool:
        """Whether a function is at work in an executor."""
        return self._jumping.in_threads > 0

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


def run_virtual(main: Coroutine[Any, Any, T], *, tick_s: float = 0.0, has_sockets: bool = True) -> T:
    """`asyncio.run` under virtual time. For tests of hypothesis and benchmarks; other tests are marked `virtual_time`."""
    factory = partial(VirtualLoop, tick_s=tick_s, has_sockets=has_sockets)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
