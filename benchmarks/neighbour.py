"""How long an application waits that shares the event loop with a client at full speed: the lateness of a beat of 1 ms.

Server and client have a core each, and every measurement is a process of its own, as in throughput.py.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.canned import serving
from benchmarks.throughput import LABELS, SETUPS

__all__ = ["measure", "tables"]

LOADS = ("totals", "28hr")
CLIENTS = ("bare", "ours, stream", "ours, result")
ROUNDS = 5


def measure() -> dict[str, Any]:
    """Seconds by load, setup, client and round: the 50th and 99th percentile of the lateness, the largest, and CPU."""
    cores = report.cores()
    found: dict[str, Any] = {}
    with serving(list(LOADS), cores[-1]) as base_url:
        for _ in range(ROUNDS):
            for load in LOADS:
                for setup in SETUPS:
                    for client in CLIENTS:
                        options = ["--seconds", "0.8", "--core", str(cores[0]), "--heartbeat"]
                        options += ["--fast"] if setup == "speed" else []
                        once = report.child("benchmarks.clients", client, load, base_url, *options)
                        kept = found.setdefault(load, {}).setdefault(setup, {}).setdefault(client, {})
                        for what, seconds in once.items():
                            kept.setdefault(what, []).append(seconds)
    return {"machine": report.machine(), "neighbour": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        (
            LABELS[client],
            load,
            "uvloop" if setup == "speed" else "asyncio",
            *(f"{median(found[what]) * 1e3:.1f}" for what in ("p50_s", "p99_s", "max_s")),
        )
        for load, setups in results["neighbour"].items()
        for setup, clients in setups.items()
        for client, found in clients.items()
    ]
    head = ("beside", "endpoint", "event loop", "a beat is late by, median (ms)", "99th percentile", "at most")
    return {"neighbour": report.table(head, rows)}


if __name__ == "__main__":
    print(tables(measure())["neighbour"])
