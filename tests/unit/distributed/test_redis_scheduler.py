"""One contract for processes of many machines: a real server, real processes, and everything that may happen to it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engagement_async import RateLimit, Scheduler, UsageError
from engagement_async.distributed import RedisScheduler, redis_scheduler
from engagement_async.distributed.redis_link import RedisLink, RedisUnavailableError
from tests.contract_suite import SchedulerContract, peak, until
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.spending import CountingServer, Spender

pytestmark = needs_redis
SILENT, BACK = "nothing is granted until it does", "answers again"
FORGOTTEN = "does not know what was spent"


class TestRedis(SchedulerContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def contract(self, *limits: RateLimit) -> AsyncIterator[Callable[[], Scheduler]]:
        made: list[RedisScheduler] = []

        def new() -> Scheduler:
            made.append(RedisScheduler(server.url, limits, contract="tests"))
            return made[-1]

        async with RedisServer(self.folder) as server:
            await server.declare_unspent("tests")
            yield new
            for scheduler in made:
                await scheduler.aclose()


class UnreliableLink(RedisLink):
    """Exchanges whose replies are lost, which are carried out twice, or once more when others have followed."""

    chance = random.Random()

    async def exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        fate = self.chance.random()
        reply = await super().exchange(request)
        if fate < 0.2:
            raise RedisUnavailableError("TimeoutError")
        if fate < 0.4:
            assert await super().exchange(request) == reply
        if request["n"] > 3 and fate < 0.6:
            await super().exchange({**request, "n": request["n"] - 2, "out": {}, "wants": [["totals", 9]]})
        return reply


@pytest.mark.parametrize("seed", range(2))
async def test_exchanges_that_are_lost_repeated_or_late_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(redis_scheduler, "RedisLink", UnreliableLink)
    chance = UnreliableLink.chance = random.Random(seed)
    limit = RateLimit(10, period=0.4)
    arrivals: list[float] = []

    async def spend(scheduler: RedisScheduler) -> None:
        lane = scheduler.lane("totals")
        while len(arrivals) < 60:
            token = await scheduler.acquire(lane)
            if chance.random() < 0.1:
                scheduler.refund(token)
                continue
            await asyncio.sleep(0.1 * chance.random())
            arrivals.append(time.monotonic())
            await asyncio.sleep(0.1 * chance.random())
            scheduler.settle(token)

    async with RedisServer(tmp_path) as server, AsyncExitStack() as stack:
        await server.declare_unspent("tests")
        new = [RedisScheduler(server.url, limit, contract="tests") for _ in range(3)]
        schedulers = [await stack.enter_async_context(scheduler) for scheduler in new]
        await asyncio.gather(*(spend(scheduler) for scheduler in schedulers for _ in range(6)))

    assert peak(arrivals, limit.period) <= limit.requests


async def test_what_another_ledger_granted_is_counted_and_what_it_granted_itself_is_not(tmp_path: Path) -> None:
    limit = RateLimit(10, period=60)
    async with RedisServer(tmp_path) as server:
        await server.declare_unspent("tests")
        async with (
            RedisScheduler(server.url, limit, contract="tests") as first,
            RedisScheduler(server.url, limit, contract="tests") as second,
        ):

            async def left(scheduler: RedisScheduler, *ages_s: float, known_by: str) -> int:
                scheduler.count_earlier(ages_s, "totals", known_by=known_by)
                assert scheduler.ledger_name == ""  # as long as Redis did not say that it knows of them
                await until(lambda: scheduler.ledger_name != "")
                return scheduler.available(limit)

            assert await left(first, 70.0, 50.0, 0.0, 0.0, known_by="another") == 7
            assert await left(second, 0.0, 0.0, known_by=first.ledger_name) == 7
            assert second.ledger_name == first.ledger_name
            assert await left(second, 0.0, 0.0, known_by="") == 5
            await server.command("FLUSHALL")
            assert await left(second, known_by="") == 0
            assert second.ledger_name != first.ledger_name


async def test_a_closed_scheduler_grants_nothing() -> None:
    scheduler = RedisScheduler("redis://127.0.0.1:1", RateLimit(3), contract="tests")
    waiting = asyncio.create_task(scheduler.acquire(scheduler.lane()))
    await asyncio.sleep(0)
    await scheduler.aclose()

    for each in (waiting, scheduler.acquire(scheduler.lane())):
        with pytest.raises(UsageError, match="this scheduler was closed"):
            await each


async def test_a_limit_of_an_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no endpoint 'nothing'"):
        RedisScheduler("redis://127.0.0.1:1", RateLimit(1, endpoint="nothing"), contract="tests")


# --- real processes: 50 requests in 1 s ---

LIMIT = RateLimit(50, period=1.0)


class Bench:
    """A counting server, a Redis, and processes that spend one contract."""

    def __init__(self, server: CountingServer, redis: RedisServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.redis = redis
        self.stack = stack

    async def start(self, name: str, **spec: Any) -> Spender:
        limits = [{"requests": LIMIT.requests, "period": LIMIT.period}]
        spender = Spender(
            name, **{"kind": "redis", "url": self.redis.url, "limits": limits, "port": self.server.port, **spec}
        )
        await self.stack.enter_async_context(spender)
        return spender

    async def start_all(self, names: str = "abcd") -> list[Spender]:
        spenders = [await self.start(name) for name in names]
        await self.progress(*names)
        return spenders

    async def progress(self, *names: str, requests: int = 1) -> None:
        """Wait until each of them sent so many more requests."""
        before = self.server.count()
        await until(lambda: all(self.server.count()[name] >= before[name] + requests for name in names))

    async def end(self, spenders: list[Spender]) -> list[str]:
        """End all in good order, and check the contract. Return what they were told."""
        results = [await spender.result() for spender in spenders]
        assert peak(self.server.instants, LIMIT.period) <= LIMIT.requests
        return [message for result in results for message in result["messages"]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with CountingServer() as server, RedisServer(tmp_path) as redis, AsyncExitStack() as stack:
        yield Bench(server, redis, stack)


async def test_four_processes_share_the_contract_evenly_and_use_it(bench: Bench) -> None:
    spenders = await bench.start_all()
    began_at = time.monotonic()
    await until(lambda: bench.server.count(began_at).total() >= 150)
    shares = bench.server.count(began_at)
    await bench.end(spenders)

    assert min(shares[name] for name in "abcd") >= 0.5 * shares.total() / 4


async def test_a_contract_that_is_flushed_waits_for_a_window(bench: Bench) -> None:
    spenders = await bench.start_all()
    for command in (("FLUSHALL",), ("FLUSHALL", "ASYNC")):
        await asyncio.sleep(0.4)
        await bench.redis.command(*command)
        await bench.progress("a", "b", "c", "d", requests=8)

    assert any("does not know what was spent" in message for message in await bench.end(spenders))


async def test_a_key_that_was_evicted_is_noticed(bench: Bench) -> None:
    spenders = await bench.start_all("ab")
    for what in ("answered", "answered:totals", "owners", "state", "expiry"):
        await bench.progress("a", "b", requests=10)
        await bench.redis.command("DEL", f"engagement-async:{{tests}}:{what}")
        await bench.progress("a", "b", requests=10)
    await bench.end(spenders)


async def test_a_script_cache_that_is_flushed_does_no_harm(bench: Bench) -> None:
    spenders = await bench.start_all("ab")
    for _ in range(5):
        await bench.redis.command("SCRIPT", "FLUSH")
        await bench.progress("a", "b", requests=5)

    assert [m for m in await bench.end(spenders) if "spent" not in m] == []


@pytest.mark.parametrize(("down_s", "persists"), [(0.0, False), (0.0, True), (3.0, True)])
async def test_a_server_that_is_killed_and_comes_back(bench: Bench, down_s: float, persists: bool) -> None:
    """Also with what it had saved a while ago: older than what was spent since."""
    spenders = await bench.start_all()
    await bench.progress("a", requests=20)
    if persists:
        await bench.redis.command("SAVE")
        await bench.progress("a", requests=10)
    await bench.redis.stop()
    stopped_at = time.monotonic()
    await asyncio.sleep(down_s)
    if down_s:
        assert bench.server.count(stopped_at).total() <= LIMIT.requests  # what was leased
    await bench.redis.start()
    await bench.progress("a", "b", "c", "d", requests=10)

    messages = await bench.end(spenders)
    told = Counter(text for message in messages for text in (SILENT, BACK, FORGOTTEN) if text in message)
    assert 2 <= told[FORGOTTEN] <= 2 * 4  # at the start, and after it: whoever asks before the first window is over
    assert told[SILENT] == told[BACK]
    assert told[SILENT] == 4 or not down_s  # earlier clients connect again without a word to one that is back already


async def test_a_server_that_hangs_grants_nothing_and_loses_nothing(bench: Bench) -> None:
    spenders = await bench.start_all()
    bench.redis.send_signal(signal.SIGSTOP)
    await asyncio.sleep(3)
    bench.redis.send_signal(signal.SIGCONT)
    await bench.progress("a", "b", "c", "d", requests=10)

    await bench.end(spenders)


async def test_processes_that_are_killed_stopped_and_join(bench: Bench) -> None:
    survivor = (await bench.start_all("s"))[0]
    for number in range(4):
        victim = await bench.start(f"v{number}", workers=8)
        await bench.progress(f"v{number}")
        victim.kill()
    stopped, *_ = await bench.start_all("t")
    stopped.send_signal(signal.SIGSTOP)
    await bench.progress("s", requests=40)
    stopped.send_signal(signal.SIGCONT)
    fifth = (await bench.start_all("f"))[0]
    await bench.progress("s", "t", "f", requests=10)

    await bench.end([survivor, stopped, fifth])


async def test_a_replica_that_takes_over_may_lack_the_last_writes(tmp_path: Path) -> None:
    """Found by a sentinel; what it does not know is waited for."""
    async with CountingServer() as server, AsyncExitStack() as stack:
        master = await stack.enter_async_context(RedisServer(tmp_path / "master"))
        replica = await stack.enter_async_context(
            RedisServer(
                tmp_path / "replica", "--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0"
            )
        )
        sentinel = await stack.enter_async_context(await watched(master, tmp_path / "sentinel"))
        bench = Bench(server, master, stack)
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/service"
        spenders = [await bench.start(name, url=url) for name in "ab"]
        await bench.progress("a", "b", requests=20)

        await master.stop()
        await bench.progress("a", "b", requests=30)

        await bench.end(spenders)
        assert (await replica.command("ROLE"))[0] == b"master"


async def watched(master: RedisServer, folder: Path) -> RedisServer:
    """Return a sentinel that watches the master, once it knows of its replica."""
    folder.mkdir()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor service 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds service 500\n"
        "sentinel failover-timeout service 3000\n"
    )
    return RedisServer(folder, "--sentinel", program=[str(settings)])
