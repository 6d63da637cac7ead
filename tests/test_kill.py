"""Real processes, killed at random moments, stopped by signals, short of disk: the export is the same, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engagement_async.backfill.committer import GATHERED
from engagement_async.backfill.directory import JobDirectory
from engagement_async.emulator import Emulator
from tests.support.jobs import digest, emulator, make_ids
from tests.support.terminal import OnTerminal

CONCURRENCY = 4
LIMIT, PERIOD_S = 150, 1.0
ROOMY_LIMIT = 5_000
IDS = make_ids(25_000)
JOB = (
    "totals",
    "--metrics",
    "favorites,replies",
    "--group-by",
    "g=tweet.id,engagement.type",
    "--group-by",
    "all=engagement.type",
)


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator(requests_per_minute=LIMIT, period=PERIOD_S, latency_s=(0.0, 0.03)) as running:
        yield running


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(IDS))
    return path


RUNNING: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    for process in RUNNING:
        if process.returncode is None:
            process.kill()
        process.communicate()
    RUNNING.clear()


SMALL = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); "
SMALL += "runpy.run_module('engagement_async', run_name='__main__')"


def command(server: Emulator, *args: object, file_size: int | None = None) -> subprocess.Popen[bytes]:
    start = ["-m", "engagement_async"] if file_size is None else ["-c", SMALL.format(file_size)]
    process = subprocess.Popen(
        [sys.executable, *start, "backfill", *map(str, args)],
        env={**os.environ, **server.environment, "ENGAGEMENT_CONFIG": ""},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    RUNNING.append(process)
    return process


def run(server: Emulator, job: Path, *args: object, file_size: int | None = None) -> subprocess.Popen[bytes]:
    contract = ("--concurrency", CONCURRENCY, "--period", PERIOD_S, "--auth", "bearer")
    return command(server, "run", job, *args, *contract, file_size=file_size)


def ended(process: subprocess.Popen[bytes], code: int) -> str:
    out, told = process.communicate()
    assert process.returncode == code, told.decode()
    return out.decode() + told.decode()


def export(server: Emulator, job: Path) -> dict[str, str]:
    folder = job.with_name(f"{job.name}-out")
    folder.mkdir()
    ended(command(server, "export", job, "-o", folder / "{grouping}.parquet", "--outcomes", folder / "a.csv"), 0)
    ended(command(server, "export", job, "-o", folder / "{grouping}.jsonl"), 0)
    return {path.name: digest(path) for path in folder.iterdir()}


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("limit", "most_open"),
    [
        pytest.param(LIMIT, CONCURRENCY, id="a contract that is felt"),
        pytest.param(ROOMY_LIMIT, GATHERED * CONCURRENCY, id="a contract that is not, where answers are gathered"),
    ],
)
def test_ten_kills_at_random_moments(limit: int, most_open: int, ids: Path, tmp_path: Path) -> None:
    with emulator(requests_per_minute=limit, period=PERIOD_S, latency_s=(0.0, 0.03)) as server:
        kill_ten_times(server, most_open, ids, tmp_path)


def kill_ten_times(server: Emulator, most_open: int, ids: Path, tmp_path: Path) -> None:
    draw = random.Random(20261122)
    ended(run(server, tmp_path / "calm", *JOB, "--ids", ids), 0)
    assert len(server.log) == len(IDS) // 250
    server.log.entries.clear()

    job = tmp_path / "killed"
    kills = 0
    while kills < 10:
        asked = len(server.log.entries)
        process = run(server, job, *JOB, "--ids", ids)
        if draw.random() < 0.7:
            more = asked + draw.randrange(1, 14)
            wait_for(lambda more=more: len(server.log.entries) >= more, process)  # type: ignore[misc]
        time.sleep(draw.random() * 0.02)
        process.kill()
        process.communicate()
        kills += 1
    ended(run(server, job, *JOB, "--ids", ids), 0)

    times = Counter(entry.tweet_ids for entry in server.log)
    assert len(times) == len(IDS) // 250
    assert sum(times.values()) - len(times) <= kills * most_open
    assert export(server, job) == export(server, tmp_path / "calm")
    assert set(server.log.statuses) <= {0, 200}  # 0: killed before it was answered
    assert server.requests_per_minute is not None
    assert server.peak() <= server.requests_per_minute
    ended(command(server, "verify", job), 0)


def test_a_signal_drains_and_a_second_ends_it_at_once(ids: Path, tmp_path: Path) -> None:
    with emulator(latency_s=lambda number: 0.3 if number <= 8 else 600.0) as server:
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            before = len(server.log)
            process = run(server, tmp_path / "job", *JOB, "--ids", ids, "--requests-per-minute", 10000)
            wait_for(lambda before=before: len(server.log) > before, process)  # type: ignore[misc]
            process.send_signal(number)
            told = ended(process, code)
            assert "stopping" in told
            assert "not done: it was stopped" in told
        with JobDirectory(tmp_path / "job").open_journal(read_only=True) as journal:
            assert journal.totals.answers == len(server.log)  # nothing that was asked is lost

        while len(server.log) < 8:
            ended(run(server, tmp_path / "job", "--max-requests", 1), 5)
        process = run(server, tmp_path / "job")
        assert process.stderr is not None
        server_saw = server._service._started
        wait_for(lambda: server._service._started > server_saw, process)
        process.send_signal(signal.SIGINT)
        while b"stopping" not in process.stderr.readline():
            pass
        time.sleep(0.5)  # one that comes at once is the same one
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == -signal.SIGINT  # as a shell tells it: 130


def test_a_second_run_is_refused_and_status_is_told_meanwhile(ids: Path, tmp_path: Path) -> None:
    with emulator(latency_s=lambda number: 0.0 if number <= 4 else 600.0) as server:  # it is still running then
        job = tmp_path / "job"
        process = run(server, job, *JOB, "--ids", ids, "--requests-per-minute", 10000)
        wait_for(lambda: len(server.log) > 3, process)

        assert "another process runs this job" in ended(run(server, job, "--requests-per-minute", 10000), 11)
        assert '"state":"running"' in ended(command(server, "status", job, "--json"), 0)
        assert "state       running" in ended(command(server, "status", job), 0)
        process.kill()
        process.communicate()
        assert "state       stopped" in ended(command(server, "status", job), 0)
        assert "killed" in ended(command(server, "report", job), 0)


@pytest.mark.parametrize("kilobytes", [4, 420])
def test_a_disk_that_is_full_stops_the_job_and_room_lets_it_go_on(
    server: Emulator, ids: Path, tmp_path: Path, kilobytes: int
) -> None:
    job = tmp_path / "job"
    ended(run(server, job, *JOB, "--ids", ids, file_size=kilobytes * 1024), 6)
    asked = len(server.log)
    told = ended(run(server, job, *JOB, "--ids", ids), 0)

    assert len(server.log) <= len(IDS) // 250 + 2 * CONCURRENCY
    assert asked < len(IDS) // 250
    assert "25,000 of 25,000 IDs are done" in told
    ended(command(server, "verify", job), 0)


def shows_answers(lines: list[str]) -> bool:
    """Say whether the view is drawn to its last line, and tells of answers. A read may end within a view."""
    view = lines[-3:]
    return [line.split()[0] for line in view] == ["IDs", "requests", "waits"] and "answered" in view[0]


def test_a_run_on_a_terminal_is_drawn_and_ends_in_good_order(server: Emulator, ids: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    command = [sys.executable, "-m", "engagement_async", "backfill", "run", str(job), *JOB, "--ids", str(ids)]
    contract = ["--requests-per-minute", "20", "--period", "1", "--auth", "bearer", "--concurrency", "4"]

    with OnTerminal([*command, *contract], {**server.environment, "ENGAGEMENT_CONFIG": ""}) as terminal:
        shown = terminal.until(shows_answers)
        assert shown[-4].endswith("left at this rate") or shown[-4].startswith("0%")
        terminal.press(b"\x03")
        code, shown = terminal.until_end()

    assert code == 130, shown
    assert any(line.startswith("stopping: what is on its way is waited for") for line in shown)
    assert not any(line.startswith(("waits", "requests")) or line.endswith("at this rate") for line in shown)
    assert any(line.startswith("not done: it was stopped. Go on with") for line in shown)
    status = JobDirectory(job).status()
    assert (status.requests, status.requests_are_exact) == (len(server.log), True)
    ended(run(server, job), 0)
    assert len(server.log) == len(IDS) // 250
