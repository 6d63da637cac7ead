"""What a burst buys and what it costs: waits of small calls, and requests over the contract when the clock jumps.

Pure: the ledger under instants of its own. The same figures come out on every machine.
"""

from __future__ import annotations

import heapq
from random import Random
from typing import Any

from benchmarks import report
from benchmarks.limiters import peak
from engagement_async import RateLimit
from engagement_async._core.rate_limit import Ledger, Token

__all__ = ["measure", "tables"]

REQUESTS = 300
CALLS = 20
ROUND_TRIP_S = 0.25
BURSTS = (3, 15, 30, 60, 150, 300)
SHARES_OF_USE = (0.25, 0.5, 0.75)
JUMPS_S = (0.1, 1.0)
HOURS = 10


def _waits(burst: int, starts: list[float]) -> list[float]:
    """How long each of `CALLS` requests waits, that come at once at each of these instants; first come, first served."""
    ledger = Ledger([RateLimit(REQUESTS, burst=burst)])
    answers: list[tuple[float, int, Token]] = []
    waits = []
    now = 0.0
    for number, start in enumerate(start for start in starts for _ in range(CALLS)):
        now = max(now, start)
        while not isinstance(token := ledger.reserve(now), Token):
            if answers and answers[0][0] <= token:
                at, _, answered = heapq.heappop(answers)
                now = max(now, at)
                ledger.settle(answered, at)
            else:
                now = token
        waits.append(now - start)
        heapq.heappush(answers, (now + ROUND_TRIP_S, number, token))
    return waits


def _poisson(share: float) -> list[float]:
    """Bursts of `CALLS` calls, at random, that use this share of the contract in the mean."""
    chance = Random(28)
    mean_s = CALLS / (share * REQUESTS / 60.0)
    starts, now = [], 0.0
    while now < HOURS * 3600.0:
        now += chance.expovariate(1 / mean_s)
        starts.append(now)
    return starts


def _over(burst: int, jump_s: float) -> int:
    """Requests over the contract in the worst minute, under full load, when the clock jumps once by so much too far."""
    limit = RateLimit(REQUESTS, burst=burst)
    margin_s = limit.window_s - limit.period
    worst = 0
    for jump_after in range(1, REQUESTS + 1, 7):
        ledger = Ledger([limit])
        sent: list[float] = []
        now = jumped_s = 0.0
        while len(sent) < 3 * REQUESTS:
            token = ledger.reserve(now + jumped_s)
            if isinstance(token, Token):
                ledger.settle(token, now + jumped_s)
                sent.append(now)
                if len(sent) == jump_after:
                    jumped_s = jump_s + margin_s
            else:
                now = token - jumped_s
        worst = max(worst, peak(sent, limit.period) - REQUESTS)
    return worst


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def measure() -> dict[str, Any]:
    found = {}
    for burst in BURSTS:
        found[str(burst)] = {
            "idle_s": max(_waits(burst, [0.0])),
            "p95_s": [_quantile(_waits(burst, _poisson(share)), 0.95) for share in SHARES_OF_USE],
            "over": [_over(burst, jump_s) for jump_s in JUMPS_S],
        }
    return {"machine": report.machine(), "bursts": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    default = str(RateLimit(REQUESTS).burst_size)
    rows = [
        (
            f"**{burst}**, the default" if burst == default else burst,
            f"{found['idle_s']:.2f} s",
            *(f"{wait_s:.1f} s" for wait_s in found["p95_s"]),
            *found["over"],
        )
        for burst, found in results["bursts"].items()
    ]
    head = (
        f"burst, at {REQUESTS} a minute",
        f"{CALLS} calls on an idle contract: the last waits",
        *(f"p95 at {share:.0%} use" for share in SHARES_OF_USE),
        *(f"over by, clock wrong by {jump_s:g} s" for jump_s in JUMPS_S),
    )
    return {"bursts": report.table(head, rows)}


if __name__ == "__main__":
    print(tables(measure())["bursts"])
