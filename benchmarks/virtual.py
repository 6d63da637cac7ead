"""Virtual time for benchmarks: a loop whose clock jumps to the next timer, for libraries of any hand.

Other than the tests' loop it moves on a little with every turn, as a real clock does (a limiter that wakes a rounding
error too early would spin for ever otherwise), and what is handed to threads is done at once.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualLoop", "run_virtual"]

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0
    tick_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set")
        self.now += max(timeout, self.tick_s)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that starts at instant 0 of its own clock. No sockets: nothing is ever polled."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self._jumping = _JumpingSelector()
        self._jumping.tick_s = tick_s
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        future.set_result(func(*args))
        return future


def run_virtual(main: Coroutine[Any, Any, T], tick_s: float = 0.0) -> T:
    """`asyncio.run` under virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(tick_s)) as runner:
        return runner.run(main)
