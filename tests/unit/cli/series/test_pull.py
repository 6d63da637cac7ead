"""`engagement series` as its users meet it: what it says, what it exits with, what it remembers."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from engagement_async.cli.app import run as run_command
from engagement_async.emulator import Emulator, tweet_ids
from engagement_async.series.lock import locked

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
IDS = tweet_ids(60, newest_at=NOW.timestamp())
METRICS = ("--metrics", "impressions,favorites")
Engagement = Callable[..., tuple[str, str]]


class World:
    now = NOW


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    monkeypatch.setattr(World, "now", NOW)
    with Emulator(requests_per_minute=None, now=lambda: World.now.timestamp(), unavailable=IDS[:2]) as running:
        running.world.unavailable_fraction = 0
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ENGAGEMENT_REQUESTS_PER_MINUTE", "6000")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.chdir(tmp_path)
        (tmp_path / "ids.csv").write_text("tweet_id\n" + "\n".join(IDS[:50]))
        (tmp_path / "more.txt").write_text("\n".join([*IDS[50:], "1.7E+18"]))
        yield running


@pytest.fixture
def engagement(server: Emulator, capfd: pytest.CaptureFixture[str]) -> Engagement:
    def engagement(*args: object, code: int = 0) -> tuple[str, str]:
        found = run_command(["series", *map(str, args)])
        told = capfd.readouterr()
        assert found == code, told.err
        return told.out, told.err

    return engagement


def status(engagement: Engagement) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engagement("status", "s.duckdb", "--json")[0])
    return found


def test_a_series_from_the_first_pull_to_tables(engagement: Engagement, server: Emulator, tmp_path: Path) -> None:
    _, told = engagement("pull", "s.duckdb", "--ids", "ids.csv", *METRICS)
    assert "ids.csv: 50 IDs from csv" in told
    assert "28hr: 48 Tweets · 2 requests · 2 gone · 2026-02-28 05:00 to 2026-03-01 09:00 UTC" in told
    World.now += timedelta(days=3)
    _, told = engagement("pull", "s.duckdb", "--ids", "more.txt", "--query", "SELECT tweet_id FROM tweets", code=3)
    assert "more.txt:11: '1.7E+18' is a float" in told

    found = status(engagement)
    assert found["tweets"] == {"answered": 58, "unavailable": 2, "forbidden": 0, "failed": 0}
    (gap,) = found["gaps"]
    assert (gap["starts_at"][:13], gap["ends_at"][:13], gap["hours"]) == ("2026-03-01T09", "2026-03-03T05", 44)
    assert (len(gap["tweets"]), found["gap_hours"], found["fill_requests"]) == (48, 44 * 48, 2)
    out, _ = engagement("status", "s.duckdb")
    assert "2026-03-01 09:00 to 2026-03-03 05:00 UTC: 44 hours of 48 Tweets" in out
    assert "1; engagement series fill takes 2 requests" in out

    asked = len(server.log)
    out, _ = engagement("fill", "s.duckdb", "--dry-run")
    assert out == "2026-03-01 09:00 to 2026-03-03 05:00 UTC: 48 Tweets, 2 requests\n"
    assert len(server.log) == asked
    assert "historical: 48 Tweets · 2 requests" in engagement("fill", "s.duckdb")[1]
    assert "there are no gaps to fill" in engagement("fill", "s.duckdb")[1]
    assert "none between pulls" in engagement("status", "s.duckdb")[0]

    engagement("export", "s.duckdb", "-o", "days.csv", "--by", "day", "--time-zone", "Europe/Berlin", "--wide")
    with (tmp_path / "days.csv").open(newline="") as file:
        days = list(csv.DictReader(file))
    assert set(days[0]) == {"tweet_id", "engagement_day", "impressions", "favorites", "state"}
    out, _ = engagement("export", "s.duckdb", "-o", "-", "--format", "jsonl", "--observed-at", "--quiet")
    hours = [json.loads(line) for line in out.splitlines()]
    assert sum(row["value"] for row in hours if row["engagement_type"] == "favorites") == sum(
        int(row["favorites"]) for row in days
    )


def test_totals_and_their_deltas(engagement: Engagement) -> None:
    for _ in range(2):
        engagement("pull", "s.duckdb", "totals", "--ids", "ids.csv", "--auth", "bearer")
        World.now += timedelta(days=1)
    found = status(engagement)
    assert found["metrics"] == {"totals": ["favorites", "retweets", "quote_tweets", "replies", "video_views"]}
    out, _ = engagement("export", "s.duckdb", "totals", "-o", "-", "--format", "csv", "--quiet")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == found["totals"] == 2 * 5 * 48
    assert [row["delta"] for row in rows if row["tweet_id"] == IDS[5]][0::2] == [""] * 5
    assert "pull first" in engagement("fill", "s.duckdb", code=2)[1]


def test_ids_from_standard_input(server: Emulator, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engagement_async", "series", "pull", "s.duckdb", "--ids", "-", *METRICS, "--json"]
    with (tmp_path / "ids.csv").open() as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=True)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["input", "pulled", "finished"]
    assert (events[1]["answered"], events[1]["unavailable"], events[1]["failed"]) == (48, 2, {})


def test_what_fails_is_listed_and_a_gap(engagement: Engagement, server: Emulator) -> None:
    server.world.rejected.add(IDS[7])
    _, told = engagement("pull", "s.duckdb", "--ids", "ids.csv", *METRICS, code=3)
    assert f"  {IDS[7]}: " in told.partition("failed, and a gap in the series:\n")[2]
    assert status(engagement)["gap_hours"] == 28
    engagement("fill", "s.duckdb", code=3)
    assert status(engagement)["gap_hours"] == 28


def test_tweets_of_many_owners(engagement: Engagement, server: Emulator, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.touch(mode=0o600)
    lines = [f"{name},{server.access_token},{server.access_token_secret}" for name in ("acme", "globex")]
    tokens.write_text("\n".join(["owner,access_token,access_token_secret", *lines]))
    (tmp_path / "owned.csv").write_text(
        "tweet_id,owner\n" + "\n".join(f"{i},{'acme' if n % 2 else 'globex'}" for n, i in enumerate(IDS[10:30]))
    )
    owned = ("--ids", "owned.csv", "--owner-column", "owner", "--credentials", "tokens.csv")
    engagement("pull", "s.duckdb", *owned, *METRICS)
    World.now += timedelta(days=3)
    engagement("pull", "s.duckdb", "--credentials", "tokens.csv")
    assert {tweet["owner"] for tweet in status(engagement)["gaps"][0]["tweets"]} == {"acme", "globex"}
    engagement("fill", "s.duckdb", "--credentials", "tokens.csv")
    assert status(engagement)["gaps"] == []
    out, _ = engagement("export", "s.duckdb", "-o", "-", "--format", "csv", "--quiet")
    assert {row["owner"] for row in csv.DictReader(io.StringIO(out))} == {"acme", "globex"}
    assert "where are the tokens" in engagement("pull", "s.duckdb", code=2)[1]
    without = ("pull", "s.duckdb", "--ids", "ids.csv", "--credentials", "tokens.csv")
    assert "name their column with --owner-column" in engagement(*without, code=12)[1]
    engagement("pull", "plain.duckdb", "--ids", "ids.csv", *METRICS)
    assert "leave out their column" in engagement("pull", "plain.duckdb", *owned, code=12)[1]


WRONG = (
    (("pull", "new.duckdb"), 2, "there is no series here"),
    (("pull", "s.duckdb", "--query", "SELECT nothing"), 2, "the query for Tweets fails"),
    (("pull", "s.duckdb", "--query", "SELECT tweet_id FROM tweets WHERE false"), 2, "finds no Tweets"),
    (("pull", "s.duckdb", "--metrics", "replies"), 12, "begin another store"),
    (("pull", "s.duckdb", "--metrics", "likes"), 2, "favorites"),
    (("pull", "s.duckdb", "--auth", "bearer"), 2, "needs OAuth 1.0a"),
    (("pull", "ids.csv"), 12, "is no DuckDB file"),
    (("pull", "locked.duckdb", "--ids", "ids.csv"), 11, "another pull or fill is at work"),
    (("pull", "s.duckdb", "historical"), 2, "28hr"),
    (("fill", "s.duckdb", "--start", "2014-01-01"), 2, "before 2014-09-01"),
    (("fill", "new.duckdb"), 2, "there is no series here"),
    (("watch", "s.duckdb", "--every", "soon"), 2, "90s, 30m, 2h"),
    (("watch", "new.duckdb", "--every", "6h"), 2, "which Tweets"),
    (("status", "new.duckdb"), 2, "there is no series here"),
    (("status", "ids.csv"), 12, "is no DuckDB file"),
    (("export", "s.duckdb", "-o", "s.duckdb"), 2, "same file"),
    (("export", "s.duckdb", "-o", "x.csv", "--time-zone", "Berlin", "--by", "day"), 2, "no time zone"),
    (("export", "s.duckdb", "totals", "-o", "x.csv", "--by", "day"), 2, "are for hours"),
)
"""Arguments, the exit code, and what is said."""


def test_what_is_wrong_is_told_before_anything_is_asked(
    engagement: Engagement, server: Emulator, tmp_path: Path
) -> None:
    engagement("pull", "s.duckdb", "--ids", "ids.csv", *METRICS)
    before = (tmp_path / "s.duckdb").read_bytes(), len(server.log)

    with locked(tmp_path / "locked.duckdb"):
        for args, code, says in WRONG:
            assert says in engagement(*args, code=code)[1], args
    assert ((tmp_path / "s.duckdb").read_bytes(), len(server.log)) == before
    assert not (tmp_path / "new.duckdb").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_store_as_it_was_and_that_is_told(
    engagement: Engagement, server: Emulator, number: signal.Signals, code: int
) -> None:
    engagement("pull", "s.duckdb", "--ids", "ids.csv", *METRICS)
    before = status(engagement)
    server.set_faults({"hang-before-headers": 1})
    received = server.log.requests

    def stop_it() -> None:
        while server.log.requests == received:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    Thread(target=stop_it).start()
    told = engagement("pull", "s.duckdb", code=code)[1]

    assert told.splitlines()[-1] == "interrupted: a pull is added as a whole, or not at all"
    assert status(engagement) == before
