"""Virtual time: an event loop whose clock jumps to the next timer when nothing is left to do. Hours pass in milliseconds.

In-process sockets work under it. What is handed to a thread is done before the loop goes on, in no time of the clock.
Other processes do not work: nobody waits for them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

__all__ = ["VirtualLoop", "run_virtual"]

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, tick_s: float, *, has_sockets: bool) -> None:
        super().__init__()
        self.now = 0.0
        self._tick_s = tick_s
        self._has_sockets = has_sockets

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._has_sockets and (events := super().select(0)):
            return events
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
        self._pool: ThreadPoolExecutor | None = None
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        if executor is None:
            executor = self._pool = self._pool or ThreadPoolExecutor(1, "virtual")
        done = executor.submit(func, *args)
        future: asyncio.Future[T] = self.create_future()
        if (error := done.exception()) is not None:  # waits
            future.set_exception(error)
        else:
            future.set_result(done.result())
        return future

    def close(self) -> None:
        super().close()
        if self._pool is not None:
            self._pool.shutdown()


def run_virtual(main: Coroutine[Any, Any, T], *, tick_s: float = 0.0, has_sockets: bool = True) -> T:
    """`asyncio.run` under virtual time. For tests of hypothesis and benchmarks; other tests are marked `virtual_time`."""
    factory = partial(VirtualLoop, tick_s=tick_s, has_sockets=has_sockets)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
