"""Faults of values: leaves of other types, and fields that are not documented."""

from __future__ import annotations

from aiohttp import web

from .exchange import Exchange
from .registry import FaultKind, Reaction, Requires, register

fault = register(FaultKind.VALUES)


@fault("extra-fields", "fields that are not documented", Reaction.ACCEPT, Requires.DATA)
async def extra_fields(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with({"took_ms": 12, "meta": {"warnings": [], "version": None}})


@fault("integers", "bare integers instead of decimal strings", Reaction.ACCEPT, Requires.DATA)
async def integers(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with_leaves(lambda position, leaf: int(leaf))


@fault("null-leaf", "one value is null", requires=Requires.DATA)
async def null_leaf(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with_leaves(lambda position, leaf: None if position == 0 else leaf)


@fault("array-leaf", "one value is an array", requires=Requires.DATA)
async def array_leaf(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with_leaves(lambda position, leaf: [leaf] if position == 0 else leaf)


@fault("text-leaf", "one value is no number", requires=Requires.DATA)
async def text_leaf(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with_leaves(lambda position, leaf: "n/a" if position == 0 else leaf)


@fault(
    "negative",
    "one value is negative, as was seen in the wild (this one does change the data)",
    Reaction.ACCEPT,
    Requires.DATA,
    is_drawn=False,
)
async def negative(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with_leaves(lambda position, leaf: "-1" if position == 0 else leaf)
