"""A server in a thread and an event loop of its own, for code that is not async."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager
from typing import Any

__all__ = ["ServerThread"]


class ServerThread(threading.Thread):
    """Runs an async context manager in a loop of its own, from `begin` to `end`."""

    def __init__(self, server: AbstractAsyncContextManager[Any]) -> None:
        super().__init__(name="engagement-emulator", daemon=True)
        self._server = server
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Start, and wait until it listens. Raise what kept it from doing so, such as `OSError` for a port in use."""
        self.start()
        self._ready.wait()
        if self._error is not None:
            self.join()
            raise self._error

    def end(self) -> None:
        """Stop, and wait for the thread. Raise what went wrong in it."""
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
        self.join()
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Serve; what a thread runs."""
        try:
            with asyncio.Runner() as runner:
                runner.get_loop()  # it may fail, as where pytest-socket allows no sockets: no coroutine is made then
                runner.run(self._serve())
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with self._server:
            self._ready.set()
            await self._stopped.wait()
