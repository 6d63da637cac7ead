"""One contract for all processes of a machine: real processes, a server that counts, kills, and files that vanish."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pwd
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engagement_async import (
    BearerCredentials,
    Credentials,
    EngagementClient,
    OAuth1Credentials,
    RateLimit,
    Scheduler,
    UsageError,
)
from engagement_async.distributed import MachineScheduler, ledger_file, machine
from engagement_async.distributed.ledger_folder import OpenFile
from engagement_async.distributed.machine import default_state_dir
from engagement_async.emulator import Emulator
from tests.contract_suite import SchedulerContract, peak, until
from tests.support.spending import CountingServer, Spender

OWNER = OAuth1Credentials("consumer", "a", "b", "c")
OTHER_OWNER = OAuth1Credentials("consumer", "a", "d", "e")


class TestMachine(SchedulerContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path
        monkeypatch.setattr(ledger_file, "JOIN_S", 0.0)  # there is nobody who might come

    @asynccontextmanager
    async def contract(self, *limits: RateLimit) -> AsyncIterator[Callable[[], Scheduler]]:
        made: list[MachineScheduler] = []

        def new() -> Scheduler:
            made.append(MachineScheduler(limits, contract="tests", state_dir=self.folder))
            return made[-1]

        yield new
        for scheduler in made:
            scheduler.close()


# --- real processes: 50 requests in 1 s ---

LIMIT = RateLimit(50, period=1.0)


class Bench:
    """A counting server, and processes that spend one contract."""

    def __init__(self, server: CountingServer, folder: Path, stack: AsyncExitStack) -> None:
        self.server = server
        self.folder = folder
        self.stack = stack

    async def start(self, name: str, **spec: Any) -> Spender:
        limits = [{"requests": LIMIT.requests, "period": LIMIT.period}]
        spender = Spender(
            name, kind="machine", state_dir=str(self.folder), limits=limits, port=self.server.port, **spec
        )
        await self.stack.enter_async_context(spender)
        await until(lambda: self.server.count()[name] > 0)
        return spender

    def check(self) -> None:
        assert peak(self.server.instants, LIMIT.period) <= LIMIT.requests


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with CountingServer() as server, AsyncExitStack() as stack:
        yield Bench(server, tmp_path, stack)


def ledger_path(folder: Path) -> Path:
    (path,) = folder.glob("contracts/*/ledger")
    return path


async def test_four_processes_share_the_contract_evenly_and_use_it(bench: Bench) -> None:
    spenders = [await bench.start(name) for name in "abcd"]
    began_at = time.monotonic()
    await until(lambda: bench.server.count(began_at).total() >= 150)
    shares = bench.server.count(began_at)
    for spender in spenders:
        await spender.result()

    bench.check()
    assert min(shares[name] for name in "abcd") >= 0.5 * shares.total() / 4


async def test_processes_that_follow_each_other_find_what_was_spent(bench: Bench) -> None:
    for name in "abcd":
        spender = await bench.start(name)
        await asyncio.sleep(0.3)
        await spender.result()

    bench.check()


async def test_processes_that_are_killed_at_any_moment_break_nothing(bench: Bench) -> None:
    """What they had out comes back, after as long as it may have arrived."""
    survivor = await bench.start("survivor", workers=2)
    for number in range(8):
        victim = await bench.start(f"victim-{number}", workers=8)
        await asyncio.sleep(0.01 * number)
        victim.kill()
    before = bench.server.count()["survivor"]
    await until(lambda: bench.server.count()["survivor"] > before + 50)
    await survivor.result()

    bench.check()


async def test_a_process_that_is_stopped_holds_nobody_up(bench: Bench) -> None:
    stopped, other = await bench.start("stopped"), await bench.start("other")
    stopped.send_signal(signal.SIGSTOP)
    before = bench.server.count()["other"]
    await until(lambda: bench.server.count()["other"] > before + 2 * LIMIT.requests)
    stopped.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.5)
    for spender in (stopped, other):
        await spender.result()

    bench.check()


async def test_files_that_are_swept_away_while_they_are_in_use(bench: Bench) -> None:
    spenders = [await bench.start(name) for name in "ab"]
    for sweep in (
        lambda: ledger_path(bench.folder).unlink(),
        lambda: shutil.rmtree(bench.folder / "contracts"),
        lambda: (bench.folder / "contracts").rename(bench.folder / "moved"),
        lambda: os.truncate(ledger_path(bench.folder), 0),
    ):
        before = bench.server.count()
        sweep()
        await until(lambda: all(bench.server.count()[name] > before[name] + 30 for name in "ab"))  # noqa: B023
    results = [await spender.result() for spender in spenders]

    bench.check()
    assert sum("was lost" in message for result in results for message in result["messages"]) >= 4


# --- one process ---


async def test_a_process_that_starts_when_the_ledger_is_gone_waits_a_window(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit(5, period=0.5)

    async def spend() -> float:
        began_at = time.monotonic()
        async with MachineScheduler(limit, contract="x", state_dir=tmp_path) as scheduler:
            scheduler.settle(await scheduler.acquire(scheduler.lane()))
        return time.monotonic() - began_at

    await spend()
    ledger_path(tmp_path).unlink()

    assert await spend() >= 0.5
    assert caplog.text.count("was lost") == 1


async def test_a_ledger_that_was_lost_long_ago_holds_nobody_up(tmp_path: Path) -> None:
    limit = RateLimit(5, period=60)
    async with MachineScheduler(limit, contract="x", state_dir=tmp_path):
        ledger_path(tmp_path).unlink()
    for path in tmp_path.glob("contracts/*/slot-*"):
        os.utime(path, (time.time() - 1_000,) * 2)

    async with MachineScheduler(limit, contract="x", state_dir=tmp_path) as scheduler, asyncio.timeout(5):
        await scheduler.acquire(scheduler.lane())


@pytest.mark.parametrize("text", [b"", b"nonsense", b"\xff" * 100_000])
async def test_a_broken_file_is_a_lost_ledger(tmp_path: Path, text: bytes) -> None:
    limit = RateLimit(5, period=0.2)
    async with MachineScheduler(limit, contract="x", state_dir=tmp_path):
        pass
    ledger_path(tmp_path).write_bytes(text)

    async with MachineScheduler(limit, contract="x", state_dir=tmp_path) as scheduler, asyncio.timeout(10):
        scheduler.settle(await scheduler.acquire(scheduler.lane()))


def test_loops_of_several_threads_share_a_contract(tmp_path: Path) -> None:
    limit = RateLimit(20, period=0.5)
    sent: list[float] = []

    def work() -> None:
        async def main() -> None:
            async with MachineScheduler(limit, contract="x", state_dir=tmp_path) as scheduler:
                lane = scheduler.lane()
                for _ in range(12):
                    token = await scheduler.acquire(lane)
                    sent.append(time.monotonic())
                    scheduler.settle(token)

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sent) == 48
    assert peak(sent, limit.period) <= limit.requests


async def test_clients_one_after_the_other_and_at_the_same_time_keep_the_contract(tmp_path: Path) -> None:
    async with Emulator(requests_per_minute=40, period=2.0, log_size=None) as emulator:
        credentials = BearerCredentials(emulator.bearer_token)

        async def report(requests: int) -> None:
            limit = RateLimit(40, period=2.0)
            async with (
                MachineScheduler(
                    limit, credentials=credentials, base_url=emulator.base_url, state_dir=tmp_path
                ) as scheduler,
                EngagementClient(credentials, scheduler=scheduler, base_url=emulator.base_url) as client,
            ):
                await client.totals(
                    [str(10**18 + n) for n in range(250 * requests)],
                    engagement_types=["favorites"],
                    groupings={"sum": ["engagement.type"]},
                )

        await report(30)
        await report(30)
        await asyncio.gather(report(15), report(15))

        assert emulator.peak() <= 40
        assert emulator.log.statuses[429] == 0


# --- which contract it is, and where it is kept ---


def folders(state_dir: Path) -> set[str]:
    return {path.name for path in state_dir.glob("contracts/*")}


async def test_a_contract_is_a_host_and_an_application_or_a_name(tmp_path: Path) -> None:
    def of(credentials: Credentials, base_url: str = "https://data-api.twitter.com") -> MachineScheduler:
        return MachineScheduler(RateLimit(1), credentials=credentials, base_url=base_url, state_dir=tmp_path)

    async with (
        of(OWNER),
        of(OTHER_OWNER),
        of(OWNER, "https://data-api.x.com"),
        of(OAuth1Credentials("another", "a", "b", "c")),
        of(BearerCredentials("consumer-token")),
    ):
        assert len(folders(tmp_path)) == 4
    for name in ("x", "x", "../../y"):
        async with MachineScheduler(RateLimit(1), contract=name, state_dir=tmp_path):
            pass
    assert len(folders(tmp_path)) == 6


async def test_a_name_may_be_of_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "JOIN_S", 0.0)
    for name in (os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xea"), "caf\xe9"):
        async with MachineScheduler(RateLimit(1), contract=name, state_dir=tmp_path) as scheduler:
            assert scheduler.is_shared
            await scheduler.acquire(scheduler.lane())
    assert len(list((tmp_path / "contracts").iterdir())) == 3


async def test_neither_names_nor_keys_are_stored_and_nobody_else_may_read(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    credentials = OAuth1Credentials("consumer-canary", "a", "b", "c")
    async with MachineScheduler(RateLimit(1), credentials=credentials, state_dir=state_dir):
        found = list(state_dir.rglob("*"))

    assert len([path for path in found if path.name != "key"]) == 4  # that one is for machines without an ID
    for path in found:
        assert "canary" not in str(path)
        assert not path.stat().st_mode & 0o077
        assert path.is_dir() or b"canary" not in path.read_bytes()


def test_a_contract_that_nobody_named_is_an_error() -> None:
    with pytest.raises(UsageError, match="which contract"):
        MachineScheduler(RateLimit(1))
    with pytest.raises(UsageError, match="which contract"):
        MachineScheduler(RateLimit(1), credentials=OWNER, contract="x")


async def test_where_no_folder_can_be_written_the_contract_is_kept_within_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    caplog.set_level(logging.WARNING)

    scheduler = MachineScheduler(RateLimit(3, period=60, burst=3), contract="x", state_dir=tmp_path / "file")
    assert caplog.text == ""

    for _ in range(3):
        scheduler.settle(await scheduler.acquire(scheduler.lane()))
    assert scheduler.available(RateLimit(3, period=60, burst=3)) == 0
    assert caplog.text.count("within this process alone") == 1
    assert "ENGAGEMENT_STATE_DIR" in caplog.text
    scheduler.close()


async def test_without_a_descriptor_to_open_its_files_it_waits_and_shares_the_contract_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "JOIN_S", 0.0)
    monkeypatch.setattr(machine, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(machine, "REOPEN_S", 0.01)
    failures = iter([errno.EMFILE, errno.ENFILE])
    opened = OpenFile

    def open_file(folder: Path) -> OpenFile:
        for number in failures:
            raise OSError(number, os.strerror(number))
        return opened(folder)

    monkeypatch.setattr(machine, "OpenFile", open_file)
    with caplog.at_level(logging.WARNING):
        async with MachineScheduler(RateLimit(1), contract="tests", state_dir=tmp_path) as scheduler:
            assert scheduler.available(RateLimit(1)) == 0
            await scheduler.acquire(scheduler.lane())
            assert scheduler.is_shared
            async with MachineScheduler(RateLimit(1), contract="tests", state_dir=tmp_path) as other:
                assert other.available(RateLimit(1)) == 0
    assert caplog.text.count("is not open: ") == 1
    assert "Too many open files): nothing is granted until it can" in caplog.text


def test_the_state_folder_is_the_user_s_or_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENGAGEMENT_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / ".local/state/engagement-async"
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", "/elsewhere")
    assert default_state_dir() == Path("/elsewhere")
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", "~/here")
    assert default_state_dir() == tmp_path / "here"


def test_a_home_that_is_somebody_else_s_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `sudo` that keeps HOME: its owner could not write there any more."""
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    for folder in (theirs, mine):
        folder.mkdir()
    monkeypatch.delenv("ENGAGEMENT_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(theirs))
    me = os.geteuid()
    found = {path: path.stat() for path in (theirs, mine)}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(mine) if uid == me else ""))
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **_: SimpleNamespace(st_uid=me if path == mine else me + 1, st_mode=found[path].st_mode),
    )

    assert default_state_dir() == mine / ".local/state/engagement-async"


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGAGEMENT_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))

    with pytest.raises(FileNotFoundError, match="nowhere"):
        default_state_dir()


async def test_a_closed_scheduler_grants_nothing(tmp_path: Path) -> None:
    scheduler = MachineScheduler(RateLimit(3), contract="x", state_dir=tmp_path)
    token = await scheduler.acquire(scheduler.lane())
    scheduler.close()

    scheduler.settle(token)
    with pytest.raises(UsageError, match="closed"):
        await scheduler.acquire(scheduler.lane())
    scheduler.close()


@pytest.mark.parametrize("is_open", [True, False])
async def test_who_waits_for_a_scheduler_that_is_closed_hears_of_it(tmp_path: Path, *, is_open: bool) -> None:
    scheduler = MachineScheduler(RateLimit(1, period=3600), contract="x", state_dir=tmp_path)
    if is_open:
        await scheduler.acquire(scheduler.lane())
    waiting = [asyncio.create_task(scheduler.acquire(scheduler.lane())) for _ in range(3)]
    await asyncio.sleep(0)
    scheduler.close()

    for each in waiting:
        with pytest.raises(UsageError, match="this scheduler was closed"):
            await each
