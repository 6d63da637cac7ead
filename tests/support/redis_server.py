"""A redis-server of the tests' own: on a free port of 127.0.0.1, and killed when its test ends."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """One server. An async context manager; `stop` and `start` it in between as often as you like."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, program: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._options = options
        self._program = program
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ["--dir", str(self.folder), "--bind", "127.0.0.1"]
        if not self._program:
            settings += ["--save", "", "--appendonly", "no"]
        self._process = await asyncio.create_subprocess_exec(
            "redis-server",
            *self._program,
            *settings,
            "--port",
            str(self.port),
            *self._options,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def command(self, *words: str | int | bytes) -> Any:
        """Return what the server answers to a command."""
        from redis.asyncio import Redis

        async with Redis(port=self.port) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def declare_unspent(self, contract: str) -> None:
        """Have the server know that nothing was spent of a contract, ever: else it would wait for a window."""
        info = {**await self.command("INFO", "server"), **await self.command("INFO", "replication")}
        state = {
            **dict.fromkeys(("now", "ahead", "counter", "generation", "virtual_time", "owners", "complete_from"), 0),
            **dict.fromkeys(("held_until", "not_before", "recovers_at"), 0),
            **{name: {} for name in ("paced", "least_paced", "caps", "cards", "out")},
            "longest": 1e9,
            "server": f"{info['run_id']} {info['master_replid']}",
        }
        await self.command("SET", f"engagement-async:{{{contract}}}:state", msgspec.msgpack.encode(state))

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True
