"""Faults of the body as bytes: its framing, its compression, its size."""

from __future__ import annotations

import asyncio
import gzip
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

import orjson
from aiohttp import web

from ..encoding import respond
from .exchange import Exchange
from .registry import FaultKind, Reaction, register

fault = register(FaultKind.BODY)


@fault("gzip-cut", "the gzip stream is cut somewhere, under a Content-Length that fits")
async def gzip_cut(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    return exchange.respond(data[: exchange.random % len(data)])


@fault("gzip-no-trailer", "the gzip stream lacks its checksum and length")
async def gzip_no_trailer(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond(exchange.gzip[:-8])


@fault("gzip-bad-crc", "the checksum of the gzip stream is wrong")
async def gzip_bad_crc(exchange: Exchange) -> web.StreamResponse:
    data = bytearray(exchange.gzip)
    data[-8 + exchange.random % 4] ^= 1 << (exchange.random >> 8) % 8
    return exchange.respond(bytes(data))


@fault("gzip-flipped-bit", "one bit of the compressed data is flipped")
async def gzip_flipped_bit(exchange: Exchange) -> web.StreamResponse:
    data = bytearray(exchange.gzip)
    # Past the header, which says nothing about the data, and short of the last byte, whose upper bits are padding.
    data[10 + exchange.random % (len(data) - 19)] ^= 1 << (exchange.random >> 32) % 8
    return exchange.respond(bytes(data))


@fault("gzip-trailing-garbage", "bytes that are no gzip follow the stream")
async def gzip_trailing_garbage(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond(exchange.gzip + b"garbage after the end")


@fault("gzip-not", "Content-Encoding says gzip, the body is plain JSON")
async def gzip_not(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond(exchange.json)


@fault("gzip-two-members", "a gzip body of two members, which the format allows", Reaction.ACCEPT)
async def gzip_two_members(exchange: Exchange) -> web.StreamResponse:
    data = exchange.json
    half = len(data) // 2
    return exchange.respond(gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0))


@fault("identity", "a plain body without Content-Encoding", Reaction.ACCEPT)
async def identity(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond(exchange.json, None)


@fault("chunked", "a chunked body in odd pieces", Reaction.ACCEPT)
async def chunked(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    size = 1 + exchange.random % 97
    return await exchange.stream(data[at : at + size] for at in range(0, len(data), size))


@fault("connection-close", "a good answer, after which the connection is closed", Reaction.ACCEPT)
async def connection_close(exchange: Exchange) -> web.StreamResponse:
    response = respond(exchange.reply)
    response.force_close()
    return response


@fault("unknown-encoding", "a Content-Encoding that the client did not ask for")
async def unknown_encoding(exchange: Exchange) -> web.StreamResponse:
    return exchange.respond(exchange.json, "br")


@fault("bomb", "1 MB of gzip that unpacks to 1 GiB of spaces before the JSON", is_drawn=False)
async def bomb(exchange: Exchange) -> web.StreamResponse:
    head, checksum, length = await asyncio.to_thread(_spaces, exchange.settings.bomb_bytes)
    data = exchange.json
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    tail = deflate.compress(data) + deflate.flush()
    trailer = struct.pack("<II", zlib.crc32(data, checksum), (length + len(data)) & 0xFFFFFFFF)
    return exchange.respond(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + head + tail + trailer)


@fault("endless-chunks", "a body that does not end", is_drawn=False)
async def endless_chunks(exchange: Exchange) -> web.StreamResponse:
    def pieces() -> Iterator[bytes]:
        yield b'{"endless": "'
        while True:
            yield b"a" * (1 << 16)

    return await exchange.stream(pieces(), encoding="")


@fault("deep-json", "JSON that is nested 100,000 levels deep")
async def deep_json(exchange: Exchange) -> web.StreamResponse:
    name = orjson.dumps(exchange.reply.groupings[0] if exchange.reply.groupings else "deep")
    return exchange.respond(gzip.compress(b"{" + name + b":" + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 1))


@lru_cache(maxsize=1)
def _spaces(size: int) -> tuple[bytes, int, int]:
    """Return `size` spaces, deflated; their checksum; their number."""
    block = b" " * (1 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)  # flushed, so it can be repeated
    times = max(1, size // len(block))
    checksum = 0
    for _ in range(times):
        checksum = zlib.crc32(block, checksum)
    return packed * times, checksum, times * len(block)
