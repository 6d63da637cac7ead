"""The transport: one attempt against servers that break the protocol.

Raw sockets on 127.0.0.1; a mock only where it is about what is handed to aiohttp.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from yarl import URL

from engagement_async._engine.transport import AiohttpTransport, Response, certificate_message
from engagement_async.config import SizeLimits, Timeouts
from engagement_async.errors import (
    AttemptError,
    AttemptTimeoutError,
    BodyError,
    DisconnectedError,
    EngagementError,
    NotSentError,
    ServerRefusedError,
    UsageError,
)
from tests.support.certificates import server_context, trusting_client
from tests.support.raw_http import Exchange, RawServer, head, plain, zipped

SEED = 20_261_122
BODY = b'{"by_tweet": {"1": {"favorites": "5"}}}'
AUTHORIZATION = "OAuth oauth_token=canary-of-the-transport"
SHORT = Timeouts(connect_s=5, read_s=0.2, total_s=5)


async def attempt(
    url: str,
    *,
    timeouts: Timeouts = SHORT,
    size_limits: SizeLimits | None = None,
    tls: ssl.SSLContext | None = None,
    times: int = 1,
    concurrency: int = 1,
) -> tuple[Response, int]:
    """Return the reply to the last of so many attempts in a row, and how often headers came."""
    headers_came = 0

    def count_headers(status: int, headers: Mapping[str, str]) -> None:
        nonlocal headers_came
        headers_came += 1

    async with AiohttpTransport(timeouts=timeouts, size_limits=size_limits or SizeLimits(), tls=tls) as transport:
        for _ in range(times):
            reply = await transport.post(URL(url), {"Authorization": AUTHORIZATION}, b"{}", count_headers)
            assert isinstance(reply.body, bytes)  # decoded now: whether it is whole is told here
    return reply, headers_came


async def failing(answering: Callable[[Exchange], Awaitable[None]], **options: Any) -> EngagementError:
    """Return the error of an attempt at a server that answers so."""
    async with RawServer(answering) as server:
        with pytest.raises(EngagementError) as caught:
            await attempt(server.url, **options)
    error = caught.value
    assert error.__cause__ is None
    assert "aiohttp" not in type(error.__context__).__module__, "aiohttp's errors hold the request's headers"
    assert "canary" not in repr(error)
    return error


def sending(*parts: bytes, close: bool = False, hang: bool = False, pause_s: float = 0) -> Any:
    """Return a server that writes these bytes."""

    async def answer(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)
            if pause_s:
                await asyncio.sleep(pause_s)
        if hang:
            await asyncio.Event().wait()
        if close:
            exchange.close()

    return answer


async def test_a_good_answer_comes_back_whole() -> None:
    async with RawServer(sending(zipped(BODY, X_Per_Minute_Remaining="7"))) as server:
        reply, headers_came = await attempt(server.url)

    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers["x-per-minute-remaining"] == "7"
    assert headers_came == 1


async def test_a_chunked_answer_in_odd_pieces_comes_back_whole() -> None:
    wire = gzip.compress(BODY)
    chunks = [b"%x\r\n%b\r\n" % (len(wire[at : at + 7]), wire[at : at + 7]) for at in range(0, len(wire), 7)]
    parts = [head(Content_Encoding="gzip", Transfer_Encoding="chunked"), *chunks, b"0\r\n\r\n"]
    async with RawServer(sending(*parts)) as server:
        reply, _ = await attempt(server.url)

    assert reply.body == BODY


async def test_a_connection_is_used_again() -> None:
    async with RawServer(sending(zipped(BODY))) as server:
        await attempt(server.url, times=5)

        assert (server.requests, server.connections) == (5, 1)


async def test_what_is_sent_is_no_more_than_was_given() -> None:
    seen: list[bytes] = []

    async def answer(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await exchange.send(plain(BODY, Set_Cookie="session=1; Path=/"))

    async with RawServer(answer) as server:
        await attempt(f"{server.url}/insights/engagement/totals", times=2)

    for request in seen:
        line, *headers = request.split(b"\r\n\r\n")[0].split(b"\r\n")
        names = {header.partition(b":")[0].lower() for header in headers}
        assert line == b"POST /insights/engagement/totals HTTP/1.1"
        assert b"cookie" not in names
        assert request.count(AUTHORIZATION.encode()) == 1


WIRE = gzip.compress(BODY, mtime=0)
GZIP = {"Content_Encoding": "gzip"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(sending(b"\x16\x03\x01 sorry, wrong number\r\n\r\n"), DisconnectedError, id="garbage status line"),
        pytest.param(sending(b"HTTP/1.1 banana\r\n\r\n"), DisconnectedError, id="a status that is no number"),
        pytest.param(sending(head(X=b"a".decode() * (1 << 20)) + b"{}"), DisconnectedError, id="a header of 1 MiB"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000), AttemptError, id="endless headers"),
        pytest.param(sending(close=True), DisconnectedError, id="closed before headers"),
        pytest.param(sending(b"HTTP/1.1 20", close=True), DisconnectedError, id="closed in the status line"),
        pytest.param(sending(head(**GZIP)[:-4], close=True), DisconnectedError, id="closed in the headers"),
        pytest.param(sending(plain(WIRE, **GZIP)[:-9], close=True), BodyError, id="closed in the body"),
        pytest.param(
            sending(head(**GZIP) + WIRE[:-1], close=True), BodyError, id="closed, without a length, one short"
        ),
        pytest.param(
            sending(head(Content_Length=len(WIRE) - 9, **GZIP) + WIRE), AttemptError, id="a short Content-Length"
        ),
        pytest.param(
            sending(head(Content_Length=len(WIRE) + 9, **GZIP) + WIRE, close=True),
            BodyError,
            id="a long Content-Length",
        ),
        pytest.param(
            sending(head(Transfer_Encoding="chunked", **GZIP) + b"40\r\n" + WIRE[:9], close=True),
            BodyError,
            id="a cut chunk",
        ),
        pytest.param(
            sending(head(Transfer_Encoding="chunked") + b"2\r\n{}\r\n", close=True), BodyError, id="no last chunk"
        ),
        pytest.param(
            sending(head(Transfer_Encoding="chunked") + b"zz\r\n{}\r\n0\r\n\r\n"),
            AttemptError,
            id="a garbage chunk size",
        ),
        pytest.param(sending(plain(WIRE[:-8], **GZIP)), BodyError, id="no trailer, within its length"),
        pytest.param(sending(plain(b"", **GZIP)), BodyError, id="an empty body that is gzip"),
        pytest.param(sending(plain(BODY, **GZIP)), BodyError, id="gzip that is none"),
        pytest.param(sending(plain(WIRE + b"!", **GZIP)), BodyError, id="trailing garbage"),
        pytest.param(sending(plain(BODY, Content_Encoding="br")), BodyError, id="an unknown encoding"),
        pytest.param(sending(hang=True), AttemptTimeoutError, id="hangs before headers"),
        pytest.param(sending(head()[:20], hang=True), AttemptTimeoutError, id="hangs in the headers"),
        pytest.param(sending(plain(WIRE, **GZIP)[:-9], hang=True), AttemptTimeoutError, id="hangs in the body"),
        pytest.param(sending(head(Content_Length=9), hang=True), AttemptTimeoutError, id="hangs before the body"),
    ],
)
async def test_each_broken_answer_is_an_error_of_ours(answer: Any, kind: type[EngagementError]) -> None:
    error = await failing(answer)

    assert isinstance(error, kind)
    assert not isinstance(error, NotSentError), "it was sent: it counts against the contract"


async def test_a_drip_ends_at_the_total_timeout() -> None:
    """Each byte comes well within `read_s`."""
    drip = sending(head(Content_Length=10_000), *[b"x"] * 10_000, pause_s=0.01)

    error = await failing(drip, timeouts=Timeouts(connect_s=5, read_s=5, total_s=0.3))

    assert isinstance(error, AttemptTimeoutError)


async def test_endless_chunks_end_at_the_cap() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(Transfer_Encoding="chunked"))
        while True:
            await exchange.send(b"1000\r\n" + b"a" * 0x1000 + b"\r\n")

    error = await failing(answer, size_limits=SizeLimits(wire_bytes=100_000), timeouts=Timeouts())

    assert isinstance(error, BodyError)
    assert "100000 bytes" in str(error)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_keep_alive_connection_that_was_closed_meanwhile_is_a_disconnect(end: str) -> None:
    """aiohttp does not resend a POST; the policy does, at once."""

    async def answer(exchange: Exchange) -> None:
        if exchange.nth == 1:
            await exchange.send(zipped(BODY))
        elif end == "close":
            exchange.close()
        else:
            exchange.reset()

    error = await failing(answer, times=2)

    assert isinstance(error, DisconnectedError)


async def test_after_a_broken_answer_the_connection_is_not_used_again() -> None:
    """Else the rest of one body would be the head of the next."""

    async def answer(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.send(head(Content_Length=1 << 20, Content_Encoding="br") + b"HTTP/1.1 200 OK\r\n")
        else:
            await exchange.send(zipped(BODY))

    async with (
        RawServer(answer) as server,
        AiohttpTransport(timeouts=SHORT, size_limits=SizeLimits()) as transport,
    ):
        with pytest.raises(BodyError):
            await transport.post(URL(server.url), {}, b"{}", Mock())
        reply = await transport.post(URL(server.url), {}, b"{}", Mock())

        assert (reply.body, server.connections) == (BODY, 2)


async def test_a_response_that_was_sent_twice_never_answers_the_next_request() -> None:
    """Its second copy lies on the idle connection: sums of one batch would be taken for those of the next."""
    sent_again = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(zipped(b"%d" % exchange.number))
        if exchange.nth == 1:
            await asyncio.sleep(0.02)  # once the client has put the connection back
            await exchange.send(zipped(b"%d" % exchange.number))
            sent_again.set()

    told = []
    async with (
        RawServer(answer) as server,
        AiohttpTransport(timeouts=Timeouts(), size_limits=SizeLimits()) as transport,
    ):
        bodies = []
        for _ in range(3):
            sent_again.clear()
            response = await transport.post(URL(server.url), {}, b"{}", lambda *_: told.append(server.requests))
            bodies.append(response.body)
            await sent_again.wait()
            await asyncio.sleep(0.02)

        assert bodies == [b"1", b"2", b"3"]
        assert told == [1, 2, 3], "the token of a request that had not arrived was settled"
        assert (server.requests, server.connections) == (3, 3)


async def test_a_pool_of_stale_connections_costs_no_request() -> None:
    arrived = asyncio.Barrier(8)

    async def answer(exchange: Exchange) -> None:
        if exchange.nth == 1 and exchange.number <= 8:
            await arrived.wait()  # so that each has a connection of its own
        await exchange.send(zipped(BODY))
        if exchange.number <= 8:
            await exchange.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    async with (
        RawServer(answer) as server,
        AiohttpTransport(timeouts=Timeouts(), size_limits=SizeLimits()) as transport,
    ):
        for _ in range(2):
            posts = (transport.post(URL(server.url), {}, b"{}", Mock()) for _ in range(8))
            assert [response.status for response in await asyncio.gather(*posts)] == [200] * 8
            await asyncio.sleep(0.05)

        assert server.requests == 16


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 503])
async def test_status_and_headers_are_told_when_they_arrive(status: int) -> None:
    told: list[tuple[int, str | None]] = []

    def on_headers(status: int, headers: Mapping[str, str]) -> None:
        told.append((status, headers.get("x-per-minute-remaining")))

    async with (
        RawServer(sending(zipped(BODY, f"{status} Whatever", X_Per_Minute_Remaining="7"))) as server,
        AiohttpTransport(timeouts=SHORT, size_limits=SizeLimits()) as transport,
    ):
        await transport.post(URL(server.url), {}, b"{}", on_headers)

    assert told == [(status, "7")]


async def test_a_body_stays_as_small_as_on_the_wire_until_it_is_wanted() -> None:
    """What waits for a slow consumer is held so."""
    async with (
        RawServer(sending(zipped(b"[" + b" " * (16 << 20) + b"]"))) as server,
        AiohttpTransport(timeouts=Timeouts(), size_limits=SizeLimits()) as transport,
    ):
        tracemalloc.start()
        try:
            response = await transport.post(URL(server.url), {}, b"{}", Mock())
            held, peak = tracemalloc.get_traced_memory()
            assert max(held, peak) < 1 << 20
            assert len(response.body) == (16 << 20) + 2
        finally:
            tracemalloc.stop()
    assert response.body is response.body


async def test_a_body_that_is_not_whole_is_told_each_time_it_is_wanted() -> None:
    wire = gzip.compress(BODY)[:-4]
    async with RawServer(sending(plain(wire, Content_Encoding="gzip"))) as server:
        async with AiohttpTransport(timeouts=SHORT, size_limits=SizeLimits()) as transport:
            response = await transport.post(URL(server.url), {}, b"{}", Mock())
        for _ in range(2):
            with pytest.raises(BodyError, match="cut short"):
                response.body  # noqa: B018


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "429 Too Many Requests", "503 Oh"])
@pytest.mark.parametrize(
    "answer",
    [{"Content_Encoding": "br"}, {"Content_Encoding": "gzip"}, {"Content_Length": 9999, "Connection": "close"}],
)
async def test_a_status_that_says_enough_needs_no_whole_body(status: str, answer: dict[str, str | int]) -> None:
    async with RawServer(sending(head(status, **{"Content_Length": 4, **answer}) + b"oops", close=True)) as server:
        reply, headers_came = await attempt(server.url)

    assert (reply.status, reply.body) == (int(status[:3]), b"")
    assert headers_came == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with RawServer(sending(plain(b"", f"{status} Elsewhere", Location="http://127.0.0.1:1/"))) as server:
        reply, _ = await attempt(server.url)

        assert reply.status == status
        assert server.requests == 1


async def test_headers_are_told_before_the_body_is_read() -> None:
    """The token of the contract is settled then, and a body that breaks later does not cost a second one."""
    told = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head(Content_Length=2))
        await told.wait()
        await exchange.send(b"{}")

    async with (
        RawServer(answer) as server,
        AiohttpTransport(timeouts=Timeouts(), size_limits=SizeLimits()) as transport,
    ):
        reply = await transport.post(URL(server.url), {}, b"{}", lambda *_: told.set())

    assert reply.body == b"{}"


async def test_a_refused_port_was_never_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NotSentError, match=r"^no connection to 127.0.0.1:\d+: Connection refused$"):
        await attempt(f"http://127.0.0.1:{port}")


async def test_a_name_that_does_not_resolve_was_never_asked() -> None:
    with pytest.raises(NotSentError, match=r"the name data-api\.invalid was not found"):
        await attempt("https://data-api.invalid", timeouts=Timeouts())


async def test_a_connection_that_cannot_be_made_in_time_was_never_asked() -> None:
    """A listener whose backlog is full answers no more."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            with pytest.raises(NotSentError, match="connecting took too long"):
                await attempt(f"http://127.0.0.1:{full.getsockname()[1]}", timeouts=Timeouts(connect_s=0.2))
        finally:
            for each in waiting:
                each.close()


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        pytest.param("127.0.0.1", None, id="self-signed"),
        pytest.param("data-api.example", "data-api.example", id="of another host"),
        pytest.param("127.0.0.1", "data-api.example", id="signed by somebody else"),
    ],
)
async def test_a_certificate_that_cannot_be_trusted_stops_the_run(host: str, trusted: str | None) -> None:
    async with RawServer(sending(zipped(BODY)), tls=server_context(host)) as server:
        with pytest.raises(
            ServerRefusedError,
            match=r"certificate of 127\.0\.0\.1 cannot be trusted: .*(self-signed|not valid for|signature|issuer)",
        ) as caught:
            await attempt(server.url, tls=trusting_client(trusted) if trusted else None)

        assert server.requests == 0, "the credentials were shown to it"
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("code", "reason", "fix"),
    [
        (10, "certificate has expired", "Check this machine's date"),
        (9, "certificate is not yet valid", "Check this machine's date"),
        (62, "Hostname mismatch, certificate is not valid for 'a'.", "Check base_url and the proxy"),
        (20, "unable to get local issuer certificate", "name that one's file with SSL_CERT_FILE or --ca-file"),
        (85, "Missing Authority Key Identifier", "from 3.13 on: have it issued anew"),
        (None, None, "name that one's file with SSL_CERT_FILE or --ca-file"),
    ],
)
def test_openssl_s_reason_is_told_with_what_to_do(code: int | None, reason: str | None, fix: str) -> None:
    error = ssl.SSLCertVerificationError()
    if code is not None:
        error.verify_code, error.verify_message = code, reason or ""

    said = certificate_message(error, "a.example")

    assert said.startswith(
        f"the certificate of a.example cannot be trusted: {(reason or 'no reason given').rstrip('.')}. "
    )
    assert fix in said


async def test_a_certificate_that_is_trusted_is_fine() -> None:
    async with RawServer(sending(zipped(BODY)), tls=server_context("127.0.0.1")) as server:
        reply, _ = await attempt(server.url, tls=trusting_client("127.0.0.1"))

    assert reply.body == BODY


async def test_plain_http_where_tls_was_expected_was_never_asked() -> None:
    async def answer(exchange: Exchange) -> None:
        raise AssertionError("credentials over plain http")

    async with RawServer(answer) as server:
        with pytest.raises(NotSentError):
            await attempt(server.url.replace("http:", "https:"), timeouts=Timeouts(connect_s=0.2))


async def test_a_closed_transport_says_so() -> None:
    transport = AiohttpTransport(timeouts=SHORT, size_limits=SizeLimits())

    with pytest.raises(UsageError, match="closed"):
        await transport.post(URL("https://data-api.example"), {}, b"", Mock())


# --- what is handed to aiohttp, and what it may raise ---


class MockedResponse(aiohttp.ClientResponse):
    """aioresponses knows nothing of the writer that aiohttp's responses are made with since 3.14."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


URL_OF_API = "https://data-api.example/insights/engagement/totals"


async def test_redirects_are_off_and_the_body_is_sent_as_it_is() -> None:
    seen: dict[str, Any] = {}

    def answer(url: URL, **options: Any) -> CallbackResult:
        seen.update(options)
        return CallbackResult(status=200, body=BODY, response_class=MockedResponse)

    with aioresponses() as mocked:
        mocked.post(URL_OF_API, callback=answer)
        reply, _ = await attempt(URL_OF_API)

    assert reply.body == BODY
    assert seen["allow_redirects"] is False
    assert seen["data"] == b"{}"


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (aiohttp.ServerTimeoutError("slow"), AttemptTimeoutError),
        (TimeoutError(), AttemptTimeoutError),
        (aiohttp.ConnectionTimeoutError("slow"), NotSentError),
        (aiohttp.ServerDisconnectedError(), DisconnectedError),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), DisconnectedError),
        (aiohttp.ClientPayloadError("cut"), BodyError),
        (ConnectionResetError(104, "Connection reset by peer"), DisconnectedError),
        (BrokenPipeError(), DisconnectedError),
        (ValueError("garbage"), DisconnectedError),
        (ssl.SSLCertVerificationError("bad"), ServerRefusedError),
        (aiohttp.InvalidURL("nowhere"), DisconnectedError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_each_error_of_aiohttp_becomes_ours_without_its_text(
    raised: Exception, kind: type[EngagementError]
) -> None:
    raised.args = (*raised.args, AUTHORIZATION)
    with aioresponses() as mocked:
        mocked.post(URL_OF_API, exception=raised)
        with pytest.raises(kind) as caught:
            await attempt(URL_OF_API)

    assert type(caught.value) is kind
    assert caught.value.__context__ is None
    assert "canary" not in repr(caught.value)


async def test_a_cancelled_attempt_stays_cancelled() -> None:
    async with RawServer(sending(hang=True)) as server:
        task = asyncio.create_task(attempt(server.url, timeouts=Timeouts()))
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("is_uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_what_uvloop_says_of_a_closed_connection_is_a_disconnect_and_elsewhere_a_bug(is_uvloop: bool) -> None:
    uvloop = pytest.importorskip("uvloop") if is_uvloop else None

    async def main() -> None:
        with aioresponses() as mocked:
            mocked.post(URL_OF_API, exception=RuntimeError("the handler is closed"))
            with pytest.raises(DisconnectedError if is_uvloop else RuntimeError):
                await attempt(URL_OF_API)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        runner.run(main())
