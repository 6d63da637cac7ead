"""Faults of Tweet IDs: some that are missing, some that were not in the request."""

from __future__ import annotations

import zlib
from typing import Any

from aiohttp import web

from ..encoding import respond
from .exchange import Exchange
from .registry import FaultKind, Reaction, Requires, register

fault = register(FaultKind.IDS)


@fault("missing-ids", "a third of the Tweets is nowhere in the answer", requires=Requires.DATA)
async def missing_ids(exchange: Exchange) -> web.StreamResponse:
    victims = {i for i in exchange.tweet_ids if zlib.crc32(i.encode()) % 3 == 0}  # the same ones every time
    if victims.issuperset(exchange.tweet_ids):
        return exchange.respond_with({name: {} for name in exchange.reply.groupings})
    return respond(exchange.reply_without(victims))


@fault("extra-ids", "Tweets that were not in the request", Reaction.ACCEPT, Requires.DATA)
async def extra_ids(exchange: Exchange) -> web.StreamResponse:
    requested = set(exchange.tweet_ids)
    stranger = str(10**18 + exchange.random % 10**17)

    def add(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        tweet_id = next((key for key in node if key in requested), None)
        more = {} if tweet_id is None else {stranger: node[tweet_id]}
        return {key: add(value) for key, value in node.items()} | more

    return exchange.respond_with({name: add(exchange.reply.body[name]) for name in exchange.reply.groupings})
