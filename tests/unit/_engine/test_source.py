from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engagement_async import Batch, EngagementError
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
