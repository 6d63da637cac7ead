"""A server that knows no HTTP but to read a request whole: what it answers is bytes, given by the test."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.support.serving import close_server

__all__ = ["Exchange", "RawServer", "head", "plain", "zipped"]


class Exchange:
    """One request, and the connection to answer it on. `number` counts from 1; `nth` counts on this connection."""

    def __init__(self, number: int, nth: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.nth = nth
        self.request = request
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Close with a RST where the system allows it."""
        self._writer.transport.abort()


Answering = Callable[[Exchange], Awaitable[None]]


class RawServer:
    """Listens on a free port of 127.0.0.1. An async context manager; leaving it cuts all connections."""

    def __init__(self, answering: Answering, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests = 0
        self.connections = 0
        self._answering = answering
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._port = 0
        self._reserved: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        if self._reserved is not None:
            self._reserved.close()
        await close_server(self._server, self._tasks)
        await self._server.wait_closed()

    def refuse(self) -> None:
        """From now on nobody can connect, and those who are connected are reset."""
        assert self._server is not None
        self._reserved = _bound(self._port)  # not listening: it keeps others from taking the port
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def listen_again(self) -> None:
        """End what `refuse` began."""
        await self._listen()
        if self._reserved is not None:
            self._reserved.close()

    async def _listen(self) -> None:
        listening = _bound(self._port)
        self._port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listening, ssl=self._tls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        nth = 0
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    request = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        int(line.partition(b":")[2])
                        for line in request.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    )
                    request += await reader.readexactly(length)
                    nth += 1
                    self.requests += 1
                    await self._answering(Exchange(self.requests, nth, request, writer))
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def _bound(port: int) -> socket.socket:
    bound = socket.socket(proto=socket.IPPROTO_TCP)  # told so, asyncio turns Nagle's waiting off
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def head(status: str = "200 OK", **headers: str | int) -> bytes:
    """Return a status line and headers; `_` in a name is `-`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def plain(body: bytes, status: str = "200 OK", **headers: str | int) -> bytes:
    return head(status, Content_Length=len(body), **headers) + body


def zipped(body: bytes, status: str = "200 OK", **headers: str | int) -> bytes:
    return plain(gzip.compress(body, mtime=0), status, Content_Encoding="gzip", **headers)
