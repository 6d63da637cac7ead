"""Our scheduler beside the limiters of PyPI: the same contract, the same load, the same counting server.

The load runs under virtual time: the clocks that a limiter may read (`time.time`, `time.monotonic`, the loop's) are the
virtual loop's, so half an hour of contract passes in seconds, and every limiter meets the same delays. What an acquire
costs is measured in real time. Each limiter has a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from random import Random
from statistics import median
from typing import Any, Protocol

import orjson

from benchmarks import report
from tests.support.virtual_loop import VirtualLoop

__all__ = ["LIMITERS", "measure", "tables"]

REQUESTS = 600
PERIOD_S = 60.0
MINUTES = 30
AT_ONCE = 64
WAITERS = 10_000
CHEAP_ACQUIRES = 20_000
LEAST_DELAY_S, MEAN_JITTER_S = 0.05, 0.085
"""Each way: 50 ms and an exponential jitter, so that a round trip takes 270 ms in the mean."""
ROUND_TRIP_S = 2 * (LEAST_DELAY_S + MEAN_JITTER_S)
PATIENCE_S = 5.0
"""Seconds of real time after which the crowd of waiters is given up."""

Settle = Callable[[], None]
Task = Callable[[int, Settle], Awaitable[None]]


class Limiter(Protocol):
    """A limiter under test. `run` calls `task(i, settle)` once it lets request i go; `settle` tells of the answer."""

    async def run(self, task: Task, count: int, at_once: int) -> None: ...


class _Acquiring:
    """A limiter that has an acquire: `at_once` workers wait for their turn, in the order of their numbers."""

    def __init__(self, acquire: Callable[[], Awaitable[object]]) -> None:
        self._acquire = acquire

    async def run(self, task: Task, count: int, at_once: int) -> None:
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self._acquire()
                await task(number, _nothing)

        await asyncio.gather(*(work() for _ in range(min(at_once, count))))


def _nothing() -> None:
    pass


class _Ours:
    def __init__(self, requests: int, period_s: float) -> None:
        from engagement_async import LocalScheduler, RateLimit

        self._scheduler = LocalScheduler(RateLimit(requests, period=period_s))

    async def run(self, task: Task, count: int, at_once: int) -> None:
        numbers = iter(range(count))
        scheduler = self._scheduler
        lane = scheduler.lane()

        async def work() -> None:
            for number in numbers:
                token = await scheduler.acquire(lane)
                settled = False

                def settle(token: Any = token) -> None:
                    nonlocal settled
                    settled = True
                    scheduler.settle(token)

                await task(number, settle)
                if not settled:
                    scheduler.settle(token)

        await asyncio.gather(*(work() for _ in range(min(at_once, count))))


class _Aiometer:
    """aiometer has no acquire: it starts tasks."""

    def __init__(self, requests: int, period_s: float) -> None:
        self._per_second = requests / period_s

    async def run(self, task: Task, count: int, at_once: int) -> None:
        import aiometer

        async def each(number: int) -> None:
            await task(number, _nothing)

        await aiometer.run_on_each(each, range(count), max_at_once=at_once, max_per_second=self._per_second)


def _aiolimiter(requests: int, period_s: float) -> Limiter:
    from aiolimiter import AsyncLimiter

    return _Acquiring(AsyncLimiter(requests, period_s).acquire)


def _asynciolimiter(requests: int, period_s: float) -> Limiter:
    from asynciolimiter import Limiter as Paced

    return _Acquiring(Paced(requests / period_s).wait)


def _asynciolimiter_leaky(requests: int, period_s: float) -> Limiter:
    from asynciolimiter import LeakyBucketLimiter

    return _Acquiring(LeakyBucketLimiter(requests / period_s, capacity=requests).wait)


def _pyrate_limiter(requests: int, period_s: float) -> Limiter:
    from pyrate_limiter import Limiter as Pyrate
    from pyrate_limiter import Rate

    limiter = Pyrate(Rate(requests, int(period_s * 1000)))
    return _Acquiring(limiter.try_acquire_async)


def _limits(strategy: str) -> Callable[[int, float], Limiter]:
    def make(requests: int, period_s: float) -> Limiter:
        from limits import RateLimitItemPerSecond
        from limits.aio import strategies
        from limits.aio.storage import MemoryStorage

        limiter = getattr(strategies, strategy)(MemoryStorage())
        item = RateLimitItemPerSecond(requests, int(period_s))

        async def acquire() -> None:
            while not await limiter.hit(item, "contract"):
                stats = await limiter.get_window_stats(item, "contract")
                await asyncio.sleep(max(0.001, stats.reset_time - time.time()))

        return _Acquiring(acquire)

    return make


def _throttled(using: str) -> Callable[[int, float], Limiter]:
    def make(requests: int, period_s: float) -> Limiter:
        from datetime import timedelta

        from throttled.asyncio import Throttled, per_duration

        quota = per_duration(timedelta(seconds=period_s), requests, burst=requests)
        limiter = Throttled(key="contract", using=using, quota=quota, timeout=10**9)
        return _Acquiring(limiter.limit)

    return make


LIMITERS: dict[str, Callable[[int, float], Limiter]] = {
    "**ours**, `LocalScheduler`": _Ours,
    "aiolimiter": _aiolimiter,
    "asynciolimiter, `Limiter`": _asynciolimiter,
    "asynciolimiter, `LeakyBucketLimiter`": _asynciolimiter_leaky,
    "aiometer": _Aiometer,
    "pyrate-limiter": _pyrate_limiter,
    "limits, moving window": _limits("MovingWindowRateLimiter"),
    "limits, sliding window counter": _limits("SlidingWindowCounterRateLimiter"),
    "throttled-py, token bucket": _throttled("token_bucket"),
    "throttled-py, sliding window": _throttled("sliding_window"),
    "throttled-py, GCRA": _throttled("gcra"),
}


def peak(instants: list[float], period_s: float) -> int:
    """The most instants in any half-open window of that length."""
    ordered = sorted(instants)
    return max((bisect_left(ordered, at + period_s) - index for index, at in enumerate(ordered)), default=0)


def _under_load(make: Callable[[int, float], Limiter]) -> dict[str, Any]:
    """Half an hour of more work than the contract allows."""
    draw = Random(28)
    sent: list[float] = []
    arrived: list[float] = []
    horizon_s = MINUTES * 60.0

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limiter = make(REQUESTS, PERIOD_S)
        over = asyncio.Event()

        async def request(number: int, settle: Settle) -> None:
            now = loop.time()
            if now >= horizon_s:
                over.set()
                await asyncio.sleep(math.inf)
            there, back = (LEAST_DELAY_S + draw.expovariate(1 / MEAN_JITTER_S) for _ in range(2))
            sent.append(now)
            arrived.append(now + there)
            await asyncio.sleep(there + back)
            settle()

        running = asyncio.create_task(limiter.run(request, 10**6, AT_ONCE))
        await over.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    _run_virtual(main())
    return {
        "peak_sent": peak(sent, PERIOD_S),
        "peak_arrived": peak(arrived, PERIOD_S),
        "used": len(sent) / (REQUESTS * MINUTES),
    }


def _crowd(make: Callable[[int, float], Limiter]) -> dict[str, Any]:
    """Ten thousand waiters at once: CPU until all were let go, and whether it was in their order."""
    order: list[int] = []
    began = time.process_time()
    patience_ends_at = time.perf_counter() + PATIENCE_S
    clock = time.perf_counter  # the machine's: the virtual one takes its place below

    async def main() -> None:
        limiter = make(REQUESTS, PERIOD_S)
        gave_up = asyncio.Event()

        async def request(number: int, settle: Settle) -> None:
            order.append(number)
            settle()

        async def watch() -> None:
            while clock() < patience_ends_at:
                await asyncio.sleep(1.0)
            gave_up.set()

        running = asyncio.create_task(limiter.run(request, WAITERS, WAITERS))
        watching = asyncio.create_task(watch())
        impatient = asyncio.create_task(gave_up.wait())
        await asyncio.wait({running, impatient}, return_when=asyncio.FIRST_COMPLETED)
        for task in (running, watching, impatient):
            task.cancel()
        await asyncio.gather(running, watching, impatient, return_exceptions=True)

    _run_virtual(main())
    return {
        "crowd_cpu_s": time.process_time() - began,
        "crowd_served": len(order),
        "in_order": all(a < b for a, b in itertools.pairwise(order)),
    }


def _run_virtual(main: Any) -> None:
    loop = VirtualLoop(tick_s=1e-6, has_sockets=False)
    real = time.time, time.monotonic, time.perf_counter, time.time_ns, time.monotonic_ns
    epoch_s = 1_790_000_000
    time.time = lambda: epoch_s + loop.time()
    time.monotonic = time.perf_counter = loop.time
    time.time_ns = lambda: int((epoch_s + loop.time()) * 1e9)
    time.monotonic_ns = lambda: int(loop.time() * 1e9)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main)
    finally:
        time.time, time.monotonic, time.perf_counter, time.time_ns, time.monotonic_ns = real


def _uncontended(make: Callable[[int, float], Limiter]) -> dict[str, Any]:
    """Seconds an acquire when nothing has to be waited for; the token's return is in it."""

    async def main() -> float:
        limiter = make(10**9, PERIOD_S)

        async def request(number: int, settle: Settle) -> None:
            settle()

        await limiter.run(request, CHEAP_ACQUIRES // 10, 1)
        began = time.perf_counter()
        await limiter.run(request, CHEAP_ACQUIRES, 1)
        return (time.perf_counter() - began) / CHEAP_ACQUIRES

    return {"acquire_s": asyncio.run(main())}


SCENARIOS = {"load": _under_load, "crowd": _crowd, "uncontended": _uncontended}


def measure(rounds: int = 3) -> dict[str, Any]:
    """By limiter: what each scenario found. The load is virtual, once; costs are medians of interleaved rounds."""
    found: dict[str, dict[str, Any]] = {
        name: report.child("benchmarks.limiters", "--one", name, "load") for name in LIMITERS
    }
    spent: dict[str, list[float]] = {name: [] for name in LIMITERS}
    for _ in range(rounds):
        for name in LIMITERS:
            spent[name].append(report.child("benchmarks.limiters", "--one", name, "uncontended")["acquire_s"])
    for name in LIMITERS:
        found[name]["acquire_s"] = median(spent[name])
        found[name].update(report.child("benchmarks.limiters", "--one", name, "crowd"))
    contract = {"requests": REQUESTS, "period_s": PERIOD_S, "round_trip_s": ROUND_TRIP_S, "minutes": MINUTES}
    return {"machine": report.machine(), "contract": contract, "limiters": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The page's section."""
    contract = results["contract"]
    rows = []
    for name, found in results["limiters"].items():
        served = found["crowd_served"]
        crowd = f"{found['crowd_cpu_s']:.2f} s"
        rows.append(
            (
                name,
                _bold_above(found["peak_sent"], contract["requests"]),
                _bold_above(found["peak_arrived"], contract["requests"]),
                f"{found['used']:.1%}",
                f"{found['acquire_s'] * 1e6:.1f}",
                crowd if served == WAITERS else f"given up after {crowd}: {served:,} served",
                "no" if not found["in_order"] else "yes" if served == WAITERS else "",
            )
        )
    bound = contract["period_s"] / (contract["period_s"] + contract["round_trip_s"])
    text = report.table(
        (
            f"limiter, at {contract['requests']} requests per {contract['period_s']:.0f} s",
            "peak at the client",
            "peak at the server",
            "limit used",
            "µs per acquire",
            f"CPU for {WAITERS:,} waiters",
            "first in, first out",
        ),
        rows,
    )
    return {
        "limiters": f"{text}\n\nPeaks: the most requests in any {contract['period_s']:.0f} s, of {contract['minutes']} "
        f"minutes. W / (W + L) is {bound:.1%} here. Bold: over the contract."
    }


def _bold_above(count: int, limit: int) -> str:
    return f"**{count}**" if count > limit else str(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("LIMITER", "SCENARIO"), help="one scenario of one limiter, as JSON")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.one:
        name, scenario = given.one
        print(orjson.dumps(SCENARIOS[scenario](LIMITERS[name])).decode())
        return
    results = measure(given.rounds)
    report.save("limiters", results)
    print(tables(results)["limiters"])


if __name__ == "__main__":
    main()
