"""What an acquire costs when many owners of Tweets wait in one call: CPU, at 1, 100 and 10,000 of them.

The scheduler is real, and its clock is set by hand: nothing is waited for but the turn.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median
from typing import Any

import orjson

from benchmarks import report
from engagement_async import LocalScheduler, RateLimit

__all__ = ["measure", "tables"]

OWNERS = (1, 100, 10_000)
ACQUIRES = 20_000
AT_ONCE = 100
RUNS = 5


async def _acquire_all(owners: int) -> float:
    """Return the seconds of CPU of an acquire and its return, where so many owners wait."""
    now = 0.0
    scheduler = LocalScheduler(RateLimit(AT_ONCE, period=1.0, burst=AT_ONCE), clock=lambda: now)
    call = scheduler.lane("28hr")
    lanes = [call.sublane() for _ in range(owners)] if owners > 1 else [call]
    scheduler.hold(0.5)

    async def one(lane: Any) -> None:
        scheduler.settle(await scheduler.acquire(lane))

    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(one(lanes[number % owners])) for number in range(ACQUIRES)]
        await asyncio.sleep(0)
        while not calls[-1].done():
            now += 2.0
            scheduler.reconsider()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    return (time.process_time() - began) / ACQUIRES


def measure() -> dict[str, Any]:
    return {"owners": {str(owners): report.child("benchmarks.lanes", "--owners", str(owners)) for owners in OWNERS}}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    found = results["owners"]
    rows = [(f"{int(owners):,}", f"{each['acquire_s'] * 1e6:.1f}") for owners, each in found.items()]
    return {
        "lanes": report.table(("owners who wait in one call", "µs of CPU an acquire, its task and its return"), rows)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owners", type=int)
    given = parser.parse_args()
    if given.owners:
        costs = [asyncio.run(_acquire_all(given.owners)) for _ in range(RUNS)]
        print(orjson.dumps({"acquire_s": median(costs)}).decode())
    else:
        results = measure()
        report.save("lanes", results)
        print(tables(results)["lanes"])


if __name__ == "__main__":
    main()
