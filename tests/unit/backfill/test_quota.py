"""What of the contract a killed run may have spent, the next run does not spend again: under virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import LocalScheduler, RateLimit
from engagement_async.backfill.clocks import Instant
from engagement_async.backfill.quota import DurableScheduler
from tests.support.virtual_loop import run_virtual

LIMIT = RateLimit(20, period=10)


class World:
    """A server that counts arrivals, and a machine whose wall clock may be set and which may start anew."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.wall_is_ahead_s = 0.0
        self.boots = 0
        self.booted_at = 0.0

    def now(self) -> Instant:
        """Return this moment by the machine's clocks."""
        at = asyncio.get_running_loop().time()
        return Instant(f"boot {self.boots}", at - self.booted_at, at + self.wall_is_ahead_s)

    def reboot(self) -> None:
        """Start the machine anew."""
        self.boots += 1
        self.booted_at = asyncio.get_running_loop().time()

    def peak(self) -> int:
        """Return the most arrivals in any window."""
        return max((sum(at <= other < at + LIMIT.period for other in self.arrivals) for at in self.arrivals), default=0)


async def life(
    world: World, record: dict[str, Any] | None, lives_s: float, commit_s: float = 0.01
) -> dict[str, Any] | None:
    """One run that is killed after a while; return the last record that its journal took."""
    loop = asyncio.get_running_loop()
    kept = record
    wanted = asyncio.Event()
    inner = LocalScheduler(LIMIT)
    quota = DurableScheduler(
        inner, grant_ahead=8, request_checkpoint=wanted.set, on_budget_exhausted=lambda: None, clock=world.now
    )
    inner.count_earlier(quota.restore(record))

    async def keep() -> None:
        nonlocal kept
        while True:
            found, mark = quota.checkpoint()
            await asyncio.sleep(commit_s)  # what the disk takes
            kept = found
            quota.acknowledge(mark)
            await wanted.wait()
            wanted.clear()

    async def work() -> None:
        lane = quota.lane()
        while True:
            token = await quota.acquire(lane)
            await asyncio.sleep(0.03)
            world.arrivals.append(loop.time())
            await asyncio.sleep(0.05)
            quota.settle(token)

    tasks = [asyncio.create_task(coroutine()) for coroutine in (keep, work, work, work, work)]
    await asyncio.sleep(lives_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return kept


@given(
    lives=st.lists(
        st.tuples(st.floats(0, 15), st.floats(0, 12), st.sampled_from([0.0, -3600.0, -7.0, 7.0, 3600.0])),
        min_size=1,
        max_size=6,
    ),
    commit_s=st.floats(0.001, 0.5),
)
@settings(max_examples=40)
def test_no_series_of_kills_exceeds_the_contract(lives: list[tuple[float, float, float]], commit_s: float) -> None:
    """Whoever sets the wall clock meanwhile."""
    world = World()

    async def main() -> None:
        record: dict[str, Any] | None = None
        for lives_s, dead_s, step_s in lives:
            record = await life(world, record, lives_s, commit_s)
            await asyncio.sleep(dead_s)
            world.wall_is_ahead_s += step_s

    run_virtual(main())

    assert world.peak() <= LIMIT.requests


@pytest.mark.parametrize("step_s", [0.0, -3600.0])
def test_a_machine_that_starts_anew_neither_exceeds_the_contract_nor_stalls(step_s: float) -> None:
    world = World()

    async def main() -> None:
        record = await life(world, None, 5.0)
        world.wall_is_ahead_s += step_s
        world.reboot()
        before = len(world.arrivals)
        await life(world, record, 2 * LIMIT.window_s)
        assert len(world.arrivals) - before >= LIMIT.requests

    run_virtual(main())

    assert world.peak() <= LIMIT.requests


def test_a_run_that_is_killed_more_often_than_once_a_window_gets_its_turn() -> None:
    world = World()

    async def main() -> None:
        record: dict[str, Any] | None = None
        for _ in range(40):
            record = await life(world, record, 0.7 * LIMIT.period)

    run_virtual(main())

    # A kill costs what was allowed for and not sent, 8 of 20, for one window.
    assert len(world.arrivals) > 40 * 0.7 * LIMIT.requests / 4
    assert world.peak() <= LIMIT.requests


def test_after_a_pause_of_a_window_all_of_the_contract_is_there_again() -> None:
    world = World()

    async def main() -> None:
        record = await life(world, None, 30.0)
        await asyncio.sleep(LIMIT.window_s)
        before = len(world.arrivals)
        await life(world, record, LIMIT.window_s + 1)
        # What was unknown at the kill counts from the next start on: what was allowed for, and what was out.
        assert LIMIT.requests - 8 - 4 <= len(world.arrivals) - before <= 2 * LIMIT.requests

    run_virtual(main())


def scheduler(**options: Any) -> DurableScheduler:
    given = {"grant_ahead": 8, "request_checkpoint": lambda: None, "on_budget_exhausted": lambda: None, **options}
    return DurableScheduler(LocalScheduler(LIMIT), **given)


def test_nothing_is_granted_before_the_journal_knows_of_it() -> None:
    async def main() -> None:
        wanted: list[int] = []
        quota = scheduler(request_checkpoint=lambda: wanted.append(1))
        assert quota.checkpoint()[0]["unknown"] == 0  # a run that asks for nothing leaves nothing unknown
        lane = quota.lane()
        waiting = [asyncio.create_task(quota.acquire(lane)) for _ in range(12)]
        assert not (await asyncio.wait(waiting, timeout=60))[0]
        assert wanted

        found, mark = quota.checkpoint()
        assert found["unknown"] == 8
        quota.acknowledge(mark)
        done, _ = await asyncio.wait(waiting, timeout=60)
        assert len(done) == 8

        found, mark = quota.checkpoint()
        assert found["unknown"] == 8 + 8
        quota.acknowledge(mark)
        assert len((await asyncio.wait(waiting, timeout=60))[0]) == 12
        quota.close()
        assert quota.checkpoint()[0]["unknown"] == 12  # closed: nothing but what is out is unknown

    run_virtual(main())


def test_who_waits_for_the_contract_leaves_nothing_unknown() -> None:
    """However often a run is killed before its first grant, the next one has no more to wait for."""

    async def main() -> None:
        world = World()
        quota = scheduler(clock=world.now)
        inner = quota._inner
        assert isinstance(inner, LocalScheduler)
        record = {"process": "another", "at": {"boot_id": "boot 0", "boot_s": 0.0, "wall_s": 0.0}}
        inner.count_earlier(quota.restore({**record, "unknown": 20, "answered": []}))
        waiting = asyncio.create_task(quota.acquire(quota.lane()))
        await asyncio.sleep(4)
        found = quota.checkpoint()[0]

        assert found["unknown"] == 0
        assert found["answered"] == [[4.0, 20]]
        waiting.cancel()

    run_virtual(main())


def test_a_budget_is_kept_and_told() -> None:
    async def main() -> None:
        exhausted: list[int] = []
        quota = scheduler(max_requests=2, on_budget_exhausted=lambda: exhausted.append(1))
        lane = quota.lane()
        first = asyncio.create_task(quota.acquire(lane))
        await asyncio.sleep(0)
        quota.acknowledge(quota.checkpoint()[1])
        quota.refund(await first)
        tokens = [await quota.acquire(lane), await quota.acquire(lane)]
        assert (quota.requests, exhausted) == (2, [1])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(quota.acquire(lane), 60)

        quota.settle(tokens[0])
        quota.abandon(tokens[0], within_s=5)  # as the engine does after headers and a broken body: it counts once
        quota.abandon(tokens[1], within_s=5)
        assert sum(count for _, count in quota.checkpoint()[0]["answered"]) == 2

    run_virtual(main())


def test_the_journal_knows_which_ledger_knows_what_it_knows() -> None:
    async def main() -> None:
        record = scheduler(ledger_name=lambda: "one").checkpoint()[0] | {"unknown": 5}
        assert scheduler().restore(None) == []
        again = scheduler(ledger_name=lambda: "one")
        assert (again.restore(record), again.known_by) == ([0.0] * 5, "one")
        assert again.checkpoint()[0]["answered"] == [[0.0, 5]]  # it may be killed, and a third run be another process

        name = ""
        other = scheduler(ledger_name=lambda: name)
        other.restore(record)
        assert other.checkpoint()[0]["process"] == "one"  # as long as no other ledger has taken it over
        name = "other"
        assert other.checkpoint()[0]["process"] == "other"

        nameless = scheduler()
        nameless.restore(record)
        waiting = asyncio.create_task(nameless.acquire(nameless.lane()))
        await asyncio.sleep(0)
        assert nameless.checkpoint()[0]["process"] == ""  # which granted something
        waiting.cancel()

    run_virtual(main())


def test_a_ledger_does_not_count_what_it_knows() -> None:
    async def main() -> None:
        inner = LocalScheduler(LIMIT)
        inner.count_earlier([0.0] * 5, known_by=inner.ledger_name)
        assert inner.available(LIMIT) == 20
        inner.count_earlier([0.0] * 5, known_by=LocalScheduler(LIMIT).ledger_name)
        inner.count_earlier([0.0] * 2)
        assert inner.available(LIMIT) == 13

    run_virtual(main())
