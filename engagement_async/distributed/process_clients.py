"""The clients of this process: one for each recipe, on one event loop in a thread of its own, for code of any thread.

The thread begins when it is first needed, and anew after a fork. It ends with the process, which closes its clients.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engagement_async._engine.scheduler import LocalScheduler
from engagement_async.client import EngagementClient
from engagement_async.distributed.references import Reference
from engagement_async.errors import UsageError

__all__ = ["ClientRecipe", "ClientThread", "client_thread"]

logger = logging.getLogger("engagement_async")

T = TypeVar("T")

CLOSE_WITHIN_S = 10.0


@dataclass(frozen=True, eq=False)
class ClientRecipe:
    """What each process makes its client of. Copies of one recipe share a client within a process: `token` tells."""

    token: str
    credentials: Reference
    scheduler: Reference
    options: Mapping[str, Reference]

    def make(self) -> tuple[EngagementClient, Any]:
        """Return a client that is not open yet, and its scheduler if that is this process's own to close.

        Raise `UsageError` for a scheduler that other processes would have too, and that counts for each by itself.
        """
        credentials, scheduler = self.credentials.resolve(), self.scheduler.resolve()
        if isinstance(scheduler, LocalScheduler) and self.scheduler.is_portable:
            raise UsageError(
                "scheduler is a function that returns a LocalScheduler, and each process would spend the contract for "
                "itself: return a RedisScheduler or a MachineScheduler"
            )
        options = {name: option.resolve() for name, option in self.options.items()}
        client = EngagementClient(credentials, scheduler=scheduler, **options)
        return client, scheduler if self.scheduler.is_portable else None


@dataclass(eq=False)
class _Entry:
    """A client in use."""

    opening: asyncio.Task[EngagementClient] = field(init=False)
    scheduler: Any = None
    calls: int = 0
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)


class ClientThread(threading.Thread):
    """An event loop, and the clients that are open on it."""

    def __init__(self) -> None:
        super().__init__(name="engagement-clients", daemon=True)
        self._entries: dict[str, _Entry] = {}
        self._loop = asyncio.new_event_loop()  # here already: nobody needs to wait until it runs
        self._stopped = asyncio.Event()

    def end(self) -> None:
        """Close all clients and the loop, and wait for that, though not for ever."""
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._stopped.set)
        self.join(CLOSE_WITHIN_S)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, and return its future. Raise `UsageError` when the process ends."""
        if self._loop.is_closed():
            work.close()
            raise UsageError("this process is ending: nothing more can be fetched in it")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def is_running_this(self) -> bool:
        """Whether the caller is run by this very thread."""
        return threading.get_ident() == self.ident

    def run(self) -> None:
        """Run the loop; what a thread runs."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except RuntimeError:
            # Python 3.12 starts no thread while a process ends, not even the one in which asyncio waits for those that
            # looked up names. The loop is closed all the same.
            if not self._loop.is_closed():
                raise

    async def _serve(self) -> None:
        await self._stopped.wait()
        for token in list(self._entries):
            try:
                async with asyncio.timeout(CLOSE_WITHIN_S / 2):
                    await self.close(token)
            except Exception:
                logger.debug("a client was not closed properly", exc_info=True)

    # --- on the loop ---

    @asynccontextmanager
    async def client(self, recipe: ClientRecipe) -> AsyncIterator[EngagementClient]:
        """Return the open client of a recipe, for one call. Raise what keeps it from being made."""
        entry = self._entries.get(recipe.token)
        if entry is None or _has_failed(entry.opening):
            entry = _Entry()
            entry.opening = asyncio.get_running_loop().create_task(self._open(recipe, entry))
            entry.opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # raised to who waits
            self._entries[recipe.token] = entry
        entry.calls += 1
        entry.is_idle.clear()
        try:
            yield await asyncio.shield(entry.opening)
        finally:
            entry.calls -= 1
            if not entry.calls:
                entry.is_idle.set()
            if _has_failed(entry.opening) and self._entries.get(recipe.token) is entry:
                del self._entries[recipe.token]

    async def _open(self, recipe: ClientRecipe, entry: _Entry) -> EngagementClient:
        client, scheduler = await asyncio.to_thread(recipe.make)  # a vault may be slow
        await client.__aenter__()
        entry.scheduler = scheduler
        return client

    async def close(self, token: str) -> None:
        """Close the client of a recipe, once the calls that use it have ended; a later call opens another one."""
        entry = self._entries.pop(token, None)
        if entry is None:
            return
        await entry.is_idle.wait()
        await asyncio.wait([entry.opening])  # which goes on when the call that began it was cancelled
        if _has_failed(entry.opening):
            return
        await entry.opening.result().aclose()
        if hasattr(entry.scheduler, "aclose"):
            await entry.scheduler.aclose()
        elif hasattr(entry.scheduler, "close"):
            entry.scheduler.close()


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


_lock = threading.Lock()
_current: ClientThread | None = None
_of_parents: list[ClientThread] = []
"""Those of processes that this one was forked from. Never touched: their sockets and their epoll are still in use there."""


def client_thread() -> ClientThread:
    """Return this process's thread, which runs."""
    global _current
    with _lock:
        if _current is None:
            _current = ClientThread()
            _current.start()
        return _current


def _end() -> None:
    if _current is not None:
        _current.end()


def _forget_parents() -> None:
    global _current, _lock
    _lock = threading.Lock()
    if _current is not None:
        _of_parents.append(_current)
        _current = None


atexit.register(_end)
os.register_at_fork(after_in_child=_forget_parents)
