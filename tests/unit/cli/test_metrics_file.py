"""`--metrics-file`: whole at every moment, there however the command ends, and of one run alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engagement_async import UsageError
from engagement_async.cli.app import run as run_command
from engagement_async.cli.exit_codes import CREDENTIALS, INCOMPLETE, SOME_FAILED, TERMINATED, USAGE
from engagement_async.cli.metrics_file import MetricsFile
from engagement_async.emulator import Emulator
from tests.support.jobs import emulator, make_ids
from tests.support.prometheus import Scraped

IDS = make_ids(1_300)
Engagement = Callable[..., str]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    with emulator(unavailable_fraction=0.05, rejected=IDS[7:8]) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ENGAGEMENT_REQUESTS_PER_MINUTE", "60000")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ids.txt").write_text("\n".join(IDS))
        yield running


@pytest.fixture
def engagement(server: Emulator, capfd: pytest.CaptureFixture[str]) -> Engagement:
    def engagement(*args: object, code: int = 0) -> str:
        found = run_command([*map(str, args), "--metrics-file", "m.prom"])
        told = capfd.readouterr().err
        assert found == code, told
        return told

    return engagement


def metrics() -> Scraped:
    return Scraped.of(Path("m.prom"))


def wait_for(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


# --- the file ---


def test_it_is_there_from_the_beginning_and_is_refreshed(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    file = MetricsFile(str(path), "fetch", refresh_s=0.02)
    file.begin()
    began = Scraped.of(path).total("engagement_run_updated_timestamp_seconds")
    assert Scraped.of(path).total("engagement_run_in_progress") == 1
    wait_for(lambda: Scraped.of(path).total("engagement_run_updated_timestamp_seconds") > began)
    assert file.end(0) is None

    found = Scraped.of(path)
    assert (found.total("engagement_run_in_progress"), found.total("engagement_run_exit_code")) == (0, 0)
    assert {tuple(sample.labels.items()) for sample in found.samples} == {(("task", "a"), ("command", "fetch"))}
    assert [each.name for each in tmp_path.iterdir()] == ["a.prom"]
    assert "engagement-metrics" not in {thread.name for thread in threading.enumerate()}


def test_another_user_can_read_it_whatever_the_umask_and_a_mode_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    before = os.umask(0o077)
    try:
        for mode in (0o644, 0o640):
            file = MetricsFile(str(path), "fetch")
            file.begin()
            file.end(0)
            assert path.stat().st_mode & 0o777 == mode
            path.chmod(0o640)
    finally:
        os.umask(before)


def test_who_reads_sees_it_whole_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    file = MetricsFile(str(path), "fetch", refresh_s=0.0)
    file.begin()
    seen = set[float]()
    while len(seen) < 20:  # each is parsed, which fails for half a file
        seen.add(Scraped.of(path).total("engagement_run_updated_timestamp_seconds"))
    file.end(0)


def test_the_last_success_is_remembered_over_runs_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    seen = []
    for exit_code in (5, 0, 5, 143):
        file = MetricsFile(str(path), "fetch")
        file.begin()
        file.end(exit_code)
        found = Scraped.of(path)
        has_any = found.has("engagement_last_success_timestamp_seconds")
        seen.append(found.total("engagement_last_success_timestamp_seconds") if has_any else None)

    assert seen[0] is None
    assert seen[1] is not None
    assert seen[2:] == [seen[1], seen[1]]


@pytest.mark.parametrize("content", ["tweet_id\n1\n", "# HELP node_load1 Load.\n", "#"])
def test_what_is_no_file_of_metrics_is_not_written_over(content: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match="not written over"):
        MetricsFile(str(path), "fetch").begin()

    assert path.read_text() == content
    assert [each.name for each in tmp_path.iterdir()] == ["ids.csv"]


def test_what_takes_its_place_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    file = MetricsFile(str(path), "fetch")
    file.begin()
    path.write_text("a result")

    assert "holds something else" in (file.end(0) or "")
    assert path.read_text() == "a result"


def test_an_empty_file_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    path.touch()
    file = MetricsFile(str(path), "fetch")
    file.begin()
    file.end(0)

    assert Scraped.of(path).total("engagement_run_exit_code") == 0


def test_where_it_cannot_be_is_told_before_the_first_request(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "a.prom", tmp_path):
        with pytest.raises(UsageError):
            MetricsFile(str(path), "fetch").begin()


def test_a_command_that_never_began_writes_its_end_unless_it_may_not(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    assert MetricsFile(str(path), "fetch").end(2) is None
    assert Scraped.of(path).total("engagement_run_exit_code") == 2
    path.write_text("something else")
    assert "holds something else" in (MetricsFile(str(path), "fetch").end(2) or "")

    refused = MetricsFile(str(path), "fetch")
    with pytest.raises(UsageError):
        refused.begin()
    assert refused.end(2) is None  # that was said before
    assert path.read_text() == "something else"


def test_a_run_that_finds_another_leaves_the_file_to_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.prom")
    first = MetricsFile(path, "first")
    assert first.begin() is None
    second = MetricsFile(path, "second")
    warning = second.begin() or ""
    assert second.end(5) is None
    assert first.end(0) is None

    assert "another run keeps its metrics there" in warning
    (labels,) = {sample.labels["command"] for sample in Scraped.of(Path(path)).samples}
    assert labels == "first"
    third = MetricsFile(path, "third")
    third.begin()
    third.end(0)
    assert Scraped.of(Path(path)).samples[0].labels["command"] == "third"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="--metrics-file cannot be written: Permission denied"):
        MetricsFile(str(tmp_path / "a.prom"), "fetch").begin()


def test_a_pipe_gets_it_once_at_the_end() -> None:
    read, write = os.pipe()
    file = MetricsFile(f"/dev/fd/{write}", "fetch", refresh_s=0.0)
    file.begin()
    file.end(3)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = Scraped(pipe.read())

    assert found.total("engagement_run_exit_code") == 3
    assert found.samples[0].labels == {"command": "fetch"}


def test_a_named_pipe_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    file = MetricsFile(str(path), "fetch")
    assert file.begin() is None
    assert file.end(0) == f"{path}: the metrics of this run are not written: nobody reads this named pipe"

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = MetricsFile(str(path), "fetch")
    file.begin()
    assert file.end(3) is None
    with os.fdopen(reader) as pipe:
        assert Scraped(pipe.read()).total("engagement_run_exit_code") == 3


def test_a_reader_that_is_stuck_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_async.cli.metrics_file._READER_TIMEOUT_S", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    full = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(full, bytes(4096))
    file = MetricsFile(str(path), "fetch")
    file.begin()

    assert file.end(0) == f"{path}: the metrics of this run are not written: its reader takes nothing"
    os.close(reader)
    os.close(full)


def test_a_name_that_a_node_exporter_does_not_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    file = MetricsFile(str(path), "fetch")
    assert (file.begin() or "").endswith(f"end in .prom: name it so, as --metrics-file {tmp_path / 'a.txt.prom'}")
    assert file.end(0) is None
    assert Scraped.of(path).total("engagement_run_exit_code") == 0

    assert "end in .prom" in (MetricsFile(str(path), "fetch").end(2) or "")  # a command that was refused


def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "there" / "a.prom"
    path.parent.mkdir()
    file = MetricsFile(str(path), "fetch", refresh_s=0.01)
    file.begin()
    path.parent.rename(tmp_path / "away")
    wait_for(lambda: caplog.records)
    time.sleep(0.1)

    assert len(caplog.records) == 1
    assert "there is no folder" in (file.end(0) or "")


# --- commands ---


def test_fetch(engagement: Engagement, server: Emulator) -> None:
    server.set_faults({"503": 4})
    engagement("fetch", "totals", "--ids", "ids.txt", "-o", "out.csv", "--json", code=SOME_FAILED)

    found = metrics()
    assert found.ids["failed"] == 1
    assert found.ids["pending"] == 0
    assert sum(found.ids.values()) == len(IDS)
    assert found.total("engagement_requests_total") == server.log.requests
    assert found.numbers("engagement_requests_total", "status_class")["5xx"] >= 1
    assert found.total("engagement_retries_total") >= 1
    assert found.total("engagement_run_exit_code") == SOME_FAILED
    assert {sample.labels["command"] for sample in found.samples} == {"fetch"}


def test_a_new_file_is_not_for_metrics_and_log_alike(engagement: Engagement) -> None:
    told = engagement("fetch", "totals", "--ids", "ids.txt", "--log-file", "m.prom", code=USAGE)

    assert "m.prom: is named by --metrics-file and by --log-file: give each a file of its own" in told
    assert metrics().total("engagement_run_exit_code") == USAGE


@pytest.mark.parametrize("named", ["--output", "--ids"])
def test_it_is_never_written_into_another_file_of_the_command(engagement: Engagement, named: str) -> None:
    if named == "--ids":
        Path("m.prom").touch()
    told = engagement("fetch", "totals", "--ids", "ids.txt", named, "m.prom", code=USAGE)

    assert f"m.prom: is named by {named} and by --metrics-file" in told
    assert not Path("m.prom").exists() or not Path("m.prom").read_text()


@pytest.mark.parametrize("mode", ["--quiet", "--json"])
def test_ids_add_up_in_every_mode(engagement: Engagement, mode: str) -> None:
    engagement("fetch", "totals", "--ids", "ids.txt", "-o", "out.csv", mode, code=SOME_FAILED)

    assert sum(metrics().ids.values()) == len(IDS)


def test_a_command_that_fails_writes_it_too(engagement: Engagement, monkeypatch: pytest.MonkeyPatch) -> None:
    engagement("fetch", "totals", "--metrics", "nonsense", "1", code=USAGE)
    assert metrics().total("engagement_run_exit_code") == USAGE
    assert metrics().ids == {}

    engagement("fetch", "totals", "--concurrency", "many", "1", code=USAGE)
    assert metrics().total("engagement_run_exit_code") == USAGE

    monkeypatch.setenv("ENGAGEMENT_ACCESS_TOKEN_SECRET", "another")
    engagement("fetch", "totals", "--ids", "ids.txt", code=CREDENTIALS)
    found = metrics()
    assert found.total("engagement_run_exit_code") == CREDENTIALS
    assert found.ids["pending"] == len(IDS)
    assert not found.has("engagement_last_success_timestamp_seconds")


def test_what_is_to_be_done_without_the_api_is_told_when_it_fails(engagement: Engagement, server: Emulator) -> None:
    server.set_faults({"503": 1})
    engagement("fetch", "totals", "--ids", "ids.txt", "--max-duration", "2s", "-o", "out.csv", code=INCOMPLETE)

    found = metrics()
    assert found.total("engagement_run_exit_code") == INCOMPLETE
    assert found.ids["failed"] == len(IDS)
    assert set(found.numbers("engagement_requests_total", "status_class")) == {"5xx"}
    assert not found.has("engagement_last_answer_timestamp_seconds")


def test_a_command_without_it_counts_nothing(server: Emulator, tmp_path: Path) -> None:
    before = sorted(each.name for each in tmp_path.iterdir())
    assert run_command(["fetch", "totals", "--ids", "ids.txt", "-o", "out.csv", "-q"]) == SOME_FAILED

    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([*before, "out.csv"])


def test_no_help_and_no_completion_begins_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["fetch", "--help"]) == 0
    assert "--metrics-file" in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_job_over_two_runs(engagement: Engagement, server: Emulator) -> None:
    job = ("backfill", "run", "job", "totals", "--ids", "ids.txt", "--auth", "bearer")
    engagement(*job, "--max-requests", 2, code=INCOMPLETE)
    found = metrics()
    assert sum(found.ids.values()) == len(IDS)
    assert 0 < found.ids["pending"] < len(IDS)
    assert found.total("engagement_requests_total") == server.log.requests == 2

    engagement("backfill", "run", "job", code=SOME_FAILED)
    found = metrics()
    assert sum(found.ids.values()) == len(IDS)
    assert (found.ids["pending"], found.ids["failed"]) == (0, 1)
    assert found.total("engagement_requests_total") == server.log.requests - 2  # of this run
    assert {sample.labels["command"] for sample in found.samples} == {"backfill run"}

    engagement("backfill", "retry-failed", "job", code=SOME_FAILED)
    assert {sample.labels["command"] for sample in metrics().samples} == {"backfill retry-failed"}
    assert sum(metrics().ids.values()) == len(IDS)


def test_a_job_that_another_process_runs_leaves_its_file_alone(engagement: Engagement, server: Emulator) -> None:
    server.set_faults({"hang-before-headers": 1})
    job = ["backfill", "run", "job", "totals", "--ids", "ids.txt", "--auth", "bearer", "--metrics-file", "m.prom"]
    with process(*job) as first:
        wait_for(lambda: server.log.requests, first)
        told = engagement("backfill", "run", "job", code=11)
        first.send_signal(signal.SIGKILL)

    assert "another run keeps its metrics there" in told
    assert metrics().total("engagement_run_in_progress") == 1


def test_a_series(engagement: Engagement, server: Emulator) -> None:
    Path("few.txt").write_text("\n".join(IDS[10:60]))
    engagement("series", "pull", "s.duckdb", "--ids", "few.txt", "--metrics", "impressions")
    found = metrics()
    assert sum(found.ids.values()) == 50
    assert found.ids["pending"] == 0
    assert found.numbers("engagement_requests_total", "endpoint") == {"28hr": 2}

    engagement("series", "fill", "s.duckdb", "--start", "2025-12-25T00:00:00Z")
    found = metrics()
    assert set(found.numbers("engagement_requests_total", "endpoint")) == {"historical"}
    assert {sample.labels["command"] for sample in found.samples} == {"series fill"}
    assert sum(found.ids.values()) > 0
    assert found.ids["pending"] == 0


def process(*args: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "engagement_async", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_watched_series_counts_all_of_its_pulls_until_it_is_stopped(server: Emulator) -> None:
    Path("few.txt").write_text("\n".join(IDS[10:60]))
    watch = ["series", "watch", "s.duckdb", "totals", "--ids", "few.txt", "--every", "0.5s", "--jitter", "0.01s"]
    with process(*watch, "--metrics", "favorites", "--json", "--metrics-file", "m.prom") as running:
        assert running.stderr is not None
        pulls = 0
        while pulls < 2:
            pulls += json.loads(running.stderr.readline())["event"] == "pulled"
        running.send_signal(signal.SIGTERM)
        assert running.wait() == TERMINATED

    found = metrics()
    assert found.total("engagement_run_exit_code") == TERMINATED
    assert sum(found.ids.values()) % 50 == 0
    assert sum(found.ids.values()) >= 100


def test_a_signal_ends_it_with_the_code_of_the_signal(server: Emulator) -> None:
    server.set_faults({"hang-before-headers": 3})
    with process("fetch", "totals", "--ids", "ids.txt", "--metrics-file", "m.prom") as running:
        wait_for(lambda: server.log.requests >= 3, running)
        running.send_signal(signal.SIGTERM)
        assert running.wait() == TERMINATED

    found = metrics()
    assert found.total("engagement_run_exit_code") == TERMINATED
    assert sum(found.ids.values()) == len(IDS)
    assert found.ids["pending"] > 0


def test_a_run_that_is_killed_leaves_a_whole_file_that_grows_old(server: Emulator) -> None:
    server.set_faults({"hang-before-headers": 1})
    for _ in range(2):  # the second one takes over what the first one left
        asked = server.log.requests
        with process("fetch", "totals", "--ids", "ids.txt", "--metrics-file", "m.prom") as running:
            wait_for(lambda asked=asked: server.log.requests > asked, running)  # type: ignore[misc]
            running.kill()
            assert running.wait() == -signal.SIGKILL

        found = metrics()
        assert found.total("engagement_run_in_progress") == 1
        assert not found.has("engagement_run_exit_code")


def test_kills_while_it_is_written_leave_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    code = (
        "import sys, time\n"
        "from engagement_async.cli.metrics_file import MetricsFile\n"
        f"file = MetricsFile({str(path)!r}, 'fetch', refresh_s=0.0)\n"
        "file.begin()\n"
        "print('began', flush=True)\n"
        "time.sleep(600)\n"
    )
    for number in range(10):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"began\n"
            time.sleep(0.003 * number)
            running.kill()
        assert Scraped.of(path).total("engagement_run_in_progress") == 1

    file = MetricsFile(str(path), "fetch")
    file.begin()
    file.end(0)
    assert [each.name for each in tmp_path.iterdir()] == ["a.prom"]  # nothing is left of those that were killed


def test_it_holds_no_secret_and_no_id(engagement: Engagement, server: Emulator) -> None:
    engagement("fetch", "totals", "--ids", "ids.txt", "-o", "out.csv", code=SOME_FAILED)

    text = Path("m.prom").read_text()
    assert not [value for value in vars(server.credentials).values() if str(value) in text]
    assert not [tweet_id for tweet_id in IDS if tweet_id in text]
