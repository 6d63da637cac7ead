"""What every scheduler must do: the tests that the local, the machine-wide and the Redis scheduler pass alike.

For whoever writes another one: derive a class whose name begins with `Test`, and say how schedulers of one contract are
made. pytest (with pytest-asyncio in its auto mode) does the rest::

    class TestMine(SchedulerContract):
        @asynccontextmanager
        async def contract(self, *limits):
            yield lambda: MyScheduler(limits)

Schedulers that one `contract` makes spend the same contract, as those of different processes do; where that is not what a
scheduler is for, it makes the same one each time. Everything happens in real time, with short periods. Nothing asserts how
fast something is: a busy machine fails no test.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from engagement_async import RateLimit, Scheduler, UsageError

__all__ = ["SchedulerContract", "peak"]

PATIENCE_S = 90.0


def peak(instants: list[float], period: float) -> int:
    """Return the most instants in any half-open window of that length, whatever its alignment."""
    ordered = sorted(instants)
    return max((bisect_left(ordered, at + period) - index for index, at in enumerate(ordered)), default=0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come to pass."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


class SchedulerContract:
    """Derive from it, and override `contract`."""

    @asynccontextmanager
    async def contract(self, *limits: RateLimit) -> AsyncIterator[Callable[[], Scheduler]]:
        """Yield what makes schedulers of one contract that nobody has spent yet."""
        raise NotImplementedError
        yield

    # --- the rule ---

    @pytest.mark.parametrize("seed", range(4))
    async def test_no_window_sees_more_than_the_contract(self, seed: int) -> None:
        """Greedy callers of three schedulers, with every latency, abort, refund and cancellation."""
        chance = random.Random(seed)
        limits = (RateLimit(chance.randint(5, 20), period=0.4), RateLimit(3, period=0.1, endpoint="28hr"))
        arrivals: dict[str, list[float]] = {"totals": [], "28hr": []}

        async def call(scheduler: Scheduler, endpoint: str) -> None:
            lane = scheduler.lane(endpoint)
            token = await scheduler.acquire(lane, retry=chance.random() < 0.2)
            fate = chance.random()
            if fate < 0.1:
                scheduler.refund(token)
                return
            await asyncio.sleep(chance.choice([0, 0.01, 0.1]) * chance.random())
            if fate < 0.2:
                aborted_at = time.monotonic()
                scheduler.abandon(token, within_s=0.1)
                await asyncio.sleep(0.1 * chance.random())
                if (arrived_at := time.monotonic()) <= aborted_at + 0.1:
                    arrivals[endpoint].append(arrived_at)
                return
            arrivals[endpoint].append(time.monotonic())
            await asyncio.sleep(chance.choice([0, 0.01, 0.1]) * chance.random())
            scheduler.settle(token)

        async with self.contract(*limits) as new, asyncio.timeout(PATIENCE_S):
            schedulers = [new() for _ in range(3)]
            calls = [
                asyncio.create_task(call(chance.choice(schedulers), chance.choice(["totals", "28hr"])))
                for _ in range(60)
            ]
            for victim in chance.sample(calls, 12):
                await asyncio.sleep(0.02 * chance.random())
                victim.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

        assert not [call for call in calls if not call.cancelled() and call.exception()]
        assert peak(arrivals["totals"] + arrivals["28hr"], 0.4) <= limits[0].requests
        assert peak(arrivals["28hr"], 0.1) <= 3

    async def test_every_token_comes_back(self) -> None:
        limit = RateLimit(6, period=0.2, burst=6)
        chance = random.Random(7)

        async def call(scheduler: Scheduler) -> None:
            token = await scheduler.acquire(scheduler.lane())
            try:
                await asyncio.sleep(0.05 * chance.random())
            except asyncio.CancelledError:
                scheduler.abandon(token, within_s=0.05)
                raise
            if chance.random() < 0.5:
                scheduler.settle(token)
            else:
                scheduler.refund(token)

        async with self.contract(limit) as new:
            schedulers = [new(), new()]
            calls = [asyncio.create_task(call(chance.choice(schedulers))) for _ in range(60)]
            for victim in chance.sample(calls, 30):
                await asyncio.sleep(chance.choice([0, 0, 0.01]))
                victim.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

            await until(lambda: all(scheduler.available(limit) == 6 for scheduler in schedulers))
            tokens = [await schedulers[0].acquire(schedulers[0].lane()) for _ in range(6)]
            for token in tokens:
                schedulers[0].refund(token)

    async def test_a_token_goes_back_once(self) -> None:
        limit = RateLimit(3, period=60, burst=3)
        async with self.contract(limit) as new:
            scheduler = new()
            lane = scheduler.lane()
            settled, abandoned, refunded = [await scheduler.acquire(lane) for _ in range(3)]
            for _ in range(2):
                scheduler.settle(settled)
                scheduler.refund(settled)
                scheduler.abandon(abandoned, within_s=1.0)
                scheduler.refund(abandoned)
                scheduler.refund(refunded)
                scheduler.settle(refunded)

            await until(lambda: scheduler.available(limit) == 1)
            await asyncio.sleep(0.05)
            assert scheduler.available(limit) == 1

    async def test_an_aborted_request_counts_for_as_long_as_it_may_arrive(self) -> None:
        async with self.contract(RateLimit(1, period=0.1)) as new:
            scheduler = new()
            lane = scheduler.lane()
            token = await scheduler.acquire(lane)
            aborted_at = time.monotonic()
            scheduler.abandon(token, within_s=0.5)

            async with asyncio.timeout(PATIENCE_S):
                await scheduler.acquire(lane)

            assert time.monotonic() - aborted_at >= 0.6

    async def test_several_limits_are_granted_all_or_none(self) -> None:
        minute, second = RateLimit(5, period=60, burst=5), RateLimit(2, period=60, endpoint="28hr", burst=2)
        async with self.contract(minute, second) as new:
            scheduler = new()
            assert scheduler.limits == (minute, second)
            narrow, wide = scheduler.lane("28hr"), scheduler.lane("totals")
            for _ in range(2):
                await scheduler.acquire(narrow)
            waiting = asyncio.create_task(scheduler.acquire(narrow))
            await asyncio.sleep(0.05)

            assert not waiting.done()
            await until(lambda: [scheduler.available(limit) for limit in (minute, second)] == [3, 0])
            await asyncio.wait_for(scheduler.acquire(wide), PATIENCE_S)
            waiting.cancel()

    async def test_a_limit_of_another_endpoint_does_not_concern_a_request(self) -> None:
        async with self.contract(RateLimit(100, period=0.2), RateLimit(1, period=60, endpoint="28hr")) as new:
            scheduler = new()
            slow, quick = scheduler.lane("28hr"), scheduler.lane("totals")
            scheduler.settle(await scheduler.acquire(slow))
            stuck = asyncio.create_task(scheduler.acquire(slow))
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(150):
                    scheduler.settle(await scheduler.acquire(quick))

            assert not stuck.done()
            stuck.cancel()

    async def test_what_is_available_is_told(self) -> None:
        limit = RateLimit(4, period=60, burst=4)
        async with self.contract(limit) as new:
            scheduler = new()
            token = await scheduler.acquire(scheduler.lane())

            await until(lambda: scheduler.available(limit) == 3)
            assert scheduler.available(limit, since=token) <= 3

    # --- who is next ---

    async def test_first_in_first_out_and_retries_first(self) -> None:
        order: list[str] = []

        async def call(name: str, retry: bool) -> None:
            token = await scheduler.acquire(lane, retry=retry)
            order.append(name)
            scheduler.settle(token)

        async with self.contract(RateLimit(1, period=0.05)) as new, asyncio.timeout(PATIENCE_S):
            scheduler = new()
            lane = scheduler.lane()
            token = await scheduler.acquire(lane)
            calls = [asyncio.create_task(call(name, name.startswith("retry"))) for name in ("a", "b", "retry", "c")]
            await asyncio.sleep(0.01)
            scheduler.settle(token)
            await asyncio.gather(*calls)

        assert order == ["retry", "a", "b", "c"]

    async def test_lanes_share_by_weight(self) -> None:
        granted: Counter[str] = Counter()

        async def take(name: str, lane: Any) -> None:
            while granted.total() < 80:
                token = await scheduler.acquire(lane)
                granted[name] += 1
                scheduler.settle(token)

        async with self.contract(RateLimit(20, period=0.1, burst=1)) as new, asyncio.timeout(PATIENCE_S):
            scheduler = new()
            lanes = {"heavy": scheduler.lane(weight=3), "light": scheduler.lane()}
            await asyncio.gather(*(take(name, lane) for name, lane in lanes.items() for _ in range(4)))

        assert 52 <= granted["heavy"] <= 66

    async def test_a_weight_of_nonsense_is_refused(self) -> None:
        async with self.contract(RateLimit(1)) as new:
            with pytest.raises(UsageError, match="weight"):
                new().lane(weight=0)

    async def test_cancelled_at_the_moment_of_its_grant_gives_the_token_back(self) -> None:
        limit = RateLimit(1, period=60)
        async with self.contract(limit) as new:
            scheduler = new()
            lane = scheduler.lane()
            held = await scheduler.acquire(lane)
            waiting = asyncio.create_task(scheduler.acquire(lane))
            await asyncio.sleep(0.02)
            scheduler.refund(held)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            if not waiting.cancelled():
                scheduler.refund(waiting.result())

            await until(lambda: scheduler.available(limit) == 1)

    async def test_a_crowd_that_is_cancelled_leaves_nothing_behind(self) -> None:
        limit = RateLimit(2, period=0.1)
        async with self.contract(limit) as new:
            scheduler = new()
            lane = scheduler.lane()
            crowd = [asyncio.create_task(scheduler.acquire(lane)) for _ in range(500)]
            await asyncio.sleep(0.01)
            for task in crowd:
                task.cancel()
            for token in await asyncio.gather(*crowd, return_exceptions=True):
                if not isinstance(token, BaseException):
                    scheduler.refund(token)

            await until(lambda: scheduler.available(limit) == 2)
            await until(lambda: scheduler.waiting_s == 0.0)

    async def test_another_thread_is_served_or_refused_at_once(self) -> None:
        """And this one goes on."""
        async with self.contract(RateLimit(5, period=60, burst=5)) as new, asyncio.timeout(PATIENCE_S):
            scheduler = new()

            async def spend() -> None:
                scheduler.settle(await scheduler.acquire(scheduler.lane()))

            await spend()
            with suppress(UsageError):
                await asyncio.to_thread(asyncio.run, spend())
            await spend()

    # --- what the server says ---

    async def test_a_hold_is_one_for_all(self) -> None:
        granted: list[float] = []

        async def call(scheduler: Scheduler) -> None:
            token = await scheduler.acquire(scheduler.lane())
            granted.append(time.monotonic())
            scheduler.settle(token)

        async with self.contract(RateLimit(1_000, period=1.0)) as new, asyncio.timeout(PATIENCE_S):
            schedulers = [new(), new()]
            for scheduler in schedulers:
                await call(scheduler)
            granted.clear()
            began_at = time.monotonic()
            schedulers[0].hold(0.5)
            await until(lambda: all(scheduler.held_s > 0 for scheduler in schedulers))
            schedulers[1].hold(0.1)  # a later word that is shorter changes nothing
            await asyncio.gather(*(call(scheduler) for scheduler in schedulers for _ in range(20)))
            await until(lambda: all(scheduler.held_s == 0 for scheduler in schedulers))

        # At most 15 in a tenth of a second; on a machine that stands still meanwhile they come later, and then together.
        assert all(at >= began_at + 0.5 + 0.1 * (n // 15) for n, at in enumerate(sorted(granted)))

    @pytest.mark.parametrize("word", [1, 0, -1])
    async def test_the_server_s_word_caps_what_is_left(self, word: int) -> None:
        limit = RateLimit(10, period=60, burst=10)
        async with self.contract(limit) as new:
            schedulers = [new(), new()]
            before = await schedulers[0].acquire(schedulers[0].lane())
            schedulers[0].cap(limit, word, 60.0)
            schedulers[0].cap(limit, 5, 60.0)  # it can only tighten
            schedulers[0].refund(before)  # which the server never counted
            await until(lambda: all(scheduler.available(limit) == max(0, word) for scheduler in schedulers))
            waiting = [asyncio.create_task(scheduler.acquire(scheduler.lane())) for scheduler in schedulers]
            await until(lambda: sum(task.done() for task in waiting) >= word)
            await asyncio.sleep(0.3)

            assert sum(task.done() for task in waiting) == max(0, word)
            for task in waiting:
                task.cancel()

    async def test_a_cap_ends(self) -> None:
        limit = RateLimit(10, period=0.2)
        async with self.contract(limit) as new, asyncio.timeout(PATIENCE_S):
            scheduler = new()
            scheduler.settle(await scheduler.acquire(scheduler.lane()))
            capped_at = time.monotonic()
            scheduler.cap(limit, 0, 0.3)
            await scheduler.acquire(scheduler.lane())

        assert time.monotonic() >= capped_at + 0.3

    async def test_waiting_is_told(self) -> None:
        async with self.contract(RateLimit(1, period=0.5)) as new, asyncio.timeout(PATIENCE_S):
            scheduler = new()
            assert scheduler.waiting_s == 0.0
            assert scheduler.held_s == 0.0
            scheduler.settle(await scheduler.acquire(scheduler.lane()))
            waiting = asyncio.create_task(scheduler.acquire(scheduler.lane()))
            await until(lambda: waiting.done() or scheduler.waiting_s > 0)
            await waiting
            assert scheduler.waiting_s == 0.0

    # --- between schedulers ---

    async def test_what_one_scheduler_spent_another_one_finds(self) -> None:
        limit = RateLimit(5, period=60, burst=5)
        async with self.contract(limit) as new:
            first, second = new(), new()
            for _ in range(3):
                first.settle(await first.acquire(first.lane()))
            await until(lambda: second.available(limit) == 2)
            tokens = [await second.acquire(second.lane()) for _ in range(2)]
            waiting = asyncio.create_task(first.acquire(first.lane()))
            await asyncio.sleep(0.1)

            assert not waiting.done()
            second.refund(tokens[0])
            await asyncio.wait_for(waiting, PATIENCE_S)

    async def test_schedulers_take_turns(self) -> None:
        """However many wait at each of them. Without turns the first one would get two; late ones lose some of theirs."""
        granted: Counter[int] = Counter()

        async def take(number: int, scheduler: Scheduler) -> None:
            lane = scheduler.lane()
            while granted.total() < 90:
                token = await scheduler.acquire(lane)
                granted[number] += 1
                await asyncio.sleep(0.002)
                scheduler.settle(token)

        async with self.contract(RateLimit(20, period=0.3, burst=1)) as new, asyncio.timeout(PATIENCE_S):
            schedulers = [new() for _ in range(3)]
            if schedulers[0] is schedulers[1]:
                pytest.skip("there is one scheduler")
            await asyncio.gather(
                *(take(number, schedulers[number]) for number, tasks in enumerate((1, 4, 40)) for _ in range(tasks))
            )

        assert min(granted[number] for number in range(3)) >= 8
