"""Jobs that leave the Tweets of owners pending whose credentials are of no use: until there are new tokens."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import orjson
import pytest

from engagement_async import HISTORICAL, AuthError, OAuth1Credentials, Query, UsageError
from engagement_async.backfill import BackfillJob, JobState
from engagement_async.emulator import Emulator
from tests.support.agency import FAST, FLAGS, QUERY, REVOKED, UNKNOWN, Agency
from tests.support.jobs import digest, emulator

KILLS = 6
PENDING: dict[str, Any] = {"failed_credentials": "pending"}
START = ("--owner-column", "handle", "--failed-credentials", "pending")
TABLES = ("{grouping}.csv", "{grouping}.parquet", "all.json")


@pytest.fixture
def agency(tmp_path: Path) -> Iterator[Agency]:
    with emulator(owners=40, latency_s=(0.0, 0.02)) as server:
        server.revoke(REVOKED)
        yield Agency(server, tmp_path, 1_100)


def left(agency: Agency) -> int:
    return len(agency.owned[REVOKED]) + len(agency.owned[UNKNOWN])


def requests_by_owner(server: Emulator, since: int = 0) -> Counter[str | None]:
    """Return how many requests were accepted for each owner; None has those that were refused."""
    log = itertools.islice(server.log, since, None)
    return Counter(server.owner_of(entry.tweet_ids[0]) if entry.tweet_ids else None for entry in log)


async def exported(job: Path, folder: Path, *, partial: bool = False) -> list[str]:
    """Return the digests of all that a job exports."""
    folder.mkdir()
    for table in TABLES:
        outcomes = folder / f"outcomes-of-{TABLES.index(table)}.csv"
        await BackfillJob(job).export(folder / table, outcomes=outcomes, partial=partial)
    return [f"{path.name} {digest(path)}" for path in sorted(folder.iterdir())]


async def undisturbed(folder: Path) -> list[str]:
    """Return what a job exports whose owners all have good tokens."""
    folder.mkdir()
    async with emulator(owners=40) as server:
        agency = Agency(server, folder, 1_100)
        agency.write_tokens()
        job = BackfillJob(folder / "job")
        await job.start(QUERY, files=[agency.ids], owner_column="handle")
        assert (await agency.run(job)).outcome == "done"
        return await exported(job.directory.path, folder / "exports")


async def test_tweets_are_pending_until_there_are_new_tokens(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    first = await agency.run(job, **PENDING)

    assert (first.outcome, first.pending, first.outcomes.failed) == ("credentials", left(agency), 0)
    status = await job.status()
    assert set(list(status.owners)[:2]) == {REVOKED, UNKNOWN}
    assert status.state is JobState.CREDENTIALS
    assert all((its.error is not None) == (owner in (REVOKED, UNKNOWN)) for owner, its in status.owners.items())
    assert status.owners[UNKNOWN].error == f"owner {UNKNOWN}: the credential store has no credentials for it"
    assert status.owners[REVOKED].requests <= 2
    assert (status.owners[UNKNOWN].requests, status.owners[UNKNOWN].pending) == (0, len(agency.owned[UNKNOWN]))

    before = len(agency.server.log)
    again = await agency.run(job, **PENDING)  # nothing has changed
    assert (again.outcome, again.pending) == ("credentials", left(agency))
    assert again.requests == len(agency.server.log) - before <= 2

    agency.server.reissue(REVOKED)
    agency.write_tokens(without=(UNKNOWN,))
    some = await agency.run(job, **PENDING)
    assert (some.outcome, some.pending) == ("credentials", len(agency.owned[UNKNOWN]))
    status = await job.status()
    assert [owner for owner, its in status.owners.items() if its.error] == [UNKNOWN]
    agency.write_tokens()
    assert (await agency.run(job, **PENDING)).outcome == "done"

    status = await job.status()
    assert not [its for its in status.owners.values() if its.error]
    assert status.owner_requests_are_exact
    accepted = requests_by_owner(agency.server)
    spent = {owner: its.requests for owner, its in status.owners.items()}
    assert spent == accepted - Counter({None: accepted[None]}) + Counter({REVOKED: accepted[None]})
    good = sum(ceil(len(ids) / 25) for ids in agency.owned.values())
    assert good < status.requests == len(agency.server.log) <= good + 4
    assert (await job.verify()).outcomes.answered + (await job.verify()).outcomes.unavailable == 1_100
    assert await exported(job.directory.path, tmp_path / "exports") == await undisturbed(tmp_path / "undisturbed")


def test_a_long_name_of_an_owner_is_cut_for_people_and_whole_for_machines(agency: Agency, tmp_path: Path) -> None:
    long, job = "acme" * 2_500, tmp_path / "job"
    agency.ids.write_text(f"{agency.ids.read_text()}{long},1\n")
    tokens = ("--credentials", agency.tokens)
    texts = [agency.call("run", job, *FLAGS, "--ids", agency.ids, *START, *tokens)]
    texts += [agency.call(name, job) for name in ("status", "usage")]

    for _, out, error in texts:
        assert "acme" * 14 + "acm…" in out + error
        assert long not in out + error
    for name in ("status", "usage"):
        assert long in orjson.loads(agency.call(name, job, "--json")[1])["owners"]


def test_on_the_command_line(agency: Agency, tmp_path: Path) -> None:
    job, tokens = tmp_path / "job", ("--credentials", agency.tokens)
    code, _, error = agency.call("run", job, *FLAGS, "--ids", agency.ids, *START, *tokens)
    assert code == 4, error
    assert "not done: some owners' credentials are unusable" in error
    assert re.search(
        rf"owner {UNKNOWN}: \d.* pending; 0 requests: the credential store has no credentials for it", error
    )
    assert f"engagement backfill run {job}" in error

    before = len(agency.server.log)
    code, _, error = agency.call("run", job, *tokens, "--until-done", "--json")  # the option is remembered
    assert code == 4, error
    event = orjson.loads(error.splitlines()[-1])
    assert (event["event"], event["outcome"], event["exit_code"]) == ("finished", "credentials", 4)
    assert event["outcomes"]["pending"] == left(agency)
    assert event["owners"][REVOKED]["pending"] == len(agency.owned[REVOKED])
    assert len(agency.server.log) - before <= 2
    assert agency.call("export", job, "-o", "all.{grouping}.csv")[0] == 5
    assert agency.call("export", job, "-o", "one.{grouping}.csv", "--only-owner", "owner1")[0] == 0
    document = orjson.loads(agency.call("status", job, "--json")[1])
    assert (document["state"], document["last_outcome"]) == ("credentials", "credentials")
    assert "stopped: waits for credentials of some owners" in agency.call("status", job)[1]

    code, _, error = agency.call("run", job, *tokens, "--failed-credentials", "failed")
    assert code == 3, error
    agency.server.reissue(REVOKED)
    agency.write_tokens()
    code, _, error = agency.call("retry-failed", job, *tokens)
    assert code == 0, error
    assert agency.call("export", job, "-o", "all.{grouping}.csv")[0] == 0


def test_the_option_is_about_owners(agency: Agency, tmp_path: Path) -> None:
    code, _, error = agency.call(
        "run", tmp_path / "job", "totals", "--ids", agency.ids, "--failed-credentials", "pending"
    )

    assert code == 2
    assert "name their column with --owner-column" in error


async def test_a_job_that_is_killed_exports_what_an_undisturbed_one_does(agency: Agency, tmp_path: Path) -> None:
    """Before the new tokens as well as after them."""
    calm = BackfillJob(tmp_path / "calm")
    await calm.start(QUERY, files=[agency.ids], owner_column="handle")
    await agency.run(calm, **PENDING)
    rng = random.Random(8)
    job = tmp_path / "job"
    start = ("run", job, *FLAGS, "--ids", agency.ids, *START, "--credentials", agency.tokens, "--concurrency", 2)

    def run_with_kills(code: int) -> None:
        for kills in itertools.count():
            process = agency.command(*start)
            enough = len(agency.server.log) + rng.randrange(1, 20)
            while process.poll() is None and (len(agency.server.log) < enough or kills >= KILLS):
                time.sleep(0.005)
            process.kill()
            output = b"".join(process.communicate())
            assert not [secret for secret in agency.secrets if secret.encode() in output]
            if process.returncode != -9:
                assert process.returncode == code, output
                return

    run_with_kills(4)
    assert await exported(job, tmp_path / "a", partial=True) == await exported(
        calm.directory.path, tmp_path / "b", partial=True
    )
    agency.server.reissue(REVOKED)
    agency.write_tokens()
    run_with_kills(0)
    await agency.run(calm, **PENDING)
    digests = await exported(job, tmp_path / "c")
    assert digests == await exported(calm.directory.path, tmp_path / "d")
    assert digests == await undisturbed(tmp_path / "undisturbed")
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != agency.tokens)
    assert not [secret for secret in agency.secrets if secret.encode() in held]


async def test_an_outage_beside_a_revoked_owner(agency: Agency, tmp_path: Path) -> None:
    """It ends the run as an outage: that is what running again may change."""
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    await agency.run(job, max_requests=20, **PENDING)
    agency.server.set_faults({"503": 1})
    progress = await agency.run(job, outage_timeout_s=2.0, **PENDING)
    assert (progress.outcome, progress.outcomes.failed) == ("outage", 0)
    assert progress.pending > left(agency)

    agency.server.set_faults(None)
    progress = await agency.run(job, **PENDING)
    assert (progress.outcome, progress.outcomes.failed, progress.pending) == ("credentials", 0, left(agency))
    agency.server.set_faults({"503": 1})
    progress = await agency.run(job, outage_timeout_s=2.0, **PENDING)
    owners = (await job.status()).owners
    assert (progress.outcome, progress.pending) == ("outage", left(agency))
    assert owners[REVOKED].error is not None  # nobody has said anything else meanwhile
    assert sum(its.requests for its in owners.values()) == len(agency.server.log)


async def test_a_token_that_is_revoked_while_the_job_runs(agency: Agency, tmp_path: Path) -> None:
    owner = max(agency.owned, key=lambda owner: len(agency.owned[owner]) if owner not in (REVOKED, UNKNOWN) else 0)
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    await agency.run(job, max_requests=38, concurrency=1, **PENDING)  # one of each owner
    agency.server.revoke(owner)
    progress = await agency.run(job, concurrency=1, **PENDING)

    its = (await job.status()).owners[owner]
    assert (progress.outcome, progress.outcomes.failed) == ("credentials", 0)
    assert its.outcomes.answered
    assert its.pending
    assert "the credentials were refused" in (its.error or "")
    assert progress.pending == left(agency) + its.pending


@pytest.mark.parametrize("count", [3, 40])
async def test_when_all_owners_fail_alike_the_run_stops_and_nothing_fails(
    agency: Agency, tmp_path: Path, count: int
) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, dict(list(agency.owned.items())[:count]))
    wrong = OAuth1Credentials("no", "such", "application", "here")
    for _ in range(2):
        before = len(agency.server.log)
        with pytest.raises(AuthError, match="every owner fails alike"):
            await job.run(lambda _: wrong, rate_limit=FAST, base_url=agency.server.base_url, **PENDING)
        assert len(agency.server.log) - before <= 2 * min(count, 20) + 16
        status = await job.status()
        assert (status.totals.outcomes.failed, status.totals.pending) == (0, status.totals.ids)

    agency.server.reissue(REVOKED)
    agency.write_tokens()
    assert (await agency.run(job, **PENDING)).outcome == "done"


async def test_one_good_token_among_many_bad_ones_is_found(agency: Agency, tmp_path: Path) -> None:
    """More owners are left than fail before a run stops: each run must get to all of them."""
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, files=[agency.ids], owner_column="handle")
    bad = [owner for owner in agency.owned if owner not in (REVOKED, UNKNOWN)][5:35]
    for owner in bad:
        agency.server.revoke(owner)
    assert (await agency.run(job, **PENDING)).outcome == "credentials"
    agency.server.reissue(bad[-1])
    agency.write_tokens(without=(UNKNOWN,))
    progress = await agency.run(job, **PENDING)

    owners = (await job.status()).owners
    assert progress.outcome == "credentials"
    assert not owners[bad[-1]].pending
    assert all(owners[owner].pending for owner in (*bad[:-1], REVOKED, UNKNOWN))
    await agency.run(job)
    assert (await job.status()).totals.outcomes.failed == sum(its.pending for its in owners.values())
    agency.server.reissue(bad[-2])
    agency.write_tokens(without=(UNKNOWN,))
    await agency.run(job, failed_only=True)
    assert not (await job.status()).owners[bad[-2]].outcomes.failed


async def test_a_run_with_a_budget_asks_owners_that_were_refused_last(agency: Agency, tmp_path: Path) -> None:
    agency.server.revoke("owner1")
    refused = {REVOKED, "owner1"}
    job = BackfillJob(tmp_path / "job")
    first = {owner: agency.owned[owner] for owner in (*refused, "owner2")}
    await job.start(QUERY, first)
    assert (await agency.run(job, **PENDING)).outcome == "credentials"
    others = {owner: ids for owner, ids in agency.owned.items() if owner not in (*first, UNKNOWN)}
    await job.start(QUERY, others, extend=True)
    before = len(agency.server.log)
    needed = sum(ceil(len(ids) / 25) for ids in others.values())
    progress = await agency.run(job, max_requests=needed, concurrency=1, **PENDING)

    assert (progress.outcome, progress.pending) == ("max_requests", sum(len(agency.owned[owner]) for owner in refused))
    assert refused.isdisjoint(requests_by_owner(agency.server, before))


async def test_runs_with_a_small_budget_get_to_every_owner_that_was_refused(agency: Agency, tmp_path: Path) -> None:
    few = {owner: ids for owner, ids in agency.owned.items() if owner not in (REVOKED, UNKNOWN)}
    good, *refused = list(few)[:6]
    for owner in refused:
        agency.server.revoke(owner)
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, {owner: few[owner] for owner in (good, *refused)})
    assert (await agency.run(job, **PENDING)).outcome == "credentials"
    agency.server.reissue(refused[-1])
    agency.write_tokens(without=(UNKNOWN,))
    for _ in range(len(refused)):
        await agency.run(job, max_requests=2, concurrency=1, **PENDING)

    owners = (await job.status()).owners
    assert owners[refused[-1]].outcomes.answered
    assert not owners[refused[0]].outcomes.answered


async def test_spans_of_many_weeks(agency: Agency, tmp_path: Path) -> None:
    query = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"t": ["tweet.id", "engagement.type"], "s": ["owner", "engagement.day"]},
        start="2025-10-01",
        end="2025-12-20",
    )
    few = {owner: ids[:5] for owner, ids in agency.owned.items()}
    job, calm = BackfillJob(tmp_path / "job"), BackfillJob(tmp_path / "calm")
    await job.start(query, few)
    assert (await agency.run(job, **PENDING)).outcome == "credentials"
    assert (await job.status()).totals.pending == 10
    agency.server.reissue(REVOKED)
    agency.write_tokens()
    assert (await agency.run(job, **PENDING)).outcome == "done"
    await calm.start(query, few)
    assert (await agency.run(calm)).outcome == "done"
    assert await exported(job.directory.path, tmp_path / "a") == await exported(calm.directory.path, tmp_path / "b")


async def test_what_is_no_choice_is_refused(agency: Agency, tmp_path: Path) -> None:
    job = BackfillJob(tmp_path / "job")
    await job.start(QUERY, {"owner1": agency.owned["owner1"]})
    with pytest.raises(UsageError, match="give 'failed' or 'pending'"):
        await agency.run(job, failed_credentials="forget")
    with pytest.raises(UsageError, match="failed_only requests IDs that are failed already"):
        await agency.run(job, failed_only=True, **PENDING)
