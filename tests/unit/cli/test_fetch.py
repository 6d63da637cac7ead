"""`engagement fetch` as a real process against the emulator over a real socket: what goes in, what comes out."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engagement_async.emulator import Emulator, tweet_ids

NOW = time.time()
IDS = tweet_ids(260, newest_at=NOW)
GONE, FOREIGN, BAD = IDS[3], IDS[5], IDS[7]
METRICS = ("impressions", "engagements", "favorites", "retweets", "quote_tweets", "replies", "video_views")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(
        requests_per_minute=None,
        now=lambda: NOW,
        unavailable={GONE},
        unavailable_fraction=0,
        forbidden={FOREIGN: "18435372"},
        rejected={BAD},
    ) as running:
        yield running


class Cli:
    """Runs `python -m engagement_async` in a folder of its own, with the emulator's credentials and no others."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(folder / "config"),
            "ENGAGEMENT_STATE_DIR": os.environ["ENGAGEMENT_STATE_DIR"],
            "ENGAGEMENT_REQUESTS_PER_MINUTE": "60000",
            **emulator.environment,
        }

    def __call__(
        self, *args: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "engagement_async", *args],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
        )

    @contextmanager
    def start(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen(
            [sys.executable, "-m", "engagement_async", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environ,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def cli(emulator: Emulator, tmp_path: Path) -> Cli:
    return Cli(emulator, tmp_path)


def strings(nested: dict[str, Any]) -> dict[str, Any]:
    return {key: strings(value) if isinstance(value, dict) else str(value) for key, value in nested.items()}


def truth(emulator: Emulator, ids: list[str], metrics: tuple[str, ...] = METRICS) -> dict[str, Any]:
    group_by = {"by_tweet_type": ("tweet.id", "engagement.type")}
    return strings(emulator.expected("totals", ids, metrics, group_by)["by_tweet_type"])


def events(stderr: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def test_ids_from_arguments_files_and_stdin_make_one_result(cli: Cli, emulator: Emulator) -> None:
    (cli.folder / "a.csv.gz").write_bytes(gzip.compress(f"tweet_id\n{IDS[1]}\n{IDS[0]}\n".encode()))
    done = cli("fetch", "totals", IDS[0], "--ids", "a.csv.gz", "--ids", "-", stdin=f"{IDS[2]}\n{GONE}\n".encode())

    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "unavailable_tweet_ids": [GONE],
        "by_tweet_type": truth(emulator, [IDS[1], IDS[0], IDS[2]]),
    }
    assert b"4 IDs \xc2\xb7 1 request" in done.stderr
    assert b"  answered    3\n  unavailable 1\n" in done.stderr


def test_every_id_is_accounted_for_and_those_that_failed_make_3(cli: Cli, emulator: Emulator) -> None:
    (cli.folder / "ids.txt").write_text("\n".join([*IDS, IDS[0], "1.7E+18"]))
    done = cli("fetch", "totals", "--ids", "ids.txt", "--json", "--metrics", "favorites,replies", "-o", "out.json")

    assert done.returncode == 3
    assert done.stdout == b""
    told = events(done.stderr)
    assert [event["event"] for event in told] == ["rejected", "input", "started", "progress", "finished"]
    assert (told[0]["line"], told[0]["text"]) == (262, "1.7E+18")
    assert told[4]["outcomes"] == {
        "answered": 257,
        "unavailable": 1,
        "unsupported": 0,
        "forbidden": 1,
        "failed": 1,
        "rejected": 1,
    }
    assert (told[4]["unavailable"], told[4]["forbidden"], list(told[4]["failed"])) == ([GONE], [FOREIGN], [BAD])
    result = json.loads((cli.folder / "out.json").read_bytes())
    assert result["by_tweet_type"] == truth(
        emulator, [i for i in IDS if i not in (GONE, FOREIGN, BAD)], ("favorites", "replies")
    )

    done = cli("fetch", "totals", "--ids", "ids.txt", "-o", "out.json", "--quiet")
    assert done.returncode == 3
    assert done.stderr.splitlines()[1:] == [
        b"forbidden (Tweets of other owners; ask their public metrics with --auth bearer):",
        b"  " + FOREIGN.encode(),
        b"failed:",
        done.stderr.splitlines()[-1],
    ]
    assert done.stderr.splitlines()[-1].startswith(f"  {BAD}: ".encode())


def test_tidy_formats_hold_the_same_values(cli: Cli, emulator: Emulator) -> None:
    expected = {
        (tweet_id, metric, int(value))
        for tweet_id, metrics in truth(emulator, IDS[:3]).items()
        for metric, value in metrics.items()
    }
    lines = cli("fetch", "totals", *IDS[:3], "--format", "jsonl").stdout.splitlines()
    assert {tuple(json.loads(line).values()) for line in lines} == expected

    assert cli("fetch", "totals", *IDS[:3], "--output", "out.csv").returncode == 0
    rows = list(csv.DictReader(io.StringIO((cli.folder / "out.csv").read_text())))
    assert {(row["tweet_id"], row["engagement_type"], int(row["value"])) for row in rows} == expected

    assert cli("fetch", "totals", *IDS[:3], "--output", "out.parquet").returncode == 0
    table = pq.read_table(cli.folder / "out.parquet")
    assert {tuple(row.values()) for row in table.to_pylist()} == expected
    assert cli("fetch", "totals", *IDS[:3], "--format", "parquet").stdout == (cli.folder / "out.parquet").read_bytes()


def test_hours_of_28_and_of_a_long_span(cli: Cli, emulator: Emulator) -> None:
    order = ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
    done = cli("fetch", "28hr", *IDS[:3], "--metrics", "impressions,url_clicks")
    expected = emulator.expected("28hr", IDS[:3], ["impressions", "url_clicks"], {"by_tweet_type_day_hour": order})
    assert json.loads(done.stdout)["by_tweet_type_day_hour"] == strings(expected["by_tweet_type_day_hour"])

    span = ("--start", "2024-01-01", "--end", "2024-03-01")
    old = tweet_ids(3, 5, newest_at=1704067200 + 3600 * 24 * 20, oldest_at=1704067200)
    args = ("historical", *old, *span, "--group-by", "days=tweet.id,engagement.day", "--metrics", "favorites", "--json")
    done = cli("fetch", *args)
    assert done.returncode == 0
    assert events(done.stderr)[-2]["requests"] == 3
    days = json.loads(done.stdout)["days"]
    assert all(len(of_tweet) == 60 for of_tweet in days.values())


def test_several_groupings_make_several_files(cli: Cli) -> None:
    groupings = ("--group-by", "all=engagement.type", "--group-by", "tweet.id")
    done = cli("fetch", "totals", *IDS[:3], *groupings, "--output", "{grouping}.csv")
    assert done.returncode == 0
    assert sorted(path.name for path in cli.folder.iterdir()) == ["all.csv", "by_tweet.csv"]
    totals = dict(csv.reader(io.StringIO((cli.folder / "all.csv").read_text())))
    assert set(totals) == {"engagement_type", *METRICS}


def test_the_same_answers_make_the_same_bytes(cli: Cli) -> None:
    (cli.folder / "ids.txt").write_text("\n".join(i for i in IDS if i != BAD))
    outputs = [
        cli("fetch", "28hr", "--ids", "ids.txt", "--format", "csv", "--concurrency", str(n)).stdout for n in (1, 9)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"\n") > 100_000


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["totals"], "which Tweets? Give IDs as arguments, --ids FILE"),
        (["totals", "12x"], "'12x' is not a Tweet ID"),
        (["totals", "--ids", "none.txt"], "none.txt: No such file"),
        (["totals", "--ids", "empty.txt"], "there is no Tweet ID in empty.txt"),
        (["totals", "--ids", "bad.txt", "--strict"], "bad.txt:2: 'x' is not a Tweet ID"),
        (["totals", "1", "--metrics", "likes"], "no metric 'likes'"),
        (["28hr", "1", "--auth", "bearer"], "28hr needs OAuth 1.0a"),
        (["28hr", "1", "--start", "2024-01-01", "--end", "2024-01-02"], "takes no start and end"),
        (["totals", "1", "-o", "none/out.json"], "there is no folder"),
        (["totals", "1", "--group-by", "tweet.id", "--group-by", "engagement.type", "-o", "a.csv"], "{grouping}"),
        (["totals", "1", "--group-by", "../up=tweet.id", "-o", "{grouping}.csv"], "cannot be part of a file's name"),
        (["totals", "1", "--group-by", "tweet.id", "--group-by", "tweet.id"], "two groupings are called 'by_tweet'"),
        (["totals", "1", "--base-url", "http://example.com"], "use https"),
        (["totals", "1", "--bearer-token", "canary"], "--bearer-token is not an option"),
        (["totals", "1", "--json", "--quiet"], "take one of them"),
        (["totals", "1", "--requests-per-minute", "0"], "--requests-per-minute"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    cli: Cli, emulator: Emulator, args: list[str], message: str
) -> None:
    (cli.folder / "empty.txt").write_text("# nothing\n")
    (cli.folder / "bad.txt").write_text("1\nx\n")
    before = len(emulator.log.entries)
    done = cli("fetch", *args)

    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert b"canary" not in done.stderr
    assert done.stdout == b""
    assert len(emulator.log.entries) == before


def test_bearer_asks_public_metrics_alone(cli: Cli, emulator: Emulator) -> None:
    done = cli("fetch", "totals", IDS[0], FOREIGN, "--auth", "bearer")
    public = ("favorites", "retweets", "quote_tweets", "replies", "video_views")
    expected = emulator.expected(
        "totals", [IDS[0], FOREIGN], public, {"by_tweet_type": ("tweet.id", "engagement.type")}, app_only=True
    )
    assert done.returncode == 0
    assert json.loads(done.stdout) == strings(expected)


def test_wrong_credentials_make_4_and_show_in_nothing(cli: Cli) -> None:
    secret = "canary-5f3a9c"
    environ = {"ENGAGEMENT_CONSUMER_SECRET": secret, "ENGAGEMENT_ACCESS_TOKEN": secret, "ENGAGEMENT_DEBUG": "1"}
    done = cli("fetch", "totals", *IDS[:3], "-o", "out.json", environ=environ)

    assert done.returncode == 4
    assert secret.encode() not in done.stdout + done.stderr
    assert list(cli.folder.iterdir()) == []

    done = cli("fetch", "totals", *IDS[:3], "--json", environ=environ | {"ENGAGEMENT_DEBUG": ""})
    assert events(done.stderr)[-1]["exit_code"] == 4
    assert secret.encode() not in done.stdout + done.stderr


def test_a_disk_that_is_full_makes_6_and_leaves_the_old_file(cli: Cli) -> None:
    done = cli("fetch", "totals", IDS[0], "-o", "/dev/full")
    assert (done.returncode, b"No space left on device: make room" in done.stderr) == (6, True)

    (cli.folder / "out.csv").write_text("old")
    fetch = [
        sys.executable,
        "-m",
        "engagement_async",
        "fetch",
        "28hr",
        *IDS[:3],
        "-o",
        "out.csv",
        "--scheduler",
        "process",
    ]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *fetch],
        capture_output=True,
        check=False,
        cwd=cli.folder,
        env=cli.environ,
    )
    assert (done.returncode, b"File too large" in done.stderr) == (6, True)
    assert [path.read_text() for path in cli.folder.iterdir()] == ["old"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_in_good_order(cli: Cli, number: signal.Signals, code: int) -> None:
    (cli.folder / "out.json").write_text("old")
    (cli.folder / "ids.txt").write_text("\n".join(IDS))
    args = ("28hr", "--ids", "ids.txt", "--json", "-o", "out.json", "--requests-per-minute", "2")
    with cli.start("fetch", *args) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "input"
        assert json.loads(process.stderr.readline())["event"] == "started"
        process.send_signal(number)
        told = events(process.stderr.read())
        assert process.wait() == code

    assert told[-1]["event"] == "interrupted"
    assert (told[-1]["exit_code"], told[-1]["ids_total"]) == (code, 260)
    assert sorted(path.name for path in cli.folder.iterdir()) == ["ids.txt", "out.json"]
    assert (cli.folder / "out.json").read_text() == "old"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_it_still_reads_stdin(cli: Cli, number: signal.Signals, code: int) -> None:
    with cli.start("fetch", "totals", "--ids", "-", "--json", "-o", "out.json") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"not an ID\n")
        process.stdin.flush()
        assert json.loads(process.stderr.readline())["event"] == "rejected"
        process.send_signal(number)
        assert process.wait() == code
        assert b"Traceback" not in process.stderr.read()
    assert list(cli.folder.iterdir()) == []
