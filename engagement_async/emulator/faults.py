"""Bad days, by name: each fault is one way in which an answer may go wrong, over the real socket.

What belongs here: the table `FAULTS`, the plan that says which request meets which fault, and the breaking itself.
Where aiohttp is too polite to break the protocol, raw bytes are written to the connection. A fault strikes after the
request was checked and counted against the limit, as a real server's would.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

import orjson
from aiohttp import web

from .encoding import CONTENT_TYPE, Answer, respond
from .metrics import mix
from .request_rules import DOCUMENTED

__all__ = ["FAULTS", "Exchange", "Fault", "FaultPlan", "FaultSettings", "Faults", "parse_fault", "random_faults"]

Then = Literal["again", "fine", "held", "halved", "stops"]
"""What a good client does: asks again, takes it as an answer, holds the whole contract, looks for the bad ID, or
stops."""
Needs = Literal["nothing", "data", "reused"]
Faults = Mapping[str, int] | Callable[[int], str | None] | None
"""`{name: every}`: each `every`-th request meets it; or a function of the request's number."""


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """How long and how large. `hang_s`: until a hanging answer is given up; `drip_s`: between two bytes."""

    hang_s: float = 3600.0
    drip_s: float = 0.2
    slow_s: float = 1.0
    retry_after_s: int = 1
    skew_s: float = 600.0
    bomb_bytes: int = 1 << 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request whose honest answer is known, and is about to go wrong."""

    request: web.Request
    answer: Answer
    tweet_ids: tuple[str, ...]
    wall: float
    number: int
    settings: FaultSettings
    answer_without: Callable[[Set[str]], Answer]
    """The honest answer to the same request without some of its IDs."""

    @property
    def random(self) -> int:
        """64 bits of this request's own."""
        return mix(mix(self.settings.seed) ^ self.number)

    @property
    def json(self) -> bytes:
        return orjson.dumps(self.answer.body)

    @property
    def gzip(self) -> bytes:
        return gzip.compress(self.json, 1, mtime=0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong: its one line, what a good client does then, and what it needs of the exchange."""

    name: str
    what: str
    then: Then
    needs: Needs
    act: Callable[[Exchange], Awaitable[web.StreamResponse]] = field(repr=False)


_TABLE: dict[str, Fault] = {}
FAULTS: Mapping[str, Fault] = MappingProxyType(_TABLE)
"""Every fault by name."""


class FaultPlan:
    """Says which request meets which fault. Every name comes as often as it was ordered, never two on one request.

    A fault that does not fit (`close-reused` on a fresh connection, `null-leaf` on an error) waits for the next
    request.
    """

    def __init__(self, faults: Faults = None, settings: FaultSettings | None = None) -> None:
        self.settings = settings or FaultSettings()
        self._number = 0
        self._schedule: Callable[[int], str | None] | None = None
        self._every: dict[str, int] = {}
        self._due: dict[str, int] = {}
        if callable(faults):
            self._schedule = faults
        elif faults:
            for name, every in faults.items():
                _known(name)
                if every < 1:
                    raise ValueError(f"fault {name!r}: every must be 1 or more, not {every}")
            self._every = dict(faults)
            self._due = dict(faults)

    def next(self, *, reused: bool, data: bool) -> Fault | None:
        """The fault of the next request. `reused`: its connection served one before; `data`: its answer has data."""
        self._number += 1
        if self._schedule is not None:
            name = self._schedule(self._number)
            if name is None or not _fits(fault := _known(name), reused=reused, data=data):
                return None
            return fault
        for name in sorted(self._due, key=self._due.__getitem__):
            if self._due[name] > self._number:
                return None
            if _fits(FAULTS[name], reused=reused, data=data):
                self._due[name] += self._every[name]
                return FAULTS[name]
        return None


def random_faults(rate: float, seed: int = 0, names: Sequence[str] | None = None) -> Callable[[int], str | None]:
    """A schedule for `faults=`: each request meets one of `names` with probability `rate`; the same seed, the same
    days.

    Without `names`: every fault after which a good client still gets its data, but the slow ones.
    """
    chosen = sorted(names if names is not None else _QUICK)
    for name in chosen:
        _known(name)

    def schedule(number: int) -> str | None:
        bits = mix(mix(seed) ^ number)
        return chosen[(bits & 0xFFFF) % len(chosen)] if (bits >> 16) / 2**48 < rate else None

    return schedule


def parse_fault(text: str) -> tuple[str, int]:
    """`NAME:EVERY` of a command line. Raises `ValueError`."""
    name, colon, every = text.rpartition(":")
    if not colon or not every.isdecimal() or int(every) < 1:
        raise ValueError(f"{text!r} is not NAME:EVERY, such as 503:10 for every tenth request")
    return _known(name).name, int(every)


async def perform(fault: Fault, exchange: Exchange) -> web.StreamResponse:
    """Let the fault happen. The response that comes back is what aiohttp still has to send, if anything."""
    with contextlib.suppress(ConnectionError, web.HTTPException):
        await exchange.request.read()  # unread bytes would turn a close into a reset
    return await fault.act(exchange)


def _known(name: str) -> Fault:
    try:
        return FAULTS[name]
    except KeyError:
        raise ValueError(f"no fault is called {name!r}; there are: {', '.join(FAULTS)}") from None


def _fits(fault: Fault, *, reused: bool, data: bool) -> bool:
    return fault.needs == "nothing" or (reused if fault.needs == "reused" else data)


# --- breaking the connection -----------------------------------------------------------------------------------------

_Act = Callable[[Exchange], Awaitable[web.StreamResponse]]


def _fault(name: str, what: str, then: Then = "again", needs: Needs = "nothing") -> Callable[[_Act], _Act]:
    def register(act: _Act) -> _Act:
        _TABLE[name] = Fault(name, what, then, needs, act)
        return act

    return register


def _transport(x: Exchange) -> asyncio.WriteTransport | None:
    transport = x.request.transport
    return transport if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing() else None


def _raw(x: Exchange, data: bytes) -> web.StreamResponse:
    """Write bytes past aiohttp, then close. What is returned finds a closed connection and is not sent."""
    if (transport := _transport(x)) is not None:
        if data:
            transport.write(data)
        transport.close()
    return web.Response(status=x.answer.status)


def _head(x: Exchange, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {CONTENT_TYPE}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@_fault("close-before-headers", "the connection is closed before a byte of the answer")
async def _close_before_headers(x: Exchange) -> web.StreamResponse:
    return _raw(x, b"")


@_fault("close-reused", "the same, on a connection that served a request before", needs="reused")
async def _close_reused(x: Exchange) -> web.StreamResponse:
    return _raw(x, b"")


@_fault("reset", "the connection is reset (RST) before a byte of the answer")
async def _reset(x: Exchange) -> web.StreamResponse:
    if (transport := _transport(x)) is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=x.answer.status)


@_fault("close-mid-head", "the connection is closed in the middle of the headers")
async def _close_mid_head(x: Exchange) -> web.StreamResponse:
    return _raw(x, _head(x, "Content-Encoding: gzip")[:40])


@_fault("close-mid-body", "the connection is closed in the middle of the body")
async def _close_mid_body(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    return _raw(x, _head(x, "Content-Encoding: gzip", f"Content-Length: {len(data)}") + data[: len(data) // 2])


@_fault("short-content-length", "Content-Length is less than the body: what was counted is cut, the rest is garbage")
async def _short_content_length(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    return _raw(x, _head(x, "Content-Encoding: gzip", f"Content-Length: {len(data) - 9}") + data)


@_fault("cut-chunk", "a chunked body ends in the middle of a chunk")
async def _cut_chunk(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    chunk = f"{len(data):x}\r\n".encode() + data[: len(data) // 2]
    return _raw(x, _head(x, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunk)


@_fault("missing-last-chunk", "a chunked body without its last, empty chunk")
async def _missing_last_chunk(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n"
    return _raw(x, _head(x, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunk)


@_fault("garbage-status-line", "bytes that are no HTTP")
async def _garbage_status_line(x: Exchange) -> web.StreamResponse:
    return _raw(x, b"\x16\x03\x01 sorry, wrong number\r\n\r\n")


@_fault("garbage-chunk", "a chunk's size is no number")
async def _garbage_chunk(x: Exchange) -> web.StreamResponse:
    return _raw(
        x, _head(x, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + b"zz\r\n" + x.gzip + b"\r\n0\r\n\r\n"
    )


@_fault("huge-header", "a header of one MiB")
async def _huge_header(x: Exchange) -> web.StreamResponse:
    return _raw(x, _head(x, "Content-Length: 2", "X-Filler: " + "a" * (1 << 20)) + b"{}")


# --- time ------------------------------------------------------------------------------------------------------------


@_fault("hang-before-headers", "no byte of the answer comes")
async def _hang_before_headers(x: Exchange) -> web.StreamResponse:
    await asyncio.sleep(x.settings.hang_s)
    return _raw(x, b"")


@_fault("hang-mid-body", "half of the body comes, then nothing")
async def _hang_mid_body(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    if (transport := _transport(x)) is not None:
        head = _head(x, "Content-Encoding: gzip", f"Content-Length: {len(data)}")
        transport.write(head + data[: len(data) // 2])
    await asyncio.sleep(x.settings.hang_s)
    return _raw(x, b"")


@_fault("drip", "the body comes a byte at a time")
async def _drip(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    pieces = (data[at : at + 1] for at in range(len(data)))
    return await _stream(x, pieces, pause_s=x.settings.drip_s, length=len(data))


@_fault("slow", "a good answer, a second late", then="fine")
async def _slow(x: Exchange) -> web.StreamResponse:
    await asyncio.sleep(x.settings.slow_s)
    return respond(x.answer)


async def _stream(
    x: Exchange, pieces: Iterable[bytes], *, pause_s: float = 0, length: int | None = None, encoding: str = "gzip"
) -> web.StreamResponse:
    response = web.StreamResponse(status=x.answer.status, headers={**x.answer.headers, "Content-Type": CONTENT_TYPE})
    if encoding:
        response.headers["Content-Encoding"] = encoding
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    with contextlib.suppress(ConnectionError):  # the client had enough
        await response.prepare(x.request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause_s)
        await response.write_eof()
    return response


# --- the body --------------------------------------------------------------------------------------------------------


def _body(x: Exchange, data: bytes, encoding: str | None = "gzip") -> web.Response:
    headers = {**x.answer.headers, "Content-Type": CONTENT_TYPE}
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    return web.Response(status=x.answer.status, body=data, headers=headers)


@_fault("gzip-cut", "the gzip stream is cut somewhere, inside a Content-Length that fits")
async def _gzip_cut(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    return _body(x, data[: x.random % len(data)])


@_fault("gzip-no-trailer", "the gzip stream lacks its checksum and length")
async def _gzip_no_trailer(x: Exchange) -> web.StreamResponse:
    return _body(x, x.gzip[:-8])


@_fault("gzip-bad-crc", "the checksum of the gzip stream is wrong")
async def _gzip_bad_crc(x: Exchange) -> web.StreamResponse:
    data = bytearray(x.gzip)
    data[-8 + x.random % 4] ^= 1 << (x.random >> 8) % 8
    return _body(x, bytes(data))


@_fault("gzip-flipped-bit", "one bit of the compressed data is flipped")
async def _gzip_flipped_bit(x: Exchange) -> web.StreamResponse:
    data = bytearray(x.gzip)
    # Past the header, which says nothing of the data, and short of the last byte, whose upper bits are padding.
    data[10 + x.random % (len(data) - 19)] ^= 1 << (x.random >> 32) % 8
    return _body(x, bytes(data))


@_fault("gzip-trailing-garbage", "bytes that are no gzip follow the stream")
async def _gzip_trailing_garbage(x: Exchange) -> web.StreamResponse:
    return _body(x, x.gzip + b"garbage after the end")


@_fault("gzip-not", "the body says gzip and is plain JSON")
async def _gzip_not(x: Exchange) -> web.StreamResponse:
    return _body(x, x.json)


@_fault("gzip-two-members", "a gzip body of two members, which the format allows", then="fine")
async def _gzip_two_members(x: Exchange) -> web.StreamResponse:
    data = x.json
    half = len(data) // 2
    return _body(x, gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0))


@_fault("identity", "a plain body without Content-Encoding", then="fine")
async def _identity(x: Exchange) -> web.StreamResponse:
    return _body(x, x.json, None)


@_fault("chunked", "a chunked body in odd pieces", then="fine")
async def _chunked(x: Exchange) -> web.StreamResponse:
    data = x.gzip
    size = 1 + x.random % 97
    return await _stream(x, (data[at : at + size] for at in range(0, len(data), size)))


@_fault("connection-close", "a good answer, after which the connection is closed", then="fine")
async def _connection_close(x: Exchange) -> web.StreamResponse:
    response = respond(x.answer)
    response.force_close()
    return response


@_fault("unknown-encoding", "a Content-Encoding that nobody asked for")
async def _unknown_encoding(x: Exchange) -> web.StreamResponse:
    return _body(x, x.json, "br")


@lru_cache(maxsize=1)
def _bomb_head(size: int) -> tuple[bytes, int, int]:
    """`size` spaces, deflated; their checksum; their number."""
    block = b" " * (1 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)  # flushed, so it can be repeated
    times = max(1, size // len(block))
    checksum = 0
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    return packed * times, checksum, times * len(block)


@_fault("bomb", "1 MB of gzip that unpacks to 1 GiB of spaces before the JSON")
async def _bomb(x: Exchange) -> web.StreamResponse:
    head, checksum, length = await asyncio.to_thread(_bomb_head, x.settings.bomb_bytes)
    data = x.json
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    tail = deflate.compress(data) + deflate.flush()
    trailer = struct.pack("<II", zlib.crc32(data, checksum), (length + len(data)) & 0xFFFFFFFF)
    return _body(x, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + head + tail + trailer)


@_fault("endless-chunks", "a body that does not end")
async def _endless_chunks(x: Exchange) -> web.StreamResponse:
    def pieces() -> Iterator[bytes]:
        yield b'{"endless": "'
        while True:
            yield b"a" * (1 << 16)

    return await _stream(x, pieces(), encoding="")


@_fault("deep-json", "JSON that is nested 100,000 levels deep")
async def _deep_json(x: Exchange) -> web.StreamResponse:
    name = orjson.dumps(x.answer.groupings[0] if x.answer.groupings else "deep")
    return _body(x, gzip.compress(b"{" + name + b":" + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 1))


@_fault("html-200", "a page of HTML with status 200")
async def _html_200(x: Exchange) -> web.StreamResponse:
    return web.Response(text="<html><body>Back soon</body></html>", content_type="text/html")


@_fault("empty-200", "status 200 and no body")
async def _empty_200(x: Exchange) -> web.StreamResponse:
    return web.Response(headers={"Content-Type": CONTENT_TYPE})


@_fault("not-json", "status 200 and a text that is no JSON")
async def _not_json(x: Exchange) -> web.StreamResponse:
    return _with_body(x, gzip.compress(b"upstream connect error or disconnect/reset before headers"))


@_fault("json-cut", "a whole gzip stream of JSON that was cut")
async def _json_cut(x: Exchange) -> web.StreamResponse:
    data = x.json
    return _with_body(x, gzip.compress(data[: x.random % len(data)]))


@_fault("wrong-shape", "JSON whose groupings are arrays", needs="data")
async def _wrong_shape(x: Exchange) -> web.StreamResponse:
    return _changed(x, {name: list(x.answer.body[name]) for name in x.answer.groupings})


@_fault("array-200", "JSON that is an array")
async def _array_200(x: Exchange) -> web.StreamResponse:
    return _with_body(x, gzip.compress(b"[" + x.json + b"]", 1))


def _with_body(x: Exchange, data: bytes) -> web.Response:
    return _body(replace(x, answer=replace(x.answer, status=200)), data)


# --- the data --------------------------------------------------------------------------------------------------------


def _changed(x: Exchange, changes: Mapping[str, Any]) -> web.Response:
    return respond(replace(x.answer, body={**x.answer.body, **changes}))


def _each_leaf(x: Exchange, change: Callable[[int, str], Any]) -> web.Response:
    """Change leaves by their position and value."""
    position = iter(range(1 << 62))

    def walk(node: Any) -> Any:
        return (
            {key: walk(value) for key, value in node.items()}
            if isinstance(node, dict)
            else change(next(position), node)
        )

    return _changed(x, {name: walk(x.answer.body[name]) for name in x.answer.groupings})


@_fault("missing-ids", "a third of the Tweets is in no place of the answer", needs="data")
async def _missing_ids(x: Exchange) -> web.StreamResponse:
    victims = {i for i in x.tweet_ids if zlib.crc32(i.encode()) % 3 == 0}  # the same ones every time
    if victims.issuperset(x.tweet_ids):
        return _changed(x, {name: {} for name in x.answer.groupings})
    return respond(x.answer_without(victims))


@_fault("extra-ids", "Tweets that nobody asked for", then="fine", needs="data")
async def _extra_ids(x: Exchange) -> web.StreamResponse:
    asked = set(x.tweet_ids)

    def add(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        found = next((key for key in node if key in asked), None)
        more = {} if found is None else {str(10**18 + x.random % 10**17): node[found]}
        return {key: add(value) for key, value in node.items()} | more

    return _changed(x, {name: add(x.answer.body[name]) for name in x.answer.groupings})


@_fault("extra-fields", "fields that are not documented", then="fine", needs="data")
async def _extra_fields(x: Exchange) -> web.StreamResponse:
    return _changed(x, {"took_ms": 12, "meta": {"warnings": [], "version": None}})


@_fault("integers", "bare integers instead of decimal strings", then="fine", needs="data")
async def _integers(x: Exchange) -> web.StreamResponse:
    return _each_leaf(x, lambda position, leaf: int(leaf))


@_fault("null-leaf", "one value is null", needs="data")
async def _null_leaf(x: Exchange) -> web.StreamResponse:
    return _each_leaf(x, lambda position, leaf: None if position == 0 else leaf)


@_fault("array-leaf", "one value is an array", needs="data")
async def _array_leaf(x: Exchange) -> web.StreamResponse:
    return _each_leaf(x, lambda position, leaf: [leaf] if position == 0 else leaf)


@_fault("text-leaf", "one value is no number", needs="data")
async def _text_leaf(x: Exchange) -> web.StreamResponse:
    return _each_leaf(x, lambda position, leaf: "n/a" if position == 0 else leaf)


@_fault("negative", "one value is negative, as was seen in the wild (this one does change the data)", "fine", "data")
async def _negative(x: Exchange) -> web.StreamResponse:
    return _each_leaf(x, lambda position, leaf: "-1" if position == 0 else leaf)


# --- statuses --------------------------------------------------------------------------------------------------------


def _error(x: Exchange, status: int, *texts: str, headers: Mapping[str, str] | None = None) -> web.Response:
    kept = x.answer.headers if headers is None else {}
    return respond(Answer(status, {"errors": list(texts)}, {**kept, **(headers or {})}))


def _status(name: str, status: int, what: str, text: str, then: Then = "again") -> None:
    async def act(x: Exchange) -> web.StreamResponse:
        return _error(x, status, text)

    _fault(name, what, then)(act)


_status("500", 500, "status 500", "internal server error")
_status("503", 503, "status 503", "Service Unavailable")
_status("408", 408, "status 408", "Request Timeout")
_status("error-200", 200, "status 200, and `internal server error` in `errors`", "internal server error")
_status("400", 400, "status 400 that names no ID, once", "The request could not be processed.", "halved")
_status("403", 403, "status 403 that names no ID, once", "Forbidden", "halved")
_status(
    "403-application", 403, "status 403, `your application id is not authorized.`", DOCUMENTED["application"], "stops"
)
_status("401", 401, "status 401, once", DOCUMENTED["token"], "stops")
_status("404", 404, "status 404", "Not Found", "stops")


@_fault("502", "status 502 with a page of HTML")
async def _502(x: Exchange) -> web.StreamResponse:
    return web.Response(status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")


@_fault("504", "status 504 and no body")
async def _504(x: Exchange) -> web.StreamResponse:
    return web.Response(status=504)


@_fault("redirect", "status 302 to another path", "stops")
async def _redirect(x: Exchange) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"{x.request.scheme}://{x.request.host}/elsewhere"})


@_fault("clock-skew", "a good answer whose Date is ten minutes ahead", "fine")
async def _clock_skew(x: Exchange) -> web.StreamResponse:
    date = formatdate(x.wall + x.settings.skew_s, usegmt=True)
    return respond(replace(x.answer, headers={**x.answer.headers, "Date": date}))


# --- the contract ----------------------------------------------------------------------------------------------------


def _rate_limited(name: str, what: str, headers: Callable[[Exchange], Mapping[str, str]], status: int = 429) -> None:
    async def act(x: Exchange) -> web.StreamResponse:
        return _error(x, status, "You have exceeded your rate limit.", headers=headers(x))

    _fault(name, what, "held")(act)


def _hostile(value: str) -> Callable[[Exchange], Mapping[str, str]]:
    return lambda x: {"Retry-After": value, "x-per-minute-remaining": value, "x-per-minute-reset": value}


def _reset_header(x: Exchange) -> Mapping[str, str]:
    reset = str(int(x.wall) + x.settings.retry_after_s)
    return {**x.answer.headers, "x-per-minute-remaining": "0", "x-per-minute-reset": reset}


_rate_limited("429", "status 429 with x-per-minute-reset", _reset_header)
_rate_limited(
    "429-seconds", "status 429 with Retry-After in seconds", lambda x: {"Retry-After": str(x.settings.retry_after_s)}
)
_rate_limited(
    "429-date",
    "status 429 with Retry-After as a date",
    lambda x: {"Retry-After": formatdate(x.wall + x.settings.retry_after_s + 1, usegmt=True)},
)
_rate_limited("429-garbage", "status 429 with words for numbers", _hostile("soon"))
_rate_limited("429-nan", "status 429 with nan", _hostile("nan"))
_rate_limited("429-negative", "status 429 with negative numbers", _hostile("-60"))
_rate_limited("429-1e9", "status 429 with a thousand million seconds", _hostile("1000000000"))
_rate_limited("429-bare", "status 429 with no header that says when", lambda x: {})
_rate_limited("429-text-200", "status 200, and `rate limit` in `errors`", lambda x: {}, 200)

_SLOW = {"hang-before-headers", "hang-mid-body", "drip", "slow", "bomb", "endless-chunks", "negative"}
_QUICK = [fault.name for fault in FAULTS.values() if fault.then in ("again", "fine") and fault.name not in _SLOW]
