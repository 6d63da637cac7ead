"""The transport: one attempt over aiohttp. Bytes out, a response back, every exception made ours.

aiohttp's exceptions hold the request's headers; hence none of them escapes, not even as a context. It gives a keep-alive
connection out again even when unexpected bytes lie on it; hence `_CheckedRequest`. Whatever goes wrong until there is a
connection, through a proxy too, means that the request was not sent; hence `_Connector`.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import logging
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

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
    ProxyError,
    ServerRefusedError,
    UsageError,
)
from engagement_async.proxy import Proxy

if TYPE_CHECKING:
    from aiohttp.connector import Connection

__all__ = ["CLOSED", "AiohttpTransport", "OnHeaders", "Response", "Transport"]

logger = logging.getLogger("engagement_async")

CLOSED = "the client was closed while a call was running: await the call inside of `async with`"
OnHeaders = Callable[[int, Mapping[str, str]], None]
"""Takes the status and the headers of a response (looked up by lower case names) when they arrive."""

_STATUSES_WITH_BODY = frozenset({200, 400, 403})
"""For other statuses the code alone decides, so a broken body is ignored."""
_STALE_CONNECTIONS_MAX = 20
"""Connections in a row that may be found stale before an attempt counts as failed: more than a pool usually holds."""


class Response:
    """The status, the headers (looked up by lower case names) and the body of one response.

    The body stays compressed until it is read.
    """

    __slots__ = ("_as_gzip", "_body", "_decode", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        decode: Callable[[], bytes] | None = None,
        as_gzip: Callable[[], bytes] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._decode = decode
        self._as_gzip = as_gzip

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    @property
    def body(self) -> bytes:
        """The decoded body. Raise `BodyError` when it is not whole."""
        if self._decode is not None:
            self._body = self._decode()
            self._decode = None
        return self._body

    def as_gzip(self) -> bytes:
        """Return the body as it came; packed, if it was not."""
        return gzip.compress(self._body, 1, mtime=0) if self._as_gzip is None else self._as_gzip()


class Transport(Protocol):
    """What the engine needs of a transport: see `AiohttpTransport.post`."""

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response: ...


class _StaleConnectionError(NotSentError):
    """Unexpected bytes lie on a kept connection: they would be read as the response to the next request."""


class _CheckedRequest(aiohttp.ClientRequest):
    """A request that is not sent on a connection that would be closed after it was used last."""

    def send(
        self, conn: Connection
    ) -> Coroutine[Any, Any, aiohttp.ClientResponse]:  # a coroutine less than `async def`
        if conn.protocol is None or conn.protocol.should_close:
            raise _StaleConnectionError("the server sent more than it was asked for")
        return super().send(conn)


_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, ValueError, asyncio.IncompleteReadError)
_SLOW_S = 1.5
"""Seconds without a first connection, after which that is said."""
_FEW_FILES_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0)
"""How long a request waits for the end of others when this process may open no more files."""


class _Connector(aiohttp.TCPConnector):
    """Makes every failure to connect an error that says that nothing was sent, and tells of a first one that takes long."""

    def __init__(self, proxy: Proxy | None, **options: Any) -> None:
        super().__init__(**options)
        self.trouble: str | None = None
        self._proxy = proxy
        self._has_connected = False
        self._has_few_files = False
        self._timer: asyncio.TimerHandle | None = None

    async def connect(  # aiohttp's signature
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Connection:
        """Return a connection of the pool, or a new one."""
        if not self._has_connected and self._timer is None and self.trouble is None:
            self._timer = asyncio.get_running_loop().call_later(_SLOW_S, self._tell, f"{req.host}:{req.port}")
        for pause_s in (*_FEW_FILES_PAUSES_S, None):
            try:
                connection = await super().connect(req, traces, timeout)
            except _ERRORS as error:
                is_out = isinstance(error, OSError) and is_out_of_files(error)
                failure = map_connect_error(error, self._proxy)
            except BaseException:
                self._stop_timer()
                raise
            else:
                if not self._has_connected:
                    self._has_connected, self.trouble = True, None
                    self._stop_timer()
                return connection
            if not is_out or pause_s is None:
                break
            if not self._has_few_files:
                self._has_few_files = True
                logger.warning("%s. Requests wait for each other", _FEW_FILES)
            await asyncio.sleep(pause_s)
        self._stop_timer()  # the failure itself is told
        raise failure  # outside of the except clause: aiohttp's error would stay as its context

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections."""
        self._stop_timer()
        await super().close(abort_ssl=abort_ssl)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self, address: str) -> None:
        to = f"the proxy {self._proxy}" if self._proxy is not None else address
        self.trouble = f"no connection to {to} after {_SLOW_S:g} s"
        logger.warning("%s: still trying. A firewall may drop it, or a name server may not answer", self.trouble)


class AiohttpTransport:
    """One aiohttp session: an async context manager. `post` makes one attempt."""

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        size_limits: SizeLimits,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._size_limits = size_limits
        self._tls = tls
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None

    @property
    def trouble(self) -> str | None:
        """Why there is no connection, if none was ever made and it takes long."""
        return None if self._connector is None else self._connector.trouble

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise UsageError("the client is open already: make another EngagementClient for another `async with`")
        self._connector = _Connector(
            self._proxy,
            limit=0,  # the engine's workers are the limit: nobody waits for a connection with a token out
            ssl=True if self._tls is None else self._tls,
            ttl_dns_cache=60,
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(
                total=self._timeouts.total_s,
                # Of a proxy three steps are waited for: its connection, its answer, and TLS through it.
                connect=None if self._proxy is None else 3 * self._timeouts.connect_s,
                sock_connect=self._timeouts.connect_s,
                sock_read=self._timeouts.read_s,
            ),
            auto_decompress=False,
            request_class=_CheckedRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # no .netrc either
            proxy=None if self._proxy is None else self._proxy.url,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, on_headers: OnHeaders) -> Response:
        """Make one POST. `on_headers` is called when the response headers arrive, before the body is read.

        Raise `NotSentError` when the request provably never left, another `AttemptError` when it may have,
        `ServerRefusedError` for a certificate that cannot be trusted, and `ProxyError` for a proxy that refuses. A body that
        is not whole raises when `Response.body` is read.
        """
        if self._session is None or self._session.closed:
            raise UsageError(CLOSED)
        # Raised outside of the except clauses: an aiohttp error would stay as the context, and it holds the headers.
        failure: AttemptError | ServerRefusedError | ProxyError
        for _ in range(_STALE_CONNECTIONS_MAX):
            try:
                return await self._post(self._session, url, headers, body, on_headers)
            except _StaleConnectionError as error:
                failure = error
                continue  # nothing was sent, and this connection is gone
            except (AttemptError, ServerRefusedError, ProxyError) as error:
                failure = error
            except _ERRORS as error:
                failure = map_exception(error)
            except RuntimeError as error:
                if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
                    raise  # a bug; uvloop says so of a connection that was closed meanwhile
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
        received = await session.post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy_headers=None if self._proxy is None else self._proxy.headers(),
        )
        try:
            on_headers(received.status, received.headers)
            decoder = await self._read(received)
            response = Response(received.status, received.headers, decode=decoder.finish, as_gzip=decoder.as_gzip)
            if received.status not in _STATUSES_WITH_BODY:
                response.body  # noqa: B018 - decoded now, so that a broken one is ignored here
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


_FEW_FILES = "this process may open no more files (see ulimit -n): raise that limit, or lower the concurrency"


def map_connect_error(error: Exception, proxy: Proxy | None) -> NotSentError | ServerRefusedError | ProxyError:
    """Return our error for one of aiohttp's that came before there was a connection. No text of others is taken over but
    an OS error's or OpenSSL's own.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_error(error.status, proxy)
    certificate_error = _certificate_error(error)
    if certificate_error is not None:
        host = error.host if isinstance(error, aiohttp.ClientConnectorCertificateError) else "the API"
        return ServerRefusedError(certificate_message(certificate_error, host))
    to = f"the proxy {proxy}" if proxy is not None else None
    if isinstance(error, aiohttp.ClientConnectorError):
        if is_out_of_files(error):
            return NotSentError(_FEW_FILES)
        reason = _reason(error.os_error)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            hint = "" if proxy is not None else "; if this network has a proxy, name it with proxy or --proxy"
            return NotSentError(f"the name {error.host} was not found ({reason}){hint}")
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return NotSentError(f"no TLS with {error.host}:{error.port}: {reason}")
        if to is not None and not isinstance(error, aiohttp.ClientProxyConnectionError):
            return NotSentError(f"no connection to {error.host}:{error.port} through {to}: {reason}")
        return NotSentError(f"no connection to {to or f'{error.host}:{error.port}'}: {reason}")
    if isinstance(error, TimeoutError):
        return NotSentError(f"connecting{f' through {to}' if to else ''} took too long")
    if proxy is not None:
        return NotSentError(f"{to} broke off, or its answer was no HTTP")
    return NotSentError(f"no connection ({type(error).__name__})")


def _reason(error: OSError) -> str:
    """Return the system's words for an error; asyncio's name the address once more."""
    if error.errno and not isinstance(error, (socket.gaierror, ssl.SSLError)):
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _proxy_error(status: int, proxy: Proxy | None) -> NotSentError | ProxyError:
    phrase = next((known.phrase for known in HTTPStatus if known == status), "")
    answer = f"the proxy {proxy} answered {status} {phrase}".rstrip()
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        which = "other credentials than those given" if proxy is not None and proxy.has_credentials else "credentials"
        return ProxyError(
            f"{answer}: it wants {which}. Write user:password@ before its host in ENGAGEMENT_PROXY, in the configuration "
            "file, or in proxy (only Basic is supported)",
            status=status,
        )
    if 400 <= status < 500 and status not in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        return ProxyError(
            f"{answer}: its rules do not allow a connection to the API. Ask whoever runs the proxy", status=status
        )
    return NotSentError(f"{answer}: it has no connection to the API")


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return OpenSSL's error, if a certificate cannot be trusted."""
    each: BaseException | None = error
    while each is not None:  # asyncio of Python 3.11 raises another error on top, when TLS is in TLS
        for found in (getattr(each, "certificate_error", None), getattr(each, "os_error", None), each):
            if isinstance(found, ssl.SSLCertVerificationError):
                return found
        each = each.__cause__ or each.__context__
    return None


_DATES = (9, 10)
_NAMES = (62, 63, 64)
_ISSUERS = (2, 18, 19, 20, 21)
"""X509_V_ERR_...: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/"""


def certificate_message(error: ssl.SSLCertVerificationError, host: str) -> str:
    """Return why a certificate cannot be trusted, in OpenSSL's words, and what to do."""
    reason = getattr(error, "verify_message", "") or "no reason given"
    code = getattr(error, "verify_code", None)
    if code in _NAMES:
        fix = "Check base_url and the proxy"
    elif code in _DATES:
        fix = "Check this machine's date; if that is right, whoever runs the server must renew the certificate"
    elif code is None or code in _ISSUERS:
        fix = "If an authority of your own signed it, name that one's file with SSL_CERT_FILE or --ca-file (in Python: tls)"
    else:
        fix = (
            "It breaks a rule of RFC 5280, which Python enforces from 3.13 on: have it issued anew (in Python, a tls "
            "context without VERIFY_X509_STRICT takes it)"
        )
    return f"the certificate of {host} cannot be trusted: {reason.rstrip('.')}. {fix}"


def is_out_of_files(error: OSError) -> bool:
    """Return whether this process, or the machine, may open no more files: a name server's file cannot be opened either."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    if not isinstance(getattr(error, "os_error", error), socket.gaierror):
        return False
    try:
        socket.socket().close()
    except OSError as refused:
        return refused.errno in (errno.EMFILE, errno.ENFILE)
    return False


def map_exception(error: Exception) -> AttemptError | ServerRefusedError | ProxyError:
    """Return our error for one of aiohttp's that came after the connection. No text of theirs is taken over."""
    before = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ssl.SSLCertVerificationError)
    if isinstance(error, before):
        return map_connect_error(error, None)
    if isinstance(error, TimeoutError):
        return AttemptTimeoutError("no answer in time")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return DisconnectedError("the server closed the connection before its answer")
    if isinstance(error, aiohttp.ClientPayloadError):
        return BodyError("the answer's body was cut short or broken")
    if isinstance(error, aiohttp.ClientResponseError):
        return DisconnectedError("the server's answer was no HTTP")
    return DisconnectedError(f"the connection broke ({type(error).__name__})")
