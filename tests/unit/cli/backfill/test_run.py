"""`engagement backfill` as its users meet it: what it says, what it exits with, what it remembers."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engagement_async.cli.app import run as run_command
from engagement_async.emulator import Emulator
from tests.support.jobs import emulator, make_ids

IDS = make_ids(1300)
METRICS = ("--metrics", "favorites,replies")
Engagement = Callable[..., tuple[str, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    with emulator(unavailable_fraction=0.05, rejected=IDS[7:8]) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ids.txt").write_text("\n".join([*IDS, *IDS[:9], "1.7E+18"]))
        (tmp_path / "good.txt").write_text("\n".join(IDS[100:900]))
        yield running


@pytest.fixture
def engagement(server: Emulator, capfd: pytest.CaptureFixture[str]) -> Engagement:
    def engagement(*args: object, code: int = 0) -> tuple[str, str]:
        found = run_command(["backfill", *map(str, args)])
        told = capfd.readouterr()
        assert found == code, told.err
        return told.out, told.err

    return engagement


def events(told: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines()]


CONTRACT = ("--requests-per-minute", 100000, "--auth", "bearer")


def test_a_job_from_start_to_tables(engagement: Engagement, server: Emulator, tmp_path: Path) -> None:
    _, told = engagement("run", "job", "totals", "--ids", "ids.txt", *METRICS, *CONTRACT, "--max-requests", 2, code=5)
    assert "a new job of 1,300 IDs (9 stood there more than once)" in told
    assert "ids.txt:1310: '1.7E+18' is a float" in told
    assert "not done: the requests of --max-requests are used up" in told
    assert engagement("export", "job", "-o", "x.csv", code=5)[1].count("still to be asked") == 1

    (tmp_path / "ids.txt").unlink()  # it is not read again
    _, told = engagement("run", "job", code=3)
    assert "going on with 1,300 IDs" in told
    assert "retry-failed job" in told
    assert {entry.endpoint for entry in server.log} == {"totals"}

    out, _ = engagement("status", "job", "--json")
    status = json.loads(out)
    assert (status["state"], status["pending"], status["outcomes"]["failed"]) == ("complete", 0, 1)
    assert status["rejected"] == 1
    text, _ = engagement("status", "job")
    assert "1,300 of 1,300 done (100.0%)" in text
    assert json.loads(engagement("verify", "job", "--json")[0])["ok"]

    engagement("export", "job", "-o", "x.csv", "--outcomes", "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        outcomes = list(csv.DictReader(file))
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) + 2 * len(outcomes) == 2 * len(IDS)
    assert [row["tweet_id"] for row in outcomes if row["state"] == "failed"] == IDS[7:8]
    out, _ = engagement("export", "job", "-o", "-", "--format", "jsonl", "--quiet")
    assert len(out.splitlines()) == len(rows)

    server._service.world.rejected.clear()
    _, told = engagement("retry-failed", "job", code=3)  # a line was none, and still is
    assert "failed" not in told
    report = json.loads(engagement("report", "job", "--json")[0])
    assert report["requests"] == len(server.log) == sum(run["requests"] for run in report["runs"])
    assert "max requests" in engagement("report", "job")[0]


def test_the_same_options_go_on_and_others_are_refused(engagement: Engagement, server: Emulator) -> None:
    same = ("run", "job", "totals", "--ids", "good.txt", *METRICS, *CONTRACT)
    engagement(*same)
    asked = len(server.log)
    engagement(*same)
    assert len(server.log) == asked

    for other, says in (
        (("run", "job", "totals", "--ids", "good.txt", "--metrics", "favorites"), "this job has another query"),
        (("run", "job", "--ids", "ids.txt"), "other IDs"),
    ):
        assert says in engagement(*other, *CONTRACT, code=12)[1]
    _, told = engagement("run", "job", "--ids", "ids.txt", "--extend", code=3)
    assert "going on with 1,300 IDs, 500 of them new" in told
    assert len({i for entry in server.log for i in entry.tweet_ids}) == len(IDS)


def test_events_for_machines(engagement: Engagement) -> None:
    _, told = engagement("run", "job", "totals", "--ids", "good.txt", *METRICS, *CONTRACT, "--json")
    found = events(told)
    assert [event["event"] for event in found] == ["input", "started", "finished"]
    assert found[1]["is_new"]
    assert found[2]["outcome"] == "done"
    assert sum(found[2]["outcomes"].values()) == 800
    assert found[2]["exit_code"] == 0
    _, told = engagement("export", "job", "-o", "x.jsonl", "--json")
    assert [event["event"] for event in events(told)] == ["file", "finished"]
    _, told = engagement("run", "job", "28hr", "--json", *CONTRACT, code=2)
    failed = events(told)[-1]
    assert (failed["event"], failed["exit_code"], failed["job"]) == ("error", 2, "job")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("run", "job"), 2, "no job was started here"),
        (("run", "job", "totals"), 2, "name an endpoint and IDs"),
        (("run", "job", "--ids", "good.txt"), 2, "name an endpoint and IDs"),
        (("run", "job", "--metrics", "favorites"), 2, "which endpoint"),
        (("run", "job", "totals", "--ids", "ids.txt", "--strict"), 2, "ids.txt:1310"),
        (("run", "job", "totals", "--ids", "nothing.txt"), 2, "No such file"),
        (("run", "../..", "totals", "--ids", "good.txt"), 2, "name the job's folder itself"),
        (("run", ".", "totals", "--ids", "good.txt"), 2, "name the job's folder itself"),
        (("run", "taken", "totals", "--ids", "good.txt"), 12, "holds 'thesis.tex'"),
        (("run", "good.txt", "totals", "--ids", "good.txt"), 12, "is a file"),
        (("run", "job", "totals", "--ids", "good.txt", "--max-duration", "soon"), 2, "90s, 30m, 2h"),
        (("run", "job", "totals", "--ids", "good.txt", "--base-url", "http://u:p@127.0.0.1"), 2, "user or password"),
        (("run", "job", "totals", "--ids", "good.txt", "--max-requests", "0"), 2, "x>=1"),
        (("status", "job"), 2, "no job was started here"),
        (("status", "taken"), 12, "name the folder of a job"),
        (("export", "job", "-o", "x.csv"), 2, "no job was started here"),
        (("verify", "job"), 2, "no job was started here"),
        (("retry-failed", "job"), 2, "no job was started here"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    engagement: Engagement, server: Emulator, tmp_path: Path, args: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    contract = CONTRACT if args[0] in ("run", "retry-failed") else ()

    assert says in engagement(*args, *contract, code=code)[1]
    assert not len(server.log)
    assert not (tmp_path / "job").exists()


def test_damage_is_13_and_wrong_credentials_are_4(
    engagement: Engagement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ("run", "job", "totals", "--ids", "good.txt", *METRICS, *CONTRACT)
    monkeypatch.setenv("ENGAGEMENT_BEARER_TOKEN", "canary-of-a-token")
    _, told = engagement(*start, code=4)
    assert "canary" not in told
    monkeypatch.undo()
    raw = bytearray((tmp_path / "job" / "journal.sqlite").read_bytes())
    raw[-50] ^= 1
    (tmp_path / "job" / "journal.sqlite").write_bytes(raw)

    assert "damaged" in engagement("verify", tmp_path / "job", code=13)[1]


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ((), "50 IDs lost: add them again with `backfill run job --extend --ids FILE`"),
        (("totals",), "50 IDs lost: add them again"),
        (
            ("totals", "input 000000"),
            "how many IDs were lost, if any, is not known: add all of them again",
        ),
    ],
)
def test_a_repair_says_which_ids_must_be_added_again(
    engagement: Engagement, tmp_path: Path, documents: tuple[str, ...], says: str
) -> None:
    engagement("run", "job", "totals", "--ids", "good.txt", *METRICS, *CONTRACT)
    with closing(sqlite3.connect(tmp_path / "job" / "journal.sqlite")) as connection, connection:
        connection.execute("UPDATE batch SET sha256 = zeroblob(32) WHERE number = 3")  # the last one
        for name in documents:
            connection.execute("UPDATE document SET sha256 = zeroblob(32) WHERE name = ?", (name,))

    engagement("verify", "job", code=13)
    assert says in engagement("verify", "job", "--repair")[0]
    assert "50 of them new" in engagement("run", "job", "--extend", "--ids", "good.txt", *CONTRACT)[1]
    assert "800 of 800 done" in engagement("status", "job")[0]


def test_a_repair_that_lost_nothing_of_the_input_lets_the_same_command_go_on(
    engagement: Engagement, tmp_path: Path
) -> None:
    (tmp_path / "mixed.txt").write_text(f"{IDS[0]}\nno ID\n{IDS[1]}\n")
    start = ("run", "job", "totals", "--ids", "mixed.txt", *METRICS, *CONTRACT)
    engagement(*start, code=3)
    with closing(sqlite3.connect(tmp_path / "job" / "journal.sqlite")) as connection, connection:
        connection.execute("UPDATE document SET sha256 = zeroblob(32) WHERE name = 'totals'")

    engagement("verify", "job", "--repair")
    engagement(*start, code=3)
    status = json.loads(engagement("status", "job", "--json")[0])
    assert status["rejected"] == 1


def test_a_deadline_ends_the_run_in_good_order(engagement: Engagement) -> None:
    start = ("run", "job", "totals", "--ids", "good.txt", *METRICS, "--auth", "bearer")
    _, told = engagement(*start, "--requests-per-minute", 1, "--period", "3600", "--max-duration", "0.5s", code=5)

    assert "not done: the time of --max-duration is over" in told
