"""`progress=` of calls and jobs, against the emulator: what a function gets, what is drawn, that nothing else changes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    Answer,
    AuthError,
    CallProgress,
    EngagementClient,
    LocalScheduler,
    OAuth1Credentials,
    RateLimit,
    UsageError,
    WaitReason,
)
from engagement_async._core.stepped_batches import STEP_IDS
from engagement_async.backfill import BackfillJob
from engagement_async.emulator import Emulator, tweet_ids
from engagement_async.series import EngagementSeries
from tests.support.jobs import BY_TWEET, bearer
from tests.support.jobs import emulator as job_emulator
from tests.support.terminal import stderr_on_terminal

TYPES, GROUPINGS = ["favorites"], {"by_tweet": ["tweet.id", "engagement.type"]}
IDS = tweet_ids(1000, newest_at=1_764_000_000)
QUERY: dict[str, Any] = {"engagement_types": TYPES, "groupings": GROUPINGS}
FREE: dict[str, Any] = {"requests_per_minute": None, "unavailable_fraction": 0.0}


def credentials_of(emulator: Emulator) -> OAuth1Credentials:
    given = emulator.credentials
    return OAuth1Credentials(given.consumer_key, given.consumer_secret, given.access_token, given.access_token_secret)


def client_of(emulator: Emulator, **options: Any) -> EngagementClient:
    options = {"rate_limit": RateLimit(60_000), **options}
    return EngagementClient(credentials_of(emulator), base_url=emulator.base_url, **options)


def check(seen: list[CallProgress], ids: int, requests: int) -> None:
    """Check what every call says in the end, and on the way."""
    end = seen[-1]
    assert (end.ids_done, end.ids_total, end.requests) == (ids, ids, requests)
    assert (end.eta_s, end.waiting_for, end.trouble) == (0 if ids else None, None, None)
    assert [each.is_finished for each in seen] == [False] * (len(seen) - 1) + [True]
    assert [each.ids_done for each in seen] == sorted(each.ids_done for each in seen)


class Watched:
    """A collection that counts what was read of it."""

    def __init__(self, values: list[str]) -> None:
        self.values, self.read = values, 0

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[str]:
        for value in self.values:
            self.read += 1
            yield value


@pytest.mark.parametrize("progress", [False, lambda _: None], ids=["without", "with"])
async def test_a_long_list_is_checked_in_steps_that_other_tasks_run_between(progress: Any) -> None:
    given = Watched([str(10**18 + n) for n in range(20 * STEP_IDS)])
    read = [0]

    async def note() -> None:
        while True:
            read.append(given.read)
            await asyncio.sleep(0)

    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        noting = asyncio.create_task(note())
        result = await client.totals(given, **QUERY, progress=progress)
        noting.cancel()

    assert len(result.tweet_ids) == given.read == 20 * STEP_IDS
    assert max(later - earlier for earlier, later in pairwise(read)) <= 2 * STEP_IDS


async def test_every_endpoint_says_how_far_it_is() -> None:
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        for call, ids, requests in (
            (client.totals, 1000, 4),
            (client.last_28_hours, 60, 3),
            (client.historical, 60, 3),
        ):
            seen: list[CallProgress] = []
            result = await call(IDS[:ids], **QUERY, progress=seen.append)

            check(seen, ids, requests)
            assert result.outcomes["answered"] == ids
            assert seen[0].ids_total == ids


async def test_iterators_of_any_kind_say_how_many_they_were_at_the_end() -> None:
    async def source() -> AsyncIterator[str]:
        for tweet_id in IDS:
            yield tweet_id

    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        for given in (iter(IDS), source()):
            seen: list[CallProgress] = []
            await client.totals(given, **QUERY, progress=seen.append)

            check(seen, 1000, 4)
            assert (seen[0].ids_total, seen[0].eta_s) == (None, None)


async def test_duplicates_are_taken_off_in_the_end() -> None:
    seen: list[CallProgress] = []
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        await client.totals(IDS[:300] * 2, **QUERY, progress=seen.append)

    check(seen, 300, 2)
    assert seen[0].ids_total == 600


async def test_no_ids_are_done_at_once() -> None:
    seen: list[CallProgress] = []
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        await client.totals([], **QUERY, progress=seen.append)

    check(seen, 0, 0)


async def test_calls_that_share_requests_have_progress_too() -> None:
    seen: list[CallProgress] = []
    async with Emulator(**FREE) as emulator, client_of(emulator, coalesce=0.01) as client:
        await asyncio.gather(client.totals(IDS[:3], **QUERY, progress=seen.append), client.totals(IDS[3:5], **QUERY))

        assert emulator.log.requests == 1
    check(seen, 3, 0)


async def test_tweets_of_many_owners_are_counted_together() -> None:
    seen: list[CallProgress] = []
    async with Emulator(owners=3, **FREE) as emulator:
        given = emulator.credentials
        store = {
            owner.handle: OAuth1Credentials(
                given.consumer_key, given.consumer_secret, owner.access_token, owner.access_token_secret
            )
            for owner in emulator.owners
        }
        tweets = {owner.handle: emulator.tweet_ids(owner.handle, 20) for owner in emulator.owners}
        async with EngagementClient(store, base_url=emulator.base_url, rate_limit=RateLimit(60_000)) as client:
            await client.totals(tweets, **QUERY, progress=seen.append)

    check(seen, 60, 3)
    assert seen[0].ids_total == 60


@pytest.mark.virtual_time
async def test_it_says_that_it_waits_for_the_contract_and_how_long_all_of_it_takes() -> None:
    seen: list[CallProgress] = []
    async with Emulator(**FREE) as emulator, client_of(emulator, rate_limit=RateLimit(1, period=60)) as client:
        await client.totals(IDS, **QUERY, progress=seen.append)

    check(seen, 1000, 4)
    (half, *_) = [each for each in seen if each.elapsed_s > 30]
    assert (half.ids_done, half.waiting_for) == (250, WaitReason.CONTRACT)
    assert 29 < half.waiting_s < 31
    assert half.eta_s == pytest.approx(3 * half.elapsed_s)
    assert 180 < seen[-1].elapsed_s < 182


@pytest.mark.virtual_time
async def test_of_two_calls_at_once_each_says_its_own() -> None:
    large: list[CallProgress] = []
    small: list[CallProgress] = []
    async with Emulator(**FREE) as emulator, client_of(emulator, rate_limit=RateLimit(1, period=60)) as client:
        await asyncio.gather(
            client.totals(IDS, **QUERY, progress=large.append),
            client.last_28_hours(IDS[:25], **QUERY, progress=small.append),
        )

    check(large, 1000, 4)
    check(small, 25, 1)


async def test_the_result_is_the_same_whatever_becomes_of_the_function(caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: CallProgress) -> None:
        raise ValueError("mine")

    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        plain = await client.totals(IDS, **QUERY)
        told = await client.totals(IDS, **QUERY, progress=bad)

    assert told.groupings == plain.groupings
    assert [record.getMessage() for record in caplog.records] == [
        "progress is not shown any more: showing it failed, and the call goes on"
    ]


async def test_a_call_that_runs_out_of_time_comes_to_its_end() -> None:
    seen: list[CallProgress] = []
    async with (
        Emulator(faults={"hang-before-headers": 1}, **FREE) as emulator,
        client_of(emulator, concurrency=1) as client,
    ):
        result = await client.totals(IDS, **QUERY, timeout=0.7, progress=seen.append)

    assert result.outcomes["failed"]
    assert (seen[-1].ids_done, seen[-1].ids_total, seen[-1].is_finished) == (1000, 1000, True)


async def test_a_cancelled_call_says_nothing_more() -> None:
    seen: list[CallProgress] = []
    async with Emulator(faults={"hang-before-headers": 1}, **FREE) as emulator, client_of(emulator) as client:
        call = asyncio.create_task(client.totals(IDS, **QUERY, progress=seen.append))
        while not emulator.log.requests:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        said = len(seen)
        await client.totals(IDS[:1], **QUERY, timeout=5)

    assert len(seen) == said
    assert not seen[-1].is_finished


async def test_a_call_that_fails_says_nothing_more() -> None:
    seen: list[CallProgress] = []
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        emulator.revoke()
        with pytest.raises(AuthError):
            await client.totals(IDS, **QUERY, progress=seen.append)

    assert not any(each.is_finished for each in seen)


async def test_what_is_no_progress_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        with pytest.raises(UsageError, match="progress is True, or a function"):
            await client.totals(IDS, **QUERY, progress="rich")  # type: ignore[arg-type]
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, IDS)
        with pytest.raises(UsageError, match="progress is True, or a function"):
            await job.run(credentials_of(emulator), rate_limit=RateLimit(1), progress="rich")  # type: ignore[arg-type]

        assert not emulator.log.requests


async def test_a_call_without_it_does_none_of_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("CallMeter", "reporting", "size_of"):
        monkeypatch.setattr(f"engagement_async.client.{name}", forbidden)
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        assert (await client.totals(IDS, **QUERY)).outcomes["answered"] == 1000


async def test_the_bars_of_two_calls_at_once() -> None:
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        with stderr_on_terminal() as terminal:
            await asyncio.gather(
                client.totals(IDS, **QUERY, progress=True), client.last_28_hours(iter(IDS[:50]), **QUERY, progress=True)
            )

            bars, below = sorted(terminal.lines[::2]), terminal.lines[1::2]
    assert [bar.rpartition(" in ")[0] for bar in bars] == ["28hr 100% 50 of 50 IDs", "totals 100% 1,000 of 1,000 IDs"]
    assert sorted(below) == ["2 requests", "4 requests"]


async def test_a_cancelled_call_leaves_the_terminal_as_it_was() -> None:
    async with Emulator(faults={"hang-before-headers": 1}, **FREE) as emulator, client_of(emulator) as client:
        with stderr_on_terminal() as terminal:
            call = asyncio.create_task(client.totals(IDS, **QUERY, progress=True))
            while not terminal.lines:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

            assert terminal.lines[0].startswith("totals 0% 0 of 1,000 IDs")


@pytest.mark.virtual_time
async def test_a_job_says_how_far_it_is_with_its_earlier_runs(tmp_path: Path) -> None:
    seen: list[CallProgress] = []
    async with job_emulator(unavailable_fraction=0.0) as server:
        job = BackfillJob(tmp_path / "may")
        await job.start(BY_TWEET, IDS)
        options: dict[str, Any] = {"base_url": server.base_url, "scheduler": LocalScheduler(RateLimit(1, period=60))}
        await job.run(bearer(server), **options, max_requests=1)
        await job.run(bearer(server), **options, progress=seen.append)

    assert seen[-1].ids_done == seen[-1].ids_total == 1000
    assert (seen[-1].requests, seen[-1].eta_s, seen[-1].is_finished) == (3, 0, True)
    waiting = [each for each in seen if each.waiting_for is WaitReason.CONTRACT]
    assert waiting
    assert all(each.ids_done in (250, 500, 750) and each.ids_total == 1000 for each in waiting)


async def test_the_bar_of_a_job(tmp_path: Path) -> None:
    async with job_emulator(unavailable_fraction=0.0) as server:
        job = BackfillJob(tmp_path / "may")
        await job.start(BY_TWEET, IDS)
        with stderr_on_terminal() as terminal:
            await job.run(bearer(server), rate_limit=RateLimit(60_000), base_url=server.base_url, progress=True)

            assert terminal.lines[0].startswith("may 100% 1,000 of 1,000 IDs in ")
            assert terminal.lines[1] == "4 requests"


async def test_a_run_goes_on_when_the_function_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def bad(_: object) -> None:
        raise ValueError("mine")

    async with job_emulator(unavailable_fraction=0.0) as server:
        job = BackfillJob(tmp_path / "may")
        await job.start(BY_TWEET, IDS)
        run = await job.run(
            bearer(server), rate_limit=RateLimit(60_000), base_url=server.base_url, progress=bad, on_progress=bad
        )

    assert run.outcome == "done"
    assert len(caplog.records) == 2


async def test_pulls_and_fills_of_a_series_say_how_far_they_are(tmp_path: Path) -> None:
    series = EngagementSeries(tmp_path / "tweets.duckdb")
    pulled: list[CallProgress] = []
    filled: list[CallProgress] = []
    given: list[Answer] = []
    async with Emulator(**FREE) as emulator, client_of(emulator) as client:
        await series.pull(client, IDS[:60], engagement_types=TYPES, progress=pulled.append, on_answer=given.append)
        await series.fill(client, start=datetime.now(UTC) - timedelta(days=10), progress=filled.append)
        with pytest.raises(UsageError, match="progress is True, or a function"):
            await series.pull(client, progress="rich")  # type: ignore[arg-type]

    for seen in (pulled, filled):
        check(seen, 60, 3)
        assert seen[0].ids_total == 60
    assert len(given) == 3


SCRIPT = """
import asyncio, os
from engagement_async import BearerCredentials, EngagementClient, RateLimit

async def main():
    credentials = BearerCredentials(os.environ["ENGAGEMENT_BEARER_TOKEN"])
    base_url = os.environ["ENGAGEMENT_BASE_URL"]
    async with EngagementClient(credentials, rate_limit=RateLimit(60_000), base_url=base_url) as client:
        result = await client.totals(
            range(1, 600), engagement_types=["favorites"], groupings={"all": ["engagement.type"]}, progress=True
        )
    print(len(result.tweet_ids))

asyncio.run(main())
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(**FREE) as running:
        yield running


def test_a_file_gets_a_line_and_no_control_characters(emulator: Emulator, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=emulator.environment, stdout=subprocess.PIPE, stderr=log, text=True
        )

    assert (done.returncode, done.stdout) == (0, "599\n"), (tmp_path / "log").read_text()
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("totals: 599 of 599 IDs · 3 requests · in ")
    assert line.isprintable()


def test_a_stderr_that_is_closed_is_no_error(emulator: Emulator) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, SCRIPT],
        env=emulator.environment,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (0, "599\n")
