"""The emulator as an aiohttp application: what is checked in which order, and how an answer goes over the wire.

What belongs here: HTTP. The order of the checks: path, method, `Accept-Encoding`, credentials, rate limit, body,
ownership.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from weakref import WeakSet

from aiohttp import web

from engagement_async._core.endpoints import ENDPOINTS

from .auth import Authority
from .encoding import Answer, encode, respond
from .faults import Exchange, FaultPlan, perform
from .limit import Limit
from .log import Entry, RequestLog
from .replies import Readings, Reply, World, reply_to
from .request_rules import DOCUMENTED, Refusal, Request, check_request

__all__ = ["Service", "make_app"]

_ENDPOINTS = {endpoint.path: endpoint for endpoint in ENDPOINTS.values()}
_MAX_BODY_BYTES = 1 << 18  # 250 IDs take 6 KB
# The one documented error of this shape is for a wrong host or page.
_NO_SUCH_PAGE = Reply(404, {"errors": [{"message": "Sorry, that page does not exist", "code": 34}]})
Latency = Callable[[int], tuple[float, float]]


@dataclass
class Service:
    """All that a running emulator is made of. Its fields may be changed while it runs."""

    authority: Authority
    limits: list[Limit]
    world: World
    readings: Readings
    log: RequestLog
    faults: FaultPlan
    latency: Latency
    """Seconds before and after the server acts, of the n-th request."""
    now: Callable[[], float]
    """Which day it is in the world of Tweets, epoch seconds."""
    wall: Callable[[], float]
    """The server's clock, epoch seconds: OAuth timestamps, `Date`, resets."""
    states_date: bool = False
    """Whether `wall` is off the machine's clock, so that `Date` must be written by hand."""
    _started: int = field(default=0, init=False)
    _served: WeakSet[asyncio.Transport] = field(default_factory=WeakSet, init=False)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or break it on purpose."""
        self._started += 1
        before_s, after_s = self.latency(self._started)
        if before_s > 0:
            await asyncio.sleep(before_s)
        arrived_at = asyncio.get_running_loop().time()
        entry = self.log.arrive(arrived_at, request.path)
        try:
            return await self._respond(request, entry, arrived_at, after_s)
        finally:
            self.log.leave(entry)

    async def _respond(
        self, request: web.Request, entry: Entry, arrived_at: float, after_s: float
    ) -> web.StreamResponse:
        headers = {"Date": formatdate(self.wall(), usegmt=True)} if self.states_date else {}
        asked: _Asked | None = None
        try:
            asked = await self._check(request, entry, arrived_at, headers)
            reply = asked.reply() if asked is not None else _NO_SUCH_PAGE
        except Refusal as refusal:
            reply = Reply(refusal.status, {"errors": list(refusal.texts)})
            self.log.refuse(refusal.texts)
        entry.errors = tuple(text for text in reply.body.get("errors", ()) if isinstance(text, str))
        if after_s > 0:
            await asyncio.sleep(after_s)
        answer = encode(reply, headers, self.readings)
        fault = self.faults.next(reused=self._is_reused(request), data=bool(reply.groupings))
        if fault is None:
            entry.status = reply.status
            entry.delivered = True
            return respond(answer)

        def answer_without(ids: Set[str]) -> Answer:
            return answer if asked is None else encode(asked.without(ids).reply(), headers, self.readings)

        entry.fault = fault.name
        exchange = Exchange(
            request, answer, entry.tweet_ids, self.wall(), entry.number, self.faults.settings, answer_without
        )
        response = await perform(fault, exchange)
        entry.status = response.status
        entry.delivered = fault.then == "fine"
        return response

    def _is_reused(self, request: web.Request) -> bool:
        transport = request.transport
        if transport is None:
            return False
        reused = transport in self._served
        self._served.add(transport)
        return reused

    async def _check(
        self, request: web.Request, entry: Entry, arrived_at: float, headers: dict[str, str]
    ) -> _Asked | None:
        """Check everything that can be checked before Tweets are looked at. None: there is no such page."""
        endpoint = _ENDPOINTS.get(request.path)
        if endpoint is None:
            return None
        entry.endpoint = endpoint.name
        if request.method != "POST":
            headers["Allow"] = "POST"
            raise Refusal(405, f"{request.method} is not supported, use POST.")
        if not _accepts_gzip(request.headers.getall("Accept-Encoding", [])):
            raise Refusal(406, DOCUMENTED["gzip"])
        url = f"{request.scheme}://{request.host}{request.raw_path}"
        app_only, entry.nonce = self.authority.check(
            request.headers.get("Authorization"), request.method, url, self.wall()
        )
        if app_only and not endpoint.public_metrics:
            raise Refusal(401, "Your account could not be authenticated. Reason: OAuth 1.0a user context is required")
        self._count(arrived_at, headers)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Refusal(413, "The request body is too large.") from None
        query = check_request(endpoint, body, request.headers.get("Content-Type"), app_only=app_only)
        entry.tweet_ids, entry.engagement_types = query.tweet_ids, query.engagement_types
        entry.groupings = tuple(query.groupings.items())
        entry.start, entry.end = query.start, query.end
        self.log.checked(entry)
        return _Asked(query, self.world, self.readings, self.now(), app_only)

    def _count(self, arrived_at: float, headers: dict[str, str]) -> None:
        """Admit the request or refuse it with 429; either way say where the limits stand."""
        full = [limit for limit in self.limits if limit.remaining(arrived_at) < 1]
        if not full:
            for limit in self.limits:
                limit.admit(arrived_at)
        for limit in self.limits:
            headers |= limit.headers(arrived_at, self.wall())
        if full:
            raise Refusal(429, f"You have exceeded your rate limit of {full[0]}.")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A checked request and all that its answer depends on."""

    query: Request
    world: World
    readings: Readings
    now: float
    app_only: bool

    def reply(self) -> Reply:
        return reply_to(self.query, self.world, self.readings, self.now, app_only=self.app_only)

    def without(self, ids: Set[str]) -> _Asked:
        kept = tuple(tweet_id for tweet_id in self.query.tweet_ids if tweet_id not in ids)
        return replace(self, query=replace(self.query, tweet_ids=kept))


def make_app(service: Service) -> web.Application:
    """An aiohttp application whose every path is the service's."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", service.handle)
    return app


def _accepts_gzip(fields: Sequence[str]) -> bool:
    for item in ",".join(fields).split(","):
        coding, _, quality = item.partition(";")
        if coding.strip().lower() == "gzip":
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", quality.lower())
    return False
