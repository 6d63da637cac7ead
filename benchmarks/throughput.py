"""Requests a second against a canned server: ours beside loops that do less, and beside what users would write.

Server and client have a core each. Every measurement is a process of its own, of 0.4 s; the rounds go through
all clients in turn, and a ratio is the median of the rounds' ratios: of requests a second, and of CPU, which what else
the machine does disturbs less.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.canned import LOADS, serving
from benchmarks.stages import STAGES

__all__ = ["measure", "tables"]

LOAD_NAMES = {
    "totals": "Totals: 250 Tweets by 7 metrics per request",
    "public totals": "Totals with a Bearer token: 250 Tweets by the 5 public metrics per request",
    "28hr": "28-hour answers: 25 Tweets by 10 metrics by 29 hours per request (7,250 values)",
}
SETUPS = {"plain": "asyncio's own loop, zlib", "speed": "the extra `[speed]`: uvloop, isal"}
DROPPED = "bare"
MERGED = "bare, merged"
ISAL = ", isal in aiohttp too"
LABELS = {
    "bare": "bare aiohttp + orjson, strings, each answer dropped",
    "bare, integers": "the same, integers",
    "ours, stream": "**ours, `stream`**: OAuth 1.0a, checks, integers, outcomes",
    "ours, Bearer, stream": "**ours, `stream`**: Bearer, checks, integers, outcomes",
    "bare, merged": "bare aiohttp + orjson, strings, one merged dict",
    "bare, merged" + ISAL: "the same, isal set as aiohttp's zlib",
    "bare, integers, merged": "the same, integers",
    "aiolimiter + tenacity": "aiohttp + aiolimiter + tenacity + gather, integers, merged",
    "httpx": "httpx + orjson, strings, merged",
    "requests": "requests + 16 threads + orjson, strings, merged",
    "ours, result": "**ours, one result**: OAuth 1.0a, checks, integers, outcomes, merged",
    "ours, Bearer, result": "**ours, one result**: Bearer, checks, integers, outcomes, merged",
}


def _clients(load: str, setup: str) -> Iterator[str]:
    yield from ("bare", "bare, merged")
    if load == "public totals":
        yield from ("ours, Bearer, stream", "ours, Bearer, result")
        return
    yield from ("ours, stream", "ours, result", "wire")
    if setup == "speed":
        yield "bare, merged" + ISAL
    else:
        yield from ("bare, integers", "bare, integers, merged", "aiolimiter + tenacity", "httpx", "requests")


def measure(rounds: int = 5) -> dict[str, Any]:
    """Seconds a request by load, setup, client and round: of wall clock, and of CPU; and the stages."""
    cores = report.cores()
    client_core, server_core = cores[0], cores[-1]
    plan = [(load, setup, client) for load in LOAD_NAMES for setup in SETUPS for client in _clients(load, setup)]
    found: dict[str, Any] = {}
    stages: dict[str, Any] = {}
    with serving(list(LOADS), server_core) as base_url:
        for number in range(rounds):
            for load, setup, client in report.rotated(plan, number, rounds):
                options = ["--seconds", "0.4", "--core", str(client_core)]
                options += ["--fast"] if setup == "speed" else []
                options += ["--aiohttp-isal"] if client.endswith(ISAL) else []
                once = report.child("benchmarks.clients", client.removesuffix(ISAL), load, base_url, *options)
                kept = found.setdefault(load, {}).setdefault(setup, {}).setdefault(client, {"wall_s": [], "cpu_s": []})
                for what, seconds in once.items():
                    kept[what].append(seconds)
            for load in ("totals", "28hr") if number % 2 == 0 else ():
                for setup in SETUPS:
                    options = ["--core", str(client_core), *(["--fast"] if setup == "speed" else [])]
                    for stage, seconds in report.child("benchmarks.stages", load, *options).items():
                        stages.setdefault(load, {}).setdefault(setup, {}).setdefault(stage, []).append(seconds)
    return {"machine": report.machine(), "throughput": found, "stages": stages}


def _throughput_table(clients: dict[str, dict[str, list[float]]]) -> str:
    rows = []
    for client, label in LABELS.items():
        if client not in clients:
            continue
        against = DROPPED if client in ("bare", "bare, integers") or client.endswith("stream") else MERGED
        seconds, reference = clients[client], clients[against]
        rows.append(
            (
                label,
                f"{1 / median(seconds['wall_s']):,.0f}",
                f"{report.median_ratio(reference['wall_s'], seconds['wall_s']):.2f}",
                f"{median(seconds['cpu_s']) * 1e6:,.0f}",
                f"{report.median_ratio(reference['cpu_s'], seconds['cpu_s']):.2f}",
            )
        )
    return report.table(("client", "requests/s", "ratio", "CPU µs per request", "ratio"), rows)


def _stage_table(results: dict[str, Any]) -> str:
    columns = [(load, setup) for load in ("totals", "28hr") for setup in SETUPS]
    spent = [_stages_us(results, load, setup) for load, setup in columns]
    head = ("µs of CPU per request", *(f"{load}, {'isal' if setup == 'speed' else 'zlib'}" for load, setup in columns))
    return report.table(head, [(label, *(f"{each[label]:,.1f}" for each in spent)) for label in spent[0]])


def _stages_us(results: dict[str, Any], load: str, setup: str) -> dict[str, float]:
    alone = {stage: median(each) * 1e6 for stage, each in results["stages"][load][setup].items()}
    clients = results["throughput"][load][setup]
    wire = median(clients["wire"]["cpu_s"]) * 1e6
    whole = median(clients["ours, stream"]["cpu_s"]) * 1e6
    in_stream = [stage for stage in STAGES if stage != "merge"]
    rest = whole - wire - sum(alone[stage] for stage in in_stream)
    return {
        "aiohttp and the kernel: send, headers, read": wire,
        **{f"{stage}: {STAGES[stage]}": alone[stage] for stage in in_stream},
        "the rest: engine, garbage collection, cold caches": rest,
        "**`stream`, all in all**": whole,
        f"merge: {STAGES['merge']}": alone["merge"],
        "for comparison: `orjson.loads`, strings": alone["orjson.loads"],
    }


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's sections, by name."""
    parts = []
    for load, title in LOAD_NAMES.items():
        for setup, what in SETUPS.items():
            parts.append(f"{title} ({what}):\n\n{_throughput_table(results['throughput'][load][setup])}")
    return {"throughput": "\n\n".join(parts), "stages": _stage_table(results)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    results = measure(given.rounds)
    report.save("throughput", results)
    for text in tables(results).values():
        print(text, end="\n\n")


if __name__ == "__main__":
    main()
