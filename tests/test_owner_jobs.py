"""Jobs with Tweets of many owners: processes that are killed, who is asked when, journals of before, who fails alone."""

from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from math import ceil
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from engagement_async import (
    HISTORICAL,
    LAST_28_HOURS,
    TOTALS,
    AuthError,
    OAuth1Credentials,
    Query,
    TweetsByOwner,
    UsageError,
)
from engagement_async.backfill import BackfillJob
from engagement_async.backfill.job import JobCorruptError, JobIncompleteError, OtherJobError
from engagement_async.backfill.owner_records import OwnerRecords
from engagement_async.backfill.repair import repair
from tests.support.agency import FAST, FLAGS, QUERY, REVOKED, UNKNOWN, Agency
from tests.support.jobs import NOW, digest, emulator, make_ids

KILLS = 5


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


async def test_a_retry_that_was_stopped_says_so(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    await agency.run(job)
    agency.server.reissue(REVOKED)
    agency.write_tokens()
    retry = ("retry-failed", job.directory.path, "--credentials", agency.tokens)

    code, _, error = agency.call(*retry, "--max-requests", 1)
    assert code == 5, error
    assert "not done: the requests of --max-requests are used up. Go on with: engagement backfill retry-failed" in error
    code, _, error = agency.call(*retry)
    assert code == 0, error


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


async def test_weights_are_remembered_until_there_are_others(agency: Agency, tmp_path: Path) -> None:
    owned = {owner: ids for owner, ids in agency.owned.items() if owner not in (REVOKED, UNKNOWN)}
    heavy, light, other = list(owned)[:3]
    few = {owner: agency.server.tweet_ids(owner, 500, newest_at=NOW) for owner in (light, heavy, other)}
    job = BackfillJob(tmp_path / "job")
    with pytest.raises(UsageError, match="the weight of owner 'nobody': this job has no Tweets"):
        await job.start(QUERY, few, owner_weights={"nobody": 3})
    assert not job.directory.path.exists()
    with pytest.raises(UsageError, match="whole number from 1 on"):
        await job.start(QUERY, few, owner_weights={heavy: 0})
    await job.start(QUERY, TweetsByOwner(few, weights={heavy: 3}))

    async def spent(requests: int) -> list[int]:
        before = {owner: its.requests for owner, its in (await job.status()).owners.items()}
        await agency.run(job, max_requests=requests, concurrency=1)
        after = (await job.status()).owners
        return [after[owner].requests - before[owner] for owner in (heavy, light, other)]

    assert await spent(10) == [6, 2, 2]
    assert await spent(10) == [6, 2, 2]
    await job.start(owner_weights={light: 2})
    assert await spent(6) == [3, 2, 1]
    await job.start(QUERY, TweetsByOwner(few), owner_weights={heavy: 1, light: 1})
    assert await spent(6) == [2, 2, 2]
    with pytest.raises(UsageError, match="the weight of owner 'nobody'"):
        await job.start(QUERY, {heavy: ["1"]}, extend=True, owner_weights={"nobody": 2})
    assert (await job.status()).totals.ids == 1_500
    assert (await job.verify()).ids == 1_500
    await BackfillJob(tmp_path / "public").start(
        Query(TOTALS, engagement_types=["favorites"], groupings={"t": ["tweet.id"]}), ["1"]
    )
    with pytest.raises(UsageError, match="have no owners"):
        await BackfillJob(tmp_path / "public").start(owner_weights={heavy: 2})


def test_weights_on_the_command_line(agency: Agency, tmp_path: Path) -> None:
    job = tmp_path / "job"
    first = next(o for o, ids in agency.owned.items() if len(ids) > 25 and o not in (REVOKED, UNKNOWN))
    args = ("run", job, *FLAGS, "--ids", agency.ids, "--owner-column", "handle", "--credentials", agency.tokens)
    code, _, error = agency.call(*args, "--owner-weight", "nobody=2")
    assert (code, job.exists()) == (2, False), error
    assert "this job has no Tweets of an owner of that name" in error
    budget = ("--max-requests", 40, "--concurrency", 1)
    code, _, error = agency.call(*args, "--owner-weight", f"{first}=2", *budget)
    assert code == 5, error
    document = orjson.loads(agency.call("report", job, "--json")[1])
    assert document["owners"][first]["requests"] == 2
    assert {its["requests"] for owner, its in document["owners"].items() if owner != first} <= {0, 1, 2}
    code, _, error = agency.call("run", job, "--credentials", agency.tokens, "--owner-weight", f"{first}=x")
    assert code == 2
    assert "as handle=3" in error


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
    assert re.search(rf"owner {UNKNOWN}: \d.* failed; 0 requests: the credential store has no credentials", text)
    document = orjson.loads(agency.call("status", job, "--json")[1])
    assert set(list(document["owners"])[:2]) == {REVOKED, UNKNOWN}
    assert sum(its["ids"] for its in document["owners"].values()) == 1_100
    _, report, _ = agency.call("report", job)
    assert "40 owners, 2 of them with unusable credentials" in report
    table = [line.split() for line in report.splitlines()[-22:]]
    assert table[0] == ["owner", "requests", "IDs", "failed", "forbidden", "pending"]
    assert {row[0] for row in table[1:3]} == {REVOKED, UNKNOWN}
    assert " ".join(table[-1]) == "and 20 more: --json has all of them"
    assert document["owner_requests_are_exact"]
    assert sum(its["requests"] for its in document["owners"].values()) == document["requests"] == len(agency.server.log)
    assert document["owners"][UNKNOWN]["requests"] == 0
    assert "--credentials FILE" in agency.call("retry-failed", job)[2]
    shown = text + report + out + error + (tmp_path / "run.log").read_text()
    assert re.search(rf"owner {REVOKED}: \d.* requests?: the credentials were refused", error)
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
    assert {o: its[:3] for o, its in after.owners.items()} == {o: its[:3] for o, its in before.owners.items()}
    assert after.owner_requests_are_exact
    assert (await job.verify()).ids == 1_100


async def test_a_journal_of_before_says_that_it_has_not_counted_all(
    agency: Agency, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    with monkeypatch.context() as patched:
        patched.setattr(OwnerRecords, "changed", lambda _: {})
        await agency.run(job, max_requests=20)
    assert not (await job.status()).owner_requests_are_exact
    progress = await agency.run(job)

    status = await job.status()
    assert not status.owner_requests_are_exact
    assert sum(its.requests for its in status.owners.values()) == progress.requests == status.requests - 20
    document = orjson.loads((await asyncio.to_thread(agency.call, "report", job.directory.path, "--json"))[1])
    assert (document["requests_are_exact"], document["owner_requests_are_exact"]) == (True, False)


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
