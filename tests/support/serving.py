"""Servers of tests: how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

__all__ = ["close_server"]

_ROUNDS = 10
"""Of the event loop: more than it takes from a connection that is accepted to its handler, or to a handshake that failed."""


async def close_server(server: asyncio.Server, handlers: Collection[asyncio.Task[None]]) -> None:
    """Listen no more, and cancel the handlers, which close their connections.

    asyncio leaves a connection open that it is accepting when its server closes, and a handler that is cancelled before its
    first step closes none. The garbage collector would find it in some later test: so both come first.
    """
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
    server.close()
    for handler in handlers:
        handler.cancel()
    await asyncio.gather(*handlers, return_exceptions=True)
