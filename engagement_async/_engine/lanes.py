"""Lanes: whose turn it is, among calls and among the owners within a call.

Each call waits in a lane of its own: lanes share the contract by weight (stride scheduling,
https://en.wikipedia.org/wiki/Stride_scheduling), so a small call is not stuck behind a large one. A lane may have sublanes,
one an owner of Tweets: they share what their lane is granted in the same way, so that ten thousand owners of one call get
no more of the contract than one of another, and an owner with a million Tweets starves nobody. Within a lane retries go
first, and the rest first in, first out. Lanes lie in heaps: ten thousand cost an acquire no more than one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Any

from engagement_async.errors import UsageError

__all__ = ["Lane", "LaneQueue", "Turns"]

Waiter = asyncio.Future[Any]


class Lane:
    """Where the requests of one call wait for their turn, or those of one owner within it."""

    __slots__ = ("endpoint", "is_queued", "parent", "pass_value", "retries", "stride", "sublanes", "waiters")

    def __init__(self, endpoint: str | None = None, *, weight: float = 1.0, parent: Lane | None = None) -> None:
        if not weight > 0:
            raise UsageError(f"a lane's weight is a number above 0, not {weight!r}")
        self.endpoint = endpoint
        self.parent = parent
        self.stride = 1.0 / weight
        self.pass_value = 0.0
        self.is_queued = False
        self.retries: deque[Waiter] = deque()
        self.waiters: deque[Waiter] = deque()
        self.sublanes: LaneQueue | None = None

    def sublane(self, *, weight: float = 1.0) -> Lane:
        """Return a lane within this one, for one owner; one of `weight` 2 is granted twice as much as one of 1 beside it."""
        if self.sublanes is None:
            self.sublanes = LaneQueue(Turns())
        return Lane(self.endpoint, weight=weight, parent=self)

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits here, not even somebody who was cancelled."""
        return not (self.retries or self.waiters or self.sublanes)

    def first(self) -> Waiter | None:
        """Return whose turn it is in this lane; drop waiters that were cancelled meanwhile."""
        for queue in (self.retries, self.waiters):
            while queue:
                if not queue[0].done():
                    return queue[0]
                queue.popleft()
        lane = self.sublanes.first() if self.sublanes else None
        return lane.first() if lane else None

    def take(self) -> Waiter:
        """Take out whose turn it is, as `first` found it."""
        queue = self.retries or self.waiters
        return self.sublanes.take() if self.sublanes and not queue else queue.popleft()

    def count(self, at_most: int) -> int:
        """Return how many wait here; from `at_most` on it is not counted further."""
        waiting = len(self.retries) + len(self.waiters)
        if self.sublanes and waiting < at_most:
            waiting += self.sublanes.count(at_most - waiting)
        return min(waiting, at_most)

    def clear(self) -> Iterator[Waiter]:
        """Forget all waiters; yield each."""
        yield from self.retries
        yield from self.waiters
        self.retries.clear()
        self.waiters.clear()
        self.is_queued = False
        if self.sublanes:
            yield from self.sublanes.clear()


class Turns:
    """What queues have in common whose lanes take turns with each other."""

    __slots__ = ("numbers", "virtual_time")

    def __init__(self) -> None:
        self.numbers = count()
        self.virtual_time = 0.0


class LaneQueue:
    """Lanes in which somebody waits, by turn."""

    __slots__ = ("_heap", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._heap: list[tuple[float, int, Lane]] = []
        self._turns = turns

    def __bool__(self) -> bool:
        """Return whether lanes are in it, be it with waiters that were cancelled."""
        return bool(self._heap)

    def add(self, lane: Lane) -> None:
        """Add a lane in which somebody waits, unless it is there."""
        if not lane.is_queued:
            lane.pass_value = max(lane.pass_value, self._turns.virtual_time)  # an idle lane earns no credit
            lane.is_queued = True
            heappush(self._heap, (lane.pass_value, next(self._turns.numbers), lane))

    def first(self) -> Lane | None:
        """Return the lane whose turn it is, with somebody who waits in it."""
        heap = self._heap
        while heap:
            lane = heap[0][2]
            if lane.first() is not None:
                return lane
            heappop(heap)
            lane.is_queued = False
        return None

    @property
    def turn(self) -> tuple[float, int]:
        """What tells which of several queues is next: the pass value of the first lane, and how long it has waited."""
        return self._heap[0][:2]

    def take(self) -> Waiter:
        """Take out whose turn it is, as `first` found it; the lane pays for it."""
        lane = self._heap[0][2]
        waiter = lane.take()
        # Virtual time is monotonic: a lane that was delayed by its own limit cannot push new lanes back.
        self._turns.virtual_time = max(self._turns.virtual_time, lane.pass_value)
        lane.pass_value += lane.stride
        if lane.is_empty:
            heappop(self._heap)
            lane.is_queued = False
        else:
            heapreplace(self._heap, (lane.pass_value, next(self._turns.numbers), lane))
        return waiter

    def count(self, at_most: int) -> int:
        """Return how many wait in all lanes; from `at_most` on it is not counted further."""
        waiting = 0
        for _, _, lane in self._heap:
            waiting += lane.count(at_most - waiting)
            if waiting >= at_most:
                break
        return waiting

    def clear(self) -> Iterator[Waiter]:
        """Forget all waiters; yield each."""
        for _, _, lane in self._heap:
            yield from lane.clear()
        self._heap.clear()
