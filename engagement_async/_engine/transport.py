"""The transport: one attempt over aiohttp. Bytes out, whole and checked bytes back, every exception made ours.

aiohttp accepts a gzip body that was cut inside a complete Content-Length, and unpacks a bomb before it can be stopped;
hence `auto_decompress=False` and `BodyDecoder`, which demands the end of the stream and its checksum. Its exceptions hold
the request's headers; hence none of them escapes, not even as a context.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

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

_inflate: ModuleType
try:
    from isal import isal_zlib

    _inflate = isal_zlib
except ImportError:  # the extra [speed] is not there
    _inflate = zlib

__all__ = ["BodyDecoder", "Reply", "Transport"]

_BODY_MATTERS = frozenset({200, 400, 403})
"""A 401 or 429 says what it says, whatever its body is like."""
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB_ERRORS: tuple[type[Exception], ...] = (zlib.error, _inflate.error)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole: the status, the headers (looked up by lower case names) and the decoded body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BodyDecoder:
    """Decodes a body as it streams in, and proves at the end that nothing of it is missing.

    >>> decoder = BodyDecoder("gzip", SizeLimits()); decoder.feed(chunk); decoder.finish()

    Raises `BodyError` for an unknown encoding, a bad checksum, a cut or trailing bytes, and for a body over the size_limits.
    Several gzip members in a row are one body (RFC 1952).
    """

    def __init__(self, encoding: str | None, size_limits: SizeLimits) -> None:
        name = (encoding or "identity").strip().lower()
        if name not in ("gzip", "x-gzip", "identity"):
            raise BodyError(f"the answer has the Content-Encoding {name[:40]!r}, and only gzip was asked for")
        self._size_limits = size_limits
        self._inflater: Any = None if name == "identity" else _inflate.decompressobj(_GZIP)
        self._parts: list[bytes] = []
        self._wire = 0
        self._decoded = 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the wire."""
        self._wire += len(data)
        if self._wire > self._size_limits.wire_bytes:
            raise BodyError(f"the answer is over {self._size_limits.wire_bytes} bytes on the wire")
        if self._inflater is None:
            self._keep(data)
            return
        while data:
            if self._inflater.eof:
                self._inflater = _inflate.decompressobj(_GZIP)  # the next member
            room = self._size_limits.decoded_bytes - self._decoded + 1
            try:
                self._keep(self._inflater.decompress(data, room))
            except _ZLIB_ERRORS:
                raise BodyError("the gzip body is corrupt") from None
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    def finish(self) -> bytes:
        """The whole body, once the wire has ended."""
        if self._inflater is not None and not self._inflater.eof:
            raise BodyError("the gzip body is cut short")
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def _keep(self, decoded: bytes) -> None:
        if decoded:
            self._decoded += len(decoded)
            if self._decoded > self._size_limits.decoded_bytes:
                raise BodyError(f"the answer is over {self._size_limits.decoded_bytes} bytes once decoded")
            self._parts.append(decoded)


class Transport:
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

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: Callable[[], None]) -> Reply:
        """One POST. `on_headers` is called when the response headers arrive, before the body is read.

        Raises `NotSentError` when the request provably never left, another `AttemptError` when it may have, and
        `ServerRefusedError` for a certificate that cannot be trusted.
        """
        if self._session is None or self._session.closed:
            raise UsageError("the client was closed while a call was running: await the call inside of `async with`")
        # Raised outside of the except clauses: an aiohttp error would stay as the context, and it holds the headers.
        failure: AttemptError | ServerRefusedError
        try:
            return await self._post(self._session, url, headers, body, on_headers)
        except AttemptError as error:
            failure = error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            failure = _translated(error)
        raise failure.with_traceback(None)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        headers: Mapping[str, str],
        body: bytes,
        on_headers: Callable[[], None],
    ) -> Reply:
        response = await session.post(url, data=body, headers=headers, allow_redirects=False)
        try:
            on_headers()
            reply = Reply(response.status, response.headers, await self._body(response))
        except (AttemptError, aiohttp.ClientError, OSError):
            response.close()
            if response.status in _BODY_MATTERS:
                raise
            return Reply(response.status, response.headers, b"")
        except BaseException:
            response.close()  # the rest of the body is on the way: the connection is of no more use
            raise
        response.release()
        return reply

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        decoder = BodyDecoder(response.headers.get("Content-Encoding"), self._size_limits)
        content = response.content
        while not content.at_eof():
            data = await content.readany()
            if data:
                decoder.feed(data)
        return decoder.finish()


def _translated(error: Exception) -> AttemptError | ServerRefusedError:
    """Our error for one of aiohttp's. No text of theirs is taken over but an OS error's own."""
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
