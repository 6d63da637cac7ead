"""Faults of the connection: closed, reset, or bytes that are no HTTP."""

from __future__ import annotations

import socket
import struct

from aiohttp import web

from .exchange import Exchange
from .registry import FaultKind, Requires, register

fault = register(FaultKind.TRANSPORT)


@fault("close-before-headers", "the connection is closed before a byte of the answer")
async def close_before_headers(exchange: Exchange) -> web.StreamResponse:
    return exchange.write_and_close(b"")


@fault(
    "close-reused",
    "the same, on a connection that served a request before",
    requires=Requires.REUSED_CONNECTION,
)
async def close_reused(exchange: Exchange) -> web.StreamResponse:
    return exchange.write_and_close(b"")


@fault("reset", "the connection is reset (RST) before a byte of the answer")
async def reset(exchange: Exchange) -> web.StreamResponse:
    if (transport := exchange.transport) is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=exchange.reply.status)


@fault("close-mid-head", "the connection is closed in the middle of the headers")
async def close_mid_head(exchange: Exchange) -> web.StreamResponse:
    return exchange.write_and_close(exchange.head("Content-Encoding: gzip")[:40])


@fault("close-mid-body", "the connection is closed in the middle of the body")
async def close_mid_body(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    head = exchange.head("Content-Encoding: gzip", f"Content-Length: {len(data)}")
    return exchange.write_and_close(head + data[: len(data) // 2])


@fault("short-content-length", "Content-Length is less than the body: the body is cut, garbage follows")
async def short_content_length(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    head = exchange.head("Content-Encoding: gzip", f"Content-Length: {len(data) - 9}")
    return exchange.write_and_close(head + data)


@fault("cut-chunk", "a chunked body ends in the middle of a chunk")
async def cut_chunk(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    chunk = f"{len(data):x}\r\n".encode() + data[: len(data) // 2]
    return exchange.write_and_close(_chunked_head(exchange) + chunk)


@fault("missing-last-chunk", "a chunked body without its last, empty chunk")
async def missing_last_chunk(exchange: Exchange) -> web.StreamResponse:
    data = exchange.gzip
    chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n"
    return exchange.write_and_close(_chunked_head(exchange) + chunk)


@fault("garbage-status-line", "bytes that are no HTTP")
async def garbage_status_line(exchange: Exchange) -> web.StreamResponse:
    return exchange.write_and_close(b"\x16\x03\x01 sorry, wrong number\r\n\r\n")


@fault("garbage-chunk", "a chunk's size is no number")
async def garbage_chunk(exchange: Exchange) -> web.StreamResponse:
    return exchange.write_and_close(_chunked_head(exchange) + b"zz\r\n" + exchange.gzip + b"\r\n0\r\n\r\n")


@fault("huge-header", "a header of one MiB")
async def huge_header(exchange: Exchange) -> web.StreamResponse:
    head = exchange.head("Content-Length: 2", "X-Filler: " + "a" * (1 << 20))
    return exchange.write_and_close(head + b"{}")


def _chunked_head(exchange: Exchange) -> bytes:
    return exchange.head("Content-Encoding: gzip", "Transfer-Encoding: chunked")
