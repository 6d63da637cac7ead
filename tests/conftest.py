"""What every test shares: virtual time, no blocking call in a loop, nothing left behind, how hard hypothesis looks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

import engagement_async
from engagement_async._engine.contracts import forget_contracts
from tests.support.leaks import assert_no_tasks, collect_loop_errors
from tests.support.virtual_loop import VirtualLoop

# What commands remember of a contract belongs to no user.
_STATE_DIR = tempfile.TemporaryDirectory(prefix="engagement-state-", ignore_cleanup_errors=True)
os.environ["ENGAGEMENT_STATE_DIR"] = _STATE_DIR.name

# Who starts the tests with nohup, or in the background of a script, has them ignore signals. Commands under test would
# inherit that, and wait for ever for the signals that tests send them.
for _number, _default in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

# Machines that run tests are shared and noisy: an example has no deadline. The same examples each time: a test run judges
# the change, and `make nightly` goes on looking, much harder and at random.
settings.register_profile(
    "usual", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", parent=settings.get_profile("usual"), derandomize=False, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop of a test: one that jumps to the next timer where the test is marked `virtual_time`."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True, scope="session")
def no_blocking_call_in_a_loop() -> Iterator[BlockBuster]:
    """Raise `BlockingError` from every call that the package makes and that would block a running event loop.

    What the tests themselves read and write is their own affair: only stacks with a frame of the package count. One
    exception: an import reads its files once in a process, and what it imports may read more (pandas, a time zone). And a
    loop that is closed joins the thread that ends its executor; of uvloop's no frame says so.
    """
    with blockbuster_ctx(engagement_async) as blockbuster:
        for function in blockbuster.functions.values():
            function.can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
        blockbuster.functions["threading.Lock.acquire"].can_block_in("asyncio/runners.py", {"close"})
        yield blockbuster


@pytest.fixture(autouse=True)
def _fresh_contracts() -> Iterator[None]:
    """As in a new process: clients of one process share what they spent of a contract."""
    yield
    forget_contracts()


@pytest.fixture(autouse=True)
def nothing_left_on_the_loop(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task, or an error that nobody took."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_left_on_the_loop")


@pytest.fixture
async def _left_on_the_loop() -> AsyncIterator[None]:
    errors: list[str] = []
    collect_loop_errors(errors)
    yield
    await assert_no_tasks()
    assert not errors


@pytest.fixture(autouse=True, scope="module")
def nothing_left_in_cycles() -> Iterator[None]:
    """Have what a module's tests left unclosed found at the module's end, and not in a stranger's test."""
    yield
    gc.collect()
