"""The cost curve: CPU a Tweet and memory, from ten thousand Tweets to ten million, with `stream` over a real socket.

Each size has a process of its own. CPU is the client's, without that of making the IDs; memory is the peak of the resident
set over what the process had before (small streams were run by then).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from statistics import median
from typing import Any

import orjson

from benchmarks import children, report
from benchmarks.canned import LOADS, LOOSE_LIMIT, serving
from benchmarks.clients import CONCURRENCY, OAUTH
from engagement_async import TOTALS, AnswerStream, Batch, EngagementClient, OAuth1Credentials, Query, RateLimit

__all__ = ["draw_curve", "measure", "tables"]

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
WAYS = {
    "stream": "`stream`: IDs one by one, in any order; each is remembered, so that none is requested twice",
    "stream_batches": "`stream_batches`: distinct batches that the caller made",
}
ONCE_ABOVE = 1_000_000
LEAST_CPU_S = 0.4
"""Small sizes are streamed again and again until that much was measured."""
PICTURE = report.ROOT / "docs" / "images" / "costs.svg"


def _ids(count: int) -> Iterator[str]:
    """Distinct IDs, 19 digits each, in no order."""
    # An odd factor permutes the numbers below a power of two.
    mask = (1 << 40) - 1
    return (str(1_500_000_000_000_000_000 + (number * 0x9E3779B97F & mask)) for number in range(count))


def _batches(count: int) -> Iterator[Batch]:
    ids = _ids(count)
    size = TOTALS.ids_per_request
    for number in range(-(-count // size)):
        yield Batch(number, tuple(next(ids) for _ in range(min(size, count - number * size))))


@contextlib.asynccontextmanager
async def _client(base_url: str) -> AsyncIterator[EngagementClient]:
    async with EngagementClient(
        OAuth1Credentials(*OAUTH), rate_limit=RateLimit(LOOSE_LIMIT), concurrency=CONCURRENCY, base_url=base_url
    ) as client:
        yield client


async def _one(base_url: str, way: str, count: int) -> dict[str, float]:
    load = LOADS["totals"]
    query = Query(TOTALS, engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})

    def open_stream(client: EngagementClient, count: int) -> AnswerStream:
        if way == "stream":
            return client.stream(query, _ids(count))
        return client.stream_batches(query, _batches(count))

    async def run(client: EngagementClient, count: int) -> float:
        began = time.process_time()
        answered = 0
        async with open_stream(client, count) as answers:
            async for answer in answers:
                answered += len(answer.groupings["by_tweet"])
        spent = time.process_time() - began
        if answered != count:
            raise RuntimeError(f"{answered} Tweets were answered, not {count}")
        return spent

    async with _client(base_url) as client:
        await run(client, 20_000)
        began = time.process_time()
        for _ in _ids(count) if way == "stream" else _batches(count):
            pass
        making_s = time.process_time() - began
        with children.PeakMemory() as peak:
            spent = [await run(client, count)]
        while sum(spent) < LEAST_CPU_S:
            spent.append(await run(client, count))
    return {"cpu_s": (median(spent) - making_s) / count, "peak_bytes": peak.bytes}


def measure(rounds: int = 2) -> dict[str, Any]:
    """By way and size: seconds of CPU a Tweet, and bytes above the start, one each round (large sizes once alone)."""
    cores = report.cores()
    found: dict[str, dict[str, dict[str, list[float]]]] = {way: {} for way in WAYS}
    with serving(["totals"], cores[-1]) as base_url:
        for number in range(rounds):
            for size in SIZES:
                if number and size > ONCE_ABOVE:
                    continue
                for way in WAYS:
                    options = ["--core", str(cores[0])]
                    once = report.child("benchmarks.costs", "--one", base_url, way, str(size), *options)
                    kept = found[way].setdefault(str(size), {"cpu_s": [], "peak_bytes": []})
                    for what, value in once.items():
                        kept[what].append(value)
    return {"machine": report.machine(), "costs": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    head = ["Tweets"]
    for way in WAYS:
        head += [f"`{way}`: CPU µs per Tweet", "peak memory, MB"]
    rows = [
        [
            f"{size:,}",
            *(
                text
                for way in WAYS
                for text in (
                    f"{_cpu_us(results, way, size):.2f}",
                    f"{_peak_mb(results, way, size):.1f}",
                )
            ),
        ]
        for size in SIZES
    ]
    explained = "\n".join(f"- {what}." for what in WAYS.values())
    return {"costs": f"{report.table(head, rows)}\n\n{explained}"}


def _cpu_us(results: dict[str, Any], way: str, size: int) -> float:
    return 1e6 * float(median(results["costs"][way][str(size)]["cpu_s"]))


def _peak_mb(results: dict[str, Any], way: str, size: int) -> float:
    return float(median(results["costs"][way][str(size)]["peak_bytes"])) / 1e6


def draw_curve(results: dict[str, Any]) -> None:
    """Write docs/images/costs.svg."""
    import altair as alt

    points = [
        {"Tweets": size, "way": way, "CPU": _cpu_us(results, way, size), "memory": _peak_mb(results, way, size)}
        for way in WAYS
        for size in SIZES
    ]

    def panel(field: str, title: str) -> Any:
        return (
            alt.Chart({"values": points}, width=320, height=220)
            .mark_line(point=True)
            .encode(
                x=alt.X("Tweets:Q", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s"), title="Tweets requested"),
                y=alt.Y(f"{field}:Q", scale=alt.Scale(zero=True), title=title),
                color=alt.Color("way:N", title=None, legend=alt.Legend(orient="top")),
            )
        )

    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    (panel("CPU", "CPU µs per Tweet") | panel("memory", "peak memory above the start, MB")).save(str(PICTURE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("BASE_URL", "WAY", "TWEETS"), help="one measurement, as JSON")
    parser.add_argument("--core", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    children.stay_on(given.core)
    if given.one:
        base_url, way, count = given.one
        print(orjson.dumps(asyncio.run(_one(base_url, way, int(count)))).decode())
        return
    results = measure(given.rounds)
    report.save("costs", results)
    draw_curve(results)
    print(tables(results)["costs"])


if __name__ == "__main__":
    main()
