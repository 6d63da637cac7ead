"""Commands of jobs that nobody watches: signals at every phase, and standard streams that are closed, full or broken.

Each phase is held open by what it waits for: an input that does not end, an API that does not answer, a journal that
somebody reads, an output that nobody takes.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engagement_async.backfill.directory import JobDirectory
from engagement_async.emulator import Emulator
from tests.support.jobs import emulator, fill, make_ids, started

JOB = ("totals", "--metrics", "favorites", "--group-by", "g=tweet.id,engagement.type")
CONTRACT = ("--requests-per-minute", 10_000, "--concurrency", 2, "--auth", "bearer")
IDS = make_ids(2_000)
SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]


@pytest.fixture
def server() -> Iterator[Emulator]:
    with emulator(latency_s=0.1) as running:
        yield running


class Commands:
    """Starts commands, and leaves none behind."""

    def __init__(self, server: Emulator) -> None:
        self._server = server
        self.running: list[subprocess.Popen[bytes]] = []

    def __call__(
        self,
        *args: object,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        code: str = "from engagement_async.cli import main; main()",
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "backfill", *map(str, args)],
            env={**os.environ, **self._server.environment, "ENGAGEMENT_CONFIG": "", "PYTHONUNBUFFERED": "1"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        self.running.append(process)
        return process


@pytest.fixture
def command(server: Emulator) -> Iterator[Commands]:
    commands = Commands(server)
    yield commands
    for process in commands.running:
        process.kill()
        with process:  # closes its streams, and waits for it
            pass


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def ended(process: subprocess.Popen[bytes], code: int) -> str:
    out, told = process.communicate()
    assert process.returncode == code, told.decode()
    assert "Traceback" not in told.decode()
    return (out or b"").decode() + (told or b"").decode()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_ids_are_read_leaves_nothing(command: Commands, tmp_path: Path, number: int, code: int) -> None:
    """A job that was not started is not there: the next start is the first one."""
    job = tmp_path / "job"
    process = command("run", job, *JOB, "--ids", "-", *CONTRACT, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("\n".join(IDS).encode())
    process.stdin.flush()
    wait_for(lambda: (job / "starting.sqlite").exists(), process)
    assert "it is reading the IDs" in ended(command("status", job), 11)
    process.send_signal(number)

    process.wait()
    ended(process, code)
    assert not job.exists()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_it_asks_keeps_what_comes(
    server: Emulator, command: Commands, tmp_path: Path, number: int, code: int
) -> None:
    job = started(tmp_path / "job", 2_000)
    process = command("run", job.path, *CONTRACT)
    wait_for(lambda: len(server.log) >= 1, process)
    process.send_signal(number)

    assert "stopping" in ended(process, code)
    assert job.verify().answers == len(server.log)
    ended(command("run", job.path, *CONTRACT), 0)
    assert len(server.log) == 8  # nothing was asked twice


def holding_up_a_commit(
    job: JobDirectory, server: Emulator, process: subprocess.Popen[bytes]
) -> tuple[sqlite3.Connection, int]:
    """Return a reader in a transaction, while there are answers to commit, and how many are committed."""
    reader = sqlite3.connect(job.journal_path, isolation_level=None)
    while True:
        assert process.poll() is None, process.communicate()
        reader.execute("BEGIN")
        committed = reader.execute("SELECT count(*) FROM answer").fetchone()[0]
        for _ in range(50):
            if len(server.log) > committed:
                return reader, committed
            time.sleep(0.01)
        reader.execute("COMMIT")  # it waits to note what it may spend: nothing is sent before that
        time.sleep(0.05)


def test_a_signal_while_a_commit_has_to_wait(server: Emulator, command: Commands, tmp_path: Path) -> None:
    """Somebody reads the journal in a transaction of their own: what came is committed when they are done."""
    job = started(tmp_path / "job", 20_000)  # enough that it is not done before the reader begins
    process = command("run", job.path, *CONTRACT)
    wait_for(lambda: job.status().totals.answers, process)
    reader, _ = holding_up_a_commit(job, server, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    reader.execute("COMMIT")
    reader.close()

    ended(process, 143)
    assert job.verify().answers == len(server.log)


def test_a_second_signal_while_a_commit_has_to_wait_ends_it_at_once(
    server: Emulator, command: Commands, tmp_path: Path
) -> None:
    job = started(tmp_path / "job", 20_000)  # enough that it is not done before the reader begins
    process = command("run", job.path, *CONTRACT)
    wait_for(lambda: job.status().totals.answers, process)
    reader, committed = holding_up_a_commit(job, server, process)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while b"stopping" not in process.stderr.readline():
        pass
    time.sleep(0.5)  # one that comes at once is the same one
    process.send_signal(signal.SIGTERM)
    process.communicate()
    reader.execute("COMMIT")
    reader.close()

    assert process.returncode == -signal.SIGTERM
    assert job.verify().answers >= committed
    ended(command("run", job.path, *CONTRACT), 0)
    assert job.status().is_complete


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_tables_are_written_leaves_the_old_ones(
    command: Commands, tmp_path: Path, number: int, code: int
) -> None:
    """The first file is written to a pipe that nobody reads, the other one beside its place."""
    job = started(tmp_path / "job", 20_000)
    fill(job)
    out = tmp_path / "out"
    out.mkdir()
    (out / "o.csv").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    hold = os.open(tmp_path / "pipe", os.O_RDWR)
    process = command("export", job.path, "-o", tmp_path / "pipe", "--format", "jsonl", "--outcomes", out / "o.csv")
    os.set_blocking(hold, False)
    wait_for(lambda: _has_bytes(hold), process)
    process.send_signal(number)

    ended(process, code)
    os.close(hold)
    assert [path.name for path in out.iterdir()] == ["o.csv"]


def _has_bytes(descriptor: int) -> bool:
    try:
        return bool(os.read(descriptor, 1))
    except BlockingIOError:
        return False


def test_a_signal_ends_a_run_until_done_whose_last_answers_cannot_be_written(
    server: Emulator, command: Commands, tmp_path: Path
) -> None:
    """Somebody reads the journal for longer than a run that ends waits for that."""
    job = started(tmp_path / "job", 20_000)
    impatient = (
        "from engagement_async.backfill import committer, journal_file\n"
        "from engagement_async.cli import main\n"
        "committer.HOLD_S = journal_file._BUSY_S = 0.2\n"
        "main()\n"
    )
    process = command("run", job.path, *CONTRACT, "--until-done", code=impatient)
    wait_for(lambda: job.status().totals.answers, process)
    reader = sqlite3.connect(job.journal_path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM answer").fetchone()
    process.send_signal(signal.SIGTERM)

    assert "holds the journal for too long" in ended(process, 6)
    reader.close()
    assert job.verify()


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_redis_does_not_answer_ends_it(
    server: Emulator, command: Commands, tmp_path: Path, number: int, code: int
) -> None:
    job = started(tmp_path / "job", 2_000)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes connections, and says nothing
        shared = ("--scheduler", f"redis://127.0.0.1:{mute.getsockname()[1]}", "--contract", "reports")
        process = command("run", job.path, *CONTRACT, *shared)
        mute.settimeout(60)
        with mute.accept()[0]:
            process.send_signal(number)
            ended(process, code)

    assert len(server.log) == 0
    assert not job.is_locked


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.3])
def test_a_signal_at_the_start_ends_it_without_a_word(command: Commands, tmp_path: Path, after_s: float) -> None:
    job = started(tmp_path / "job", 100_000)  # more than is done before a signal that comes late
    process = command("run", job.path, *CONTRACT)
    time.sleep(after_s)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()

    assert process.returncode in (-signal.SIGTERM, 143), told
    assert b"Traceback" not in told
    assert job.verify()


def test_stderr_that_nobody_reads_any_more_ends_no_run(server: Emulator, command: Commands, tmp_path: Path) -> None:
    job = started(tmp_path / "job", 2_000)
    server.set_faults({"503": 3})  # there is something to warn of
    read, write = os.pipe()
    process = command("run", job.path, *CONTRACT, "--json", stderr=write)
    os.close(write)
    os.close(read)

    process.communicate()
    assert process.returncode == 0
    assert job.status().is_complete


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_end_no_run(server: Emulator, tmp_path: Path, closed: str) -> None:
    job = started(tmp_path / "job", 500)
    args = " ".join(map(str, ("run", job.path, *CONTRACT)))
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m engagement_async backfill {args} {closed}"],
        env={**os.environ, **server.environment, "ENGAGEMENT_CONFIG": ""},
        check=False,
    )

    assert done.returncode == 0
    assert JobDirectory(job.path).status().is_complete
