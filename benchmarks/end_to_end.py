"""The whole job, beside peers: a CSV file of IDs in, a tidy Parquet file out. CPU, time, and peak memory.

A child is a process of its own that goes one way once, with all modules loaded before the clock starts. Server and client
have a core each. The peers are what somebody writes who has an afternoon: they sign with a Bearer token, keep no limit,
retry nothing but what is said below, and check only the status. All tables are held against each other, value by value.

`python -m benchmarks.end_to_end --ids 1000000` asks for a million, once each way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks import children, report
from benchmarks.canned import LOADS, LOOSE_LIMIT, Load, serving
from benchmarks.cookbook import ask_in_parallel
from benchmarks.job_stages import STAGES
from benchmarks.peer_tables import by_pandas, by_polars, ids_by_pandas, ids_by_polars

__all__ = ["measure", "tables"]

BEARER = {
    "Authorization": "Bearer AAAAAAAAAAAAAAAAAAAAAMLheAAAAAAA0",
    "Content-Type": "application/json",
    "Accept-Encoding": "gzip",
}
OAUTH = ("consumer-key", "consumer-secret", "access-token", "access-token-secret")
CONCURRENCY = 16
ROUNDS = 5
IDS = {"totals": 100_000, "28hr": 5_000}
SETUPS = {"plain": "asyncio's own loop, zlib", "speed": "the extra `[speed]`: uvloop, isal"}
WAYS = {
    "polars": "bare aiohttp loop, JSON lines, then Polars",
    "pandas": "the same, then pandas",
    "cookbook": "a parallel request processor (token bucket, queue, retries, JSON lines), then Polars",
    "fetch": "**ours**, one result: signed, limited, checked; its Arrow table written",
    "stream": "**ours**, columnar answers, written as they come: signed, limited, checked",
    "job": "**ours, a durable job**: start, run, export",
}
ROWS_AT_ONCE = 100_000
PHASES = ("ids", "requests", "table")


class Clock:
    """CPU seconds by phase."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.spent[name] += time.process_time() - began


Way = Callable[[Load, Path, Path, str, Clock], Coroutine[Any, Any, None]]


async def _bare(load: Load, tweet_ids: list[str], answers: Path, base_url: str) -> None:
    """Workers that send one request after the other, and append each answer as it came."""
    import aiohttp

    size = load.ids_per_request
    waiting = [tweet_ids[at : at + size] for at in range(0, len(tweet_ids), size)][::-1]
    with answers.open("wb") as file:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY), headers=BEARER) as session:

            async def work() -> None:
                while waiting:
                    body = orjson.dumps(load.request(waiting.pop()))
                    async with session.post(base_url + load.path, data=body) as response:
                        response.raise_for_status()
                        file.write(await response.read() + b"\n")

            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


def _peer(read_ids: Callable[[Path], list[str]], write_table: Callable[[Iterator[Any], Path], None]) -> Way:
    async def way(load: Load, ids: Path, out: Path, base_url: str, clock: Clock) -> None:
        with clock.phase("ids"):
            tweet_ids = read_ids(ids)
        with clock.phase("requests"):
            await _bare(load, tweet_ids, out / "answers.jsonl", base_url)
        with clock.phase("table"), (out / "answers.jsonl").open("rb") as file:
            write_table(map(orjson.loads, file), out / "x.parquet")

    return way


async def _cookbook(load: Load, ids: Path, out: Path, base_url: str, clock: Clock) -> None:
    with clock.phase("ids"):
        tweet_ids = ids_by_polars(ids)
        with (out / "requests.jsonl").open("w") as file:
            for at in range(0, len(tweet_ids), load.ids_per_request):
                file.write(json.dumps(load.request(tweet_ids[at : at + load.ids_per_request])) + "\n")
    with clock.phase("requests"):
        await ask_in_parallel(
            out / "requests.jsonl", out / "answers.jsonl", base_url + load.path, BEARER, per_minute=LOOSE_LIMIT
        )
    with clock.phase("table"), (out / "answers.jsonl").open("rb") as lines:
        by_polars((orjson.loads(line)[1] for line in lines), out / "x.parquet")


async def _fetch(load: Load, ids: Path, out: Path, base_url: str, clock: Clock) -> None:
    import pyarrow.parquet as pq

    from engagement_async import EngagementClient, OAuth1Credentials, RateLimit
    from engagement_async._ids.reading import read_ids

    async with EngagementClient(
        OAuth1Credentials(*OAUTH), rate_limit=RateLimit(LOOSE_LIMIT), concurrency=CONCURRENCY, base_url=base_url
    ) as client:
        ask = client.totals if load.name == "totals" else client.last_28_hours
        with clock.phase("requests"):  # the IDs are read while it asks
            result = await ask(
                read_ids([ids]), engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by}
            )
    if result.failed_tweet_ids:
        raise RuntimeError(f"not all was answered: {len(result.failed_tweet_ids)} failed")
    with clock.phase("table"):
        pq.write_table(result.to_arrow("by_tweet"), out / "x.parquet", compression="zstd")


async def _stream(load: Load, ids: Path, out: Path, base_url: str, clock: Clock) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from engagement_async import EngagementClient, OAuth1Credentials, Query, RateLimit
    from engagement_async._core.endpoints import ENDPOINTS
    from engagement_async._ids.reading import read_ids

    query = Query(ENDPOINTS[load.name], engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
    tables: list[Any] = []
    writer: Any = None

    def write() -> None:
        nonlocal writer
        with clock.phase("table"):
            table = pa.concat_tables(tables)
            writer = writer or pq.ParquetWriter(out / "x.parquet", table.schema, compression="zstd")
            writer.write_table(table)
            tables.clear()

    began = time.process_time()
    async with (
        EngagementClient(
            OAuth1Credentials(*OAUTH), rate_limit=RateLimit(LOOSE_LIMIT), concurrency=CONCURRENCY, base_url=base_url
        ) as client,
        client.stream(query, read_ids([ids]), columnar=True) as answers,
    ):
        async for answer in answers:
            if answer.failed_tweet_ids:
                raise RuntimeError(f"not all was answered: {len(answer.failed_tweet_ids)} failed")
            tables.append(answer.to_arrow("by_tweet"))
            if sum(map(len, tables)) > ROWS_AT_ONCE:
                write()
    if tables:
        write()
    writer.close()
    clock.spent["requests"] = time.process_time() - began - clock.spent["table"]


async def _job(load: Load, ids: Path, out: Path, base_url: str, clock: Clock) -> None:
    from engagement_async import OAuth1Credentials, Query, RateLimit
    from engagement_async._core.endpoints import ENDPOINTS
    from engagement_async.backfill import BackfillJob

    job = BackfillJob(out / "job")
    with clock.phase("ids"):
        query = Query(
            ENDPOINTS[load.name], engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by}
        )
        await job.start(query, files=[ids])
    with clock.phase("requests"):
        progress = await job.run(
            OAuth1Credentials(*OAUTH), rate_limit=RateLimit(LOOSE_LIMIT), concurrency=CONCURRENCY, base_url=base_url
        )
    if progress.outcomes.answered != progress.ids_total:
        raise RuntimeError(f"not all was answered: {progress}")
    with clock.phase("table"):
        await job.export(out / "x.parquet")


_WAYS: dict[str, Way] = {
    "polars": _peer(ids_by_polars, by_polars),
    "pandas": _peer(ids_by_pandas, by_pandas),
    "cookbook": _cookbook,
    "fetch": _fetch,
    "stream": _stream,
    "job": _job,
}


def digest(path: Path) -> str:
    """Return a hash of a tidy table that depends on its values alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "tweet_id": pa.string(),
        "engagement_type": pa.string(),
        "engagement_hour": pa.timestamp("s", tz="UTC"),
        "value": pa.int64(),
    }
    table = pq.read_table(path)
    columns = [name for name in kinds if name in table.column_names]
    table = pa.table({name: table[name].cast(kinds[name]) for name in columns})
    table = table.sort_by([(name, "ascending") for name in columns]).combine_chunks()
    found = sha256(f"{table.num_rows} {columns}".encode())
    for column in table.columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                found.update(buffer if buffer is not None else b"-")
    return found.hexdigest()


_OURS = (
    "aiohttp",
    "pyarrow.compute",
    "pyarrow.parquet",
    "pandas",  # which pyarrow loads with the first array, where it is installed
    "engagement_async.client",
    "engagement_async._ids.reading",
    "engagement_async._core.arrow",
)
_MODULES = {
    "polars": ("aiohttp", "polars"),
    "pandas": ("aiohttp", "pandas", "pyarrow.parquet"),
    "cookbook": ("aiohttp", "polars"),
    "fetch": _OURS,
    "stream": (*_OURS, "engagement_async._core.column_parsing"),
    "job": ("engagement_async.backfill.job", "engagement_async.backfill.exporter", *_OURS),
}
"""What each way has loaded before the clock starts."""


def _child(way: str, load: Load, ids: Path, out: Path, base_url: str, *, fast: bool) -> None:
    """One way, once."""
    if not fast:
        children.without_isal()
    for module in _MODULES[way]:
        import_module(module)
    clock = Clock()
    with children.PeakMemory() as peak:
        cpu, wall = time.process_time(), time.perf_counter()
        children.run(_WAYS[way](load, ids, out, base_url, clock), fast=fast)
        spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    found = {
        **spent,
        "peak_mb": peak.bytes / 2**20,
        **{f"{name}_s": spent for name, spent in clock.spent.items()},
    }
    print(orjson.dumps(found).decode())


def _write_ids(path: Path, load: Load, count: int) -> None:
    """Write a CSV file with the IDs of the load, and as many more."""
    known = load.tweet_ids[:count]
    more = (str(int(known[-1]) + n * 7_368_787) for n in range(1, count - len(known) + 1))
    with path.open("w") as file:
        file.write("tweet_id,campaign\n")
        file.writelines(f"{i},spring\n" for part in (known, more) for i in part)


def measure(
    rounds: int = ROUNDS, counts: dict[str, int] | None = None, setups: tuple[str, ...] = tuple(SETUPS)
) -> dict[str, Any]:
    """CPU, seconds and megabytes of each way by load, setup and round."""
    cores = report.cores()
    counts = IDS if counts is None else counts
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, serving(list(counts), cores[-1]) as base_url:
        for load_name, count in counts.items():
            ids = Path(name) / f"{load_name}.csv"
            _write_ids(ids, LOADS[load_name], count)
            for number in range(rounds):
                plan = [(setup, way) for setup in setups for way in WAYS]
                digests: dict[str, str] = {}
                for setup, way in report.rotated(plan, number, rounds):
                    with tempfile.TemporaryDirectory(dir=name) as out:
                        options = ["--core", str(cores[0])] + (["--fast"] if setup == "speed" else [])
                        once = report.child(
                            "benchmarks.end_to_end", "--child", way, load_name, str(ids), out, base_url, *options
                        )
                        if not number:
                            digests[f"{setup} {way}"] = digest(Path(out) / "x.parquet")
                    kept = found.setdefault(load_name, {}).setdefault(setup, {}).setdefault(way, {})
                    for what, value in once.items():
                        kept.setdefault(what, []).append(value)
                if len(set(digests.values())) > 1:
                    raise RuntimeError(f"the tables of {load_name} differ: {digests}")
    stages = report.child("benchmarks.job_stages", "--core", str(cores[0]))
    return {"machine": report.machine(), "ids": counts, "end_to_end": found, "stages": stages}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's sections, by name."""
    parts = []
    for load, setups in results["end_to_end"].items():
        count = results["ids"][load]
        requests = count / LOADS[load].ids_per_request
        for setup, ways in setups.items():
            peer, other = ways["polars"]["cpu_s"], ways["pandas"]["cpu_s"]
            rows = [
                (
                    WAYS[way],
                    *(f"{median(of[f'{phase}_s']) / requests * 1e6:,.0f}" for phase in PHASES),
                    f"{median(of['cpu_s']) / requests * 1e6:,.0f}",
                    f"{report.median_ratio(peer, of['cpu_s']):.2f}",
                    f"{report.median_ratio(other, of['cpu_s']):.2f}",
                    f"{median(of['wall_s']):.2f}",
                    f"{median(of['peak_mb']):,.0f}",
                )
                for way, of in ways.items()
            ]
            head = (
                f"{load}, {count:,} IDs ({SETUPS[setup]}); CPU µs per request",
                "IDs",
                "requests",
                "Parquet",
                "all",
                "of Polars",
                "of pandas",
                "seconds",
                "peak MB",
            )
            parts.append(report.table(head, rows))
    stages = [(label, f"{results['stages'][name] * 1e6:,.0f}") for name, label in STAGES.items()]
    return {
        "end to end": "\n\n".join(parts),
        "job stages": report.table(("totals, `[speed]`", "CPU µs per request"), stages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--ids", type=int, help="of totals, and a twentieth of it by the hour; once, and not saved")
    parser.add_argument("--load", choices=list(IDS), help="this one alone, not saved")
    parser.add_argument("--setup", choices=list(SETUPS), help="this one alone, not saved")
    parser.add_argument("--child", nargs=5, metavar=("WAY", "LOAD", "IDS", "OUT", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int)
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    if given.child:
        children.stay_on(given.core)
        way, load, ids, out, base_url = given.child
        _child(way, LOADS[load], Path(ids), Path(out), base_url, fast=given.fast)
        return
    counts = IDS if given.ids is None else {"totals": given.ids, "28hr": given.ids // 20}
    if given.load:
        counts = {given.load: counts[given.load]}
    setups = (given.setup,) if given.setup else tuple(SETUPS)
    results = measure(1 if given.ids else given.rounds, counts, setups)
    if counts == IDS and setups == tuple(SETUPS):
        report.save("end_to_end", results)
    for text in tables(results).values():
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
