"""What a fault works on: a request whose honest answer is known, and the ways to send something else.

Where aiohttp is too polite to break the protocol, raw bytes are written to the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import orjson
from aiohttp import web

from ..encoding import CONTENT_TYPE, EncodedReply, respond
from ..hashing import mix

__all__ = ["Exchange", "FaultSettings"]


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """How long and how large faults are.

    `hang_s`: how long an answer hangs before its connection is closed; `drip_s`: between two bytes; `slow_s`: how late a
    slow answer is; `retry_after_s`: what a 429 asks for; `skew_s`: how far `Date` is ahead; `bomb_bytes`: what a bomb
    decompresses to; `seed`: of the places where bodies are broken.
    """

    hang_s: float = 3600.0
    drip_s: float = 0.2
    slow_s: float = 1.0
    retry_after_s: int = 1
    skew_s: float = 600.0
    bomb_bytes: int = 1 << 30
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, its honest answer, and the ways to send something else.

    `wall_clock`: the server's clock, epoch seconds. `reply_without`: the honest answer to the same request without some
    of its IDs. `number`: which request it is, from 1.
    """

    request: web.Request
    reply: EncodedReply
    tweet_ids: tuple[str, ...]
    wall_clock: float
    number: int
    settings: FaultSettings
    reply_without: Callable[[Set[str]], EncodedReply]

    @property
    def random(self) -> int:
        """64 bits of this request's own."""
        return mix(mix(self.settings.seed) ^ self.number)

    @property
    def json(self) -> bytes:
        """The honest body, not compressed."""
        return orjson.dumps(self.reply.body)

    @property
    def gzip(self) -> bytes:
        """The honest body, compressed."""
        return gzip.compress(self.json, 1, mtime=0)

    @property
    def date(self) -> dict[str, str]:
        """The `Date` header, where the emulator writes it itself."""
        return {name: value for name, value in self.reply.headers.items() if name == "Date"}

    # --- raw bytes, past aiohttp ---

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The connection, None when the client has closed it."""
        transport = self.request.transport
        return transport if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing() else None

    def head(self, *headers: str) -> bytes:
        """Return the head of a raw 200."""
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {CONTENT_TYPE}", *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    def write_and_close(self, data: bytes) -> web.StreamResponse:
        """Write bytes to the connection and close it. What is returned is not sent any more."""
        if (transport := self.transport) is not None:
            if data:
                transport.write(data)
            transport.close()
        return web.Response(status=self.reply.status)

    # --- responses that aiohttp sends ---

    def respond(self, body: bytes, encoding: str | None = "gzip", *, status: int | None = None) -> web.Response:
        """Return a response with the honest head, and any body."""
        headers = {**self.reply.headers, "Content-Type": CONTENT_TYPE}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        return web.Response(status=self.reply.status if status is None else status, body=body, headers=headers)

    def respond_with(self, changes: Mapping[str, Any]) -> web.Response:
        """Return the honest response, some keys of its JSON object changed."""
        return respond(replace(self.reply, body={**self.reply.body, **changes}))

    def respond_with_leaves(self, change: Callable[[int, str], Any]) -> web.Response:
        """Return the honest response with each leaf of its data changed, by its position and value."""
        positions = iter(range(1 << 62))

        def walk(node: Any) -> Any:
            if isinstance(node, dict):
                return {key: walk(value) for key, value in node.items()}
            return change(next(positions), node)

        return self.respond_with({name: walk(self.reply.body[name]) for name in self.reply.groupings})

    def respond_with_errors(self, status: int, *texts: str, headers: Mapping[str, str] | None = None) -> web.Response:
        """Return texts in `errors`, under the honest headers or under `headers` alone (and the honest `Date`)."""
        sent = self.reply.headers if headers is None else self.date | dict(headers)
        return respond(EncodedReply(status, {"errors": list(texts)}, sent))

    async def stream(
        self, pieces: Iterable[bytes], *, pause_s: float = 0, length: int | None = None, encoding: str = "gzip"
    ) -> web.StreamResponse:
        """Send a body piece by piece, chunked unless its `length` is given, with a pause after each piece."""
        headers = {**self.reply.headers, "Content-Type": CONTENT_TYPE}
        response = web.StreamResponse(status=self.reply.status, headers=headers)
        if encoding:
            response.headers["Content-Encoding"] = encoding
        if length is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = length
        with contextlib.suppress(ConnectionError):  # the client closed the connection
            await response.prepare(self.request)
            for piece in pieces:
                await response.write(piece)
                await asyncio.sleep(pause_s)
            await response.write_eof()
        return response
