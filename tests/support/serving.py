"""Servers of tests: how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

__all__ = ["close_server"]

_ROUNDS = 10
"""Of the event loop: more than it takes from a connection that is accepted to its handler, or to a handshake that failed."""


async def close_server(server: asyncio.Server, handlers: Collection[asyncio.Task[None]]) -> None:
    """Listen no more, and cancel the handlers, which close their connections.

    A handler that is cancelled before its first step closes nothing, and its connection is found by the garbage collector
    in some later test: those of connections that were accepted just now begin first.
    """
    server.close()
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)
