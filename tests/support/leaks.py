"""Finds what a case left behind: tasks, open file descriptors, unclosed sessions, errors that nobody took."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["assert_no_tasks", "collect_loop_errors", "nothing_left"]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Around whole event loops: raises `AssertionError` when a descriptor stays open, or anything was left unclosed.

    The descriptors are those of /proc, where there is one. Warnings of any kind count, and so does what only `__del__`
    noticed.
    """
    unraisable: list[str] = []
    gc.collect()
    before = _descriptors()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda found: unraisable.append(
        f"{found.err_msg or ''} {found.exc_value!r} in {found.object!r}"
    )
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
    left = _others(before)
    if left:  # perhaps a thread of an earlier case looks at a file at this moment, as a client of `ArrowFetcher` does
        time.sleep(0.2)
        left = {number: name for number, name in _others(before).items() if left.get(number) == name}
    found = [*(str(warning.message) for warning in warned), *unraisable, *(f"open: {name}" for name in left.values())]
    assert not found, f"left behind: {'; '.join(found)[:1000]}"


async def assert_no_tasks() -> None:
    """At the end of a coroutine that was a loop's main: raises `AssertionError` when other tasks are still there."""
    for _ in range(10):  # a transport that was closed says goodbye in the next turns of the loop
        await asyncio.sleep(0)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not others, f"tasks left behind: {others!r}"[:1000]


def collect_loop_errors(into: list[str]) -> None:
    """From now on, errors that the running loop could give to nobody are put into that list."""

    def take(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = str(context.get("message"))
        if not message.startswith("Error on transport creation for incoming connection"):  # a server's, in debug mode
            into.append(f"{message}: {context.get('exception')!r}")

    asyncio.get_running_loop().set_exception_handler(take)


def _others(before: Mapping[int, str]) -> dict[int, str]:
    """Return the open descriptors that were not open before."""
    return {number: name for number, name in _descriptors().items() if before.get(number) != name}


def _descriptors() -> dict[int, str]:
    """Return number and target of each open descriptor."""
    found: dict[int, str] = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:  # not Linux
        return found
    for number in numbers:
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found
