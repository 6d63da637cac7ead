"""What of the contract a killed run may have spent, the next run does not spend again: under virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import LocalScheduler, RateLimit
from engagement_async.backfill.quota import DurableScheduler
from tests.support.virtual_loop import run_virtual

LIMIT = RateLimit(20, period=10)


class Server:
    """Outcomes arrivals, and answers some time later."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []

    def peak(self) -> int:
        return max((sum(at <= other < at + LIMIT.period for other in self.arrivals) for at in self.arrivals), default=0)


async def life(server: Server, record: dict[str, Any] | None, lives_s: float, every_s: float) -> dict[str, Any] | None:
    """One run that is killed after a while; the record is the last that its journal took."""
    loop = asyncio.get_running_loop()
    kept = record
    wanted = asyncio.Event()
    spending = DurableScheduler(
        LocalScheduler(LIMIT, quarantine_s=5.0),
        grant_ahead=8,
        quarantine_s=5.0,
        request_checkpoint=wanted.set,
        on_budget_exhausted=lambda: None,
        wall_clock=loop.time,
    )

    async def keep() -> None:
        nonlocal kept
        while True:
            found, mark = spending.checkpoint()
            await asyncio.sleep(every_s)  # what the disk takes
            kept = found
            spending.acknowledge(mark)
            await wanted.wait()
            wanted.clear()

    async def work() -> None:
        lane = spending.lane()
        while True:
            token = await spending.acquire(lane)
            await asyncio.sleep(0.03)
            server.arrivals.append(loop.time())
            await asyncio.sleep(0.05)
            spending.settle(token)

    spending.restore(record, counts=True)
    kept, mark = spending.checkpoint()
    spending.acknowledge(mark)
    tasks = [asyncio.create_task(coroutine()) for coroutine in (keep, work, work, work, work)]
    await asyncio.sleep(lives_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return kept


@given(
    lives=st.lists(st.tuples(st.floats(0, 15), st.floats(0, 12)), min_size=1, max_size=6),
    every_s=st.floats(0.001, 0.5),
)
@settings(max_examples=40)
def test_no_series_of_kills_exceeds_the_contract(lives: list[tuple[float, float]], every_s: float) -> None:
    server = Server()

    async def main() -> None:
        record: dict[str, Any] | None = None
        for lives_s, dead_s in lives:
            record = await life(server, record, lives_s, every_s)
            await asyncio.sleep(dead_s)

    run_virtual(main())

    assert server.peak() <= LIMIT.requests


def test_after_a_pause_of_a_window_all_of_the_contract_is_there_again() -> None:
    server = Server()

    async def main() -> None:
        record = await life(server, None, 30.0, 0.01)
        await asyncio.sleep(LIMIT.period + 0.1)
        before = len(server.arrivals)
        await life(server, record, LIMIT.period + 1, 0.01)
        # What was unknown at the kill counts from the next start on: the allowance and what was out.
        assert LIMIT.requests - 8 - 4 <= len(server.arrivals) - before <= 2 * LIMIT.requests

    run_virtual(main())


async def scheduler(**options: Any) -> DurableScheduler:
    return DurableScheduler(
        LocalScheduler(LIMIT, quarantine_s=5.0),
        **{
            "grant_ahead": 8,
            "quarantine_s": 5.0,
            "request_checkpoint": lambda: None,
            "on_budget_exhausted": lambda: None,
            **options,
        },
    )


def test_no_more_than_the_allowance_is_granted_before_the_journal_knows() -> None:
    async def main() -> None:
        spending = await scheduler()
        lane = spending.lane()
        waiting = [asyncio.create_task(spending.acquire(lane)) for _ in range(12)]
        done, _ = await asyncio.wait(waiting, timeout=60)
        assert len(done) == 8

        found, mark = spending.checkpoint()
        assert found["unknown"] == len(done) + 8
        spending.acknowledge(mark)
        assert len((await asyncio.wait(waiting, timeout=60))[0]) == 12
        spending.close()
        assert spending.checkpoint()[0]["unknown"] == 12  # closed: nothing but what is out is unknown

    run_virtual(main())


def test_a_budget_is_kept_and_told() -> None:
    async def main() -> None:
        told: list[int] = []
        spending = await scheduler(max_requests=2, on_budget_exhausted=lambda: told.append(1))
        lane = spending.lane()
        spending.refund(await spending.acquire(lane))
        told.clear()
        tokens = [await spending.acquire(lane), await spending.acquire(lane)]
        assert (spending.requests, told) == (2, [1])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(spending.acquire(lane), 60)

        spending.settle(tokens[0])
        spending.abandon(tokens[0])  # as the engine does after headers and a broken body: it counts once
        spending.abandon(tokens[1])
        assert sum(number for _, number in spending.checkpoint()[0]["answered"]) == 2

    run_virtual(main())
