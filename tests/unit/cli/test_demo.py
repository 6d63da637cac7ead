"""The demonstration, as a real process: it ends by itself, says so when all is well, and leaves whole results."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engagement_async.cli.app import run
from engagement_async.cli.demo import Demo
from engagement_async.cli.exit_codes import USAGE
from tests.support.jobs import started


def test_it_is_refused_in_the_folder_of_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = started(tmp_path / "job", 3)
    before = sorted(job.path.iterdir())

    assert run(["demo", "--output", str(job.path / "results")]) == USAGE
    assert "lies in the folder of a job" in capsys.readouterr().err
    assert sorted(job.path.iterdir()) == before


def test_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engagement_async", "demo", "--output", "results"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
    )

    assert "values compared with the emulator's own: none differ" in done.stdout
    assert "✗" not in done.stdout
    assert "given" in done.stdout
    assert "exported values equal those of step 1" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "  results/report.html: a job that was killed",
        "  results/last-28-hours.html: the last 28 hours",
    ]
    for name in ("report", "last-28-hours"):
        assert "<svg" in (tmp_path / "results" / f"{name}.html").read_text()
    assert max(map(len, done.stdout.splitlines())) <= 80
    for name in ("totals", "last-28-hours"):
        result = json.loads((tmp_path / "results" / f"{name}.json").read_bytes())
        with (tmp_path / "results" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        grouping = next(value for key, value in result.items() if key.startswith("by_"))
        assert {row["tweet_id"] for row in rows} == set(grouping)


async def test_without_what_draws_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing: Any = None
    monkeypatch.setattr("engagement_async.cli.demo.find_spec", lambda _: None)
    shown = Demo(nothing, nothing, 1_780_000_000.0, tmp_path, nothing)
    shown.results["last-28-hours"] = nothing

    await shown.pages()

    assert "pip install 'engagement-async[report]'" in capsys.readouterr().out
