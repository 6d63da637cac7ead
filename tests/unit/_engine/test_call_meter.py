"""How far a call is, by the batches that are taken and the answers that come, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest

from engagement_async import Answer, Batch, TweetsByOwner, UsageError, WaitReason
from engagement_async._engine.call_meter import CallMeter, size_of


class Status(NamedTuple):
    waiting_s: float = 0.0
    waiting_for: WaitReason | None = None
    trouble: str | None = None


class Stream(NamedTuple):
    waits_for_contract: bool


BATCHES = [Batch(0, ("1", "2", "3")), Batch(1, ("4",))]


def answers(*_: Answer) -> None:
    pass


def test_the_eta_is_by_the_rate_so_far() -> None:
    clock = iter([10.0, 10.0, 12.0, 13.0]).__next__
    meter = CallMeter(8, Status, clock)
    add = meter.counting(answers)

    before = meter.progress(is_finished=False)
    assert (before.ids_done, before.ids_total, before.eta_s) == (0, 8, None)

    add(Answer(0, ("1", "2"), requests=3))
    now = meter.progress(is_finished=False)
    assert (now.ids_done, now.requests, now.elapsed_s, now.eta_s) == (2, 3, 2.0, 6.0)

    add(Answer(1, ("3", "4"), requests=1))
    end = meter.progress(is_finished=True)
    assert (end.ids_done, end.ids_total, end.requests, end.eta_s, end.is_finished) == (4, 4, 4, 0.0, True)


def test_how_many_there_are_is_known_once_all_are_read() -> None:
    meter = CallMeter(None, Status, lambda: 0.0)
    counted = meter.counted(iter(BATCHES))
    assert isinstance(counted, Iterator)

    assert next(counted) == BATCHES[0]
    assert meter.progress(is_finished=False).ids_total is None
    assert list(counted) == BATCHES[1:]
    assert meter.progress(is_finished=False).ids_total == 4


async def test_an_async_source_is_counted_and_closed() -> None:
    is_closed = False

    async def batches() -> AsyncIterator[Batch]:
        nonlocal is_closed
        try:
            for batch in BATCHES:
                yield batch
        finally:
            is_closed = True

    meter = CallMeter(None, Status, lambda: 0.0)
    counted: Any = meter.counted(batches())
    assert await anext(counted) == BATCHES[0]
    await counted.aclose()

    assert is_closed
    assert meter.progress(is_finished=False).ids_total is None
    again = CallMeter(7, Status, lambda: 0.0)
    assert [batch async for batch in again.counted(batches())] == BATCHES  # type: ignore[union-attr]
    assert again.progress(is_finished=False).ids_total == 4


@pytest.mark.parametrize(
    ("status", "stream", "waiting_s", "reason"),
    [
        (Status(7, WaitReason.CONTRACT), None, 7, WaitReason.CONTRACT),
        (Status(7, WaitReason.CONTRACT), Stream(True), 7, WaitReason.CONTRACT),
        (Status(7, WaitReason.CONTRACT), Stream(False), 0, None),  # another call waits
        (Status(7, WaitReason.RATE_LIMITED), Stream(False), 7, WaitReason.RATE_LIMITED),
        (Status(0, WaitReason.OUTAGE, "HTTP 500"), Stream(False), 0, WaitReason.OUTAGE),
    ],
)
def test_what_this_call_waits_for(status: Status, stream: Any, waiting_s: float, reason: WaitReason | None) -> None:
    meter = CallMeter(8, lambda: status, lambda: 0.0)
    meter.stream = stream

    now = meter.progress(is_finished=False)

    assert (now.waiting_s, now.waiting_for, now.trouble) == (waiting_s, reason, status.trouble)
    assert meter.progress(is_finished=True).waiting_for is None


def test_a_client_that_was_closed_waits_for_nothing() -> None:
    def closed() -> Status:
        raise UsageError("the client is not open")

    assert CallMeter(8, closed, lambda: 0.0).progress(is_finished=False).waiting_for is None


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (["1", "2", "2"], 3),
        (range(9), 9),
        ({"1": "one", "2": "two"}, 2),  # the keys are the IDs
        ({"ann": ["1", "2"], "bob": ["3"]}, 3),
        ({"ann": ["1", "2"], "bob": iter(["3"])}, None),
        (TweetsByOwner({"ann": ["1", "2"]}), 2),
        ([("ann", "1"), ("bob", "2")], 2),
        (iter(["1"]), None),
        ((i for i in "12"), None),
    ],
)
def test_how_many_were_given(given: object, size: int | None) -> None:
    assert size_of(given) == size
