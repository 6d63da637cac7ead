"""Faults of the document: a 200 whose body is no JSON, or JSON of another shape."""

from __future__ import annotations

import gzip

from aiohttp import web

from ..encoding import CONTENT_TYPE
from .exchange import Exchange
from .registry import FaultKind, Requires, register

fault = register(FaultKind.CONTENT)


@fault("html-200", "a page of HTML with status 200")
async def html_200(exchange: Exchange) -> web.StreamResponse:
    return web.Response(text="<html><body>Back soon</body></html>", content_type="text/html")


@fault("empty-200", "status 200 and no body")
async def empty_200(exchange: Exchange) -> web.StreamResponse:
    return web.Response(headers={"Content-Type": CONTENT_TYPE})


@fault("not-json", "status 200 and a text that is no JSON")
async def not_json(exchange: Exchange) -> web.StreamResponse:
    text = b"upstream connect error or disconnect/reset before headers"
    return exchange.respond(gzip.compress(text), status=200)


@fault("json-cut", "a whole gzip stream of JSON that was cut")
async def json_cut(exchange: Exchange) -> web.StreamResponse:
    data = exchange.json
    return exchange.respond(gzip.compress(data[: exchange.random % len(data)]), status=200)


@fault("wrong-shape", "JSON whose groupings are arrays", requires=Requires.DATA)
async def wrong_shape(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with({name: list(exchange.reply.body[name]) for name in exchange.reply.groupings})


@fault("array-200", "JSON that is an array")
async def array_200(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond(gzip.compress(b"[" + exchange.json + b"]", 1), status=200)
