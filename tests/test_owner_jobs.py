"""Jobs with Tweets of many owners: processes that are killed, who is asked when, journals of before, who fails alone."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from math import ceil
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from engagement_async import (
    HISTORICAL,
    LAST_28_HOURS,
    AuthError,
    CredentialFile,
    OAuth1Credentials,
    Query,
    RateLimit,
    TweetsByOwner,
    UsageError,
)
from engagement_async.backfill import BackfillJob
from engagement_async.backfill.job import JobCorruptError, JobIncompleteError, OtherJobError
from engagement_async.backfill.repair import repair
from engagement_async.emulator import Emulator
from tests.support.jobs import digest, emulator, make_ids

QUERY = Query(
    LAST_28_HOURS,
    engagement_types=["favorites", "impressions"],
    groupings={
        "by_tweet": ["tweet.id", "engagement.type"],
        "by_owner": ["owner", "engagement.type"],
        "all": ["engagement.type"],
    },
)
FLAGS = (
    *("28hr", "--metrics", "favorites,impressions", "--group-by", "by_tweet=tweet.id,engagement.type"),
    *("--group-by", "by_owner=owner,engagement.type", "--group-by", "all=engagement.type"),
)
REVOKED, UNKNOWN = "owner7", "owner9"
KILLS = 5
FAST = RateLimit(60_000)


class Agency:
    """An emulator with owners, their Tweets, and the file of their tokens: without that of one owner."""

    def __init__(self, server: Emulator, folder: Path, count: int) -> None:
        self.server = server
        self.folder = folder
        self.owned: dict[str, list[str]] = defaultdict(list)
        ids = make_ids(count)
        for tweet_id in ids:
            self.owned[server.owner_of(tweet_id) or ""].append(tweet_id)
        self.ids = folder / "ids.csv"
        self.ids.write_text("handle,tweet_id\n" + "".join(f"{server.owner_of(i)},{i}\n" for i in ids))
        self.tokens = folder / "owners.csv"
        self.write_tokens(without=(UNKNOWN,))

    def write_tokens(self, *, without: tuple[str, ...] = ()) -> None:
        owners = [owner for owner in self.server.owners if owner.handle not in without]
        lines = [f"{owner.handle},{owner.access_token},{owner.access_token_secret}" for owner in owners]
        self.tokens.touch(0o600)
        self.tokens.chmod(0o600)
        self.tokens.write_text("owner,access_token,access_token_secret\n" + "\n".join(lines))

    @property
    def store(self) -> CredentialFile:
        return CredentialFile(
            self.tokens, consumer_key=self.server.consumer_key, consumer_secret=self.server.consumer_secret
        )

    @property
    def secrets(self) -> list[str]:
        tokens = [each for o in self.server.owners for each in (o.access_token, o.access_token_secret)]
        return [self.server.consumer_secret, *tokens]

    async def run(self, job: BackfillJob, **options: Any) -> Any:
        return await job.run(self.store, rate_limit=FAST, base_url=self.server.base_url, **options)

    def command(self, *args: object) -> subprocess.Popen[bytes]:
        settings = {"ENGAGEMENT_CONFIG": "", "ENGAGEMENT_REQUESTS_PER_MINUTE": "60000"}
        environ = {**os.environ, **self.server.environment, **settings}
        for name in ("ENGAGEMENT_ACCESS_TOKEN", "ENGAGEMENT_ACCESS_TOKEN_SECRET", "ENGAGEMENT_BEARER_TOKEN"):
            environ.pop(name, None)
        return subprocess.Popen(
            [sys.executable, "-m", "engagement_async", "backfill", *map(str, args)],
            env=environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *args: object) -> tuple[int, str, str]:
        process = self.command(*args)
        out, err = process.communicate(timeout=100)
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def agency(tmp_path: Path) -> Iterator[Agency]:
    with emulator(owners=40, latency_s=(0.0, 0.02)) as server:
        server.revoke(REVOKED)
        yield Agency(server, tmp_path, 1_100)


async def test_a_job_that_is_killed_exports_what_an_undisturbed_one_does(agency: Agency, tmp_path: Path) -> None:
    undisturbed = BackfillJob(tmp_path / "undisturbed")
    await undisturbed.start(QUERY, files=[agency.ids], owner_column="handle")
    await agency.run(undisturbed)
    rng = random.Random(5)
    job = tmp_path / "job"
    start = ("run", job, *FLAGS, "--ids", agency.ids, "--owner-column", "handle", "--credentials", agency.tokens)
    for kills in range(100):
        process = agency.command(*start, "--concurrency", 2)
        enough = len(agency.server.log) + rng.randrange(1, 25)
        while process.poll() is None and (len(agency.server.log) < enough or kills == KILLS):
            time.sleep(0.005)
        process.kill()
        output = b"".join(process.communicate())
        assert not [secret for secret in agency.secrets if secret.encode() in output]
        if process.returncode != -9:
            break

    assert process.returncode == 3, output
    assert kills
    for name, folder in (("a", undisturbed.directory.path), ("b", job)):
        for suffix in ("csv", "parquet"):
            await BackfillJob(folder).export(
                tmp_path / f"{name}-{{grouping}}.{suffix}", outcomes=tmp_path / f"{name}.csv"
            )
        await BackfillJob(folder).export(tmp_path / f"{name}.json")
    for suffix in ("-by_tweet.csv", "-by_owner.csv", "-all.csv", "-by_tweet.parquet", ".csv", ".json"):
        assert digest(tmp_path / f"a{suffix}") == digest(tmp_path / f"b{suffix}")
    held = b"".join(path.read_bytes() for path in job.iterdir() if path.is_file())
    assert not [secret for secret in agency.secrets if secret.encode() in held]


async def test_every_value_is_under_its_owner_and_an_owner_fails_alone(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    progress = await agency.run(job)

    failing = len(agency.owned[REVOKED]) + len(agency.owned[UNKNOWN])
    assert (progress.outcome, progress.outcomes.failed, progress.outcomes.forbidden) == ("done", failing, 0)
    good = sum(ceil(len(ids) / 25) for owner, ids in agency.owned.items() if owner not in (REVOKED, UNKNOWN))
    assert good < progress.requests <= good + 2
    status = await job.status()
    assert set(list(status.owners)[:2]) == {REVOKED, UNKNOWN}
    assert {owner: its.ids for owner, its in status.owners.items()} == {o: len(ids) for o, ids in agency.owned.items()}
    assert all((its.error is not None) == (owner in (REVOKED, UNKNOWN)) for owner, its in status.owners.items())

    await job.export(tmp_path / "{grouping}.parquet")
    rows = pq.read_table(tmp_path / "by_tweet.parquet").to_pylist()
    assert list(rows[0]) == ["owner", "tweet_id", "engagement_type", "value"]
    assert all(row["owner"] == agency.server.owner_of(row["tweet_id"]) for row in rows)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        sums[row["owner"], row["engagement_type"]] += row["value"]
    by_owner = pq.read_table(tmp_path / "by_owner.parquet").to_pylist()
    assert {(row["owner"], row["engagement_type"]): row["value"] for row in by_owner} == sums

    agency.server.reissue(REVOKED)
    agency.write_tokens()
    code, _, error = agency.call("retry-failed", job.directory.path, "--credentials", agency.tokens)
    assert code == 0, error
    assert (await job.status()).totals.outcomes.failed == 0
    one = ("-o", "{grouping}-one.csv", "--only-owner", UNKNOWN, "--outcomes", "o.csv")
    code, _, error = agency.call("export", job.directory.path, *one)
    assert code == 0, error
    owners = {line.split(",")[0] for line in (tmp_path / "by_tweet-one.csv").read_text().splitlines()[1:]}
    assert owners == {UNKNOWN}
    assert len((tmp_path / "by_owner-one.csv").read_text().splitlines()) == 3


async def test_owners_that_are_left_fail_alone_too(agency: Agency, tmp_path: Path) -> None:
    """A run after a kill may have nobody left but owners whose credentials are of no use."""
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, {"owner1": agency.owned["owner1"]})
    assert (await agency.run(job)).outcome == "done"
    await job.start(QUERY, {REVOKED: agency.owned[REVOKED]}, extend=True)
    progress = await agency.run(job)

    assert (progress.outcome, progress.pending) == ("done", 0)
    assert progress.outcomes.failed == len(agency.owned[REVOKED])
    alone = BackfillJob(tmp_path / "alone")
    await alone.start(QUERY, {REVOKED: agency.owned[REVOKED]})
    with pytest.raises(AuthError, match="every owner fails alike"):
        await agency.run(alone)


async def test_a_large_owner_holds_nobody_up(tmp_path: Path) -> None:
    async with emulator(owners=1) as server:
        ids = make_ids(12_500)
        owner = server.owners[0]
        token = OAuth1Credentials(
            server.consumer_key, server.consumer_secret, owner.access_token, owner.access_token_secret
        )
        large, small = ids[:10_000], ids[10_000:]
        pairs = [("large", i) for i in large] + [(f"small{n // 25}", i) for n, i in enumerate(small)]
        job = BackfillJob(tmp_path / "job")
        await job.start(QUERY, TweetsByOwner(pairs))
        await job.run(lambda _: token, rate_limit=FAST, base_url=server.base_url, max_requests=220)

        owners = (await job.status()).owners
        assert all(not its.pending for name, its in owners.items() if name != "large")
        assert owners["large"].pending == 7_000
        with pytest.raises(JobIncompleteError):
            await job.export(tmp_path / "all.{grouping}.csv")
        await job.export(tmp_path / "small.{grouping}.csv", only_owners=["small3"])
        assert (tmp_path / "small.by_tweet.csv").read_text().count("small3,") > 25


async def test_a_job_with_owners_goes_on_as_one(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    first = await job.start(QUERY, files=[agency.ids], owner_column="handle")
    assert (await job.start(QUERY, files=[agency.ids], owner_column="handle")).new_ids == 0
    with pytest.raises(OtherJobError, match="have owners"):
        await job.start(QUERY, ["1"], extend=True)
    with pytest.raises(OtherJobError, match="other IDs"):
        await job.start(QUERY, {"acme": ["1"]})
    mine = agency.owned["owner1"][0]
    with pytest.raises(UsageError, match=f"Tweet {mine} is given for two owners, 'owner1' and 'acme'"):
        await job.start(QUERY, {"acme": ["1", mine]}, extend=True)
    added = await job.start(QUERY, {"acme": ["1", mine], "owner1": ["2"]}, extend=True, first_owner=True)
    assert (first.new_ids, added.new_ids, added.totals.ids) == (1_100, 2, 1_102)
    with pytest.raises(UsageError, match="credentials is one owner"):
        await job.run(OAuth1Credentials("a", "b", "c", "d"), rate_limit=FAST, base_url=agency.server.base_url)
    assert (await job.verify()).ids == 1_102


async def test_a_job_without_owners_has_no_place_for_them(agency: Agency, tmp_path: Path) -> None:
    query = Query(LAST_28_HOURS, engagement_types=["favorites"], groupings={"t": ["tweet.id"]})
    job = BackfillJob(tmp_path / "job")
    await job.start(query, agency.owned["owner1"])
    with closing(sqlite3.connect(job.directory.journal_path)) as connection, connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
        assert [row[1] for row in connection.execute("PRAGMA table_info(batch)")] == ["number", "ids", "sha256"]
    connection.close()
    with pytest.raises(OtherJobError, match="have no owners"):
        await job.start(query, {"owner1": ["1"]}, extend=True)
    with pytest.raises(UsageError, match="have no owners"):
        await agency.run(job)
    with pytest.raises(UsageError, match="the IDs have none"):
        await BackfillJob(tmp_path / "other").start(QUERY, ["1"])
    with pytest.raises(UsageError, match="leave out --only-owner"):
        await job.export(tmp_path / "a.csv", only_owners=["owner1"])


def test_status_and_report_by_owner(agency: Agency, tmp_path: Path) -> None:
    job = tmp_path / "job"
    start = ("run", job, *FLAGS, "--ids", agency.ids, "--owner-column", "handle")
    assert agency.call(*start, "--credentials", agency.tokens, "--max-requests", 5)[0] == 5
    log = ("--log-file", "run.log", "--log-level", "debug")
    code, out, error = agency.call("run", job, "--credentials", agency.tokens, *log)
    assert code == 3, error
    _, text, _ = agency.call("status", job)
    assert "40 of 40 done" in text
    assert f"owner {UNKNOWN}: the credential store has no credentials" in text
    document = orjson.loads(agency.call("status", job, "--json")[1])
    assert set(list(document["owners"])[:2]) == {REVOKED, UNKNOWN}
    assert sum(its["ids"] for its in document["owners"].values()) == 1_100
    _, report, _ = agency.call("report", job)
    assert "40 owners; the credentials of 2 were of no use" in report
    assert "--credentials FILE" in agency.call("retry-failed", job)[2]
    shown = text + report + out + error + (tmp_path / "run.log").read_text()
    assert f"owner {REVOKED}: the credentials were refused" in error
    assert not [secret for secret in agency.secrets if secret in shown]


async def test_a_damaged_job_is_repaired_with_its_owners(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    await agency.run(job)
    before = await job.status()
    with closing(sqlite3.connect(job.directory.journal_path)) as connection, connection:
        connection.execute("UPDATE answer SET size = size + 1 WHERE number = 5")
    connection.close()
    with pytest.raises(JobCorruptError):
        await job.verify()
    assert (await asyncio.to_thread(repair, job.directory)).lost_answers == 1
    lost = (await job.status()).totals.pending
    await agency.run(job)

    after = await job.status()
    assert 0 < lost <= 25
    assert dict(after.owners) == dict(before.owners)
    assert (await job.verify()).ids == 1_100


async def test_a_changed_owner_is_damage(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    with closing(sqlite3.connect(job.directory.journal_path)) as connection, connection:
        connection.execute("UPDATE batch SET owner = 'owner1' WHERE owner = 'owner2'")
    connection.close()

    with pytest.raises(JobCorruptError, match="the checksum of batch"):
        await job.verify()


async def test_a_span_of_many_weeks_is_asked_for_each_owner(agency: Agency, tmp_path: Path) -> None:
    query = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"t": ["tweet.id", "engagement.type"], "s": ["owner", "engagement.day"]},
        start="2025-10-01",
        end="2025-12-20",
    )
    job = BackfillJob(tmp_path / "job")
    await job.start(query, {owner: ids[:5] for owner, ids in agency.owned.items()})
    while (await job.status()).totals.pending:
        progress = await agency.run(job, max_requests=40)
    assert progress.outcomes.forbidden == 0
    assert progress.outcomes.failed == 10
    await job.export(tmp_path / "{grouping}.parquet")
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert all(row["owner"] == agency.server.owner_of(row["tweet_id"]) for row in rows)
    days = pq.read_table(tmp_path / "s.parquet")
    assert days.column_names == ["owner", "engagement_day", "value"]
