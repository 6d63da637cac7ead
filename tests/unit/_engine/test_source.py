from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engagement_async import Batch, EngagementError, UsageError
from engagement_async._core.batches import chunk
from engagement_async._core.stepped_batches import STEP_IDS
from engagement_async._engine.source import READ_AHEAD, BatchSource


def batches(count: int) -> list[Batch]:
    return [Batch(number, (str(number + 1),)) for number in range(count)]


def test_a_sync_source_is_taken_batch_by_batch() -> None:
    source = BatchSource(iter(batches(2)), lambda: None)

    assert [source.take(), source.take(), source.take(), source.take()] == [*batches(2), None, None]
    assert source.is_exhausted


def test_a_sync_source_can_be_read_ahead() -> None:
    source = BatchSource(iter(batches(READ_AHEAD + 9)), lambda: None)

    assert source.read_ahead() == batches(READ_AHEAD)
    assert source.take() == batches(READ_AHEAD + 1)[-1]


async def test_an_async_source_is_read_ahead_in_the_background() -> None:
    async def source_of(count: int) -> AsyncIterator[Batch]:
        for batch in batches(count):
            yield batch

    for count in (3, READ_AHEAD, READ_AHEAD + 9):
        ready = asyncio.Event()
        source = BatchSource(source_of(count), ready.set)
        assert source.read_ahead() is None
        while (ahead := source.read_ahead()) is None:
            ready.clear()
            await ready.wait()
        assert ahead == batches(min(count, READ_AHEAD))
        rest = []
        while not source.is_exhausted:
            ready.clear()
            if (batch := source.take()) is not None:
                rest.append(batch)
            elif not source.is_exhausted:
                await ready.wait()
        assert [*ahead, *rest] == batches(count)
        await source.aclose()


async def test_an_async_source_that_pauses_is_waited_for() -> None:
    """What is not known of it yet convicts no request."""

    async def pauses() -> AsyncIterator[Batch]:
        yield batches(1)[0]
        await asyncio.sleep(3_600)

    source = BatchSource(pauses(), lambda: None)
    assert source.read_ahead() is None
    for _ in range(5):
        await asyncio.sleep(0)

    assert source.read_ahead() is None
    assert source.take() == batches(1)[0]
    assert source.take() is None
    assert not source.is_exhausted
    await source.aclose()


async def test_an_async_source_tells_when_a_batch_is_there() -> None:
    ready = asyncio.Event()

    async def slow() -> AsyncIterator[Batch]:
        for batch in batches(2):
            await asyncio.sleep(0)
            yield batch

    source = BatchSource(slow(), ready.set)
    taken = []
    while not source.is_exhausted:
        batch = source.take()
        if batch is None and not source.is_exhausted:
            await ready.wait()
            ready.clear()
        elif batch is not None:
            taken.append(batch)

    assert taken == batches(2)
    assert source.read_ahead() == []
    await source.aclose()


async def test_closing_cancels_the_read_and_closes_the_generator() -> None:
    closed = False

    async def endless() -> AsyncIterator[Batch]:
        nonlocal closed
        try:
            await asyncio.sleep(3_600)
            yield batches(1)[0]
        finally:
            closed = True

    source = BatchSource(endless(), lambda: None)
    assert source.take() is None
    await asyncio.sleep(0)

    await source.aclose()

    assert closed


async def test_a_source_that_was_cancelled_is_an_error_not_the_end() -> None:
    ready = asyncio.Event()

    async def cancelled() -> AsyncIterator[Batch]:
        raise asyncio.CancelledError
        yield batches(1)[0]

    source = BatchSource(cancelled(), ready.set)
    source.take()
    await ready.wait()

    with pytest.raises(EngagementError, match="cancelled before its end"):
        source.take()


async def test_many_ids_are_checked_a_step_in_each_turn_of_the_loop() -> None:
    ready = asyncio.Event()
    source = BatchSource(chunk(list(map(str, range(1, 5 * STEP_IDS))), 250), ready.set)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    assert source.take() is None
    assert not source.is_exhausted
    await ready.wait()
    counting.cancel()

    assert turns >= 5
    first = source.take()
    assert first is not None
    assert first.tweet_ids[:2] == ("1", "2")
    assert len(list(source.rest())) == 5 * STEP_IDS // 250 - 1


async def test_a_bad_id_among_many_comes_out_of_take_and_nothing_before_it() -> None:
    ready = asyncio.Event()
    source = BatchSource(chunk([*map(str, range(1, 5 * STEP_IDS)), "bad"], 250), ready.set)

    assert source.take() is None
    await ready.wait()
    for _ in range(2):
        with pytest.raises(UsageError, match="no Tweet ID"):
            source.take()
    assert not source.is_exhausted
    await source.aclose()


async def test_a_check_that_is_not_over_can_be_left() -> None:
    source = BatchSource(chunk(list(map(str, range(1, 50 * STEP_IDS))), 250), lambda: None)

    assert source.take() is None
    await asyncio.sleep(0)
    await source.aclose()
