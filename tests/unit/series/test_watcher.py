from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from engagement_async import (
    LAST_28_HOURS,
    TOTALS,
    AccessRefusedError,
    APIError,
    AuthError,
    Endpoint,
    EngagementClient,
    ServerError,
    UsageError,
)
from engagement_async._core.owned_batches import Tweets
from engagement_async.series import PullReport
from engagement_async.series.watcher import Schedule, Watcher
from tests.support.series import ZERO

HOUR_S = 3600.0
CLIENT = cast("EngagementClient", None)


class World:
    """A clock that only sleep moves, a series that notes its pulls, and the end after so many of them."""

    def __init__(self, pulls: int, errors: dict[int, Exception] | None = None) -> None:
        self.now = ZERO
        self.naps = 0
        self.asleep_at: datetime | None = None
        self.pulled: list[tuple[datetime, Any]] = []
        self.fills = 0
        self.answered = 1
        self.fill_error: Exception | None = None
        self._pulls = pulls
        self._errors = errors or {}
        self._last: datetime | None = None

    async def pull(
        self,
        client: EngagementClient,
        tweet_ids: Tweets | None = None,
        *,
        endpoint: Endpoint = LAST_28_HOURS,
        engagement_types: Sequence[str] | None = None,
    ) -> PullReport:
        number = len(self.pulled)
        if number == self._pulls:
            raise asyncio.CancelledError
        self.pulled.append((self.now, tweet_ids))
        if number in self._errors:
            raise self._errors[number]
        self._last = self.now
        return PullReport(endpoint.name, None, None, 1, self.answered, 0, 0, 0)

    async def fill(self, client: EngagementClient) -> list[PullReport]:
        self.fills += 1
        if self.fill_error is not None:
            raise self.fill_error
        return []

    def last_pull_at(self, endpoint: Endpoint = LAST_28_HOURS) -> datetime | None:
        return self._last

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 30
        self.naps += 1
        self.now += timedelta(seconds=seconds)
        if self.asleep_at is not None and self.now >= self.asleep_at:
            self.now += timedelta(hours=50)
            self.asleep_at = None


async def watched(world: World, **options: Any) -> list[float]:
    """Return when pulls were made, in hours."""
    tweets = options.pop("tweets", lambda: None)
    watcher = Watcher(
        world,
        CLIENT,
        Schedule(6 * HOUR_S, HOUR_S),
        now=lambda: world.now,
        sleep=world.sleep,
        draw=lambda: 0.5,
        **options,
    )
    with pytest.raises(asyncio.CancelledError):
        await watcher.run(tweets, lambda report: None)
    return [(at - ZERO) / timedelta(hours=1) for at, _ in world.pulled]


async def test_pulls_are_made_on_schedule_with_jitter_and_gaps_are_filled() -> None:
    world = World(4)
    assert await watched(world) == [0, 6.5, 13, 19.5]
    assert world.fills == 4


async def test_a_pull_that_was_slept_through_is_made_at_once_and_once() -> None:
    world = World(3)
    world.asleep_at = ZERO + timedelta(hours=2)
    first, second, third = await watched(world)
    assert (first, round(second), third - second) == (0, 52, 6.5)


async def test_a_restart_goes_on_with_the_schedule() -> None:
    world = World(1)
    world._last = ZERO - timedelta(hours=4)
    assert await watched(world) == [2.5]


async def test_what_may_pass_is_tried_again_after_pauses_that_grow() -> None:
    world = World(4, {0: ServerError("down", status=503), 1: ServerError("down", status=503)})
    minutes = [round(at * 60) for at in await watched(world)]
    assert minutes == [0, 1, 3, 3 + 390]


async def test_what_will_not_pass_ends_it() -> None:
    for error in (AuthError("refused", status=401), UsageError("no such file")):
        watcher = Watcher(World(9, {0: error}), CLIENT, Schedule(60.0))
        with pytest.raises(type(error)):
            await watcher.run(lambda: None, lambda report: None)


@pytest.mark.parametrize(("error", "status"), [(AuthError, 401), (AccessRefusedError, 403)])
async def test_credentials_that_are_refused_for_the_gaps_alone_end_nothing(
    caplog: pytest.LogCaptureFixture, error: type[APIError], status: int
) -> None:
    world = World(3)
    world.fill_error = error("every owner fails alike", status=status)
    assert await watched(world) == [0, 6.5, 13]
    assert [record.message for record in caplog.records] == ["the gaps are not filled: every owner fails alike"] * 3

    world = World(3)
    world.fill_error, world.answered = error("refused", status=status), 0
    with pytest.raises(error):
        await watched(world)


async def test_tweets_are_asked_for_before_each_pull_and_totals_are_not_filled() -> None:
    world = World(3)
    sets = iter((["1"], ["1", "2"], None, None))
    await watched(world, endpoint=TOTALS, tweets=lambda: next(sets))
    assert [tweets for _, tweets in world.pulled] == [["1"], ["1", "2"], None]
    assert world.fills == 0


def test_a_schedule_is_made_of_seconds() -> None:
    for every_s, jitter_s in ((0, 0.0), (-1.0, 0.0), (60.0, float("nan"))):
        with pytest.raises(UsageError, match="number of seconds"):
            Schedule(every_s, jitter_s)
