"""Faults of time: answers that hang, drip, or come late."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ..encoding import respond
from .exchange import Exchange
from .registry import FaultKind, Reaction, register

fault = register(FaultKind.TIMING)


@fault("hang-before-headers", "no byte of the answer comes", is_drawn=False)
async def hang_before_headers(exchange: Exchange) -> web.StreamResponse:
    await asyncio.sleep(exchange.settings.hang_s)
    return exchange.write_and_close(b"")


@fault("hang-mid-body", "half of the body comes, then nothing", is_drawn=False)
async def hang_mid_body(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    if (transport := exchange.transport) is not None:
        head = exchange.head("Content-Encoding: gzip", f"Content-Length: {len(data)}")
        transport.write(head + data[: len(data) // 2])
    await asyncio.sleep(exchange.settings.hang_s)
    return exchange.write_and_close(b"")


@fault("drip", "the body comes a byte at a time", is_drawn=False)
async def drip(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    pieces = (data[at : at + 1] for at in range(len(data)))
    return await exchange.stream(pieces, pause_s=exchange.settings.drip_s, length=len(data))


@fault("slow", "a good answer, a second late", Reaction.ACCEPT, is_drawn=False)
async def slow(exchange: Exchange) -> web.StreamResponse:
    await asyncio.sleep(exchange.settings.slow_s)
    return respond(exchange.reply)
