"""`engagement report`: one file, its name, and errors that name the fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engagement_async.cli.app import run
from engagement_async.cli.exit_codes import OK, OTHER_JOB, USAGE
from engagement_async.reports.composition import NEEDS
from tests.support.reports import answered_job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answered_job(tmp_path_factory.mktemp("reports") / "may").path


def test_a_page_is_made_and_named(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(["report", str(job), "--title", "Mine"]) == OK

    assert capsys.readouterr().err == "report.html\n"
    assert "<h1>Mine</h1>" in (tmp_path / "report.html").read_text()


def test_the_help_names_all_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    run(["report", "--help"])

    assert ", ".join(NEEDS) in " ".join(capsys.readouterr().out.split())


def test_machines_hear_of_the_file(job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "top.svg"

    assert run(["report", str(job), "--picture", "top", "--dark", "-o", str(output), "--json"]) == OK

    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["path"]) == ("file", str(output))
    assert output.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing"], USAGE, "nothing: No such file"),
        (["{job}", "--picture", "top"], USAGE, "one picture is svg or png"),
        (["{job}", "--picture", "topp", "-o", "x.svg"], USAGE, "no picture 'topp' (did you mean 'top'?)"),
        (["{other}", "-o", "x.html"], OTHER_JOB, "holds 'x.txt'"),
    ],
)
def test_errors_have_codes(
    arguments: list[str],
    code: int,
    says: str,
    job: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("journal.sqlite", "x.txt"):
        (other / name).write_text("")

    assert run(["report", *(each.format(job=job, other=other) for each in arguments)]) == code
    assert says in capsys.readouterr().err


def test_the_earlier_name_of_usage_is_still_there(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backfill", "usage", str(job)]) == run(["backfill", "report", str(job)]) == OK

    out = capsys.readouterr().out
    assert out[: len(out) // 2] == out[len(out) // 2 :]


@pytest.mark.parametrize(
    ("command", "other"), [(["report"], "engagement backfill usage"), (["backfill", "usage"], "engagement report")]
)
def test_each_names_the_other(command: list[str], other: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([*command, "--help"])

    assert other in " ".join(capsys.readouterr().out.split())
