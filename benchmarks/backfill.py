"""Jobs beside loops that promise nothing: time and CPU of a job with its journal and its Parquet export, and its memory.

A child is a process of its own that does all of one way once: it reads the IDs from a file, asks for them, and leaves its
output in a folder. Server and client have a core each. The bare loop appends each answer as it came to a JSONL file;
what is killed in it is lost, and nobody knows which IDs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks import children, report
from benchmarks.canned import LOADS, LOOSE_LIMIT, serving

__all__ = ["measure", "tables"]

LOAD = LOADS["totals"]
HOURS = LOADS["28hr"]
BEARER = "AAAAAAAAAAAAAAAAAAAAAMLheAAAAAAA0"
OAUTH = ("consumer-key", "consumer-secret", "access-token", "access-token-secret")
CONCURRENCY = 16
SETUPS = {"plain": "asyncio's own loop, zlib", "speed": "the extra `[speed]`: uvloop, isal"}
WAYS = {
    "bare": "bare aiohttp loop, raw answers appended to JSONL",
    "fetch": "`client.totals`, one result in memory",
    "fetch, Parquet": "the same, and its Parquet file",
    "job": "**a job**: start and run",
    "job, Parquet": "**a job**: start, run and Parquet export",
}
CONTRACT = 6_000
CONTRACT_WAYS = {
    "bare, contract": "bare aiohttp loop, paced, raw answers appended to JSONL",
    "job, contract": "**a job**: start, run and Parquet export",
}
"""The same at a contract of that many requests a minute, which is more than most: then nothing but the contract counts."""
MEMORY = ("nothing", "start", "run", "export parquet", "export jsonl", "export duckdb")
SIZES = (50_000, 500_000, 5_000_000)


async def _bare(ids: Path, out: Path, base_url: str, a_minute: int | None = None) -> None:
    import aiohttp

    tweet_ids = ids.read_text().split()
    waiting = [tweet_ids[at : at + 250] for at in range(0, len(tweet_ids), 250)][::-1]
    began_at, sent = time.perf_counter(), 0
    headers = {"Authorization": f"Bearer {BEARER}", "Content-Type": "application/json", "Accept-Encoding": "gzip"}
    with (out / "answers.jsonl").open("ab") as file:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

            async def work() -> None:
                nonlocal sent
                while waiting:
                    body = orjson.dumps(LOAD.request(waiting.pop()))
                    if a_minute:
                        sent += 1
                        await asyncio.sleep(began_at + sent * 60 / a_minute - time.perf_counter())
                    async with session.post(base_url + LOAD.path, data=body, headers=headers) as response:
                        response.raise_for_status()
                        file.write(await response.read() + b"\n")

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        file.flush()
        os.fsync(file.fileno())


async def _fetch(ids: Path, out: Path, base_url: str, *, parquet: bool) -> None:
    from engagement_async import EngagementClient, OAuth1Credentials, RateLimit
    from engagement_async._export.files import atomic_file
    from engagement_async._export.formats import write_parquet
    from engagement_async._ids.reading import read_ids

    async with EngagementClient(
        OAuth1Credentials(*OAUTH), rate_limit=RateLimit(LOOSE_LIMIT), concurrency=CONCURRENCY, base_url=base_url
    ) as client:
        result = await client.totals(
            read_ids([ids]), engagement_types=LOAD.engagement_types, groupings={"by_tweet": LOAD.group_by}
        )
    if parquet:
        with atomic_file(out / "x.parquet") as file:
            write_parquet(file, [result.to_arrow("by_tweet")])


async def _job(ids: Path, out: Path, base_url: str, *, parquet: bool, a_minute: int = LOOSE_LIMIT) -> None:
    await _start(ids, out)
    await _run(out, base_url, a_minute)
    if parquet:
        await _export(out, "parquet")


async def _start(ids: Path, out: Path, name: str = "totals") -> None:
    from engagement_async import Query
    from engagement_async._core.endpoints import ENDPOINTS
    from engagement_async.backfill import BackfillJob

    load = LOADS[name]
    query = Query(ENDPOINTS[name], engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
    await BackfillJob(out / "job").start(query, files=[ids])


async def _run(out: Path, base_url: str, a_minute: int = LOOSE_LIMIT) -> None:
    from engagement_async import OAuth1Credentials, RateLimit
    from engagement_async.backfill import BackfillJob

    progress = await BackfillJob(out / "job").run(
        OAuth1Credentials(*OAUTH), rate_limit=RateLimit(a_minute), concurrency=CONCURRENCY, base_url=base_url
    )
    if progress.outcomes.answered != progress.ids_total:
        raise RuntimeError(f"not all was answered: {progress}")


async def _export(out: Path, kind: str) -> None:
    from engagement_async.backfill import BackfillJob

    await BackfillJob(out / "job").export(out / f"x.{kind}")


async def _nothing() -> None:
    """Everything imported, nothing done."""


def _way(name: str, ids: Path, out: Path, base_url: str) -> Callable[[], Coroutine[Any, Any, None]]:
    ways: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "bare": lambda: _bare(ids, out, base_url),
        "fetch": lambda: _fetch(ids, out, base_url, parquet=False),
        "fetch, Parquet": lambda: _fetch(ids, out, base_url, parquet=True),
        "job": lambda: _job(ids, out, base_url, parquet=False),
        "job, Parquet": lambda: _job(ids, out, base_url, parquet=True),
        "bare, contract": lambda: _bare(ids, out, base_url, CONTRACT),
        "job, contract": lambda: _job(ids, out, base_url, parquet=True, a_minute=CONTRACT),
        "nothing": _nothing,
        "start": lambda: _start(ids, out),
        "start 28hr": lambda: _start(ids, out, "28hr"),
        "run": lambda: _run(out, base_url),
        "export parquet": lambda: _export(out, "parquet"),
        "export jsonl": lambda: _export(out, "jsonl"),
        "export duckdb": lambda: _export(out, "duckdb"),
    }
    return ways[name]


def _child(name: str, ids: Path, out: Path, base_url: str, *, fast: bool) -> None:
    """One way, once, with every module loaded before."""
    if not fast:
        children.without_isal()
    import aiohttp  # noqa: F401
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    if name == "export duckdb":
        import duckdb  # noqa: F401
    way = _way(name, ids, out, base_url)
    cpu, wall = time.process_time(), time.perf_counter()
    children.run(way(), fast=fast)
    found = {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(orjson.dumps(found).decode())


def _ask(name: str, ids: Path, out: Path, base_url: str, core: int | None, *, fast: bool) -> dict[str, float]:
    options = ["--core", str(core)] if core is not None else []
    options += ["--fast"] if fast else []
    found: dict[str, float] = report.child(
        "benchmarks.backfill", "--child", name, str(ids), str(out), base_url, *options
    )
    return found


def measure(rounds: int = 5, sizes: tuple[int, ...] = SIZES, hourly: int = 200_000) -> dict[str, Any]:
    """Seconds and CPU of each way by setup and round; megabytes of each step by the number of IDs."""
    cores = report.cores()
    times: dict[str, Any] = {
        setup: {way: {"wall_s": [], "cpu_s": []} for way in (*WAYS, *CONTRACT_WAYS)} for setup in SETUPS
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = folder / "ids.txt"
        ids.write_text("\n".join(LOAD.tweet_ids))
        with serving(["totals"], cores[-1]) as base_url:
            for number in range(rounds):
                plan = [(setup, way) for setup in SETUPS for way in (*WAYS, *CONTRACT_WAYS)]
                for setup, way in report.rotated(plan, number, rounds):
                    out = folder / "out"
                    out.mkdir()
                    found = _ask(way, ids, out, base_url, cores[0], fast=setup == "speed")
                    shutil.rmtree(out)
                    for what, kept in times[setup][way].items():
                        kept.append(found[what])
        memory = {str(size): _memory(folder, "totals", size) for size in sizes}
        if hourly:
            memory[f"{hourly} by the hour"] = _memory(folder, "28hr", hourly)
    return {"machine": report.machine(), "ids": len(LOAD.tweet_ids), "times": times, "memory": memory}


def _memory(folder: Path, name: str, size: int) -> dict[str, dict[str, float]]:
    """Each step in a process of its own, over one job."""
    out = folder / "memory"
    out.mkdir()
    ids = folder / "many.txt"
    step = 2**40 // size  # spread, as IDs are, and without order
    with ids.open("w") as file:
        file.writelines(f"{1_500_000_000_000_000_000 + (i * 7_368_787 % size) * step}\n" for i in range(size))
    found = {}
    with serving([name]) as base_url:
        for step_name in MEMORY:
            child = f"{step_name} 28hr" if step_name == "start" and name == "28hr" else step_name
            found[step_name] = _ask(child, ids, out, base_url, None, fast=True)
    shutil.rmtree(out)
    return found


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's sections, by name."""
    requests = results["ids"] // LOAD.ids_per_request
    parts = []
    for setup, what in SETUPS.items():
        for ways, limit in ((WAYS, ""), (CONTRACT_WAYS, f", {CONTRACT:,} requests per minute")):
            times = results["times"][setup]
            bare = times[next(iter(ways))]
            rows = [
                (
                    label,
                    f"{requests / median(times[way]['wall_s']):,.0f}",
                    f"{report.median_ratio(bare['wall_s'], times[way]['wall_s']):.2f}",
                    f"{median(times[way]['cpu_s']) / requests * 1e6:,.0f}",
                    f"{report.median_ratio(bare['cpu_s'], times[way]['cpu_s']):.2f}",
                )
                for way, label in ways.items()
            ]
            head = (
                f"{results['ids']:,} IDs ({what}{limit})",
                "requests/s",
                "ratio",
                "CPU µs per request",
                "ratio of CPU",
            )
            parts.append(report.table(head, rows))
    memory = [
        (
            f"{int(size.split()[0]):,}{size[len(size.split()[0]) :]}",
            *(f"{steps[name]['peak_mb'] - steps['nothing']['peak_mb']:,.0f}" for name in MEMORY[1:]),
            f"{steps['start']['wall_s']:,.1f}",
            f"{steps['export parquet']['wall_s']:,.1f}",
        )
        for size, steps in results["memory"].items()
    ]
    steps_head = ("IDs; peak MB above an empty process", *MEMORY[1:], "s to start", "s to export Parquet")
    return {"backfill": "\n\n".join(parts), "backfill memory": report.table(steps_head, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="without the 5,000,000 IDs")
    parser.add_argument("--child", nargs=4, metavar=("WAY", "IDS", "OUT", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int)
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    if given.child:
        children.stay_on(given.core)
        way, ids, out, base_url = given.child
        _child(way, Path(ids), Path(out), base_url, fast=given.fast)
        return
    results = measure(given.rounds, SIZES[:2] if given.quick else SIZES, 0 if given.quick else 200_000)
    report.save("backfill", results)
    for text in tables(results).values():
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
