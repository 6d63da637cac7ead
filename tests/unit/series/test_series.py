"""A month of pulls against the emulator under a moved clock, with missed days, re-runs and kills; two pulls at once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engagement_async import (
    HISTORICAL,
    TOTALS,
    AuthError,
    BearerCredentials,
    EngagementClient,
    Failure,
    FailureKind,
    OAuth1Credentials,
    OtherSeriesError,
    RateLimit,
    SeriesLockedError,
    UsageError,
)
from engagement_async.emulator import Emulator, Interpretation, tweet_ids
from engagement_async.series import EngagementSeries
from engagement_async.series.lock import locked
from engagement_async.series.spans import HOUR, hour_of
from tests.support.series import LEVELS, METRICS, ZERO, gap_hours, hours_between, rows

IDS = tweet_ids(30, 7, newest_at=ZERO.timestamp())
MINUTE = timedelta(minutes=1)
KILLED = """
import asyncio, os, signal, sys
from engagement_async import EngagementClient, OAuth1Credentials, RateLimit
from engagement_async.series import EngagementSeries
from engagement_async.series.database import Database

path, base_url, last, *rest = sys.argv[1:]
secrets, ids = rest[:4], rest[4:]
execute = Database.execute

def counted(self, sql, *parameters):
    if sql.startswith(last):
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, sql, *parameters)

async def main():
    async with EngagementClient(OAuth1Credentials(*secrets), rate_limit=RateLimit(6000), base_url=base_url) as client:
        Database.execute = counted
        await EngagementSeries(path).pull(client, ids, engagement_types=["impressions", "favorites"])

asyncio.run(main())
"""


class World:
    """An emulator whose clock stands where the test puts it."""

    def __init__(self) -> None:
        self.now = ZERO
        self.emulator = Emulator(
            requests_per_minute=None, unavailable_fraction=0.0, now=lambda: self.now.timestamp(), log_size=None
        )

    @property
    def secrets(self) -> tuple[str, str, str, str]:
        server = self.emulator
        return server.consumer_key, server.consumer_secret, server.access_token, server.access_token_secret

    def truth(self, first: datetime, end: datetime) -> dict[tuple[str, str, datetime], int]:
        grouping = self.emulator.expected(
            "historical",
            IDS,
            METRICS,
            {"g": LEVELS},
            start=f"{first:%Y-%m-%dT%H:%M:%SZ}",
            end=f"{end:%Y-%m-%dT%H:%M:%SZ}",
        )["g"]
        return {
            (i, metric, hour): grouping[i][metric][f"{hour:%Y-%m-%d}"][f"{hour:%H}"]
            for i in IDS
            for metric in METRICS
            for hour in hours_between(first, end)
        }


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.emulator:
        yield world


@pytest.fixture
async def client(world: World) -> AsyncIterator[EngagementClient]:
    async with EngagementClient(
        OAuth1Credentials(*world.secrets), rate_limit=RateLimit(60_000), base_url=world.emulator.base_url
    ) as client:
        yield client


@pytest.fixture
def series(tmp_path: Path, world: World) -> EngagementSeries:
    return EngagementSeries(tmp_path / "s.duckdb", now=lambda: world.now)


def killed_pull(world: World, series: EngagementSeries, statement: str) -> bool:
    """Pull in a process that is killed before this statement; return whether the pull is in the store."""
    before = series.path.exists() and series.status().pulls
    arguments = [series.path, world.emulator.base_url, statement, *world.secrets, *IDS]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert done.returncode == -signal.SIGKILL
    return series.path.exists() and series.status().pulls != before


async def test_a_month_of_pulls_equals_the_truth_and_knows_its_gaps(
    world: World, client: EngagementClient, series: EngagementSeries
) -> None:
    draw = random.Random(20261125)
    whole: dict[str, set[datetime]] = {i: set() for i in IDS}
    wanted: dict[str, list[datetime]] = {}

    def note(asked: list[str]) -> None:
        end = hour_of(world.now)
        for i in asked:
            whole[i] |= set(hours_between(end - 28 * HOUR, end))
            first, _ = wanted.get(i, [end - 28 * HOUR, end])
            wanted[i] = [first, end]

    kills = {0: "CREATE TEMP", 5: "UPDATE hours", 12: "COMMIT", 20: "CHECKPOINT"}
    landed = []
    for day in range(30):
        world.now = ZERO + day * 24 * HOUR + draw.randrange(-300, 300) * MINUTE
        if day not in kills and draw.random() < 0.2:
            continue  # a missed day
        asked = IDS[: draw.choice([10, 20, 30])]
        if day in kills:
            is_in = await asyncio.to_thread(killed_pull, world, series, kills[day])
            landed.append(is_in)
            if is_in:
                note(IDS)
            continue
        for _ in range(draw.choice([1, 1, 2])):  # a re-run
            given = None if asked == IDS and set(wanted) == set(IDS) else asked
            await series.pull(client, given, engagement_types=METRICS if not wanted else None)
            note(asked)
            world.now += draw.randrange(0, 200) * MINUTE

    first, end = min(first for first, _ in wanted.values()), max(end for _, end in wanted.values())
    truth = world.truth(first, end)
    found = rows(series)
    complete = {(i, hour) for (i, _, hour), (_, state) in found.items() if state == "complete"}
    assert complete == {(i, hour) for i, hours in whole.items() for hour in hours}
    assert all(value == truth[key] for key, (value, state) in found.items() if state == "complete")
    gaps = {(i, hour) for i, span in wanted.items() for hour in set(hours_between(*span)) - whole[i]}
    assert gap_hours(series) == gaps
    assert len(gaps) > 1000
    assert landed == [False, False, False, True]

    planned = sum(part.requests for part in series.fill_plan())
    world.emulator.log.entries.clear()
    reports = await series.fill(client)

    assert [entry.endpoint for entry in world.emulator.log.entries] == ["historical"] * planned
    assert planned == 2  # under four weeks are one span, and 30 Tweets two batches
    assert sum(report.answered for report in reports) >= len(IDS)
    assert series.gaps() == []
    found = rows(series)
    for i, span in wanted.items():
        for hour in hours_between(*span):
            for metric in METRICS:
                assert found[i, metric, hour] == (truth[i, metric, hour], "complete")
    with duckdb.connect(str(series.path), read_only=True) as plain:
        assert plain.execute("SELECT sum(value) FROM hours WHERE NOT is_partial").fetchone() == (
            sum(value for value, state in found.values() if state == "complete"),
        )


async def test_a_series_goes_back_as_far_as_the_api_does(
    world: World, client: EngagementClient, series: EngagementSeries
) -> None:
    await series.pull(client, IDS, engagement_types=METRICS)
    reports = await series.fill(client, start="2026-01-01")

    assert [report.endpoint for report in reports] == [HISTORICAL.name] * 3
    assert all(
        (report.ends_at - report.starts_at) <= timedelta(weeks=4)
        for report in reports
        if report.starts_at and report.ends_at
    )
    found = rows(series)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    truth = world.truth(first, ZERO - 700 * HOUR) | world.truth(ZERO - 700 * HOUR, ZERO - 60 * HOUR)
    assert all(found[key] == (value, "complete") for key, value in truth.items())
    for start, says in (("2014-08-31", "before 2014-09-01"), (ZERO + HOUR, "not before the current hour")):
        with pytest.raises(UsageError, match=says):
            await series.fill(client, start=start)


async def test_a_fill_of_many_tweets_is_committed_in_parts_of_whole_requests(
    world: World, client: EngagementClient, series: EngagementSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hours in (0, 60):
        world.now = ZERO + hours * HOUR
        await series.pull(client, IDS, engagement_types=METRICS)
    monkeypatch.setattr("engagement_async.series.series._ROWS_AT_ONCE", 1)

    reports = await series.fill(client)

    assert [(report.answered, report.requests) for report in reports] == [(25, 1), (5, 1)]
    assert series.gaps() == []


async def test_tweets_that_fail_leave_a_gap_and_gone_and_forbidden_ones_none(
    world: World, client: EngagementClient, series: EngagementSeries
) -> None:
    gone, others, failing = IDS[0], IDS[1], IDS[2]
    world.emulator.world.unavailable.add(gone)
    world.emulator.world.forbidden[others] = "1"
    world.emulator.world.rejected.add(failing)

    report = await series.pull(client, IDS, engagement_types=METRICS)

    assert (report.answered, report.unavailable, report.forbidden) == (27, 1, 1)
    assert list(report.failed_tweet_ids) == [failing]
    assert {i for i, _ in gap_hours(series)} == {failing}
    assert len(series.tracked()) == 29
    assert series.status().tweets == {"answered": 27, "unavailable": 1, "forbidden": 1, "failed": 1}
    world.emulator.world.rejected.clear()
    assert [(report.answered, report.requests) for report in await series.fill(client)] == [(1, 1)]
    assert series.gaps() == []


@pytest.mark.parametrize("names", [("end-now",), ("window-28",), ("window-28-past",), ("integer-leaves",)])
async def test_every_reading_of_the_window_gives_the_truth(
    world: World, client: EngagementClient, series: EngagementSeries, names: tuple[str, ...]
) -> None:
    world.emulator.set_interpretation(Interpretation.named(*names))
    for hours in (0, 20, 40):
        world.now = ZERO + hours * HOUR + 17 * MINUTE
        await series.pull(client, IDS, engagement_types=METRICS)

    truth = world.truth(ZERO - 28 * HOUR, ZERO + 41 * HOUR)
    found = rows(series)
    assert sum(state == "complete" for _, state in found.values()) >= len(IDS) * len(METRICS) * 66
    assert all(value == truth[key] for key, (value, state) in found.items() if state == "complete")
    assert series.gaps() == []


async def test_two_pulls_at_once_are_one_and_a_refusal(
    world: World, client: EngagementClient, series: EngagementSeries
) -> None:
    both = await asyncio.gather(
        *(series.pull(client, IDS, engagement_types=METRICS) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in both) == ["PullReport", "SeriesLockedError"]
    assert len(world.emulator.log) == 2
    assert series.status().pulls == 1

    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, locked(series.path))
        with pytest.raises(SeriesLockedError, match="wait until it has ended"):
            await series.fill(client)


async def test_a_commit_waits_for_a_program_that_reads_the_store(
    world: World, client: EngagementClient, series: EngagementSeries
) -> None:
    await series.pull(client, IDS, engagement_types=METRICS)
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print('open', flush=True); input()",
            str(series.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    try:
        assert reader.stdout.readline() == b"open\n"
        pull = asyncio.ensure_future(series.pull(client, IDS))
        while len(world.emulator.log) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not pull.done()
    finally:
        reader.communicate(b"\n")
    assert (await pull).answered == len(IDS)


async def test_a_pull_that_is_cancelled_leaves_the_store_as_it_was(
    world: World, client: EngagementClient, series: EngagementSeries
) -> None:
    await series.pull(client, IDS, engagement_types=METRICS)
    before = series.path.read_bytes()
    world.now += 5 * HOUR
    pull = asyncio.ensure_future(series.pull(client, IDS))
    while len(world.emulator.log) < 3:
        await asyncio.sleep(0)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert series.path.read_bytes() == before
    await series.pull(client)


async def test_what_a_pull_refuses(world: World, client: EngagementClient, series: EngagementSeries) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"endpoint": HISTORICAL}, "historical is what fill asks"),
        ({"engagement_types": ["likes"]}, "favorites"),
        ({"tweet_ids": []}, "no Tweet to pull"),
        ({}, "there is no series here"),
    )
    for options, says in refused:
        with pytest.raises(UsageError, match=says):
            await series.pull(client, **options)
    with pytest.raises(UsageError, match="pull first"):
        await series.fill(client)
    wrong = OAuth1Credentials("a", "b", "c", "d")
    async with EngagementClient(wrong, rate_limit=RateLimit(60), base_url=world.emulator.base_url) as refused_client:
        with pytest.raises(AuthError):
            await series.pull(refused_client, IDS, engagement_types=METRICS)
    assert not series.path.exists()
    await series.pull(client, IDS, engagement_types=METRICS)
    with pytest.raises(OtherSeriesError, match="begin another store"):
        await series.pull(client, IDS, engagement_types=["replies"])
    assert repr(series) == f"<EngagementSeries {series.path}>"


async def test_totals_are_snapshots_with_deltas(world: World, series: EngagementSeries) -> None:
    bearer = BearerCredentials(world.emulator.bearer_token)
    async with EngagementClient(bearer, rate_limit=RateLimit(6000), base_url=world.emulator.base_url) as client:
        for days in range(3):
            world.now = ZERO + days * 24 * HOUR
            await series.pull(client, IDS, endpoint=TOTALS, engagement_types=["favorites"])
    found = series.to_arrow("totals").to_pylist()
    assert len(found) == 3 * len(IDS)
    deltas = [row["delta"] for row in found]
    values = [row["value"] for row in found]
    assert deltas == [None if n % 3 == 0 else values[n] - values[n - 1] for n in range(len(found))]
    assert sum(delta for delta in deltas if delta) > 0


async def test_owners_of_a_credential_store(tmp_path: Path) -> None:
    now = ZERO.timestamp()
    async with Emulator(requests_per_minute=None, owners=2, unavailable_fraction=0.0, now=lambda: now) as server:
        credentials = {
            owner.handle: OAuth1Credentials(
                server.consumer_key, server.consumer_secret, owner.access_token, owner.access_token_secret
            )
            for owner in server.owners
        }
        tweets = {owner.handle: server.tweet_ids(owner.handle, 5) for owner in server.owners}
        series = EngagementSeries(tmp_path / "s.duckdb", now=lambda: datetime.fromtimestamp(now, UTC))
        async with EngagementClient(credentials, rate_limit=RateLimit(6000), base_url=server.base_url) as client:
            await series.pull(client, tweets, engagement_types=METRICS)
            now += 60 * 3600
            await series.pull(client)
            (report,) = await series.fill(client)
    assert report.answered == 10
    assert set(series.tracked()) == {(owner, i) for owner, ids in tweets.items() for i in ids}
    assert series.gaps() == []
    assert set(series.to_arrow()["owner"].to_pylist()) == set(tweets)


@pytest.mark.parametrize("count", [2, 25], ids=["at the end", "after twenty"])
async def test_owners_fail_alone_in_a_fill_too(tmp_path: Path, count: int) -> None:
    """Nobody is asked but those whose Tweets have gaps: that they fail alike says nothing of the others."""
    now = ZERO.timestamp()
    async with Emulator(
        requests_per_minute=None, owners=count + 1, unavailable_fraction=0.0, now=lambda: now
    ) as server:
        tokens = {
            owner.handle: OAuth1Credentials(
                server.consumer_key, server.consumer_secret, owner.access_token, owner.access_token_secret
            )
            for owner in server.owners
        }
        good, *others = tokens
        tweets = {handle: server.tweet_ids(handle, 2) for handle in tokens}
        theirs = {handle: tweets[handle] for handle in others}
        limit = RateLimit(60_000)
        series = EngagementSeries(tmp_path / "s.duckdb", now=lambda: datetime.fromtimestamp(now, UTC))
        async with EngagementClient(tokens, rate_limit=limit, base_url=server.base_url) as client:
            await series.pull(client, tweets, engagement_types=METRICS)
            now += 60 * 3600
            await series.pull(client, theirs)

        server.revoke(others[0])
        left = {handle: tokens[handle] for handle in (good, others[0])}
        async with EngagementClient(left, rate_limit=limit, base_url=server.base_url) as client:
            (report,) = await series.fill(client)
            assert set(report.failed_tweet_ids) == {i for ids in theirs.values() for i in ids}
            for reason in report.failed_tweet_ids.values():
                assert isinstance(reason, Failure)
                assert reason.kind is FailureKind.CREDENTIALS
            assert {owner for gap in series.gaps() for owner, _ in gap.tweets} == set(others)

            await series.pull(client, {good: tweets[good]})
            server.revoke(good)
            with pytest.raises(AuthError):  # now all owners of the series have gaps
                await series.fill(client)


async def test_a_tweet_is_asked_for_with_one_owner_alone(tmp_path: Path) -> None:
    """The one with whom it was answered, and of several the last: where a name is corrected, the old one stays behind."""
    now = ZERO.timestamp()
    async with Emulator(requests_per_minute=None, owners=2, unavailable_fraction=0.0, now=lambda: now) as server:
        one, two = (
            OAuth1Credentials(
                server.consumer_key, server.consumer_secret, owner.access_token, owner.access_token_secret
            )
            for owner in server.owners
        )
        firsts, seconds = (server.tweet_ids(owner.handle, 3) for owner in server.owners)
        series = EngagementSeries(tmp_path / "s.duckdb", now=lambda: datetime.fromtimestamp(now, UTC))
        tokens = {"one": one, "two": two, "2": two}
        async with EngagementClient(tokens, rate_limit=RateLimit(6000), base_url=server.base_url) as client:
            report = await series.pull(client, {"one": firsts, "tow": seconds}, engagement_types=METRICS)
            assert set(report.failed_tweet_ids) == set(seconds)
            assert {owner for owner, _ in series.tracked()} == {"one", "tow"}  # nobody else asked for these
            for owner in ("two", "2"):
                now += 40 * 3600
                await series.pull(client, {"one": firsts, owner: seconds})
                assert set(series.tracked()) == {("one", i) for i in firsts} | {(owner, i) for i in seconds}
            await series.pull(client, {"one": firsts, "tow": seconds})  # the answered one stays
            assert set(series.tracked()) == {("one", i) for i in firsts} | {("2", i) for i in seconds}
            now += 40 * 3600
            assert (await series.pull(client)).answered == 6
            await series.fill(client)
            assert series.gaps() == []


async def test_tweets_with_owners_and_without_are_not_in_one_series(
    world: World, client: EngagementClient, series: EngagementSeries, tmp_path: Path
) -> None:
    owned = EngagementSeries(tmp_path / "owned.duckdb", now=lambda: world.now)
    async with EngagementClient(
        {"me": OAuth1Credentials(*world.secrets)}, rate_limit=RateLimit(6000), base_url=world.emulator.base_url
    ) as store_client:
        await series.pull(client, IDS, engagement_types=METRICS)
        await owned.pull(store_client, {"me": IDS}, engagement_types=METRICS)
        sent = len(world.emulator.log)
        for tweets in ({"me": IDS}, None):
            with pytest.raises(OtherSeriesError, match="have no owners: leave out their column"):
                await series.pull(store_client, tweets)
        for given in (IDS, None):
            with pytest.raises(OtherSeriesError, match="have owners: name their column"):
                await owned.pull(client, given)
        with pytest.raises(OtherSeriesError, match="have owners"):
            await owned.fill(client)

        with duckdb.connect(str(owned.path)) as database:  # as earlier versions let it be
            database.execute("UPDATE tweets SET owner = '' WHERE tweet_id = ?", [IDS[0]])
        for each in (client, store_client):
            with pytest.raises(OtherSeriesError, match="with owners and without, whose hours count twice"):
                await owned.pull(each)
        assert len(world.emulator.log) == sent


def test_a_watch_ends_in_good_order_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    store = tmp_path / "s.duckdb"
    with Emulator(requests_per_minute=None, unavailable_fraction=0.0) as server:
        command = [sys.executable, "-m", "engagement_async", "series"]
        environment = {
            **os.environ,
            **server.environment,
            "ENGAGEMENT_CONFIG": "",
            "ENGAGEMENT_REQUESTS_PER_MINUTE": "6000",
        }
        watch = [
            "watch",
            str(store),
            "--ids",
            str(tmp_path / "ids.txt"),
            "--every",
            "0.5s",
            "--metrics",
            ",".join(METRICS),
        ]
        for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGINT, 130)):
            asked = len(server.log)
            process = subprocess.Popen(
                [*command, *watch, "--scheduler", "process"], env=environment, stderr=subprocess.PIPE
            )
            while len(server.log) < asked + 5:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(number)
            _, told = process.communicate()
            assert process.returncode == code, told.decode()
        done = subprocess.run(
            [*command, "status", str(store), "--json"], capture_output=True, check=True, env=environment
        )
    status = json.loads(done.stdout)
    assert status["tweets"]["answered"] == len(IDS)
    assert status["pulls"] >= 4
    assert status["gaps"] == []


async def test_a_store_that_another_program_writes_is_locked_and_not_damaged(
    world: World, client: EngagementClient, series: EngagementSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engagement_async.series.store._WAIT_S", 0.2)
    await series.pull(client, IDS, engagement_types=METRICS)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(series.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == b"open\n"
        asked = len(world.emulator.log)
        with pytest.raises(SeriesLockedError, match="close it there"):
            await asyncio.to_thread(series.status)
        with pytest.raises(SeriesLockedError, match="close it there"):
            await series.pull(client, IDS)
        assert len(world.emulator.log) == asked
    finally:
        writer.communicate(b"\n")
    with duckdb.connect(str(series.path)), pytest.raises(SeriesLockedError, match="close it there"):
        await asyncio.to_thread(series.status)
    assert series.status().pulls == 1
