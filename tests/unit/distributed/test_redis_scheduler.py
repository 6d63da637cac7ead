"""One contract for processes of many machines: a real server, real processes, and everything that may happen to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engagement_async import RateLimit, Scheduler
from engagement_async.distributed import RedisScheduler
from tests.contract_suite import SchedulerContract
from tests.support.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


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
