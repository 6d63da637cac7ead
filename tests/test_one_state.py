"""One state on the page: status, report, events, exit codes and tables of a job say the same at every moment.

They are asked beside a job that runs, is killed, is stopped, and goes on; all by real processes or as another process would.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill import JobStatus
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.exporter import Exporter
from engagement_async.emulator import Emulator
from tests.support.jobs import emulator, make_ids

IDS = make_ids(6_000)
LINES = [*IDS[:10], "no ID", "neither", *IDS[10:]]
JOB = ("totals", "--metrics", "favorites,replies", "--group-by", "g=tweet.id,engagement.type")
OUT = [name for name in Outcomes._fields if name != "answered"]


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator(latency_s=0.25, rejected=IDS[777:778], unavailable_fraction=0.02) as running:
        yield running


@contextmanager
def command(server: Emulator, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Start a command; kill it if it is not ended when the block is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engagement_async", "backfill", *map(str, args)],
        env={**os.environ, **server.environment, "ENGAGEMENT_CONFIG": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(server: Emulator, *args: object, code: int = 0) -> Any:
    """Return the one object that a command writes to stdout."""
    with command(server, *args, "--json") as process:
        out, told = process.communicate()
        assert process.returncode == code, told
        return json.loads(out)


def look(job: JobDirectory, folder: Path) -> JobStatus:
    """Ask for status and a partial export, as another process does; hold them against each other."""
    before = job.status()
    done = Exporter(job, folder / "t.csv", outcomes=folder / "o.jsonl", partial=True).export()
    after = job.status()
    totals = done.totals

    assert sum(totals.outcomes) + totals.pending == totals.ids == len(IDS)
    states = Counter(json.loads(line)["state"] for line in (folder / "o.jsonl").read_text().splitlines())
    with (folder / "t.csv").open() as file:
        with_values = {row["tweet_id"] for row in csv.DictReader(file)}
    assert {name: states[name] for name in OUT} == {name: getattr(totals.outcomes, name) for name in OUT}
    assert states["pending"] == totals.pending
    assert len(with_values) == totals.outcomes.answered
    for earlier, later in ((before.totals, totals), (totals, after.totals)):
        assert all(one <= other for one, other in zip(earlier.outcomes, later.outcomes, strict=True))
    return after


def check_texts(server: Emulator, job: JobDirectory) -> None:
    """Hold what the commands say of a job at rest against its journal."""
    status = job.status()
    told, report = said(server, "status", job.path), said(server, "report", job.path)

    assert told["outcomes"] == status.totals.outcomes._asdict()
    assert (told["ids"], told["pending"], told["rejected"]) == (len(IDS), status.totals.pending, 2)
    assert (told["state"], told["runs"]) == (status.state, len(report["runs"]))
    assert told["requests"] == report["requests"] == sum(run["requests"] for run in report["runs"])
    assert told["requests_are_exact"] == report["requests_are_exact"]
    assert report["requests"] <= len(server.log)
    assert told["now"] is None


def events_of(told: str) -> list[dict[str, Any]]:
    """Return the events of a command, each of which says when, of which job, and of which run."""
    events = [json.loads(line) for line in told.splitlines()]
    assert all(event["time"].endswith("Z") and event["job"] for event in events)
    return events


def test_a_job_says_the_same_everywhere_at_every_moment(server: Emulator, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(LINES))
    job = JobDirectory(tmp_path / "job")
    run = ("run", job.path, "--concurrency", 2, "--auth", "bearer", "--requests-per-minute", 10_000, "--json")
    states: Counter[str] = Counter()

    def watch(process: subprocess.Popen[str], until_answered: int) -> None:
        while process.poll() is None:
            if not job.is_started:
                continue
            seen = look(job, tmp_path)
            states[seen.state] += 1
            if seen.now:  # not there before a run's first commit
                assert seen.is_running
                assert not seen.requests_are_exact
            if seen.totals.outcomes.answered >= until_answered:
                return

    with command(server, *run, *JOB, "--ids", tmp_path / "ids.txt") as process:  # killed
        watch(process, 1_000)
    killed = look(job, tmp_path)
    assert (killed.state, killed.runs[-1].outcome, dict(killed.now)) == ("stopped", None, {})
    check_texts(server, job)

    with command(server, *run) as process:  # stopped
        watch(process, 2_500)
        process.send_signal(signal.SIGTERM)
        watch(process, len(IDS))
        _, told = process.communicate()
    assert process.returncode == 143
    finished = events_of(told)[-1]
    stopped = look(job, tmp_path)
    assert (finished["event"], finished["outcome"], finished["exit_code"], finished["run"]) == (
        "finished",
        "stopped",
        143,
        2,
    )
    assert finished["outcomes"] == {
        **stopped.totals.outcomes._asdict(),
        "pending": stopped.totals.pending,
        "rejected": 2,
    }
    assert finished["requests"] == stopped.runs[-1].requests
    check_texts(server, job)

    with command(server, *run) as process:  # to its end, in which a Tweet failed
        watch(process, len(IDS))
        _, told = process.communicate()
    assert process.returncode == 3
    finished = events_of(told)[-1]
    done = look(job, tmp_path)
    assert (done.state, done.is_complete, done.totals.outcomes.failed) == ("complete", True, 1)
    assert finished["outcomes"] == {**done.totals.outcomes._asdict(), "pending": 0, "rejected": 2}
    assert [each.outcome for each in done.runs] == [None, "stopped", "done"]
    check_texts(server, job)
    assert set(states) == {"running"} or states["running"] > 3


def test_an_error_is_told_alike_by_event_exit_code_and_status(server: Emulator, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    job = JobDirectory(tmp_path / "job")
    run = ("run", job.path, "--concurrency", 2, "--auth", "bearer", "--requests-per-minute", 10_000, "--json")
    with command(server, *run, *JOB, "--ids", tmp_path / "ids.txt") as process:
        while len(server.log) < 4:
            assert process.poll() is None
        server.revoke()
        _, told = process.communicate()

    assert process.returncode == 4
    last = events_of(told)[-1]
    assert (last["event"], last["exit_code"], last["run"]) == ("error", 4, 1)
    status = look(job, tmp_path)
    assert (status.state, status.runs[-1].outcome) == ("stopped", "AuthError")
    assert 0 < status.totals.outcomes.answered < len(IDS)
