"""Processes that spend one contract as fast as it allows, and a server that counts what arrives.

`python -m tests.support.spending SPEC` is such a process; SPEC is JSON: how its scheduler is made, and where the server is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engagement_async import RateLimit, Scheduler
from engagement_async.distributed import MachineScheduler, RedisScheduler
from tests.support.serving import close_server

ROOT = Path(__file__).parent.parent.parent


class CountingServer:
    """Takes one line a request, notes when it came and from whom, and answers after a moment."""

    def __init__(self, latency_s: float = 0.005) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self._latency_s = latency_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def instants(self) -> list[float]:
        return [at for at, _ in self.arrivals]

    def count(self, since: float = 0.0) -> Counter[str]:
        return Counter(name for at, name in self.arrivals if at >= since)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        await close_server(self._server, self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                self.arrivals.append((time.monotonic(), line.decode().strip()))
                await asyncio.sleep(self._latency_s)
                writer.write(b"\n")
        self._tasks.discard(task)
        writer.close()


class Spender:
    """One process. An async context manager; leaving it kills the process."""

    def __init__(self, name: str, **spec: Any) -> None:
        self.name = name
        self._spec = {"name": name, **spec}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.spending",
            json.dumps(self._spec),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def result(self) -> dict[str, Any]:
        """End it in good order; return what it says: `granted`, `messages`."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        out, err = await self._process.communicate()
        assert self._process.returncode == 0, err.decode()
        found: dict[str, Any] = json.loads(out)
        return found


def make_scheduler(spec: dict[str, Any]) -> Scheduler:
    limits = [RateLimit(**limit) for limit in spec["limits"]]
    if spec["kind"] == "machine":
        return MachineScheduler(limits, contract="tests", state_dir=spec["state_dir"])
    return RedisScheduler(spec["url"], limits, contract="tests", **spec.get("options", {}))


async def spend(spec: dict[str, Any]) -> dict[str, Any]:
    scheduler = make_scheduler(spec)
    granted = 0
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    async def work() -> None:
        nonlocal granted
        reader, writer = await asyncio.open_connection("127.0.0.1", spec["port"])
        lane = scheduler.lane()
        while True:
            token = await scheduler.acquire(lane)
            granted += 1
            writer.write(f"{spec['name']}\n".encode())
            if not await reader.readline():
                return
            scheduler.settle(token)

    workers = [asyncio.create_task(work()) for _ in range(spec.get("workers", 4))]
    await stopped.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    close: Callable[[], Any] | None = getattr(scheduler, "aclose", None)
    if close is not None:
        await close()
    return {"granted": granted, "exchanges": getattr(scheduler, "exchanges", 0)}


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def main() -> None:
    messages = _Messages()
    logging.getLogger("engagement_async").addHandler(messages)
    found = asyncio.run(spend(json.loads(sys.argv[1])))
    sys.stdout.write(json.dumps({**found, "messages": messages.texts}))


if __name__ == "__main__":
    main()
