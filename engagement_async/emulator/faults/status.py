"""Faults of the status and the headers beside it.

A 401 and a 404 have no rate headers, as those that the emulator sends by itself.
"""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate

from aiohttp import web

from ..encoding import EncodedReply, respond
from ..replies import NO_SUCH_PAGE
from ..request_rules import DOCUMENTED
from .exchange import Exchange
from .registry import FaultKind, Reaction, register

fault = register(FaultKind.STATUS)


def _error(name: str, status: int, description: str, text: str, expected: Reaction = Reaction.RETRY) -> None:
    async def send(exchange: Exchange) -> web.StreamResponse:
        return exchange.respond_with_errors(status, text)

    fault(name, description, expected)(send)


_error("500", 500, "status 500", "internal server error")
_error("503", 503, "status 503", "Service Unavailable")
_error("408", 408, "status 408", "Request Timeout")
_error("error-200", 200, "status 200, and `internal server error` in `errors`", "internal server error")
_error("400", 400, "status 400 that names no ID, once", "The request could not be processed.", Reaction.BISECT)
_error("403", 403, "status 403 that names no ID, once", "Forbidden", Reaction.BISECT)
_error(
    "403-application",
    403,
    "status 403, `your application id is not authorized.`",
    DOCUMENTED["application"],
    Reaction.STOP,
)


@fault("401", "status 401, once", Reaction.STOP)
async def status_401(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond_with_errors(401, DOCUMENTED["token"], headers={})


@fault("404", "status 404", Reaction.STOP)
async def status_404(exchange: Exchange) -> web.StreamResponse:
    return respond(EncodedReply(NO_SUCH_PAGE.status, NO_SUCH_PAGE.body, exchange.date))


@fault("502", "status 502 with a page of HTML")
async def status_502(exchange: Exchange) -> web.StreamResponse:
    return web.Response(status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")


@fault("504", "status 504 and no body")
async def status_504(exchange: Exchange) -> web.StreamResponse:
    return web.Response(status=504)


@fault("redirect", "status 302 to another path", Reaction.STOP)
async def redirect(exchange: Exchange) -> web.StreamResponse:
    elsewhere = f"{exchange.request.scheme}://{exchange.request.host}/elsewhere"
    return web.Response(status=302, headers={"Location": elsewhere})


@fault("clock-skew", "a good answer whose Date is ten minutes ahead", Reaction.ACCEPT)
async def clock_skew(exchange: Exchange) -> web.StreamResponse:
    date = formatdate(exchange.wall_clock + exchange.settings.skew_s, usegmt=True)
    return respond(replace(exchange.reply, headers={**exchange.reply.headers, "Date": date}))
