"""Functions that get progress: they may raise, be slow, or never return, and the call is as without them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest

from engagement_async import CallProgress, UsageError
from engagement_async._display.reporting import check_progress, harmless, reporting

pytestmark = pytest.mark.virtual_time


def now() -> float:
    return asyncio.get_running_loop().time()


def sample(*, is_finished: bool) -> CallProgress:
    return CallProgress(0, None, 0, now(), None, 0.0, None, is_finished=is_finished)


async def call(progress: Callable[[CallProgress], object], seconds: float = 3.0) -> float:
    """Return how long a call of so many seconds took."""
    began_at = now()
    async with reporting(progress, "totals", sample):
        await asyncio.sleep(seconds)
    return now() - began_at


async def test_a_function_is_called_now_and_then_and_at_the_end() -> None:
    seen: list[CallProgress] = []

    assert await call(seen.append) == 3.0

    assert [each.elapsed_s for each in seen] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert [each.is_finished for each in seen] == [False] * 6 + [True]


async def test_an_async_function_is_awaited_one_call_at_a_time_and_delays_nothing() -> None:
    begun: list[float] = []
    ended: list[float] = []

    async def slow(progress: CallProgress) -> None:
        begun.append(progress.elapsed_s)
        await asyncio.sleep(0.2)
        ended.append(now())

    assert await call(slow, seconds=9) == pytest.approx(9.2)  # the last one is waited for

    assert begun == pytest.approx([0, 2, 4, 6, 8, 9])
    assert ended == pytest.approx([0.2, 2.2, 4.2, 6.2, 8.2, 9.2])


async def test_one_that_never_returns_is_cancelled_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[CallProgress] = []

    async def never(progress: CallProgress) -> None:
        calls.append(progress)
        await asyncio.Event().wait()

    assert await call(never) == 8.0

    assert len(calls) == 1
    (record,) = caplog.records
    assert "still at work 5 s after the call" in record.getMessage()


async def test_one_that_raises_is_called_no_more_and_the_call_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[CallProgress] = []

    def bad(progress: CallProgress) -> None:
        calls.append(progress)
        if len(calls) == 2:
            raise ValueError("mine")

    assert await call(bad) == 3.0

    assert len(calls) == 2
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "mine"


async def test_of_a_call_that_fails_nothing_more_is_said() -> None:
    seen: list[CallProgress] = []

    async def failing() -> None:
        async with reporting(seen.append, "totals", sample):
            await asyncio.sleep(1.2)
            raise KeyError

    with pytest.raises(KeyError):
        await failing()

    assert [each.is_finished for each in seen] == [False] * 3


async def test_a_cancelled_call_cancels_an_async_function() -> None:
    was_cancelled = False

    async def slow(_: CallProgress) -> None:
        nonlocal was_cancelled
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            was_cancelled = True
            raise

    task = asyncio.create_task(call(slow))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert was_cancelled
    assert now() == 1.0


async def test_a_call_can_be_cancelled_while_its_end_is_shown() -> None:
    async def slow(progress: CallProgress) -> None:
        if progress.is_finished:
            await asyncio.sleep(4)

    task = asyncio.create_task(call(slow, seconds=1))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert now() == 2.0  # and no task is left, as all tests are held to


async def test_a_cancelled_function_does_not_cancel_the_call() -> None:
    async def cancelled(_: CallProgress) -> None:
        raise asyncio.CancelledError

    assert await call(cancelled) == 3.0


async def test_two_calls_at_once_are_told_apart() -> None:
    ones: list[CallProgress] = []
    twos: list[CallProgress] = []

    await asyncio.gather(call(ones.append, 1.0), call(twos.append, 2.0))

    assert (ones[-1].elapsed_s, twos[-1].elapsed_s) == (1.0, 2.0)


async def test_a_plain_function_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def bad(value: int) -> None:
        seen.append(value)
        raise ValueError

    call = harmless(bad)
    call(1)
    call(2)

    assert seen == [1]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("progress", [True, False, print, [].append, str, dict, lambda now, also=3: None])
async def test_what_progress_may_be(progress: object) -> None:
    check_progress(progress)


@pytest.mark.parametrize("progress", [None, 1, "rich"])
async def test_what_progress_is_not(progress: object) -> None:
    with pytest.raises(
        UsageError, match=f"progress is True, or a function that takes a CallProgress, not {progress!r}"
    ):
        check_progress(progress)


CANARY = "a-secret-of-a-partial"


class _Yielding:
    async def __call__(self, now: CallProgress) -> AsyncIterator[None]:
        yield None

    def method(self, now: CallProgress) -> Iterator[None]:
        yield None


async def _yielding(now: CallProgress) -> AsyncIterator[None]:
    yield None


@pytest.mark.parametrize("progress", [_yielding, partial(_yielding), _Yielding(), _Yielding().method])
async def test_a_generator_would_never_be_run(progress: object) -> None:
    with pytest.raises(UsageError, match="give a function without yield"):
        check_progress(progress)


def _of_two(now: object, more: object) -> None:
    pass


@pytest.mark.parametrize(
    ("progress", "says"),
    [
        (lambda: None, r"<lambda> takes \(\)"),
        (_of_two, r"_of_two takes \(now, more\)"),
        (list.append, r"list.append takes \(self, object, /\)"),
        (_Yielding, r"_Yielding takes \(\)"),
        (partial(_of_two, now=CANARY), r"a partial takes \(\*, now, more\)"),
        (partial(_of_two, CANARY, CANARY), r"a partial takes \(\)"),
    ],
)
async def test_a_function_of_no_or_of_several_arguments_is_refused(progress: object, says: str) -> None:
    with pytest.raises(UsageError, match=f"{says}: give a function of one argument") as refused:
        check_progress(progress)
    assert CANARY not in str(refused.value)
