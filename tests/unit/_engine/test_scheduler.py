"""Who waits and who is granted, under virtual time: order, lanes, cancellation, holds, and the cost of a crowd."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import LocalScheduler, RateLimit, Scheduler, UsageError
from engagement_async._core.rate_limit import Token
from engagement_async._engine.scheduler import Lane
from tests.contract_suite import SchedulerContract
from tests.support.virtual_loop import run_virtual
from tests.unit._core.test_rate_limit import peak


class TestLocal(SchedulerContract):
    @asynccontextmanager
    async def contract(self, *limits: RateLimit) -> AsyncIterator[Callable[[], Scheduler]]:
        scheduler = LocalScheduler(limits)
        yield lambda: scheduler


def test_waiters_are_granted_first_in_first_out() -> None:
    order: list[int] = []

    async def ask(scheduler: LocalScheduler, lane: Lane, number: int) -> None:
        token = await scheduler.acquire(lane)
        order.append(number)
        scheduler.settle(token)

    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(7, period=1))
        lane = scheduler.lane()
        await asyncio.gather(*(ask(scheduler, lane, number) for number in range(100)))

    run_virtual(main())

    assert order == list(range(100))


def test_retries_go_before_first_attempts_of_their_lane() -> None:
    order: list[str] = []

    async def ask(scheduler: LocalScheduler, lane: Lane, name: str, retry: bool) -> None:
        scheduler.settle(await scheduler.acquire(lane, retry=retry))
        order.append(name)

    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(1, period=1))
        lane = scheduler.lane()
        scheduler.settle(await scheduler.acquire(lane))
        asks = [("first", False), ("second", False), ("retry", True)]
        await asyncio.gather(*(ask(scheduler, lane, name, retry) for name, retry in asks))

    run_virtual(main())

    assert order == ["retry", "first", "second"]


def test_a_small_call_is_not_stuck_behind_a_large_one() -> None:
    order: list[str] = []

    async def ask(scheduler: LocalScheduler, lane: Lane, name: str) -> None:
        scheduler.settle(await scheduler.acquire(lane))
        order.append(name)

    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(2, period=1))
        large, small = scheduler.lane(), scheduler.lane()
        crowd = [asyncio.create_task(ask(scheduler, large, "large")) for _ in range(200)]
        await asyncio.sleep(10)
        before = len(order)
        await asyncio.gather(*(ask(scheduler, small, "small") for _ in range(5)))
        assert Counter(order[before:])["large"] <= 6
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)

    run_virtual(main())

    assert order.count("small") == 5


def test_lanes_share_by_weight() -> None:
    granted: Counter[str] = Counter()

    async def take(scheduler: LocalScheduler, lane: Lane, name: str) -> None:
        while True:
            scheduler.settle(await scheduler.acquire(lane))
            granted[name] += 1

    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(10, period=1))
        heavy, light = scheduler.lane(weight=3), scheduler.lane(weight=1)
        takers = [
            asyncio.create_task(take(scheduler, lane, name))
            for lane, name in [(heavy, "heavy"), (light, "light")]
            for _ in range(8)
        ]
        await asyncio.sleep(200)
        for taker in takers:
            taker.cancel()
        await asyncio.gather(*takers, return_exceptions=True)

    run_virtual(main())

    assert granted["heavy"] / granted["light"] == pytest.approx(3, rel=0.02)


def test_an_endpoint_at_its_own_limit_does_not_block_the_others() -> None:
    async def main() -> float:
        scheduler = LocalScheduler([RateLimit(100, period=1), RateLimit(1, period=1000, endpoint="28hr")])
        slow, quick = scheduler.lane("28hr"), scheduler.lane("totals")
        scheduler.settle(await scheduler.acquire(slow))
        stuck = asyncio.create_task(scheduler.acquire(slow))
        await asyncio.sleep(0)
        for _ in range(50):
            scheduler.settle(await scheduler.acquire(quick))
        at = asyncio.get_running_loop().time()
        stuck.cancel()
        return at

    assert run_virtual(main()) < 1.0


def test_a_token_that_comes_back_sooner_than_the_timer_is_not_slept_through() -> None:
    async def main() -> float:
        scheduler = LocalScheduler(RateLimit(2, period=60))
        lane = scheduler.lane()
        aborted, good = await scheduler.acquire(lane), await scheduler.acquire(lane)
        scheduler.abandon(aborted, within_s=60)  # back after the window and the quarantine
        waiter = asyncio.create_task(scheduler.acquire(lane))
        await asyncio.sleep(1)
        scheduler.settle(good)  # back after the window
        await waiter
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(1 + RateLimit(2).window_s)


def test_another_endpoint_s_timer_is_not_slept_through() -> None:
    async def main() -> float:
        scheduler = LocalScheduler([RateLimit(1, 1, "totals"), RateLimit(1, 60, "28hr")])
        quick, slow = scheduler.lane("totals"), scheduler.lane("28hr")
        first = await scheduler.acquire(quick)
        scheduler.settle(await scheduler.acquire(slow))
        waiting = [asyncio.create_task(scheduler.acquire(lane)) for lane in (quick, slow)]
        await asyncio.sleep(0.2)
        scheduler.settle(first)
        await waiting[0]
        at = asyncio.get_running_loop().time()
        waiting[1].cancel()
        return at

    assert run_virtual(main()) == pytest.approx(0.2 + RateLimit(1, 1).window_s)


def test_a_lane_that_its_own_limit_held_up_does_not_date_a_newcomer() -> None:
    granted: Counter[str] = Counter()

    async def take(scheduler: LocalScheduler, lane: Lane, name: str) -> None:
        while True:
            token = await scheduler.acquire(lane)
            granted[name] += 1
            await asyncio.sleep(0.01)
            scheduler.settle(token)

    async def main() -> None:
        scheduler = LocalScheduler([RateLimit(600, 1), RateLimit(1, 10, "28hr")])
        takers = [asyncio.create_task(take(scheduler, scheduler.lane("28hr"), "slow"))]
        old, new = scheduler.lane("totals"), scheduler.lane("totals")
        takers += [asyncio.create_task(take(scheduler, old, "old")) for _ in range(64)]
        await asyncio.sleep(25)
        slow = granted["slow"]
        while granted["slow"] == slow:
            await asyncio.sleep(0.001)
        granted.clear()
        takers += [asyncio.create_task(take(scheduler, new, "new")) for _ in range(64)]
        await asyncio.sleep(5)
        for taker in takers:
            taker.cancel()
        await asyncio.gather(*takers, return_exceptions=True)

    run_virtual(main())

    assert granted["old"] == pytest.approx(granted["new"], rel=0.05)


def test_cancelled_at_the_moment_of_its_grant_gives_the_token_back() -> None:
    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(1, period=10))
        lane = scheduler.lane()
        held = await scheduler.acquire(lane)
        waiter = asyncio.create_task(scheduler.acquire(lane))
        await asyncio.sleep(0)
        scheduler.refund(held)  # grants it to the waiter...
        waiter.cancel()  # ...which is cancelled before it wakes
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert scheduler.available(RateLimit(1, period=10)) == 1

    run_virtual(main())


@given(st.integers(0, 2**32))
def test_cancelled_at_any_moment_loses_no_token_and_mints_none(seed: int) -> None:
    """100 runs of 100 cancellations by default: 10,000 in all."""
    chance = random.Random(seed)
    limit = RateLimit(chance.randint(1, 5), period=1)
    sent: list[float] = []

    async def ask(scheduler: LocalScheduler, lane: Lane) -> None:
        token: Token = await scheduler.acquire(lane)
        sent.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(chance.choice([0, 0.05, 0.5]))
        except asyncio.CancelledError:
            scheduler.abandon(token, within_s=1.0)
            raise
        scheduler.settle(token)

    async def main() -> None:
        scheduler = LocalScheduler(limit)
        lane = scheduler.lane()
        tasks = [asyncio.create_task(ask(scheduler, lane)) for _ in range(130)]
        for _ in range(100):
            for _ in range(chance.choice([0, 0, 1, 3])):
                await asyncio.sleep(chance.choice([0, 0, 0.01, 0.2]))
            chance.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(1 + limit.window_s)
        assert scheduler.available(limit) == limit.requests
        assert scheduler.waiting_s == 0.0

    run_virtual(main())

    assert peak(sent, limit.period) <= limit.requests


def test_a_hold_is_one_for_all_and_ends_paced() -> None:
    """200 workers wait for the same reset: no storm follows it."""
    sent: list[float] = []

    async def ask(scheduler: LocalScheduler, lane: Lane) -> None:
        token = await scheduler.acquire(lane)
        sent.append(asyncio.get_running_loop().time())
        scheduler.settle(token)

    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(60_000))
        lane = scheduler.lane()
        scheduler.hold(30.0)
        tasks = [asyncio.create_task(ask(scheduler, lane)) for _ in range(200)]
        await asyncio.sleep(1)
        assert scheduler.held_s == 29.0
        assert scheduler.waiting_s == pytest.approx(29.0)
        await asyncio.gather(*tasks)

    run_virtual(main())

    assert sent[0] == pytest.approx(30.0)
    assert peak(sent, 0.1) <= 15


def test_a_crowd_leaves_one_timer_behind() -> None:
    async def main() -> None:
        scheduler = LocalScheduler(RateLimit(1, period=60))
        lane = scheduler.lane()
        tasks = [asyncio.create_task(scheduler.acquire(lane)) for _ in range(1_000)]
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert len(timers) <= 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_of_nonsense_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        LocalScheduler(RateLimit(1)).lane(weight=weight)


@pytest.mark.parametrize("endpoints", [["totals"], ["totals", "28hr", "historical"]])
def test_ten_thousand_lanes_cost_a_grant_no_more_than_a_hundred(endpoints: list[str]) -> None:
    """Counted: how often a lane is looked at."""

    class CountedLane(Lane):
        __slots__ = ()
        looks = 0

        def first(self) -> asyncio.Future[Token] | None:
            CountedLane.looks += 1
            return super().first()

    async def looks(lanes: int) -> float:
        scheduler = LocalScheduler([RateLimit(10), RateLimit(1, endpoint="28hr"), RateLimit(5, period=0.2)])
        waiting = [
            asyncio.create_task(scheduler.acquire(CountedLane(endpoints[number % len(endpoints)])))
            for number in range(lanes)
        ]
        await asyncio.sleep(0)
        CountedLane.looks = granted = 0
        for _ in range(80):
            await asyncio.sleep(5)
            for task in waiting:
                if task.done() and not task.cancelled():
                    scheduler.settle(task.result())
            granted = sum(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert granted >= 60
        return CountedLane.looks / granted

    assert run_virtual(looks(10_000)) <= 1.1 * run_virtual(looks(100))


def left_behind(scheduler: LocalScheduler, *, close: bool, settles: bool = True) -> asyncio.AbstractEventLoop:
    """Stop a loop in the middle of three calls, and perhaps close it, without cancelling anything."""
    loop = asyncio.new_event_loop()

    async def call() -> None:
        token = await scheduler.acquire(scheduler.lane())
        if settles:
            scheduler.settle(token)
        else:
            await asyncio.Event().wait()

    async def leave() -> None:
        tasks.extend(asyncio.create_task(call()) for _ in range(3))
        await asyncio.sleep(0.01)

    tasks: list[asyncio.Task[None]] = []
    loop.run_until_complete(leave())
    loop.tasks = tasks  # type: ignore[attr-defined]
    if close:
        loop.close()
    return loop


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """No warning about tasks that were destroyed."""
    for task in loop.tasks:  # type: ignore[attr-defined]
        task._log_destroy_pending = False
        if not loop.is_closed():
            task.cancel()
    if not loop.is_closed():
        loop.run_until_complete(asyncio.gather(*loop.tasks, return_exceptions=True))  # type: ignore[attr-defined]
        loop.close()


@pytest.mark.parametrize("settles", [True, False])
def test_waiters_and_tokens_of_a_closed_loop_are_given_back(settles: bool) -> None:
    limit = RateLimit(2, period=0.05)
    scheduler = LocalScheduler(limit, quarantine_s=0.05)
    dead = left_behind(scheduler, close=True, settles=settles)

    async def call() -> None:
        for _ in range(6):
            async with asyncio.timeout(10):
                scheduler.settle(await scheduler.acquire(scheduler.lane()))
        await asyncio.sleep(limit.window_s)
        assert scheduler.available(limit) == 2

    asyncio.run(call())
    asyncio.run(call())

    finish(dead)


def test_waiters_of_a_stopped_loop_are_an_error_that_says_so() -> None:
    scheduler = LocalScheduler(RateLimit(2, period=0.2))
    stopped = left_behind(scheduler, close=False)

    async def call() -> None:
        await scheduler.acquire(scheduler.lane())

    with pytest.raises(UsageError, match="stopped and not closed"):
        asyncio.run(call())

    finish(stopped)


def test_a_second_running_loop_is_an_error_at_once() -> None:
    scheduler = LocalScheduler(RateLimit(2, period=60))
    errors: list[BaseException] = []

    async def other() -> None:
        await scheduler.acquire(scheduler.lane())

    def thread() -> None:
        try:
            asyncio.run(other())
        except UsageError as error:
            errors.append(error)

    async def main() -> None:
        lane = scheduler.lane()
        scheduler.settle(await scheduler.acquire(lane))
        await asyncio.to_thread(thread)
        scheduler.settle(await scheduler.acquire(lane))

    asyncio.run(main())

    assert len(errors) == 1
    assert "one loop at a time" in str(errors[0])


def test_time_goes_on_in_a_loop_with_a_clock_of_its_own() -> None:
    limit = RateLimit(2, period=10)
    scheduler = LocalScheduler(limit)

    async def call() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(100)
        began_at = loop.time()
        for _ in range(2):
            scheduler.settle(await scheduler.acquire(scheduler.lane()))
        return loop.time() - began_at

    async def call_at_once() -> float:
        scheduler.settle(await scheduler.acquire(scheduler.lane()))
        return asyncio.get_running_loop().time()

    assert run_virtual(call()) == 0
    assert run_virtual(call_at_once()) == pytest.approx(limit.window_s)


def test_a_refund_by_a_wait_that_is_thrown_away_is_not_lost() -> None:
    """A coroutine that is closed, as the garbage collector does, is not cancelled."""

    async def main() -> None:
        limit = RateLimit(1, period=10)
        scheduler = LocalScheduler(limit)
        lane = scheduler.lane()
        held = await scheduler.acquire(lane)
        waiting = scheduler.acquire(lane)
        waiting.send(None)
        scheduler.refund(held)  # grants it to the waiter
        waiting.close()
        assert scheduler.available(limit) == 1

    run_virtual(main())
