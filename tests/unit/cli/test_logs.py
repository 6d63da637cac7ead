"""The log of a command: which lines, where, and for whom."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from engagement_async import UsageError
from engagement_async._export.layout import TableLayout
from engagement_async.cli.app import Session, run
from engagement_async.cli.logs import check_outputs_apart, check_own_files, logging_as
from engagement_async.cli.metrics_file import MetricsFile
from tests.support.jobs import started

LOG = logging.getLogger("engagement_async.requests")


def session(**flags: object) -> Session:
    return Session(flags=flags)


@pytest.mark.parametrize(
    ("log", "metrics", "parameters", "named"),
    [
        ("new", "new", {}, "--metrics-file and by --log-file"),
        ("new", "./there/../new", {}, "--metrics-file and by --log-file"),
        ("link", "new", {}, "--metrics-file and by --log-file"),
        ("ids", None, {"files": ("-", "ids")}, "--ids and by --log-file"),
        ("there/ids", None, {"files": ("there",)}, "--ids and by --log-file"),
        (None, "there/ids", {"files": ("there",)}, "--ids and by --metrics-file"),
        ("new", None, {"output": "new"}, "--output and by --log-file"),
        (None, "new", {"output": "new"}, "--output and by --metrics-file"),
        ("s.duckdb", None, {"store": Path("s.duckdb")}, "STORE and by --log-file"),
        ("tokens", None, {"credentials_path": "tokens"}, "--credentials and by --log-file"),
        ("hard", None, {"files": ("there/ids",)}, "--ids and by --log-file"),
        (None, "hard", {"files": ("there/ids",)}, "--ids and by --metrics-file"),
    ],
)
def test_no_file_is_the_log_and_something_else(
    log: str | None,
    metrics: str | None,
    parameters: dict[str, object],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "ids").touch()
    (tmp_path / "hard").hardlink_to(tmp_path / "there" / "ids")
    (tmp_path / "link").symlink_to("new")
    found = session(**({} if log is None else {"log_file": log}))
    found.metrics = None if metrics is None else MetricsFile(metrics, "fetch")
    with pytest.raises(UsageError, match=f"named by {named}: give each a file of its own"):
        check_own_files(found, parameters)


@pytest.mark.parametrize(("descriptor", "parameters"), [(0, {"files": ("-",)}), (1, {"output": "-"})])
def test_the_log_is_no_file_that_a_standard_stream_is(
    descriptor: int, parameters: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda file, **options: stat(path if file == descriptor else file, **options))
    with pytest.raises(UsageError, match="give each a file of its own"):
        check_own_files(session(log_file=str(path)), parameters)
    check_own_files(session(log_file="-"), {"store": None})


def test_the_log_is_not_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engagement.toml").touch()
    (tmp_path / "hard").hardlink_to(tmp_path / "engagement.toml")
    monkeypatch.setenv("ENGAGEMENT_CONFIG", str(tmp_path / "engagement.toml"))
    for name in ("engagement.toml", "hard"):
        with pytest.raises(UsageError, match="is the configuration file: name another with --log-file"):
            check_own_files(session(log_file=str(tmp_path / name)), {})


@pytest.mark.parametrize(
    ("variable", "text", "by"),
    [
        ("ENGAGEMENT_CONSUMER_SECRET_FILE", None, "ENGAGEMENT_CONSUMER_SECRET_FILE"),
        ("ENGAGEMENT_CREDENTIALS_FILE", None, "ENGAGEMENT_CREDENTIALS_FILE"),
        ("SSL_CERT_FILE", None, "SSL_CERT_FILE"),
        ("CREDENTIALS_DIRECTORY", None, r"CREDENTIALS_DIRECTORY \(engagement_bearer_token\)"),
        ("ENGAGEMENT_CONFIG", 'ca_file = "FILE"', "ENGAGEMENT_CA_FILE"),
        ("ENGAGEMENT_CONFIG", '[profiles.one]\ncredentials_file = "FILE"', "ENGAGEMENT_CREDENTIALS_FILE"),
    ],
)
def test_the_log_is_no_file_that_the_settings_name(
    variable: str, text: str | None, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "engagement_bearer_token"
    file.touch(mode=0o600)
    (tmp_path / "c.toml").write_text((text or "").replace("FILE", str(file)))
    value = tmp_path / "c.toml" if text else tmp_path if variable == "CREDENTIALS_DIRECTORY" else file
    monkeypatch.setenv(variable, str(value))

    with pytest.raises(UsageError, match=f"named by {by} and by --log-file"):
        check_own_files(session(log_file=str(file), profile="one" if "profiles" in (text or "") else None), {})


@pytest.mark.parametrize("output", ["{grouping}.csv", "."])
def test_the_log_is_no_file_of_a_grouping(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = TableLayout(output, "csv", {"by_tweet": ("tweet.id",)}).files()
    with pytest.raises(UsageError, match="named by --output and by --log-file"):
        check_outputs_apart(session(log_file="by_tweet.csv"), files)
    check_outputs_apart(session(log_file="other.csv"), files)


def test_a_fetch_is_refused_whose_log_would_be_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ENGAGEMENT_BEARER_TOKEN", "token")
    monkeypatch.setenv("ENGAGEMENT_REQUESTS_PER_MINUTE", "1")
    output = ("--group-by", "g=tweet.id,engagement.type", "--output", "{grouping}.csv")
    assert run(["fetch", "totals", "20", *output, "--log-file", "g.csv"]) == 2
    assert "g.csv: is named by --output and by --log-file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_of_their_own_and_streams_may_be_named(tmp_path: Path) -> None:
    found = session(log_file="/dev/null")
    found.metrics = MetricsFile("/dev/null", "fetch")
    check_own_files(found, {"output": "/dev/null", "files": None})
    found = session(log_file=str(tmp_path / "a.log"))
    found.metrics = MetricsFile(str(tmp_path / "a.prom"), "fetch")
    check_own_files(found, {"output": str(tmp_path / "a.csv"), "files": ("-",), "store": None})


@pytest.mark.parametrize("name", ["job/a.log", "job/journal.sqlite", "job/lock", "link/a.log", "new/a.log"])
def test_nothing_is_logged_into_the_folder_of_a_job(tmp_path: Path, name: str) -> None:
    job = started(tmp_path / "job", 3)
    (tmp_path / "link").symlink_to("job")
    (tmp_path / "new").mkdir()
    before = {entry.name: entry.read_bytes() for entry in job.path.iterdir()}
    found = session(log_file=str(tmp_path / name))
    with pytest.raises(UsageError, match=r"lies in the folder of (a|the) job"):
        check_own_files(found, {"job": tmp_path / "new"})
    assert {entry.name: entry.read_bytes() for entry in job.path.iterdir()} == before
    if name == "new/a.log":
        check_own_files(found, {})


def test_a_refused_command_leaves_no_metrics_in_the_folder_of_its_job(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    found = session()
    found.metrics = MetricsFile(str(tmp_path / "job" / "a.prom"), "backfill run")
    with pytest.raises(UsageError, match="lies in the folder of the job"):
        check_own_files(found, {"job": tmp_path / "job"})
    assert found.metrics is None


def test_without_options_nothing_is_set_up() -> None:
    with logging_as(session()):
        assert not LOG.isEnabledFor(logging.INFO)


def test_a_file_has_the_lines_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    path.chmod(0o644)
    with logging_as(session(log_file=str(path))):
        LOG.info("request %s", "one\x1b[31m\ntwo")
        LOG.debug("not this")
        LOG.warning("and this")

    first, second, third = path.read_text().splitlines()
    assert first == "before"
    assert second.endswith(" INFO request one\\x1b[31m two")
    assert third.endswith(" WARNING and this")
    assert path.stat().st_mode & 0o777 == 0o600
    assert not LOG.isEnabledFor(logging.INFO)


def test_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for level in ("debug", "error"):
        with logging_as(session(log_file=str(path), log_level=level)):
            LOG.debug("debug")
            LOG.info("info")
            LOG.error("error")

    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["debug", "info", "error", "error"]


def test_on_stderr_warnings_are_left_to_the_reporter(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(session(log_level="info")):
        LOG.info("a line")
        LOG.warning("a warning")

    assert capsys.readouterr().err.endswith(" INFO a line\n")


def test_for_machines_they_are_events(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(Session(json=True, flags={"log_level": "info"})):
        LOG.info("a line")

    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"], event["message"]) == ("log", "info", "a line")


def test_a_file_that_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="--log-file cannot be written: No such file"),
        logging_as(session(log_file=str(tmp_path / "none" / "a.log"))),
    ):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_costs_lines_and_not_the_run() -> None:
    with logging_as(session(log_file="/dev/full")):
        LOG.info("a line")
