"""One contract for all processes of a machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engagement_async import RateLimit, Scheduler
from engagement_async.distributed import MachineScheduler
from tests.contract_suite import SchedulerContract


class TestMachine(SchedulerContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def contract(self, *limits: RateLimit) -> AsyncIterator[Callable[[], Scheduler]]:
        made: list[MachineScheduler] = []

        def new() -> Scheduler:
            made.append(MachineScheduler(limits, contract="tests", state_dir=self.folder))
            return made[-1]

        yield new
        for scheduler in made:
            scheduler.close()
