"""The clients that throughput.py compares, each run in a process of its own: `python -m benchmarks.clients NAME ...`.

A client asks for all requests of a load, again and again until its time is over, and prints one line of JSON. What each
of them does with the answers is said in its docstring, and repeated in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import orjson

from benchmarks import children
from benchmarks.canned import LOADS, LOOSE_LIMIT, Load

__all__ = ["CLIENTS", "CONCURRENCY"]

CONCURRENCY = 16
BEAT_S = 0.001
BEARER = {
    "Authorization": "Bearer AAAAAAAAAAAAAAAAAAAAAMLheAAAAAAA0",
    "Content-Type": "application/json",
    "Accept-Encoding": "gzip",
}
OAUTH = (
    "xvz1evFS4wEEPTGEFPHBog",
    "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
    "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
    "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
)
"""The keys of the documentation's own example."""

Run = Callable[[], Awaitable[object]]
Client = Callable[[str, Load], AbstractAsyncContextManager[Run]]


async def _by_workers(chunks: list[list[str]], ask: Callable[[list[str]], Awaitable[None]]) -> None:
    """`CONCURRENCY` tasks that take one request after the other."""
    waiting = deque(chunks)

    async def work() -> None:
        while waiting:
            await ask(waiting.popleft())

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def _bare(use: Callable[[dict[str, Any], dict[str, Any]], None]) -> Client:
    """Do the least that can be written with aiohttp and orjson: no limit, no retry, no check but the status."""

    @asynccontextmanager
    async def client(base_url: str, load: Load) -> Any:
        import aiohttp

        url = base_url + load.path
        chunks = load.chunks()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

            async def run() -> dict[str, Any]:
                merged: dict[str, Any] = {}

                async def ask(ids: list[str]) -> None:
                    async with session.post(url, data=orjson.dumps(load.request(ids)), headers=BEARER) as response:
                        response.raise_for_status()
                        use(merged, orjson.loads(await response.read()))

                await _by_workers(chunks, ask)
                return merged

            yield run

    return client


def _drop(merged: dict[str, Any], answer: dict[str, Any]) -> None:
    """Look at an answer and let it go."""
    if "by_tweet" not in answer:
        raise RuntimeError("an answer without its grouping")


def _keep(merged: dict[str, Any], answer: dict[str, Any]) -> None:
    merged.update(answer["by_tweet"])


def _drop_integers(merged: dict[str, Any], answer: dict[str, Any]) -> None:
    _integers(answer["by_tweet"])


def _keep_integers(merged: dict[str, Any], answer: dict[str, Any]) -> None:
    merged.update(_integers(answer["by_tweet"]))


def _integers(grouping: dict[str, Any]) -> dict[str, Any]:
    return {key: _integers(value) if isinstance(value, dict) else int(value) for key, value in grouping.items()}


@asynccontextmanager
async def _usual(base_url: str, load: Load) -> Any:
    """Do what a careful user would write: aiohttp, a limiter, retries, gather; integers; one merged dict."""
    import aiohttp
    from aiolimiter import AsyncLimiter
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

    url = base_url + load.path
    chunks = load.chunks()
    limiter = AsyncLimiter(LOOSE_LIMIT, 60)
    slots = asyncio.Semaphore(CONCURRENCY)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        @retry(
            retry=retry_if_exception_type(aiohttp.ClientError),
            stop=stop_after_attempt(5),
            wait=wait_exponential_jitter(),
            reraise=True,
        )
        async def ask(ids: list[str]) -> dict[str, Any]:
            async with (
                slots,
                limiter,
                session.post(url, data=orjson.dumps(load.request(ids)), headers=BEARER) as response,
            ):
                response.raise_for_status()
                return _integers(orjson.loads(await response.read())["by_tweet"])

        async def run() -> dict[str, Any]:
            merged: dict[str, Any] = {}
            for answer in await asyncio.gather(*map(ask, chunks)):
                merged.update(answer)
            return merged

        yield run


@asynccontextmanager
async def _httpx(base_url: str, load: Load) -> Any:
    """Run the bare loop on httpx."""
    import httpx

    url = base_url + load.path
    chunks = load.chunks()
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=CONCURRENCY), headers=BEARER) as client:

        async def run() -> dict[str, Any]:
            merged: dict[str, Any] = {}

            async def ask(ids: list[str]) -> None:
                response = await client.post(url, content=orjson.dumps(load.request(ids)))
                response.raise_for_status()
                merged.update(orjson.loads(response.content)["by_tweet"])

            await _by_workers(chunks, ask)
            return merged

        yield run


@asynccontextmanager
async def _requests(base_url: str, load: Load) -> Any:
    """Run `requests` in a pool of threads, a session each."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    import requests

    url = base_url + load.path
    chunks = load.chunks()
    local = threading.local()

    def ask(ids: list[str]) -> dict[str, Any]:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        response = local.session.post(url, data=orjson.dumps(load.request(ids)), headers=BEARER)
        response.raise_for_status()
        answer: dict[str, Any] = orjson.loads(response.content)["by_tweet"]
        return answer

    with ThreadPoolExecutor(CONCURRENCY) as pool:

        async def run() -> dict[str, Any]:
            merged: dict[str, Any] = {}
            for answer in pool.map(ask, chunks):
                merged.update(answer)
            return merged

        yield run


def _ours(*, merged: bool, oauth: bool = True) -> Client:
    """EngagementClient with everything on: checks, signing, the ledger, integers, the outcomes of every ID."""

    @asynccontextmanager
    async def client(base_url: str, load: Load) -> Any:
        from engagement_async import (
            LAST_28_HOURS,
            TOTALS,
            BearerCredentials,
            EngagementClient,
            OAuth1Credentials,
            Query,
            RateLimit,
        )

        credentials = OAuth1Credentials(*OAUTH) if oauth else BearerCredentials(BEARER["Authorization"][7:])
        endpoint = LAST_28_HOURS if load.path.endswith("28hr") else TOTALS
        groupings = {"by_tweet": load.group_by}
        async with EngagementClient(
            credentials, rate_limit=RateLimit(LOOSE_LIMIT), concurrency=CONCURRENCY, base_url=base_url
        ) as ours:

            async def result() -> Any:
                ask = ours.last_28_hours if endpoint is LAST_28_HOURS else ours.totals
                return (
                    await ask(load.tweet_ids, engagement_types=load.engagement_types, groupings=groupings)
                ).groupings["by_tweet"]

            async def stream() -> dict[str, Any]:
                query = Query(endpoint, engagement_types=load.engagement_types, groupings=groupings)
                async with ours.stream(query, load.tweet_ids) as answers:
                    async for answer in answers:
                        if "by_tweet" not in answer.groupings:
                            raise RuntimeError("an answer without its grouping")
                return {}

            yield result if merged else stream

    return client


@asynccontextmanager
async def _wire(base_url: str, load: Load) -> Any:
    """aiohttp's own share: the request is sent, the body is read and thrown away, still compressed."""
    import aiohttp

    url = base_url + load.path
    bodies = deque(orjson.dumps(load.request(ids)) for ids in load.chunks())
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONCURRENCY), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def run() -> None:
            waiting = deque(bodies)

            async def work() -> None:
                while waiting:
                    async with session.post(url, data=waiting.popleft(), headers=BEARER) as response:
                        await response.read()

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

        yield run


CLIENTS: dict[str, Client] = {
    "wire": _wire,
    "bare": _bare(_drop),
    "bare, merged": _bare(_keep),
    "bare, integers": _bare(_drop_integers),
    "bare, integers, merged": _bare(_keep_integers),
    "aiolimiter + tenacity": _usual,
    "httpx": _httpx,
    "requests": _requests,
    "ours, stream": _ours(merged=False),
    "ours, result": _ours(merged=True),
    "ours, Bearer, stream": _ours(merged=False, oauth=False),
    "ours, Bearer, result": _ours(merged=True, oauth=False),
}


@asynccontextmanager
async def _heartbeat(late: list[float]) -> AsyncIterator[None]:
    """Note by how many seconds each beat of a millisecond comes late: what an application that shares the loop waits."""

    async def beat() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(BEAT_S)
            late.append(time.perf_counter() - began - BEAT_S)

    beating = asyncio.create_task(beat())
    yield
    beating.cancel()


async def _measure(client: Client, base_url: str, load: Load, seconds: float, beat: bool) -> dict[str, float]:
    async with client(base_url, load) as run:
        merged: Any = await run()  # connections are made, caches are warm
        if merged and set(merged) != set(load.tweet_ids):
            raise RuntimeError("the merged result does not hold the Tweets that were asked for")
        del merged
        gc.collect()
        walls, cpus = [], []
        stop_at = time.perf_counter() + seconds
        late: list[float] = []
        async with _heartbeat(late) if beat else nullcontext():
            while True:
                cpu, wall = time.process_time(), time.perf_counter()
                await run()
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
                if time.perf_counter() >= stop_at and len(walls) >= 2:
                    break
    found = {"wall_s": sum(walls) / len(walls) / load.batches, "cpu_s": sum(cpus) / len(cpus) / load.batches}
    if beat:
        late.sort()
        found |= {"p50_s": late[len(late) // 2], "p99_s": late[len(late) * 99 // 100], "max_s": late[-1]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one client: seconds a request, of wall clock and of CPU.")
    parser.add_argument("client", choices=list(CLIENTS))
    parser.add_argument("load", choices=list(LOADS))
    parser.add_argument("base_url")
    parser.add_argument("--seconds", type=float, default=0.8)
    parser.add_argument("--core", type=int)
    parser.add_argument("--fast", action="store_true", help="uvloop; and isal, for the clients that can take it")
    parser.add_argument("--aiohttp-isal", action="store_true", help="set isal as aiohttp's own zlib backend")
    parser.add_argument("--heartbeat", action="store_true", help="measure too how late a beat of 1 ms comes beside it")
    given = parser.parse_args()
    children.stay_on(given.core)
    if not given.fast:
        children.without_isal()
    if given.aiohttp_isal:
        import aiohttp
        from isal import isal_zlib

        aiohttp.set_zlib_backend(isal_zlib)
    measure = _measure(CLIENTS[given.client], given.base_url, LOADS[given.load], given.seconds, given.heartbeat)
    if given.fast:
        import uvloop

        found = uvloop.run(measure)
    else:
        found = asyncio.run(measure)
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
