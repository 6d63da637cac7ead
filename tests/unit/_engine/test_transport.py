"""The transport: the decoder against thousands of broken bodies, and one attempt against servers that break the protocol.

Raw sockets on 127.0.0.1; a mock only where it is about what is handed to aiohttp.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import ssl
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from engagement_async._engine.transport import AiohttpTransport, Response
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
from tests.support.mutations import DATA, LIBRARIES, Decoder, bodies, count, decoded
from tests.support.raw_http import Exchange, RawServer, head, plain, zipped

SEED = 20_261_122
BODY = b'{"by_tweet": {"1": {"favorites": "5"}}}'
AUTHORIZATION = "OAuth oauth_token=canary-of-the-transport"
SHORT = Timeouts(connect_s=5, read_s=0.2, total_s=5)


# --- the decoder, on each library that may be underneath it ---


@pytest.fixture(params=["isal", "zlib"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param not in LIBRARIES:
        pytest.skip("isal is not installed: the extra [speed] is what its users have")
    return LIBRARIES[request.param]


@pytest.mark.parametrize("name", sorted(bodies()))
def test_no_broken_body_is_taken_for_data(decoder: Decoder, name: str) -> None:
    """Whole and in random pieces; together 160,000 mutations."""
    result = count(decoder, bodies()[name], SEED)

    assert result.accepted == 0
    assert result.tried >= 10_000
    assert result.harmless < result.tried / 20


@pytest.mark.parametrize("name", sorted(bodies()))
def test_a_whole_body_is_decoded_however_it_comes(decoder: Decoder, name: str) -> None:
    chance = random.Random(SEED)

    assert decoded(decoder, bodies()[name]) == DATA
    assert all(decoded(decoder, bodies()[name], chance) == DATA for _ in range(50))


@given(parts=st.lists(st.binary(max_size=2000), max_size=5), data=st.data(), library=st.sampled_from(sorted(LIBRARIES)))
def test_any_members_in_any_pieces_make_one_body(parts: list[bytes], data: st.DataObject, library: str) -> None:
    wire = b"".join(gzip.compress(part, data.draw(st.integers(0, 9)), mtime=0) for part in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    stream = LIBRARIES[library]("gzip", SizeLimits())
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        stream.feed(wire[start:end])

    if parts:
        assert stream.finish() == b"".join(parts)
    else:
        with pytest.raises(BodyError, match="cut short"):
            stream.finish()


def test_two_members_are_refused_when_either_is_cut(decoder: Decoder) -> None:
    """A cut between the members is no cut of gzip's: the length of the body and the JSON in it tell that one."""
    first, second = gzip.compress(DATA[:1000], mtime=0), gzip.compress(DATA[1000:], mtime=0)
    wire = first + second
    accepted = []
    for at in range(len(wire)):
        try:
            decoded(decoder, wire[:at])
        except BodyError:
            continue
        accepted.append(at)

    assert decoded(decoder, wire) == DATA
    assert accepted == [len(first)]


@pytest.mark.parametrize("garbage", [b"\x00", b"garbage", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\r\n", bytes(512)])
def test_what_follows_the_end_is_refused(decoder: Decoder, garbage: bytes) -> None:
    with pytest.raises(BodyError):
        decoded(decoder, gzip.compress(DATA) + garbage)


@pytest.mark.parametrize("body", [b"", DATA, b"\x1f", zlib.compress(DATA), b"\x1f\x8b\x08"])
def test_what_is_no_gzip_is_refused(decoder: Decoder, body: bytes) -> None:
    with pytest.raises(BodyError):
        decoded(decoder, body)


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity "])
def test_a_plain_body_is_taken_as_it_is(decoder: Decoder, encoding: str | None) -> None:
    stream = decoder(encoding, SizeLimits())
    stream.feed(b"{")
    stream.feed(b"}")

    assert stream.finish() == b"{}"


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress", "x" * 9999, "\u212a"])
def test_other_encodings_are_refused_by_name(decoder: Decoder, encoding: str) -> None:
    with pytest.raises(BodyError, match="Content-Encoding") as caught:
        decoder(encoding, SizeLimits())

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip "])
def test_gzip_has_several_spellings(decoder: Decoder, encoding: str) -> None:
    stream = decoder(encoding, SizeLimits())
    stream.feed(gzip.compress(DATA))

    assert stream.finish() == DATA


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_the_wire_is_capped(decoder: Decoder, encoding: str) -> None:
    stream = decoder(encoding, SizeLimits(wire_bytes=1000))
    wire = gzip.compress(random.Random(SEED).randbytes(5000))
    stream.feed(wire[:1000])

    with pytest.raises(BodyError, match="1000 bytes on the wire"):
        stream.feed(wire[1000:1001])


def test_what_is_decoded_is_capped_to_the_byte(decoder: Decoder) -> None:
    wire = gzip.compress(bytes(100_000))

    assert decoded(decoder, wire, size_limits=SizeLimits(decoded_bytes=100_000)) == bytes(100_000)
    with pytest.raises(BodyError, match="99999 bytes once decoded"):
        decoded(decoder, wire, size_limits=SizeLimits(decoded_bytes=99_999))


def test_a_plain_body_is_capped_too(decoder: Decoder) -> None:
    stream = decoder(None, SizeLimits(decoded_bytes=10))

    with pytest.raises(BodyError, match="10 bytes"):
        stream.feed(bytes(11))


@pytest.mark.parametrize("members", [1, 300])
def test_a_bomb_takes_no_more_memory_than_its_caps(decoder: Decoder, members: int) -> None:
    """64 MiB in 65 KB, as one member or many, against a cap of 1 MiB."""
    bomb = gzip.compress(bytes((64 << 20) // members), 9) * members
    size_limits = SizeLimits(decoded_bytes=1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="once decoded"):
            decoded(decoder, bomb, size_limits=size_limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 * size_limits.decoded_bytes


# --- one attempt ---


async def attempt(
    url: str,
    *,
    timeouts: Timeouts = SHORT,
    size_limits: SizeLimits | None = None,
    tls: ssl.SSLContext | None = None,
    times: int = 1,
    concurrency: int = 1,
) -> tuple[Response, int]:
    """The reply to the last of so many attempts in a row, and how often headers came."""
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
    """The error of an attempt at a server that answers so."""
    async with RawServer(answering) as server:
        with pytest.raises(EngagementError) as caught:
            await attempt(server.url, **options)
    error = caught.value
    assert error.__cause__ is None
    assert "aiohttp" not in type(error.__context__).__module__, "aiohttp's errors hold the request's headers"
    assert "canary" not in repr(error)
    return error


def sending(*parts: bytes, close: bool = False, hang: bool = False, pause_s: float = 0) -> Any:
    """A server that writes these bytes."""

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

    with pytest.raises(NotSentError, match=r"^no connection: ."):
        await attempt(f"http://127.0.0.1:{port}")


async def test_a_name_that_does_not_resolve_was_never_asked() -> None:
    with pytest.raises(NotSentError, match="name was not found"):
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
        with pytest.raises(ServerRefusedError, match="certificate cannot be trusted") as caught:
            await attempt(server.url, tls=trusting_client(trusted) if trusted else None)

        assert server.requests == 0, "the credentials were shown to it"
        assert caught.value.__context__ is None


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
