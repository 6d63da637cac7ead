"""Faults of the rate limit: refusals with every kind of header, sane and not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import formatdate

from aiohttp import web

from .exchange import Exchange
from .registry import FaultKind, Reaction, register

fault = register(FaultKind.RATE)


def _rate_limited(
    name: str, description: str, headers: Callable[[Exchange], Mapping[str, str]], status: int = 429
) -> None:
    async def send(exchange: Exchange) -> web.StreamResponse:
        return exchange.respond_with_errors(status, "You have exceeded your rate limit.", headers=headers(exchange))

    fault(name, description, Reaction.HOLD)(send)


def _hostile(value: str) -> Callable[[Exchange], Mapping[str, str]]:
    return lambda _: {"Retry-After": value, "x-per-minute-remaining": value, "x-per-minute-reset": value}


def _reset(exchange: Exchange) -> Mapping[str, str]:
    reset = str(int(exchange.wall_clock) + exchange.settings.retry_after_s)
    return {**exchange.reply.headers, "x-per-minute-remaining": "0", "x-per-minute-reset": reset}


def _seconds(exchange: Exchange) -> Mapping[str, str]:
    return {"Retry-After": str(exchange.settings.retry_after_s)}


def _date(exchange: Exchange) -> Mapping[str, str]:
    return {"Retry-After": formatdate(exchange.wall_clock + exchange.settings.retry_after_s + 1, usegmt=True)}


def _nothing(_: Exchange) -> Mapping[str, str]:
    return {}


_rate_limited("429", "status 429 with x-per-minute-reset", _reset)
_rate_limited("429-seconds", "status 429 with Retry-After in seconds", _seconds)
_rate_limited("429-date", "status 429 with Retry-After as a date", _date)
_rate_limited("429-garbage", "status 429 with words for numbers", _hostile("soon"))
_rate_limited("429-nan", "status 429 with nan", _hostile("nan"))
_rate_limited("429-negative", "status 429 with negative numbers", _hostile("-60"))
_rate_limited("429-1e9", "status 429 with a billion seconds", _hostile("1000000000"))
_rate_limited("429-bare", "status 429 with no header that says when", _nothing)
_rate_limited("429-text-200", "status 200, and `rate limit` in `errors`", _nothing, 200)
