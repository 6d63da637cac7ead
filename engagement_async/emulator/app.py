"""The emulator as an aiohttp application: HTTP, and the order of the checks.

The order is path, method, `Accept-Encoding`, credentials, rate limit, body, ownership; the first breach answers.
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

from .auth import Authority, Caller, SignedRequest
from .encoding import EncodedReply, encode, respond
from .faults import Exchange, FaultPlan, Reaction, inject
from .interpretation import Interpretation, Leniency
from .limit import Limit
from .log import Entry, RequestLog
from .replies import NO_SUCH_PAGE, ApiReply, reply_to
from .request_rules import DOCUMENTED, FORM, Refusal, Request, check_request, content_type_of, public_metrics
from .signature import body_hash, parse_parameters
from .world import World

__all__ = ["Latency", "Service", "make_app"]

_ENDPOINTS = {endpoint.path: endpoint for endpoint in ENDPOINTS.values()}
_MAX_BODY_BYTES = 1 << 18  # 250 IDs take 6 KB
_IS_BODY_BROKEN = web.RequestKey("is_body_broken", bool)
Latency = Callable[[int], tuple[float, float]]


@dataclass
class Service:
    """All that a running emulator is made of. Its fields may be changed while it runs."""

    authority: Authority
    limits: list[Limit]
    world: World
    interpretation: Interpretation
    log: RequestLog
    faults: FaultPlan
    latency: Latency
    """Number of a request to the seconds before and after the server acts."""
    now: Callable[[], float]
    """Which day it is in the world of Tweets, epoch seconds."""
    wall_clock: Callable[[], float]
    """The server's clock, epoch seconds: OAuth timestamps, `Date`, resets."""
    sends_date: bool = False
    """Whether `wall_clock` differs from the machine's clock, so that `Date` must be written here."""
    started_at: float = 0.0
    """When it began to listen, on the loop's clock."""
    _started: int = field(default=0, init=False)
    _used_connections: WeakSet[asyncio.Transport] = field(default_factory=WeakSet, init=False)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or break it on purpose."""
        self._started += 1
        before_s, after_s = self.latency(self._started)
        if before_s > 0:
            await asyncio.sleep(before_s)
        arrived_at = asyncio.get_running_loop().time()
        entry = self.log.arrive(arrived_at, request.path)
        try:
            response = await self._respond(request, entry, arrived_at, after_s)
        finally:
            self.log.leave(entry)
        if request.get(_IS_BODY_BROKEN, False):
            response.force_close()  # the parser does not find the next request
        return response

    async def _respond(
        self, request: web.Request, entry: Entry, arrived_at: float, after_s: float
    ) -> web.StreamResponse:
        headers = {"Date": formatdate(self.wall_clock(), usegmt=True)} if self.sends_date else {}
        checked: _CheckedRequest | None = None
        try:
            checked = await self._check(request, entry, arrived_at, headers)
            reply = checked.reply() if checked is not None else NO_SUCH_PAGE
        except Refusal as refusal:
            reply = ApiReply(refusal.status, {"errors": list(refusal.texts)})
            self.log.refuse(refusal.texts)
            entry.owner = entry.owner or refusal.owner
        entry.errors = tuple(text for text in reply.body.get("errors", ()) if isinstance(text, str))
        if after_s > 0:
            await asyncio.sleep(after_s)
        encoded = encode(reply, headers, self.interpretation.integers_every)
        fault = self.faults.next(reused=self._is_reused(request), data=bool(reply.groupings))
        if fault is None:
            entry.status = reply.status
            entry.delivered = True
            return respond(encoded)

        def reply_without(ids: Set[str]) -> EncodedReply:
            if checked is None:
                return encoded
            return encode(checked.without(ids).reply(), headers, self.interpretation.integers_every)

        entry.fault = fault.name
        settings = self.faults.settings
        exchange = Exchange(request, encoded, entry.tweet_ids, self.wall_clock(), entry.number, settings, reply_without)
        response = await inject(fault, exchange)
        entry.status = response.status
        entry.delivered = fault.expected is Reaction.ACCEPT
        return response

    def _is_reused(self, request: web.Request) -> bool:
        transport = request.transport
        if transport is None:
            return False
        reused = transport in self._used_connections
        self._used_connections.add(transport)
        return reused

    async def _check(
        self, request: web.Request, entry: Entry, arrived_at: float, headers: dict[str, str]
    ) -> _CheckedRequest | None:
        """Check everything that can be checked before Tweets are looked at. None: there is no such page."""
        endpoint = _ENDPOINTS.get(request.path)
        if endpoint is None:
            return None
        entry.endpoint = endpoint.name
        if request.method != "POST":
            headers["Allow"] = "POST"
            raise Refusal(405, f"{request.method} is not supported, use POST.")
        accepts = self.interpretation.accepts
        if not _accepts_gzip(request.headers.getall("Accept-Encoding", []), accepts):
            raise Refusal(406, DOCUMENTED["gzip"])
        caller = await self._authenticate(request, arrived_at)
        entry.nonce = caller.nonce
        entry.owner = caller.owner.handle if caller.owner is not None else None
        if caller.is_app_only and not public_metrics(endpoint, self.interpretation):
            raise Refusal(401, "Your account could not be authenticated. Reason: OAuth 1.0a user context is required")
        self._count(arrived_at, headers)
        body = await _read(request)
        if caller.body_hash not in (None, body_hash(body)) and "Content-Encoding" not in request.headers:
            raise Refusal(401, "Your account could not be authenticated. Reason: Invalid body hash")
        now = self.now()
        query = check_request(
            endpoint,
            body,
            request.headers.get("Content-Type"),
            app_only=caller.is_app_only,
            now=now,
            interpretation=self.interpretation,
        )
        entry.tweet_ids, entry.engagement_types = query.tweet_ids, query.engagement_types
        entry.groupings = tuple(query.groupings.items())
        entry.start, entry.end = query.start, query.end
        self.log.check(entry)
        return _CheckedRequest(query, caller, self.world, self.interpretation, now)

    async def _authenticate(self, request: web.Request, arrived_at: float) -> Caller:
        accepts = self.interpretation.accepts
        form: Sequence[tuple[str, str]] = ()
        is_form = content_type_of(request.headers.get("Content-Type")) == FORM
        if is_form and Leniency.SIGNED_FORM_BODY in accepts:
            form = parse_parameters((await _read(request)).decode("utf-8", "replace"))
        signed = SignedRequest(
            headers=request.headers.getall("Authorization", []),
            method=request.method,
            url=_url_of(request),
            form=form,
            accepts_1_0a=Leniency.OAUTH_1_0A in accepts,
        )
        return self.authority.check(signed, self.wall_clock(), arrived_at - self.started_at)

    def _count(self, arrived_at: float, headers: dict[str, str]) -> None:
        """Admit the request or refuse it with 429; either way tell where the limits stand."""
        full = [limit for limit in self.limits if limit.is_full(arrived_at)]
        if not full:
            for limit in self.limits:
                limit.admit(arrived_at)
        for limit in self.limits:
            headers |= limit.headers(arrived_at, self.wall_clock())
        if full:
            raise Refusal(429, f"You have exceeded your rate limit of {full[0]}.")


@dataclass(frozen=True, slots=True)
class _CheckedRequest:
    """A request that kept the rules, and all that its answer depends on."""

    query: Request
    caller: Caller
    world: World
    interpretation: Interpretation
    now: float

    def reply(self) -> ApiReply:
        user_id = None if self.caller.owner is None else self.caller.owner.user_id
        app_only = self.caller.is_app_only
        return reply_to(self.query, self.world, self.interpretation, self.now, app_only=app_only, user_id=user_id)

    def without(self, ids: Set[str]) -> _CheckedRequest:
        remaining = tuple(tweet_id for tweet_id in self.query.tweet_ids if tweet_id not in ids)
        return replace(self, query=replace(self.query, tweet_ids=remaining))


def make_app(service: Service) -> web.Application:
    """Return an aiohttp application whose every path is the service's."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", service.handle)
    return app


def _url_of(request: web.Request) -> str:
    """Return the URL as the client wrote it, for its signature.

    A target in absolute form, which a client sends through a proxy, stands for the `Host` header
    (https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2).
    """
    target = request.raw_path
    return f"{request.scheme}://{request.host}{target}" if target.startswith("/") else target


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(413, "The request body is too large.") from None
    except web.RequestPayloadError:
        request.content.feed_eof()  # else aiohttp reads on, fails, and logs a traceback
        request[_IS_BODY_BROKEN] = True
        raise Refusal(400, "The request body is not what its Content-Encoding says.") from None


def _accepts_gzip(fields: Sequence[str], accepts: Set[Leniency]) -> bool:
    names = ("gzip", "*") if Leniency.ANY_ENCODING in accepts else ("gzip",)
    for item in ",".join(fields).split(","):
        coding, _, quality = item.partition(";")
        if coding.strip().lower() in names:
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", quality.lower())
    return False
