"""Turns: work that takes long is done once in each iteration of the event loop, so that everything else comes in between."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Lets one task at a time go on, first in, first out, and the next one in the next iteration of the event loop.

    Decoding a response takes up to milliseconds. Without turns, all responses that come at once are decoded at once, and an
    application that shares the event loop waits for all of them.
    """

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def take(self) -> None:
        """Wait for a turn. It ends by itself: with the iteration of the loop in which this returns."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        waiter = loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False
