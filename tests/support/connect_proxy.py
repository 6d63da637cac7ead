"""An HTTP proxy on loopback that knows CONNECT alone: with TLS or without, with a password or without, refusing or not.

It runs in a thread of its own, so that clients in the test's loop and in other processes can use it. Names are resolved
by its own table: what is dead to the client's name server is alive here, as behind the proxy of a company.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import threading
from collections.abc import Mapping
from typing import Self

from tests.support.serving import close_server

__all__ = ["ConnectProxy"]


class ConnectProxy:
    """A context manager. `hosts` maps names to ports of this machine; others get a 502.

    `refusal` is a status line to answer each CONNECT with, as `403 Forbidden`; "" closes the connection without a word.
    """

    def __init__(
        self,
        hosts: Mapping[str, int],
        *,
        user: str | None = None,
        password: str = "",
        tls: ssl.SSLContext | None = None,
        refusal: str | None = None,
    ) -> None:
        self.heads: list[str] = []
        """What was asked, headers included, of each connection."""
        self.tunnels = 0
        self.refusal = refusal
        self._hosts = dict(hosts)
        self._tls = tls
        pair = f"{user}:{password}".encode()
        self._wanted = None if user is None else f"Basic {base64.b64encode(pair).decode()}"
        self._port = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self.address}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await self._serve(reader, writer)
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._tls)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        await close_server(server, tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split(" ", 2)
        host = target.rpartition(":")[0]
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        refusal = self.refusal
        if refusal is None:
            if method != "CONNECT":
                refusal = "405 Method Not Allowed"
            elif self._wanted is not None and headers.get("proxy-authorization") != self._wanted:
                refusal = "407 Proxy Authentication Required"
            elif host not in self._hosts:
                refusal = "502 Bad Gateway"
        if refusal is not None:
            if refusal:
                writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._hosts[host])
        try:
            self.tunnels += 1
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))
        finally:
            upstream_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
