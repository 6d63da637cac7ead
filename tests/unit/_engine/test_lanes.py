"""Whose turn it is: among calls, and among the owners of a call."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import LocalScheduler, RateLimit, UsageError
from engagement_async._engine.lanes import Lane, LaneQueue, Turns

pytestmark = pytest.mark.virtual_time


async def order_of(lanes: dict[str, tuple[Lane, int]]) -> list[str]:
    """Return in which order so many waiters of each lane are granted a token, one a second."""
    scheduler = LocalScheduler(RateLimit(1, period=1.0))
    scheduler.settle(await scheduler.acquire(scheduler.lane()))
    order: list[str] = []

    async def wait(name: str, lane: Lane) -> None:
        token = await scheduler.acquire(lane)
        order.append(name)
        scheduler.settle(token)

    await asyncio.gather(*(wait(name, lane) for name, (lane, waiters) in lanes.items() for _ in range(waiters)))
    return order


async def test_an_owner_with_very_much_starves_nobody() -> None:
    call = Lane("28hr")
    owners = {f"small {number}": (call.sublane(), 1) for number in range(999)}

    order = await order_of({"large": (call.sublane(), 4_000), **owners})

    assert max(order.index(name) for name in owners) < 1_100
    assert Counter(order) == {"large": 4_000, **dict.fromkeys(owners, 1)}


async def test_owners_of_one_call_get_no_more_than_one_of_another() -> None:
    call = Lane()

    order = await order_of({"other": (Lane(), 50), **{f"owner {n}": (call.sublane(), 1) for n in range(200)}})

    assert 49 <= order[:100].count("other") <= 50


async def test_owners_have_weights() -> None:
    call = Lane()

    order = await order_of({"heavy": (call.sublane(weight=3), 90), "light": (call.sublane(), 90)})

    assert 74 <= order[:100].count("heavy") <= 76
    with pytest.raises(UsageError, match="weight"):
        call.sublane(weight=0)


async def test_an_owner_that_comes_late_waits_for_its_turn_and_no_longer() -> None:
    """It has no credit for the time in which it asked for nothing."""
    call = Lane()
    queue = LaneQueue(Turns())
    early, late = call.sublane(), call.sublane()
    for _ in range(20):
        put(queue, early)
    for _ in range(10):
        taken(queue)
    for _ in range(10):
        put(queue, late)

    assert [taken(queue) is late for _ in range(8)] == [True, False] * 4 or [False, True] * 4


async def test_the_requests_of_an_owner_come_in_order_and_retries_first() -> None:
    call = Lane()
    owner, other = call.sublane(), call.sublane()
    queue = LaneQueue(Turns())
    first, second = put(queue, owner), put(queue, owner)
    retry = put(queue, owner, retry=True)
    alone = put(queue, other)

    assert [queue.take() for _ in range(4) if queue.first()] == [retry, alone, first, second]
    assert not queue


async def test_who_is_cancelled_is_not_in_the_way_and_all_can_be_forgotten() -> None:
    call = Lane()
    lanes = [call.sublane() for _ in range(10)]
    queue = LaneQueue(Turns())
    waiters = [put(queue, lane) for lane in lanes for _ in range(3)]
    assert queue.count(7) == 7
    assert queue.count(1_000) == 30
    for waiter in waiters[:29]:
        waiter.cancel()

    assert queue.first() is call
    assert call.first() is waiters[29]
    assert queue.count(1_000) == 1
    assert list(queue.clear())[-1] is waiters[29]
    assert queue.first() is None
    assert not any(lane.is_queued for lane in (call, *lanes))
    put(queue, lanes[0])
    assert queue.take().done() is False


async def test_a_scheduler_fails_and_counts_who_waits_for_owners() -> None:
    scheduler = LocalScheduler(RateLimit(1))
    call = scheduler.lane("28hr")
    await scheduler.acquire(call)
    waiting = [asyncio.create_task(scheduler.acquire(call.sublane())) for _ in range(5)]
    await asyncio.sleep(0)

    assert scheduler.count_waiting(3) == {"28hr": 3}
    assert scheduler.count_waiting(64) == {"28hr": 5}
    scheduler.fail_waiting(UsageError("closed"))
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, UsageError)
    assert scheduler.count_waiting(64) == {}


def put(queue: LaneQueue, lane: Lane, *, retry: bool = False) -> asyncio.Future[Any]:
    """Have somebody wait in a lane, as the scheduler does."""
    waiter = asyncio.get_running_loop().create_future()
    waiter.lane = lane  # type: ignore[attr-defined]
    (lane.retries if retry else lane.waiters).append(waiter)
    while lane.parent is not None and lane.parent.sublanes is not None:
        lane.parent.sublanes.add(lane)
        lane = lane.parent
    queue.add(lane)
    return waiter


def taken(queue: LaneQueue) -> Lane:
    assert queue.first()
    lane: Lane = queue.take().lane  # type: ignore[attr-defined]
    return lane


class Reference:
    """Stride scheduling by the book: one flat list, looked through each time."""

    def __init__(self, weights: list[float]) -> None:
        self.strides = [1 / weight for weight in weights]
        self.passes = [0.0] * len(weights)
        self.since: list[int | None] = [None] * len(weights)
        self.waiting = [0] * len(weights)
        self.virtual_time = 0.0
        self.numbers = count()

    def put(self, lane: int) -> None:
        if not self.waiting[lane]:
            self.passes[lane] = max(self.passes[lane], self.virtual_time)
            self.since[lane] = next(self.numbers)
        self.waiting[lane] += 1

    def take(self) -> int:
        lane = min(
            (n for n, waiting in enumerate(self.waiting) if waiting), key=lambda n: (self.passes[n], self.since[n])
        )
        self.virtual_time = max(self.virtual_time, self.passes[lane])
        self.passes[lane] += self.strides[lane]
        self.waiting[lane] -= 1
        self.since[lane] = next(self.numbers)
        return lane


@given(
    st.lists(st.sampled_from([0.5, 1.0, 1.0, 2.0, 3.0]), min_size=1, max_size=8),
    st.lists(st.integers(0, 7) | st.none(), max_size=80),
)
def test_turns_are_those_of_stride_scheduling(weights: list[float], steps: list[int | None]) -> None:
    async def main() -> None:
        call = Lane()
        lanes = [call.sublane(weight=weight) for weight in weights]
        queue, reference = LaneQueue(Turns()), Reference(weights)
        for step in steps:
            if step is not None:
                put(queue, lanes[step % len(lanes)])
                reference.put(step % len(lanes))
            elif queue.first():
                assert lanes.index(taken(queue)) == reference.take()
        assert queue.count(1_000) == sum(reference.waiting)

    asyncio.run(main())
