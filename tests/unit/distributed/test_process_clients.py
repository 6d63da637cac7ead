"""One thread, one loop and one client for all that is fetched in a process, through forks and to its end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from engagement_async import BearerCredentials, EngagementClient, LocalScheduler, RateLimit, UsageError
from engagement_async._core.rate_limit import Ledger
from engagement_async._engine.scheduler import LaneScheduler
from engagement_async.distributed.process_clients import ClientRecipe, ClientThread, client_thread
from engagement_async.distributed.references import Reference
from engagement_async.emulator import Emulator
from tests.support.pages import ROOT

CLOSED: list[str] = []


class ClosingScheduler(LaneScheduler):
    def __init__(self) -> None:
        super().__init__(Ledger([RateLimit(1)]))

    def __reduce__(self) -> tuple[object, ...]:
        return ClosingScheduler, ()

    def close(self) -> None:
        CLOSED.append("close")


class AsyncClosingScheduler(LaneScheduler):
    def __init__(self) -> None:
        super().__init__(Ledger([RateLimit(1)]))

    def __reduce__(self) -> tuple[object, ...]:
        return AsyncClosingScheduler, ()

    async def aclose(self) -> None:
        CLOSED.append("aclose")


def recipe(scheduler: object, credentials: object = None, token: str = "token") -> ClientRecipe:
    credentials = credentials or BearerCredentials("token")
    return ClientRecipe(token, Reference("credentials", credentials, ""), Reference("scheduler", scheduler, ""), {})


@pytest.fixture
def thread() -> Iterator[ClientThread]:
    thread = ClientThread()
    thread.start()
    yield thread
    thread.end()
    assert not thread.is_alive()


async def test_the_thread_begins_without_blocking_a_loop() -> None:
    thread = ClientThread()
    thread.start()

    assert await asyncio.wrap_future(thread.submit(asyncio.sleep(0, "run"))) == "run"
    await asyncio.to_thread(thread.end)


async def opened(thread: ClientThread, made_of: ClientRecipe) -> EngagementClient:
    async with thread.client(made_of) as client:
        return client


def test_calls_of_all_threads_share_one_client(thread: ClientThread) -> None:
    made_of = recipe(ClosingScheduler())
    futures: list[Future[EngagementClient]] = []
    callers = [
        threading.Thread(target=lambda: futures.append(thread.submit(opened(thread, made_of)))) for _ in range(20)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert len({id(future.result()) for future in futures}) == 1


@pytest.mark.parametrize(
    ("scheduler", "closed"),
    [
        (ClosingScheduler(), ["close"]),
        (AsyncClosingScheduler(), ["aclose"]),
        (LocalScheduler(RateLimit(1)), []),
    ],
)
def test_closing_closes_what_was_made_here_once_calls_have_ended(
    thread: ClientThread, scheduler: object, closed: list[str]
) -> None:
    CLOSED.clear()
    made_of = recipe(scheduler)
    order: list[str] = []

    async def close() -> None:
        began, may_end = asyncio.Event(), asyncio.Event()

        async def call() -> None:
            async with thread.client(made_of) as client:
                began.set()
                await may_end.wait()
                client.status()  # it is open still
                order.append("call")

        running = asyncio.create_task(call())
        await began.wait()
        closing = asyncio.create_task(thread.close("token"))
        await asyncio.sleep(0)
        may_end.set()
        await closing
        order.append("closed")
        await running

    thread.submit(close()).result()

    assert order == ["call", "closed"]
    assert closed == CLOSED
    thread.submit(thread.close("token")).result()  # nothing is open


def test_a_client_that_cannot_be_made_is_tried_anew(thread: ClientThread) -> None:
    secrets: list[BearerCredentials] = []

    def credentials() -> BearerCredentials:
        return secrets[0]

    made_of = recipe(LocalScheduler(RateLimit(1)), credentials)
    with pytest.raises(IndexError):
        thread.submit(opened(thread, made_of)).result()
    secrets.append(BearerCredentials("token"))

    assert isinstance(thread.submit(opened(thread, made_of)).result(), EngagementClient)


def test_closing_while_the_client_is_made_waits_for_the_call_and_closes_it(thread: ClientThread) -> None:
    CLOSED.clear()
    is_asked, may_answer = threading.Event(), threading.Event()

    def slow_vault() -> BearerCredentials:
        is_asked.set()
        may_answer.wait()
        return BearerCredentials("token")

    call = thread.submit(opened(thread, recipe(ClosingScheduler(), slow_vault)))
    is_asked.wait()
    closing = thread.submit(thread.close("token"))
    thread.submit(asyncio.sleep(0)).result()
    may_answer.set()

    assert isinstance(call.result(), EngagementClient)
    closing.result()
    assert CLOSED == ["close"]


@pytest.mark.parametrize("is_made", [True, False])
def test_a_call_that_is_cancelled_while_the_client_is_made_leaves_nothing(thread: ClientThread, is_made: bool) -> None:
    CLOSED.clear()
    is_asked, may_answer = threading.Event(), threading.Event()

    def slow_vault() -> BearerCredentials:
        is_asked.set()
        may_answer.wait()
        if not is_made:
            raise OSError("no vault")
        return BearerCredentials("token")

    made_of = recipe(ClosingScheduler(), slow_vault)
    call = thread.submit(opened(thread, made_of))
    is_asked.wait()
    call.cancel()
    thread.submit(asyncio.sleep(0)).result()
    closing = thread.submit(thread.close("token"))
    may_answer.set()

    closing.result()
    assert (["close"] if is_made else []) == CLOSED


def test_an_error_of_a_call_that_is_gone_is_not_the_next_one_s(thread: ClientThread) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()
    secrets: list[BearerCredentials] = []

    def vault() -> BearerCredentials:
        is_asked.set()
        may_answer.wait()
        return secrets[0]

    made_of = recipe(LocalScheduler(RateLimit(1)), vault)

    async def first_opening() -> None:
        await asyncio.wait([thread._entries["token"].opening])

    call = thread.submit(opened(thread, made_of))
    is_asked.wait()
    call.cancel()
    opening = thread.submit(first_opening())
    may_answer.set()
    opening.result()
    secrets.append(BearerCredentials("token"))

    assert isinstance(thread.submit(opened(thread, made_of)).result(), EngagementClient)


def local_scheduler() -> LocalScheduler:
    return LocalScheduler(RateLimit(300))


def test_a_contract_that_each_process_would_spend_for_itself_is_refused(thread: ClientThread) -> None:
    with pytest.raises(UsageError, match="each process would spend the contract for itself"):
        thread.submit(opened(thread, recipe(local_scheduler))).result()


def test_nothing_is_run_after_the_end() -> None:
    thread = ClientThread()
    thread.start()
    thread.end()

    async def nothing() -> None: ...

    with pytest.raises(UsageError, match="process is ending"):
        thread.submit(nothing())
    thread.end()


def test_there_is_one_thread_a_process() -> None:
    threads: list[Any] = []
    callers = [threading.Thread(target=lambda: threads.append(client_thread())) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert len(set(threads)) == 1
    assert threads[0].daemon


PROCESSES = """
import multiprocessing, os, sys, threading, warnings
import pyarrow as pa
from engagement_async import *
from engagement_async.distributed import MachineScheduler

warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # it is, on purpose
QUERY = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})
IDS = pa.table({"id": [1070059276213702656 + n for n in range(600)]})

def fetch(fetcher, expected):
    assert fetcher(IDS).num_rows == expected, "another number of rows"
    assert sum(t.name == "engagement-clients" for t in threading.enumerate()) == 1

if __name__ == "__main__":
    fetcher = ArrowFetcher(
        QUERY,
        credentials=EnvironmentCredentials(),
        scheduler=MachineScheduler(RateLimit(100_000), contract="processes", state_dir=sys.argv[1]),
        base_url=os.environ["ENGAGEMENT_BASE_URL"],
    )
    expected = fetcher(IDS).num_rows  # the loop runs before the fork
    for method in ("fork", "spawn", "fork"):
        children = [multiprocessing.get_context(method).Process(target=fetch, args=(fetcher, expected)) for _ in range(2)]
        for child in children:
            child.start()
        fetch(fetcher, expected)
        for child in children:
            child.join()
            assert child.exitcode == 0, (method, child.exitcode)
    fetch(fetcher, expected)
    print("all the same", expected)
"""


def test_forked_and_spawned_processes_have_threads_of_their_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "processes.py"
    program.write_text(PROCESSES)
    with Emulator(None) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True)

        assert "all the same" in done.stdout, done.stderr
        assert done.stderr == ""
        assert not emulator.log.refusals
