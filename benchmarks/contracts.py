"""Schedulers that share a contract between processes beside the limiters of PyPI that can: four processes, one server.

Real time, real processes, a real Redis. Each process sends as fast as its limiter allows, over a network that delays at
random; the server counts what arrives. The CPU of an acquire is measured in one process that has not to wait.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import orjson

from benchmarks import report
from benchmarks.limiters import peak

__all__ = ["measure", "tables"]

REQUESTS, PERIOD_S = 100, 2.0
PROCESSES, WORKERS = 4, 4
SECONDS = 10.0
WARM_S = 2 * PERIOD_S
"""The first seconds do not count as use: a contract that Redis does not know waits for a window."""
LEAST_DELAY_S, MEAN_JITTER_S = 0.002, 0.004
"""Each way, as a network has it: a round trip takes 12 ms in the mean, of a window as 360 ms are of a minute."""
CHEAP_S = 2.0

Acquire = Callable[[], Awaitable[Callable[[], None]]]
"""Waits for the right to send; what it returns is called when the response came."""


class Place(NamedTuple):
    """Where what is shared lies."""

    redis: str
    folder: Path


def _nothing() -> None:
    pass


def _of_scheduler(scheduler: Any) -> Acquire:
    lane = scheduler.lane("totals")

    async def acquire() -> Callable[[], None]:
        token = await scheduler.acquire(lane)
        return lambda: scheduler.settle(token)

    return acquire


async def _machine(place: Place, requests: int) -> Acquire:
    from engagement_async import RateLimit
    from engagement_async.distributed import MachineScheduler

    return _of_scheduler(MachineScheduler(RateLimit(requests, PERIOD_S), contract="bench", state_dir=place.folder))


async def _redis(place: Place, requests: int) -> Acquire:
    from engagement_async import RateLimit
    from engagement_async.distributed import RedisScheduler

    return _of_scheduler(RedisScheduler(place.redis, RateLimit(requests, PERIOD_S), contract="bench"))


async def _aiolimiter(place: Place, requests: int) -> Acquire:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(requests / PROCESSES, PERIOD_S)

    async def acquire() -> Callable[[], None]:
        await limiter.acquire()
        return _nothing

    return acquire


def _limits(strategy: str) -> Callable[[Place, int], Awaitable[Acquire]]:
    async def make(place: Place, requests: int) -> Acquire:
        from limits import RateLimitItemPerSecond
        from limits.aio import strategies
        from limits.aio.storage import RedisStorage

        storage = RedisStorage(f"async+{place.redis}", implementation="redispy")
        limiter = getattr(strategies, strategy)(storage)
        item = RateLimitItemPerSecond(requests, int(PERIOD_S))

        async def acquire() -> Callable[[], None]:
            while not await limiter.hit(item, "contract"):
                stats = await limiter.get_window_stats(item, "contract")
                await asyncio.sleep(max(0.001, stats.reset_time - time.time()))
            return _nothing

        return acquire

    return make


async def _pyrate(bucket: Any) -> Acquire:
    from pyrate_limiter import Limiter

    limiter = Limiter(bucket)

    async def acquire() -> Callable[[], None]:
        await limiter.try_acquire_async("contract")
        return _nothing

    return acquire


async def _pyrate_sqlite(place: Place, requests: int) -> Acquire:
    from pyrate_limiter import Rate, SQLiteBucket

    rates = [Rate(requests, int(PERIOD_S * 1000))]
    return await _pyrate(SQLiteBucket.init_from_file(rates, db_path=str(place.folder / "pyrate"), use_file_lock=True))


async def _pyrate_redis(place: Place, requests: int) -> Acquire:
    from pyrate_limiter import Rate, RedisBucket
    from redis.asyncio import Redis

    rates = [Rate(requests, int(PERIOD_S * 1000))]
    return await _pyrate(await RedisBucket.init(rates, Redis.from_url(place.redis), "contract"))


def _throttled(using: str) -> Callable[[Place, int], Awaitable[Acquire]]:
    async def make(place: Place, requests: int) -> Acquire:
        from datetime import timedelta

        from throttled.asyncio import RedisStore, Throttled, per_duration

        quota = per_duration(timedelta(seconds=PERIOD_S), requests, burst=requests)
        store = RedisStore(server=place.redis)
        limiter = Throttled(key="contract", using=using, quota=quota, store=store, timeout=10**9)

        async def acquire() -> Callable[[], None]:
            await limiter.limit()
            return _nothing

        return acquire

    return make


class Limiter(NamedTuple):
    make: Callable[[Place, int], Awaitable[Acquire]]
    uses_redis: bool = False


LIMITERS = {
    "**ours**, `MachineScheduler`": Limiter(_machine),
    "**ours**, `RedisScheduler`": Limiter(_redis, uses_redis=True),
    "aiolimiter, a quarter for each process": Limiter(_aiolimiter),
    "limits, moving window, Redis": Limiter(_limits("MovingWindowRateLimiter"), uses_redis=True),
    "limits, sliding window counter, Redis": Limiter(_limits("SlidingWindowCounterRateLimiter"), uses_redis=True),
    "pyrate-limiter, SQLite": Limiter(_pyrate_sqlite),
    "pyrate-limiter, Redis": Limiter(_pyrate_redis, uses_redis=True),
    "throttled-py, token bucket, Redis": Limiter(_throttled("token_bucket"), uses_redis=True),
    "throttled-py, GCRA, Redis": Limiter(_throttled("gcra"), uses_redis=True),
    "throttled-py, sliding window, Redis": Limiter(_throttled("sliding_window"), uses_redis=True),
}


# --- one process ---


async def _spend(limiter: Limiter, place: Place, port: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    acquire = await limiter.make(place, REQUESTS)
    chance = Random()

    def delay_s() -> float:
        return LEAST_DELAY_S + chance.expovariate(1 / MEAN_JITTER_S)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            settle = await acquire()
            await asyncio.sleep(delay_s())
            writer.write(b"\n")
            await reader.readline()
            await asyncio.sleep(delay_s())
            settle()

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    await asyncio.wait([*workers, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    for worker in workers:
        if worker.done():
            worker.result()
    os._exit(0)  # some limiters cannot be cancelled


async def _acquire_alone(limiter: Limiter, place: Place) -> float:
    """Return the seconds of CPU of an acquire and its return when nothing has to be waited for."""
    acquire = await limiter.make(place, 10**6)
    acquired = 0
    is_over = False

    async def work() -> None:
        nonlocal acquired
        while not is_over:
            (await acquire())()
            acquired += 1
            if not acquired % 50:  # a limiter that need not wait does not yield
                await asyncio.sleep(0)

    (await acquire())()
    await asyncio.sleep(PERIOD_S + 0.5)  # a contract that Redis does not know waits for a window
    began = time.process_time()
    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    await asyncio.sleep(CHEAP_S)
    spent_s = time.process_time() - began
    is_over = True
    await asyncio.gather(*workers)
    return spent_s / acquired


# --- four of them ---


@asynccontextmanager
async def _counting(arrivals: list[float]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while await reader.readline():
                arrivals.append(time.monotonic())
                writer.write(b"\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _redis_server(folder: Path) -> AsyncIterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = await asyncio.create_subprocess_exec("redis-server", *options, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def _reads(url: str) -> int:
    """How many requests the server has read; a pipeline is one."""
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:
        return int((await client.info("stats"))["total_reads_processed"])


async def _run(name: str, disturb: str | None) -> dict[str, Any]:
    arrivals: list[float] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        async with _redis_server(folder) as url, _counting(arrivals) as port:
            spec = ["--spend", name, "--port", str(port), "--redis", url, "--folder", text]
            command = [sys.executable, "-m", "benchmarks.contracts", *spec]
            processes = [
                await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE, cwd=report.ROOT)
                for _ in range(PROCESSES)
            ]
            while not arrivals:
                await asyncio.sleep(0.01)
            await asyncio.sleep(WARM_S)
            began_at, reads = time.monotonic(), await _reads(url)
            await asyncio.sleep(SECONDS / 2)
            if disturb is not None:
                from redis.asyncio import Redis

                async with Redis.from_url(url) as client:
                    await client.execute_command(disturb)  # type: ignore[no-untyped-call]
            await asyncio.sleep(SECONDS / 2)
            ended_at, reads = time.monotonic(), await _reads(url) - reads - 2
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                _, errors = await process.communicate()
                if process.returncode:
                    raise RuntimeError(errors.decode()[-2000:])
    counted = [at for at in arrivals if began_at <= at < ended_at]
    return {
        "peak": peak(arrivals, PERIOD_S),
        "used": len(counted) / (REQUESTS * (ended_at - began_at) / PERIOD_S),
        "reads": reads / max(1, len(counted)),
    }


async def _cost(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as text:
        async with _redis_server(Path(text)) as url:
            return {"acquire_s": await _acquire_alone(LIMITERS[name], Place(url, Path(text)))}


def measure() -> dict[str, Any]:
    if shutil.which("redis-server") is None:
        raise RuntimeError("this benchmark needs redis-server: apt-get install redis-server")
    found: dict[str, dict[str, Any]] = {}
    for name, limiter in LIMITERS.items():
        one = ["benchmarks.contracts", "--one", name]
        found[name] = report.child(*one)
        costs = [report.child("benchmarks.contracts", "--cost", name)["acquire_s"] for _ in range(3)]
        found[name]["acquire_s"] = median(costs)
        if limiter.uses_redis:
            found[name]["peak_flushed"] = report.child(*one, "--disturb", "FLUSHALL")["peak"]
    return {"machine": report.machine(), "limiters": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    rows = []
    for name, found in results["limiters"].items():
        uses_redis = "peak_flushed" in found
        rows.append(
            (
                name,
                _bold_above(found["peak"]),
                _bold_above(found["peak_flushed"]) if uses_redis else "",
                f"{found['used']:.1%}",
                f"{found['acquire_s'] * 1e6:,.0f}",
                f"{found['reads']:.1f}" if uses_redis else "",
            )
        )
    head = (
        f"limiter, {REQUESTS} in {PERIOD_S:g} s",
        "peak at the server",
        "after FLUSHALL",
        "contract used",
        "µs of CPU an acquire",
        "requests to Redis a token",
    )
    text = report.table(head, rows)
    return {
        "contracts": f"{text}\n\nBold: over the contract. Two runs of {SECONDS:.0f} s for those with Redis, else one."
    }


def _bold_above(count: int) -> str:
    return f"**{count}**" if count > REQUESTS else str(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", metavar="LIMITER", help="one limiter in four processes, as JSON")
    parser.add_argument("--cost", metavar="LIMITER", help="the CPU of an acquire that has not to wait, as JSON")
    parser.add_argument("--disturb", metavar="COMMAND", help="a command for Redis in the middle of the run")
    parser.add_argument("--spend", metavar="LIMITER", help="one process")
    parser.add_argument("--port", type=int)
    parser.add_argument("--redis")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.spend:
        asyncio.run(_spend(LIMITERS[given.spend], Place(given.redis, given.folder), given.port))
    elif given.cost:
        print(orjson.dumps(asyncio.run(_cost(given.cost))).decode())
    elif given.one:
        print(orjson.dumps(asyncio.run(_run(given.one, given.disturb))).decode())
    else:
        results = measure()
        report.save("contracts", results)
        print(tables(results)["contracts"])


if __name__ == "__main__":
    main()
