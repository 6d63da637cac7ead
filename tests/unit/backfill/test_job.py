"""BackfillJob against a real server: it goes on, stops in good order, asks nothing twice, and remembers what it spent."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engagement_async import (
    HISTORICAL,
    Answer,
    AuthError,
    BearerCredentials,
    OAuth1Credentials,
    Query,
    RateLimit,
    RequestRefusedError,
    UsageError,
)
from engagement_async._engine.contracts import forget_contracts
from engagement_async.backfill import (
    BackfillJob,
    JobDiskError,
    JobIncompleteError,
    JobLockedError,
    OtherJobError,
    Progress,
)
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.inputs import GivenSource
from engagement_async.backfill.journal import Journal
from engagement_async.distributed import MachineScheduler, RedisScheduler
from engagement_async.emulator import Emulator
from tests.support.jobs import BY_TWEET, HOURLY, MIXED, TYPES, bearer, emulator, make_ids, merged, started
from tests.support.redis_server import RedisServer, needs_redis

FAST = RateLimit(100_000, period=1)


def owner(server: Emulator) -> OAuth1Credentials:
    return OAuth1Credentials(
        server.consumer_key, server.consumer_secret, server.access_token, server.access_token_secret
    )


async def run(job: BackfillJob, server: Emulator, **options: Any) -> Progress:
    options = {"rate_limit": FAST, "base_url": server.base_url, "concurrency": 4, **options}
    return await job.run(options.pop("credentials", bearer(server)), **options)


def asked(server: Emulator) -> list[str]:
    return [tweet_id for entry in server.log for tweet_id in entry.tweet_ids]


async def result(job: BackfillJob, tmp_path: Path, **options: Any) -> dict[str, Any]:
    await job.export(tmp_path / "result.json", **options)
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return found


def texts(value: Any) -> Any:
    return {key: texts(inner) for key, inner in value.items()} if isinstance(value, dict) else str(value)


def truth(server: Emulator, query: Query, ids: list[str]) -> dict[str, Any]:
    app_only = query.endpoint.name == "totals"
    found = server.expected(query.endpoint.name, ids, query.engagement_types, query.groupings, app_only=app_only)
    return {name: texts(found[name]) for name in query.groupings}


async def test_a_job_in_many_runs_asks_every_id_once_and_adds_up(tmp_path: Path) -> None:
    ids = make_ids(3100)
    async with emulator(unavailable_fraction=0.05) as server:
        job = BackfillJob(tmp_path / "job")
        assert (await job.start(MIXED, ids + ids[:500])).new_ids == 3100
        seen = []
        while True:
            progress = await run(job, server, max_requests=3)
            seen.append(progress)
            if progress.outcome == "done":
                break
        assert [progress.outcome for progress in seen] == ["max_requests"] * 4 + ["done"]
        assert [progress.pending for progress in seen] == [2350, 1600, 850, 100, 0]
        assert sorted(asked(server)) == sorted(ids)
        assert (await run(job, server)).requests == 0

        found = await result(job, tmp_path)
        status = await job.status()
        assert {name: found[name] for name in MIXED.groupings} == truth(server, MIXED, ids)
        assert len(found["unavailable_tweet_ids"]) == progress.outcomes.unavailable > 50
        assert (await job.verify()).outcomes == progress.outcomes == status.totals.outcomes
        assert sum(spent.requests for spent in status.runs) == 13 == len(server.log)
        assert status.is_complete
        assert not status.is_running


async def test_hours_and_sums_of_hours_are_exact(tmp_path: Path) -> None:
    ids = make_ids(90)
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(HOURLY, ids)
        await run(job, server, credentials=owner(server), max_requests=1)
        await run(job, server, credentials=owner(server))

        assert {name: (await result(job, tmp_path))[name] for name in HOURLY.groupings} == truth(server, HOURLY, ids)


async def test_what_is_unavailable_is_never_asked_again(tmp_path: Path) -> None:
    ids = make_ids(300)
    async with emulator(unavailable=ids[:40], unavailable_fraction=0) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, ids)
        await run(job, server)
        more = await job.start(BY_TWEET, [*ids[:100], "5", "6"], extend=True)
        await run(job, server)
        await job.run(bearer(server), failed_only=True, rate_limit=FAST, base_url=server.base_url)

        assert more.new_ids == 2
        assert sorted(asked(server)) == sorted([*ids, "5", "6"])


@pytest.mark.parametrize(("query", "requests"), [(BY_TWEET, 1), (MIXED, 8)], ids=["by tweet", "with sums"])
async def test_failed_ids_are_asked_again_together_and_all_adds_up(tmp_path: Path, query: Query, requests: int) -> None:
    """With sums each of the eight batches is asked apart: its answer holds the sums over its own Tweets."""
    ids = make_ids(2000)
    bad = ids[3::200]
    async with emulator(rejected=bad, unavailable_fraction=0.02) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(query, ids)
        progress = await run(job, server)
        assert progress.outcomes.failed == len(bad) == 10
        again = await job.run(bearer(server), failed_only=True, rate_limit=FAST, base_url=server.base_url)
        assert again.outcomes.failed == 10  # still refused

        server._service.world.rejected.clear()
        before = len(server.log)
        mended = await job.run(bearer(server), failed_only=True, rate_limit=FAST, base_url=server.base_url)

        assert mended.outcomes.failed == 0
        assert len(server.log) == before + requests
        assert {name: (await result(job, tmp_path))[name] for name in query.groupings} == truth(server, query, ids)
        assert (await job.verify()).outcomes == mended.outcomes


STOPS: dict[str, dict[str, Any]] = {
    "max_requests": {"max_requests": 3},
    "max_duration": {"rate_limit": RateLimit(3, period=3600), "max_duration_s": 0.4},
    "outage": {"outage_timeout_s": 2.0},
    "stopped": {},
}


@pytest.mark.parametrize("outcome", STOPS)
async def test_a_run_for_failed_ids_that_did_not_ask_all_is_not_done(tmp_path: Path, outcome: str) -> None:
    """Though no ID is pending."""
    async with emulator(latency_s=0.1, faults={"503": 1} if outcome == "outage" else None) as server:
        job = BackfillJob(tmp_path / "job")
        await asyncio.to_thread(all_failed, tmp_path / "job", 5000)
        running = asyncio.create_task(run(job, server, failed_only=True, **STOPS[outcome]))
        while outcome == "stopped" and len(server.log) < 3:
            await asyncio.sleep(0.01)
        if outcome == "stopped":
            job.stop()
        progress = await running

        assert (progress.outcome, progress.pending) == (outcome, 0)
        assert progress.outcomes.failed > 0
        assert [spent.outcome for spent in (await job.status()).runs] == [outcome]
        server.set_faults(None)
        progress = await run(job, server, failed_only=True)
        assert (progress.outcome, progress.outcomes.failed) == ("done", 0)


@pytest.mark.parametrize("rounds", range(6))
async def test_a_run_that_is_stopped_when_it_has_just_begun_requests_nothing(tmp_path: Path, rounds: int) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5_000))
        running = asyncio.create_task(run(job, server))
        for _ in range(1 + rounds):
            await asyncio.sleep(0)
        job.stop()

        assert (await running).outcome == "stopped"
        assert len(server.log) == 0
        job.stop()
        assert (await run(job, server)).outcome == "done"


async def test_a_run_for_failed_ids_with_a_budget_that_is_just_enough_is_done(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await asyncio.to_thread(all_failed, tmp_path / "job", 1000)
        progress = await run(job, server, failed_only=True, max_requests=4)

        assert (progress.outcome, progress.outcomes.failed, len(server.log)) == ("done", 0, 4)


def all_failed(path: Path, count: int) -> None:
    """Make a job of which all IDs failed."""
    with started(path, count).open_journal() as journal:
        for number, ids, _ in list(journal.batches()):
            journal.write([journal.encode(Answer(number, ids, {}, failed_tweet_ids=dict.fromkeys(ids, "down")))], {})


async def test_an_export_equals_the_merger(tmp_path: Path) -> None:
    ids = make_ids(1200)
    async with emulator(unavailable_fraction=0.05) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(MIXED, ids)
        await run(job, server)
        expected = await asyncio.to_thread(merged, job.directory)

        assert await result(job, tmp_path) == texts_of_response(expected.to_response())


def texts_of_response(response: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(response))
    return found


async def test_a_budget_that_is_just_enough_is_enough(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(1000))
        progress = await run(job, server, max_requests=4)

        assert (progress.outcome, progress.requests, progress.pending) == ("done", 4, 0)


async def test_stop_lets_what_is_on_its_way_come_home(tmp_path: Path) -> None:
    ids = make_ids(5000)
    async with emulator(latency_s=0.1) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, ids)
        running = asyncio.create_task(run(job, server))
        while len(server.log) < 6:
            await asyncio.sleep(0.01)
        job.stop()
        progress = await running

        assert progress.outcome == "stopped"
        assert progress.requests == len(server.log) == progress.ids_done // 250
        assert (await run(job, server)).outcome == "done"
        assert sorted(asked(server)) == sorted(ids)


async def test_a_deadline_stops_even_who_waits_for_the_contract(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        progress = await run(job, server, rate_limit=RateLimit(3, period=3600), max_duration_s=0.4)

        assert progress.outcome == "max_duration"
        assert 1 <= progress.requests == len(server.log) <= 3
        assert progress.pending == 5000 - 250 * progress.requests


async def test_the_next_run_counts_what_the_last_one_spent(tmp_path: Path) -> None:
    async with emulator(requests_per_minute=20, period=2.0) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(9000))
        limit = RateLimit(20, period=2.0)
        for budget in (9, 4, 13, 100):
            await run(job, server, rate_limit=limit, max_requests=budget)

        assert (await job.status()).is_complete
        assert set(server.log.statuses) == {200}
        assert server.peak() <= 20


@pytest.mark.parametrize("store", ["mapping", "function"])
async def test_the_next_run_counts_it_whatever_credentials_and_limits_it_is_given(tmp_path: Path, store: str) -> None:
    """Of one process, with a ledger that does not know what the last run sent."""
    async with emulator(requests_per_minute=20, period=2.0) as server:
        job = BackfillJob(tmp_path / "job")
        owned = owner(server)
        await job.start(BY_TWEET, {"acme": make_ids(9000)})
        for budget, burst in [(9, 2), (4, 3), (13, 3), (100, 3)]:
            credentials = {"acme": owned} if store == "mapping" else lambda name: {"acme": owned}.get(name)
            limit = RateLimit(20, period=2.0, burst=burst)
            await run(job, server, credentials=credentials, rate_limit=limit, max_requests=budget)

        assert (await job.status()).is_complete
        assert set(server.log.statuses) == {200}
        assert server.peak() <= 20


@pytest.mark.parametrize(
    "ledgers", [("a", "b", "a", "b"), ("process", "a", "process", "a"), ("apart", "a", "apart", "b")]
)
async def test_the_next_run_counts_it_where_another_ledger_keeps_the_contract(
    tmp_path: Path, ledgers: tuple[str, ...]
) -> None:
    """As on another machine, with another state folder, and where none could be written at first."""
    (tmp_path / "apart").touch()  # no folder
    async with emulator(requests_per_minute=20, period=2.0) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(9000))
        limit = RateLimit(20, period=2.0)
        for ledger, budget in zip(ledgers, (9, 9, 9, 100), strict=True):
            if ledger == "process":
                forget_contracts()
                await run(job, server, rate_limit=limit, max_requests=budget)
                continue
            async with MachineScheduler(limit, contract="x", state_dir=tmp_path / ledger) as scheduler:
                await run(job, server, rate_limit=None, scheduler=scheduler, max_requests=budget)

        assert (await job.status()).is_complete
        assert set(server.log.statuses) == {200}
        assert server.peak() <= 20


@needs_redis
async def test_the_next_run_counts_it_where_redis_keeps_the_contract(tmp_path: Path) -> None:
    async with emulator(requests_per_minute=20, period=2.0) as server, RedisServer(tmp_path) as redis:
        await redis.declare_unspent("x")
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(9000))
        limit = RateLimit(20, period=2.0)
        for budget in (9, 9, 100):
            async with RedisScheduler(redis.url, limit, contract="x") as scheduler:
                await run(job, server, rate_limit=None, scheduler=scheduler, max_requests=budget)
            forget_contracts()
            await run(job, server, rate_limit=limit, max_requests=budget)

        assert (await job.status()).is_complete
        assert set(server.log.statuses) == {200}
        assert server.peak() <= 20


async def test_a_ledger_that_goes_on_counts_nothing_twice(tmp_path: Path) -> None:
    limit = RateLimit(40, period=3600, burst=40)
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(9000))
        for done in (12, 24, 36):
            async with MachineScheduler(limit, contract="x", state_dir=tmp_path / "state") as scheduler:
                await run(job, server, rate_limit=None, scheduler=scheduler, max_requests=12, max_duration_s=20)
                assert len(server.log) == done
                assert scheduler.available(limit) == 40 - done


async def test_a_tweet_that_was_never_answered_is_no_probe(tmp_path: Path) -> None:
    """The API fails at the last Tweet of the only batch: probes for it would keep the circuit open in every run."""
    ids = make_ids(40)
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, ids)
        streams: list[list[Any]] = []

        def note(progress: Progress) -> None:
            stream = job._runner._stream if job._runner else None
            streams.extend([list(stream._call.state.endpoint.answered)] if stream else [])

        server.set_faults({"503": 1})
        await run(job, server, on_progress=note, progress_interval_s=0.05, outage_timeout_s=1.0)

        assert streams
        assert not any(streams)


async def test_an_outage_leaves_ids_pending_not_failed(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        await run(job, server, max_requests=5)
        server.set_faults({"503": 1})
        progress = await run(job, server, concurrency=12, outage_timeout_s=2.0)  # ten faults in a row are an outage
        assert (progress.outcome, progress.outcomes.failed, progress.pending) == ("outage", 0, 3750)

        server.set_faults(None)
        assert (await run(job, server)).outcome == "done"


async def test_wrong_credentials_end_the_run_and_lose_nothing(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        await run(job, server, max_requests=3)
        with pytest.raises(AuthError):
            await run(job, server, credentials=BearerCredentials("stale"))

        status = await job.status()
        assert status.totals.answers == 3
        assert [spent.outcome for spent in status.runs] == ["max_requests", "AuthError"]


async def test_a_refused_request_ends_the_run(tmp_path: Path) -> None:
    ids = make_ids(1000)
    async with emulator(rejected=ids) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, ids)
        with pytest.raises(RequestRefusedError):
            await run(job, server)

        assert (await job.status()).totals.answers == 0


@pytest.mark.parametrize(
    ("rate_limit", "most_open"),
    [
        pytest.param(RateLimit(700, period=1), 4, id="each answer is committed"),
        pytest.param(FAST, 16, id="answers are gathered"),
    ],
)
async def test_a_full_disk_stops_the_run_and_there_being_room_again_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_limit: RateLimit, most_open: int
) -> None:
    ids = make_ids(9000)
    opened = Journal.open

    def small(*args: Any, **options: Any) -> Journal:
        journal = opened(*args, **options)
        pages = journal._file.connection.execute("PRAGMA page_count").fetchone()[0]
        journal._file.connection.execute(f"PRAGMA max_page_count={pages + 24}")
        return journal

    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, ids)
        monkeypatch.setattr(Journal, "open", small)
        monkeypatch.setattr("engagement_async.backfill.committer.HOLD_S", 0.5)
        with pytest.raises(JobDiskError, match="no space"):
            await run(job, server, rate_limit=rate_limit)
        monkeypatch.undo()
        committed = (await job.verify()).answers
        assert 0 < committed < 36
        lost = len(server.log) - committed
        await run(job, server)

        assert len(asked(server)) == len(ids) + lost * 250
        assert lost <= most_open + 1  # those that were in flight, or not committed yet


async def test_two_runs_of_one_job(tmp_path: Path) -> None:
    async with emulator(latency_s=0.05) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        running = asyncio.create_task(run(job, server))
        while not len(server.log):
            await asyncio.sleep(0.01)
        for other in (job, BackfillJob(tmp_path / "job")):
            with pytest.raises(JobLockedError):
                await run(other, server)
        status = await BackfillJob(tmp_path / "job").status()
        assert status.is_running
        assert (await running).outcome == "done"


async def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    async with emulator(latency_s=0.02) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        await run(job, server, max_requests=4)
        last = await run(job, server, on_progress=told.append, progress_interval_s=0.01)

    assert len(told) > 3
    assert told[-1] == last
    assert [progress.ids_done for progress in told] == sorted(progress.ids_done for progress in told)
    assert told[-1].ids_done == told[-1].ids_total == 5000
    assert told[-1].requests == 16
    assert told[-1].eta_s == 0


async def test_what_cannot_be_asked_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        with pytest.raises(UsageError, match="no job was started"):
            await run(job, server)
        with pytest.raises(UsageError, match="give a query and IDs"):
            await job.start()
        with pytest.raises(UsageError, match="one string"):
            await job.start(BY_TWEET, "123")
        with pytest.raises(UsageError, match="not both"):
            await job.start(BY_TWEET, ["1"], files=["x"])
        await job.start(HOURLY, ["1"])
        with pytest.raises(UsageError, match=r"OAuth 1.0a"):
            await run(job, server)
        with pytest.raises(OtherJobError, match="this job has another query"):
            await job.start(BY_TWEET, ["1"])
        with pytest.raises(UsageError, match="rate_limit"):
            await job.run(bearer(server))
        with pytest.raises(UsageError, match="max_duration_s"):
            await run(job, server, max_duration_s=0)
        with pytest.raises(UsageError, match="max_requests"):
            await run(job, server, max_requests=0)
        with pytest.raises(JobIncompleteError, match="1 of 1 IDs"):
            await job.export(tmp_path / "x.csv", format="json")

        assert not len(server.log)


@pytest.mark.parametrize("max_requests", [3, 10, 16])
async def test_runs_of_a_few_requests_come_to_an_end_though_tweets_are_refused(
    tmp_path: Path, max_requests: int
) -> None:
    """To find a Tweet for which the API refuses the request takes 17 requests, and more than one batch has such a Tweet."""
    ids = make_ids(1_000)
    refused = ids[7::250]
    async with emulator(rejected=refused) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, ids)
        pending = [1_000]
        while pending[-1]:
            progress = await run(job, server, max_requests=max_requests)
            pending.append(progress.pending)
            assert pending[-1] < pending[-2]
        await job.export(tmp_path / "x.csv", outcomes=tmp_path / "outcomes.csv")
        requests = len(server.log)

    assert (progress.outcome, progress.outcomes.failed) == ("done", 4)
    assert requests <= 4 * 17 + len(pending) * (max_requests // 3 + 1)  # refusals that a run ends with are met again
    assert all(i in (tmp_path / "outcomes.csv").read_text() for i in refused)
    await job.verify()


async def test_files_are_known_again_without_being_read(tmp_path: Path) -> None:
    ids = make_ids(50)
    path = tmp_path / "ids.txt"
    path.write_text("\n".join([*ids, "nonsense", *ids]))
    job = BackfillJob(tmp_path / "job")
    first = await job.start(BY_TWEET, files=[path])
    again = await job.start(BY_TWEET, files=[path])
    path.touch()
    touched = await job.start(BY_TWEET, files=[path])
    path.write_text("\n".join([*ids, "77"]))
    with pytest.raises(OtherJobError):
        await job.start(files=[path])
    extended = await job.start(files=[path], extend=True)

    assert (first.new_ids, first.ids_read, first.rejected) == (50, 100, 1)
    assert (again.ids_read, touched.ids_read, extended.new_ids) == (0, 100, 1)
    assert json.loads(job.directory.rejects_path.read_text())["line"] == 51


async def test_lines_that_are_no_ids_tell_an_input_that_changed(tmp_path: Path) -> None:
    """As when a spreadsheet ruined the IDs that were added to a file."""
    ids = make_ids(50)
    path, ruined = tmp_path / "ids.txt", tmp_path / "ruined.txt"
    path.write_text("\n".join([*ids, "nonsense"]))
    ruined.write_text("\n".join([*ids, "nonsense", "1.07006E+18", "1.02182E+18"]))
    job = BackfillJob(tmp_path / "job")
    await job.start(BY_TWEET, files=[path])

    with pytest.raises(OtherJobError, match="they changed"):
        await job.start(files=[ruined])
    extended = await job.start(files=[ruined], extend=True)
    assert (extended.new_ids, extended.rejected, extended.totals.rejected) == (0, 3, 4)
    rejects = [json.loads(line) for line in job.directory.rejects_path.read_text().splitlines()]
    assert [(Path(reject["source"]).name, reject["line"]) for reject in rejects] == [
        ("ids.txt", 51),
        *[("ruined.txt", line) for line in (51, 52, 53)],
    ]

    for copy, text in (("copy.txt", ruined.read_text()), ("mended.txt", "\n".join(ids))):
        (tmp_path / copy).write_text(text)
        for extend in (False, True):
            again = await job.start(files=[tmp_path / copy], extend=extend)
            assert (again.new_ids, again.totals.rejected) == (0, 4)
    assert len(job.directory.rejects_path.read_text().splitlines()) == 4


async def test_a_strict_start_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("1\n2\nnonsense\n3")
    with pytest.raises(UsageError, match=r"ids.txt:3: 'nonsense'"):
        await BackfillJob(tmp_path / "job").start(BY_TWEET, files=[path], strict=True)

    assert not (tmp_path / "job").exists()


async def test_no_secret_reaches_the_folder(tmp_path: Path) -> None:
    async with emulator() as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(MIXED, make_ids(600))
        await run(job, server, credentials=owner(server))
        await job.start(MIXED, ["7"], extend=True)
        with pytest.raises(AuthError):
            await run(job, server, credentials=BearerCredentials("canary-token"))
        await result(job, tmp_path, partial=True)
        held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    secrets = [server.consumer_key, server.consumer_secret, server.access_token, server.access_token_secret]
    for secret in [*secrets, server.bearer_token, "canary-token", "oauth_signature"]:
        assert secret.encode() not in held
    assert TYPES[0].encode() in held


async def test_a_job_of_the_last_28_hours_says_that_its_answers_are_of_different_hours(tmp_path: Path) -> None:
    """That endpoint has no other window than the one of the moment: it cannot be fixed, but told."""
    now = [1_767_225_600.0]
    async with emulator(now=lambda: now[0]) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(HOURLY, make_ids(100))
        await run(job, server, credentials=owner(server), max_requests=2)
        assert (await job.status()).windows is None
        now[0] += 3 * 86_400
        await run(job, server, credentials=owner(server))

        assert (await job.status()).windows == ("2025-12-30T20:00:00Z", "2026-01-02T20:00:00Z")
        done = await job.export(tmp_path / "{grouping}.csv")
        assert done.windows == ("2025-12-30T20:00:00Z", "2026-01-02T20:00:00Z")


async def test_a_job_of_the_last_four_weeks_that_takes_days_asks_for_one_span(tmp_path: Path) -> None:
    query = Query(HISTORICAL, engagement_types=["favorites"], groupings={"d": ["engagement.day"]})
    ids, now = make_ids(50), [1_767_225_600.0]
    async with emulator(now=lambda: now[0], log_size=None) as server:
        job = BackfillJob(tmp_path / "job")
        await asyncio.to_thread(CreateJob(job.directory, query, GivenSource(ids), wall_clock=lambda: now[0]))
        await run(job, server, credentials=owner(server), max_requests=1)
        now[0] += 3 * 86_400
        await run(job, server, credentials=owner(server))

        assert {(entry.start, entry.end) for entry in server.log} == {(490_224, 490_896)}
        start, end = "2025-12-04T00:00:00Z", "2026-01-01T00:00:00Z"
        expected = server.expected("historical", ids, query.engagement_types, query.groupings, start=start, end=end)
        assert (await result(job, tmp_path))["d"] == texts(expected["d"])


async def test_a_run_that_ends_with_an_error_says_how_far_it_came(tmp_path: Path) -> None:
    told: list[Progress] = []
    async with emulator(latency_s=0.05) as server:
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        running = asyncio.create_task(run(job, server, on_progress=told.append, progress_interval_s=3600))
        while len(server.log) < 6:
            await asyncio.sleep(0.01)
        server.revoke()
        with pytest.raises(AuthError):
            await running

        status = await job.status()
        assert 0 < told[-1].ids_done == 5000 - status.totals.pending
        assert told[-1].requests == status.requests


@pytest.mark.parametrize("is_stopped", [True, False])
async def test_somebody_reads_the_journal_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_stopped: bool
) -> None:
    """A run waits for them, as long as nobody stops it; then for 20 s."""
    monkeypatch.setattr("engagement_async.backfill.committer.HOLD_S", 0.3)
    monkeypatch.setattr("engagement_async.backfill.journal_file._BUSY_S", 0.1)
    async with emulator(latency_s=lambda number: 0.0 if number < 16 else 3.0) as server:  # it must not end before that
        job = BackfillJob(tmp_path / "job")
        await job.start(BY_TWEET, make_ids(5000))
        reader = sqlite3.connect(job.directory.journal_path, isolation_level=None, check_same_thread=False)
        running = asyncio.create_task(run(job, server))
        while not len(server.log):
            await asyncio.sleep(0)
        await asyncio.to_thread(_begin_to_read, reader)
        await asyncio.sleep(1.0)
        assert not running.done()
        if is_stopped:
            job.stop()
            with pytest.raises(JobDiskError, match="holds the journal for too long"):
                await running
        reader.close()
        if not is_stopped:
            assert (await running).outcome == "done"
        assert (await job.verify()).pending == (await job.status()).totals.pending


def _begin_to_read(reader: sqlite3.Connection) -> None:
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM answer").fetchall()
