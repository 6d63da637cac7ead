"""Decoding is spread over iterations of the event loop: at most a budget in each, first in, first out."""

from __future__ import annotations

import asyncio

import pytest

from engagement_async._engine.decode_budget import DecodeBudget


async def decode(budget: DecodeBudget, size: int, name: int, log: list[int]) -> None:
    if budget.is_spent:
        await budget.wait()
    budget.spend(size)
    log.append(name)


async def counts_of_iterations(log: list[int], tasks: list[asyncio.Task[None]]) -> list[int]:
    """Return how many tasks were done in each iteration of the loop, those without any left out."""
    counts, before = [], 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        if len(log) > before:
            counts.append(len(log) - before)
            before = len(log)
    return counts


@pytest.mark.parametrize(
    ("size", "at_most"), [(DecodeBudget.BYTES // 4, 4), (DecodeBudget.BYTES, 1), (10**9, 1), (1, 16)]
)
async def test_no_iteration_decodes_more_than_the_budget_and_all_are_done_in_order(size: int, at_most: int) -> None:
    budget, log = DecodeBudget(), list[int]()
    tasks = [asyncio.create_task(decode(budget, size, name, log)) for name in range(16)]

    counts = await counts_of_iterations(log, tasks)

    assert log == list(range(16))
    assert max(counts) <= at_most
    assert len(counts) <= 16 // at_most + 1, "iterations without a decode between them"


async def test_what_arrives_later_queues_behind_those_that_wait() -> None:
    budget, log = DecodeBudget(), list[int]()
    tasks = [asyncio.create_task(decode(budget, DecodeBudget.BYTES, name, log)) for name in range(3)]
    while not log:
        await asyncio.sleep(0)

    tasks.append(asyncio.create_task(decode(budget, 1, 3, log)))
    await asyncio.gather(*tasks)

    assert log == [0, 1, 2, 3]


async def test_one_that_was_cancelled_keeps_nobody_waiting() -> None:
    budget, log = DecodeBudget(), list[int]()
    tasks = [asyncio.create_task(decode(budget, DecodeBudget.BYTES, name, log)) for name in range(6)]
    while not log:
        await asyncio.sleep(0)

    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert log == [0, 3, 4, 5]


async def test_the_budget_is_new_in_a_later_iteration() -> None:
    budget = DecodeBudget()
    budget.spend(DecodeBudget.BYTES)
    assert budget.is_spent

    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not budget.is_spent


async def test_an_empty_body_counts_too() -> None:
    budget, log = DecodeBudget(), list[int]()
    budget.spend(DecodeBudget.BYTES)
    tasks = [asyncio.create_task(decode(budget, 0, name, log)) for name in range(3)]

    await asyncio.gather(*tasks)

    assert log == [0, 1, 2]
