"""Pulls on a schedule, for as long as it takes: late ones at once, failed ones again, gaps filled."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from engagement_async._core.endpoints import LAST_28_HOURS, Endpoint
from engagement_async._core.owned_batches import Tweets
from engagement_async.client import EngagementClient
from engagement_async.config import check_seconds
from engagement_async.errors import (
    AccessRefusedError,
    AuthError,
    EngagementError,
    OtherSeriesError,
    RequestRefusedError,
    SeriesCorruptError,
    ServerRefusedError,
    UsageError,
)
from engagement_async.series.reports import PullReport
from engagement_async.series.schedule import nap_s, next_pull_at, retry_s

__all__ = ["Pulled", "Schedule", "Watcher"]

logger = logging.getLogger("engagement_async")

_FINAL = (
    UsageError,
    AuthError,
    AccessRefusedError,
    RequestRefusedError,
    ServerRefusedError,
    OtherSeriesError,
    SeriesCorruptError,
)
"""What another pull would meet again."""


class Pulled(Protocol):
    """What is pulled: an `EngagementSeries`, which imports this module."""

    async def pull(
        self,
        client: EngagementClient,
        tweet_ids: Tweets | None = None,
        *,
        endpoint: Endpoint = ...,
        engagement_types: Sequence[str] | None = None,
    ) -> PullReport: ...

    async def fill(self, client: EngagementClient) -> list[PullReport]: ...

    def last_pull_at(self, endpoint: Endpoint = ...) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often: seconds from one pull to the next, and how many are added at random at most."""

    every_s: float
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        check_seconds("every_s", self.every_s)
        if self.jitter_s:
            check_seconds("jitter_s", self.jitter_s)


class Watcher:
    """Pulls into a series on a schedule. `sleep`, and `draw` (a random number from 0 to 1), are for tests."""

    def __init__(
        self,
        series: Pulled,
        client: EngagementClient,
        schedule: Schedule,
        *,
        endpoint: Endpoint = LAST_28_HOURS,
        engagement_types: Sequence[str] | None = None,
        fills: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._series = series
        self._client = client
        self._schedule = schedule
        self._endpoint = endpoint
        self._engagement_types = engagement_types
        self._fills = fills and endpoint is LAST_28_HOURS
        self._now = now
        self._sleep = sleep
        self._draw = draw

    async def run(self, tweets: Callable[[], Tweets | None], on_pull: Callable[[PullReport], None]) -> None:
        """Pull until cancelled. The last pull is remembered in the store: a restart does not pull at once again."""
        failures = 0
        while True:
            await self._wait(failures)
            try:
                is_answered = await self._pull(tweets, on_pull)
            except _FINAL:
                raise
            except EngagementError as error:
                logger.warning("the pull failed: %s", error)
                is_answered = False
            failures = 0 if is_answered else failures + 1

    async def _wait(self, failures: int) -> None:
        now = self._now()
        if failures:
            due_at = next_pull_at(now, now, retry_s(failures, self._schedule.every_s), 0.0, 0.0)
        else:
            last_at = await asyncio.to_thread(self._series.last_pull_at, self._endpoint)
            due_at = next_pull_at(last_at, now, self._schedule.every_s, self._schedule.jitter_s, self._draw())
        while (seconds := nap_s(due_at, self._now())) > 0:
            await self._sleep(seconds)

    async def _pull(self, tweets: Callable[[], Tweets | None], on_pull: Callable[[PullReport], None]) -> bool:
        """Pull once, and return whether anybody was answered."""
        given = await asyncio.to_thread(tweets)
        report = await self._series.pull(
            self._client, given, endpoint=self._endpoint, engagement_types=self._engagement_types
        )
        on_pull(report)
        if self._fills:
            try:
                filled = await self._series.fill(self._client)
            except (AuthError, AccessRefusedError) as error:
                if not report.answered:
                    raise
                # The pull was answered: what is refused is the gaps' owners, or /historical alone.
                logger.warning("the gaps are not filled: %s", error)
                filled = []
            for each in filled:
                on_pull(each)
        return not report.failed_tweet_ids or report.answered > 0
