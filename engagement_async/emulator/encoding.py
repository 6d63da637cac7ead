"""How an answer becomes bytes: decimal strings, JSON, gzip.

This is the honest encoding of an `ApiReply`; the dishonest ones are in faults/.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
from aiohttp import web

from .replies import ApiReply

__all__ = ["CONTENT_TYPE", "EncodedReply", "encode", "respond"]

CONTENT_TYPE = "application/json;charset=utf-8"


@dataclass(frozen=True, slots=True)
class EncodedReply:
    """An answer on its way out: its status, its JSON object with leaves as they are sent, its headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    groupings: tuple[str, ...] = ()
    """The keys of `body` that hold data."""


def encode(reply: ApiReply, headers: dict[str, str], integers_every: int) -> EncodedReply:
    """Turn the leaves into decimal strings, as the API's are; each `integers_every`-th stays an integer (0: none)."""
    body = dict(reply.body)
    for name in reply.groupings:
        body[name] = _mixed(body[name], count(1), integers_every) if integers_every else _strings(body[name])
    return EncodedReply(reply.status, body, headers, reply.groupings)


def respond(reply: EncodedReply) -> web.Response:
    """Return the honest response: gzip as asked. Only 406 is plain, for a client that cannot read gzip."""
    data = orjson.dumps(reply.body)
    headers = {**reply.headers, "Content-Type": CONTENT_TYPE}
    if reply.status != 406:
        data = gzip.compress(data, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return web.Response(status=reply.status, body=data, headers=headers)


def _strings(nested: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if type(value) is int else _strings(value) for key, value in nested.items()}


def _mixed(nested: Mapping[str, Any], numbers: count[int], every: int) -> dict[str, Any]:
    mixed: dict[str, Any] = {}
    for key, value in nested.items():
        if not isinstance(value, int):
            mixed[key] = _mixed(value, numbers, every)
        else:
            mixed[key] = value if next(numbers) % every == 0 else str(value)
    return mixed
