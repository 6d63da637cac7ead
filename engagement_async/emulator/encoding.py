"""How an answer becomes bytes: decimal strings, JSON, gzip.

What belongs here: the honest encoding of a `Reply`. The dishonest ones are in faults.py.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
from aiohttp import web

from .replies import Readings, Reply

__all__ = ["CONTENT_TYPE", "Answer", "encode", "respond"]

CONTENT_TYPE = "application/json;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply on its way out: its status, its JSON object with leaves as they go out, its headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    groupings: tuple[str, ...] = ()
    """The keys of `body` that hold data."""


def encode(reply: Reply, headers: dict[str, str], readings: Readings) -> Answer:
    """Turn the leaves of a reply into decimal strings, as the API's are."""
    body = dict(reply.body)
    every = readings.integers_every
    for name in reply.groupings:
        body[name] = _mixed(body[name], count(1), every) if every else _texts(body[name])
    return Answer(reply.status, body, headers, reply.groupings)


def respond(answer: Answer) -> web.Response:
    """The honest response: gzip as asked. Only 406 is plain, for a client that cannot read gzip."""
    data = orjson.dumps(answer.body)
    headers = {**answer.headers, "Content-Type": CONTENT_TYPE}
    if answer.status != 406:
        data = gzip.compress(data, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return web.Response(status=answer.status, body=data, headers=headers)


def _texts(nested: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if type(value) is int else _texts(value) for key, value in nested.items()}


def _mixed(nested: Mapping[str, Any], number: count[int], every: int) -> dict[str, Any]:
    """As `_texts`, but each `every`-th leaf stays an integer."""
    mixed: dict[str, Any] = {}
    for key, value in nested.items():
        if not isinstance(value, int):
            mixed[key] = _mixed(value, number, every)
        else:
            mixed[key] = value if next(number) % every == 0 else str(value)
    return mixed
