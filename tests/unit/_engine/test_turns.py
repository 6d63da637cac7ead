from __future__ import annotations

import asyncio

from engagement_async._engine.turns import Turns


async def iterations_of(turns: Turns, count: int) -> list[int]:
    """Return in which iteration of the loop each of some tasks had its turn."""
    iteration = 0
    taken: list[int] = []

    def count_on() -> None:
        nonlocal iteration
        iteration += 1
        asyncio.get_running_loop().call_soon(count_on)

    async def work() -> None:
        await turns.take()
        taken.append(iteration)

    asyncio.get_running_loop().call_soon(count_on)
    await asyncio.gather(*(work() for _ in range(count)))
    return taken


async def test_one_task_goes_on_in_each_iteration() -> None:
    taken = await iterations_of(Turns(), 20)

    assert taken == sorted(taken)
    assert len(set(taken)) == 20


async def test_a_free_turn_is_taken_at_once() -> None:
    turns = Turns()

    for _ in range(3):
        await asyncio.wait_for(turns.take(), 5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_a_task_that_is_cancelled_leaves_its_turn_to_the_next() -> None:
    turns = Turns()
    await turns.take()
    order: list[int] = []

    async def work(number: int) -> None:
        await turns.take()
        order.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert order == [0, 2, 4]
    await asyncio.wait_for(turns.take(), 5)
