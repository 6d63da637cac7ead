"""`write_report`: the page or one picture, whole or not there, and what is refused before anything is read."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engagement_async import UsageError
from engagement_async.reports import write_report
from tests.support.reports import answered_job, result_of

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answered_job(tmp_path_factory.mktemp("reports") / "may").path


def test_a_job_becomes_a_page(job: Path, tmp_path: Path) -> None:
    write_report(job, tmp_path / "report.html", title="Mine", now=lambda: NOW)

    text = (tmp_path / "report.html").read_text()
    assert "<h1>Mine</h1>" in text
    assert "made 2026-01-02 03:04 UTC" in text
    assert text.count("<svg") == 10
    assert len(text) < 300_000


def test_a_name_that_is_not_utf_8_becomes_a_heading(job: Path, tmp_path: Path) -> None:
    write_report(job, tmp_path / "report.html", title=os.fsdecode(b"caf\xe9"))

    assert "<h1>caf?</h1>" in (tmp_path / "report.html").read_text()


def test_the_same_job_becomes_the_same_page(job: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(str(job), str(tmp_path / name), now=lambda: NOW)

    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_result_becomes_a_picture(job: Path, tmp_path: Path) -> None:
    from engagement_async.backfill.directory import JobDirectory

    result = result_of(JobDirectory(job))
    write_report(result, tmp_path / "week.png", picture="week")
    write_report(result, tmp_path / "top", picture="top", format="svg", is_dark=True)

    assert (tmp_path / "week.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "top").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"output": "report.pdf"}, "a report is written as html, svg, png, not 'report.pdf'"),
        ({"output": "report"}, "not 'report'"),
        ({"output": "report.html", "format": "pdf"}, "not 'pdf'"),
        ({"output": "report.svg"}, "svg holds one picture: name it"),
        ({"output": "report.html", "picture": "top"}, "one picture is svg or png"),
        (
            {"output": "x.svg", "picture": "tops"},
            r"no picture 'tops' \(did you mean 'top'\?\): it has hours, top, week",
        ),
        ({"output": "no/such/report.html"}, "there is no folder"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, Any], says: str, job: Path, tmp_path: Path) -> None:
    output = tmp_path / arguments.pop("output")

    with pytest.raises(UsageError, match=says.replace("'report", r".*report") if "not 'report" in says else says):
        write_report(job, output, **arguments)
    assert not output.exists()


def test_a_source_is_not_overwritten(job: Path, tmp_path: Path) -> None:
    (tmp_path / "hours.csv").write_text("tweet_id,value\n7,3\n")

    with pytest.raises(UsageError, match="is the same file as the input"):
        write_report(tmp_path / "hours.csv", tmp_path / "hours.csv", format="html")
    with pytest.raises(UsageError, match="lies in the folder of a job"):
        write_report(job, job / "report.html")


def test_a_page_goes_to_standard_output(job: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_report(job, "-")

    assert capfdbinary.readouterr().out.startswith(b"<!doctype html>")
