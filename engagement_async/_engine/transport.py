"""The transport: one attempt over aiohttp. Bytes out, a response back, every exception made ours.

aiohttp's exceptions hold the request's headers; hence none of them escapes, not even as a context. It gives a keep-alive
connection back even when bytes that nobody asked for lie on it; hence `_CheckedRequest`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import aiohttp
from yarl import URL

from engagement_async._engine.body import BodyDecoder
from engagement_async.config import SizeLimits, Timeouts
from engagement_async.errors import (
    AttemptError,
    AttemptTimeoutError,
    BodyError,
    DisconnectedError,
    NotSentError,
    ServerRefusedError,
    UsageError,
)

if TYPE_CHECKING:
    from aiohttp.connector import Connection

__all__ = ["AiohttpTransport", "OnHeaders", "Response", "Transport"]

OnHeaders = Callable[[int, Mapping[str, str]], None]
"""Takes the status and the headers of a response (looked up by lower case names) when they arrive."""

_STATUSES_WITH_BODY = frozenset({200, 400, 403})
"""For other statuses the code alone decides, so a broken body is ignored."""
_STALE_CONNECTIONS_MAX = 20
"""Connections in a row that may be found stale before an attempt counts as failed: more than a pool usually holds."""


class Response:
    """The status, the headers (looked up by lower case names) and the body of one response.

    The body stays as it came on the wire until it is asked for.
    """

    __slots__ = ("_body", "_decode", "headers", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes = b"", *, decode: Callable[[], bytes] | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._decode = decode

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    @property
    def body(self) -> bytes:
        """The decoded body. Raise `BodyError` when it is not whole."""
        if self._decode is not None:
            self._body = self._decode()
            self._decode = None
        return self._body


class Transport(Protocol):
    """What the engine needs of a transport: see `AiohttpTransport.post`."""

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response: ...


class _StaleConnectionError(NotSentError):
    """Bytes that nobody asked for lie on a kept connection: they would be read as the answer to the next request."""


class _CheckedRequest(aiohttp.ClientRequest):
    """A request that is not sent on a connection that would be closed after it was used last."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise _StaleConnectionError("the server sent what nobody asked for")
        return await super().send(conn)


class AiohttpTransport:
    """One aiohttp session: an async context manager. `post` makes one attempt."""

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        size_limits: SizeLimits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._size_limits = size_limits
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise UsageError("the client is open already: make another EngagementClient for another `async with`")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the engine's workers are the limit: nobody waits for a connection with a token out
                ssl=True if self._tls is None else self._tls,
                ttl_dns_cache=60,
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._timeouts.total_s,
                sock_connect=self._timeouts.connect_s,
                sock_read=self._timeouts.read_s,
            ),
            auto_decompress=False,
            request_class=_CheckedRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response:
        """Make one POST. `on_headers` is called when the response headers arrive, before the body is read.

        Raise `NotSentError` when the request provably never left, another `AttemptError` when it may have, and
        `ServerRefusedError` for a certificate that cannot be trusted. Whether the body is whole is told when
        `Response.body` is asked for.
        """
        if self._session is None or self._session.closed:
            raise UsageError("the client was closed while a call was running: await the call inside of `async with`")
        # Raised outside of the except clauses: an aiohttp error would stay as the context, and it holds the headers.
        failure: AttemptError | ServerRefusedError
        for _ in range(_STALE_CONNECTIONS_MAX):
            try:
                return await self._post(self._session, url, headers, body, on_headers)
            except _StaleConnectionError as error:
                failure = error
                continue  # nothing was sent, and this connection is gone
            except AttemptError as error:
                failure = error
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                failure = map_exception(error)
            break
        raise failure.with_traceback(None)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        headers: Mapping[str, str],
        body: bytes,
        on_headers: OnHeaders,
    ) -> Response:
        received = await session.post(url, data=body, headers=headers, allow_redirects=False)
        try:
            on_headers(received.status, received.headers)
            decoder = await self._read(received)
            response = Response(received.status, received.headers, decode=decoder.finish)
            if received.status not in _STATUSES_WITH_BODY:
                response.body  # noqa: B018 - decoded now, so that a broken one is told here
        except (AttemptError, aiohttp.ClientError, OSError):
            received.close()
            if received.status in _STATUSES_WITH_BODY:
                raise
            return Response(received.status, received.headers)
        except BaseException:
            received.close()  # the rest of the body is on the way: the connection is of no more use
            raise
        received.release()
        return response

    async def _read(self, received: aiohttp.ClientResponse) -> BodyDecoder:
        decoder = BodyDecoder(received.headers.get("Content-Encoding"), self._size_limits)
        content = received.content
        while not content.at_eof():
            data = await content.readany()
            if data:
                decoder.feed(data)
        return decoder


def map_exception(error: Exception) -> AttemptError | ServerRefusedError:
    """Return our error for one of aiohttp's. No text of theirs is taken over but an OS error's own."""
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)) or isinstance(
        getattr(error, "os_error", None), ssl.SSLCertVerificationError
    ):
        return ServerRefusedError(
            "the server's certificate cannot be trusted: check base_url, the machine's date and its CA certificates"
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NotSentError("connecting took too long")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NotSentError("the host's name was not found")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NotSentError(f"no connection: {error.os_error.strerror or type(error.os_error).__name__}")
    if isinstance(error, TimeoutError):
        return AttemptTimeoutError("no answer in time")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return DisconnectedError("the server closed the connection before its answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        return BodyError("the answer's body was cut short or broken")
    if isinstance(error, aiohttp.ClientResponseError):
        return DisconnectedError("the server's answer was no HTTP")
    return DisconnectedError(f"the connection broke ({type(error).__name__})")
