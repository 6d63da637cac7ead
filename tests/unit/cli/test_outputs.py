"""What `fetch` writes: what the name says, where it is wanted, and never over an input or for nothing."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import openpyxl
import pyarrow.parquet as pq
import pytest

from engagement_async.backfill import read_ids
from engagement_async.emulator import Emulator, tweet_ids
from tests.unit.cli.test_fetch import BAD, GONE, IDS, METRICS, NOW, Cli, truth

SMALL = IDS[:4]  # GONE among them


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(
        requests_per_minute=None, now=lambda: NOW, unavailable={GONE}, unavailable_fraction=0, rejected={BAD}
    ) as running:
        yield running


@pytest.fixture
def cli(emulator: Emulator, tmp_path: Path) -> Cli:
    (tmp_path / "ids.csv").write_text("tweet_id\n" + "\n".join(SMALL) + "\n")
    return Cli(emulator, tmp_path)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_tables_of_a_workbook_or_a_database_come_with_who_lacks_values(cli: Cli, emulator: Emulator) -> None:
    expected = {
        (tweet_id, metric, int(value))
        for tweet_id, metrics in truth(emulator, [i for i in SMALL if i != GONE]).items()
        for metric, value in metrics.items()
    }
    groupings = ("--group-by", "tweet.id,engagement.type", "--group-by", "all=engagement.type")
    for name in ("x.xlsx", "x.duckdb"):
        assert cli("fetch", "totals", "--ids", "ids.csv", *groupings, "-o", name).returncode == 0

    book = openpyxl.load_workbook(cli.folder / "x.xlsx")
    assert book.sheetnames == ["by_tweet_type", "all", "outcomes"]
    assert {tuple(cell.value for cell in row) for row in book["by_tweet_type"].rows} - expected == {
        ("tweet_id", "engagement_type", "value")
    }
    assert [[cell.value for cell in row] for row in book["outcomes"].rows][1:] == [[GONE, "unavailable", ""]] or [
        [cell.value for cell in row] for row in book["outcomes"].rows
    ][1:] == [[GONE, "unavailable", None]]
    with duckdb.connect(str(cli.folder / "x.duckdb"), read_only=True) as connection:
        assert set(connection.execute("SELECT * FROM by_tweet_type").fetchall()) == expected
        assert connection.execute("SELECT tweet_id, state FROM outcomes").fetchall() == [(GONE, "unavailable")]


def test_a_folder_gets_a_file_for_each_grouping_and_is_made(cli: Cli) -> None:
    args = ("fetch", "totals", "--ids", "ids.csv", "--group-by", "tweet.id", "--group-by", "all=engagement.type")
    assert cli(*args, "-o", "out/").returncode == 0
    assert cli(*args, "-o", "out", "--format", "csv").returncode == 0

    assert sorted(path.name for path in (cli.folder / "out").iterdir()) == [
        "all.csv", "all.parquet", "by_tweet.csv", "by_tweet.parquet"
    ]  # fmt: skip
    assert pq.read_table(cli.folder / "out" / "all.parquet").num_rows == len(METRICS)
    done = cli("fetch", "totals", "--ids", "none.csv", "-o", "new/")
    assert (done.returncode, (cli.folder / "new").exists()) == (2, False)


def test_wide_rows_with_their_instant(cli: Cli) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    options = ("--wide", "--observed-at")
    assert cli("fetch", "totals", "--ids", "ids.csv", "-o", "x.csv", *options).returncode == 0
    assert cli("fetch", "totals", "--ids", "ids.csv", "-o", "x.parquet", *options).returncode == 0

    rows = rows_of((cli.folder / "x.csv").read_text())
    assert {row["tweet_id"] for row in rows} == {i for i in SMALL if i != GONE}
    assert list(rows[0]) == ["tweet_id", *METRICS, "observed_at"]
    assert all(before <= datetime.fromisoformat(row["observed_at"]) <= datetime.now(UTC) for row in rows)
    table = pq.read_table(cli.folder / "x.parquet")
    assert str(table.schema.field("observed_at").type) == "timestamp[us, tz=UTC]"
    assert all(at >= before for at in table["observed_at"].to_pylist())
    done = cli("fetch", "totals", "--ids", "ids.csv", "--group-by", "tweet.id", "--wide", "-o", "y.csv")
    assert (done.returncode, b"a column for each engagement.type" in done.stderr) == (2, True)


def test_excel_keeps_ids_and_they_come_back(cli: Cli) -> None:
    assert cli("fetch", "totals", "--ids", "ids.csv", "-o", "x.csv", "--excel", "--wide").returncode == 0
    raw = (cli.folder / "x.csv").read_bytes()

    assert raw.startswith(b"\xef\xbb\xbftweet_id,")
    ids = {row["tweet_id"] for row in rows_of(raw.decode("utf-8-sig"))}
    assert ids == {f'="{i}"' for i in SMALL if i != GONE}
    assert set(read_ids([cli.folder / "x.csv"])) == {i for i in SMALL if i != GONE}


@pytest.mark.parametrize(
    "name", ["x.csv", "x.tsv.gz", "x.csv.zst", "x.jsonl", "x.parquet", "x.arrow", "x.xlsx", "out/"]
)
def test_the_ids_of_an_output_can_be_fetched_again(cli: Cli, name: str) -> None:
    assert cli("fetch", "totals", "--ids", "ids.csv", "-o", name, "--wide", "--observed-at").returncode == 0

    # A workbook's sheet of outcomes has the others.
    assert set(read_ids([f"{cli.folder}/{name}"])) == {i for i in SMALL if i != GONE or name == "x.xlsx"}


@pytest.mark.parametrize("option", ["--observed-at", "--excel"])
def test_a_table_for_eyes_has_nothing_for_machines(cli: Cli, option: str) -> None:
    done = cli("fetch", "totals", "--ids", "ids.csv", "--format", "table", option)

    assert (done.returncode, b"is for eyes: write csv" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("x.txt", "which format?"),
        ("x", "which format?"),
        ("x.csv.bz2", ".bz2 is not written"),
        ("s3://bucket/x.csv", "copy it with `aws s3 cp`"),
        ("ids.csv", "is the same file as the input ids.csv"),
        ("soft.csv", "is the same file as the input ids.csv"),
        ("hard.csv", "is the same file as the input ids.csv"),
        ("none/", None),
        ("none/none/", "there is no folder"),
        ("文" * 86 + ".csv", "longer than this file system takes"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_asked(
    cli: Cli, emulator: Emulator, output: str, says: str | None
) -> None:
    (cli.folder / "soft.csv").symlink_to("ids.csv")
    os.link(cli.folder / "ids.csv", cli.folder / "hard.csv")
    before = len(emulator.log.entries)
    done = cli("fetch", "totals", "--ids", "ids.csv", "-o", output)
    if says is None:
        assert done.returncode == 0
        return

    assert (done.returncode, says in done.stderr.decode(), done.stdout) == (2, True, b"")
    assert len(emulator.log.entries) == before
    assert (cli.folder / "ids.csv").read_text().startswith("tweet_id\n")
    assert len(list(cli.folder.iterdir())) == 3


def test_an_input_in_a_folder_of_outputs_stays(cli: Cli, emulator: Emulator) -> None:
    (cli.folder / "by_tweet_type.csv").write_text("\n".join(SMALL))
    before = len(emulator.log.entries)
    done = cli("fetch", "totals", "--ids", "by_tweet_type.csv", "-o", "./", "--format", "csv")

    assert (done.returncode, b"is the same file as the input" in done.stderr) == (2, True)
    assert len(emulator.log.entries) == before


@pytest.mark.parametrize("output", ["more/b.csv", "more/deep/c.csv", "link/b.csv"])
def test_an_input_in_a_folder_of_inputs_stays(cli: Cli, emulator: Emulator, output: str) -> None:
    (cli.folder / "more" / "deep").mkdir(parents=True)
    (cli.folder / "link").symlink_to("more")
    for name in ("more/b.csv", "more/deep/c.csv"):
        (cli.folder / name).write_text("\n".join(SMALL))
    before = len(emulator.log.entries)
    done = cli("fetch", "totals", "--ids", "ids.csv", "--ids", "more", "-o", output)

    assert (done.returncode, b"is the same file as the input more/" in done.stderr) == (2, True)
    assert (cli.folder / output).read_text() == "\n".join(SMALL)
    assert len(emulator.log.entries) == before
    assert cli("fetch", "totals", "--ids", "more", "-o", "more/new.csv").returncode == 0


def test_the_tokens_of_owners_stay(cli: Cli) -> None:
    tokens = cli.folder / "tokens.csv"
    tokens.write_text("owner,access_token,access_token_secret\na,b,c\n")
    tokens.chmod(0o600)
    (cli.folder / "owned.csv").write_text(f"owner,tweet_id\na,{SMALL[0]}\n")
    done = cli(
        *("fetch", "totals", "--ids", "owned.csv", "--owner-column", "owner", "--credentials", "tokens.csv"),
        *("-o", "tokens.csv"),
    )

    assert (done.returncode, b"is the same file as the input tokens.csv" in done.stderr) == (2, True)
    assert tokens.read_text().startswith("owner,access_token")


def test_streams_are_written_in_place(cli: Cli, emulator: Emulator) -> None:
    fetch = f"{sys.executable} -m engagement_async fetch totals --ids ids.csv -q"
    script = (
        f"{fetch} -o >(gzip > x.json.gz); {fetch} -o /dev/stdout --format csv > y.csv; "
        f"{fetch} -o /dev/fd/3 3> z.json; mkfifo pipe.jsonl; cat pipe.jsonl > w.jsonl & {fetch} -o pipe.jsonl; wait"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=cli.folder, env=cli.environ, capture_output=True, check=False, timeout=120
    )

    assert (done.returncode, done.stderr) == (0, b"")
    answered = truth(emulator, [i for i in SMALL if i != GONE])
    while not (cli.folder / "x.json.gz").read_bytes():
        time.sleep(0.01)  # bash does not wait for what it substitutes
    assert json.loads(gzip.decompress((cli.folder / "x.json.gz").read_bytes()))["by_tweet_type"] == answered
    assert json.loads((cli.folder / "z.json").read_bytes())["by_tweet_type"] == answered
    assert len(rows_of((cli.folder / "y.csv").read_text())) == len((cli.folder / "w.jsonl").read_text().splitlines())
    assert stat.S_ISFIFO((cli.folder / "pipe.jsonl").stat().st_mode)


DOWN = """
import sys
from engagement_async.client import EngagementClient
EngagementClient.__init__.__kwdefaults__["outage_timeout_s"] = float(sys.argv.pop(1))
from engagement_async.cli import main
main()
"""


def fetch_during_an_outage(cli: Cli, *args: str, url: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", DOWN, "1.5", "fetch", *args],
        cwd=cli.folder,
        env={**cli.environ, "ENGAGEMENT_BASE_URL": url},
        capture_output=True,
        check=False,
    )


def test_a_good_table_is_not_replaced_by_an_empty_one_because_the_api_is_down(cli: Cli) -> None:
    assert cli("fetch", "totals", "--ids", "ids.csv", "-o", "x.csv").returncode == 0
    good = (cli.folder / "x.csv").read_bytes()
    done = fetch_during_an_outage(cli, "totals", "--ids", "ids.csv", "-o", "x.csv", "--json")

    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, events[-1]["event"], events[-1]["exit_code"]) == (5, "finished", 5)
    assert any("no ID was answered: nothing was written to x.csv" in event.get("message", "") for event in events)
    assert (cli.folder / "x.csv").read_bytes() == good
    done = fetch_during_an_outage(cli, "totals", "--ids", "ids.csv", "-o", "new/")
    assert (done.returncode, (cli.folder / "new").exists()) == (5, False)
    assert sorted(path.name for path in cli.folder.iterdir()) == ["ids.csv", "x.csv"]


def test_on_stdout_stands_what_is_known_also_in_an_outage(cli: Cli) -> None:
    done = fetch_during_an_outage(cli, "totals", "--ids", "ids.csv")

    assert (done.returncode, json.loads(done.stdout)) == (5, {"by_tweet_type": {}})


def test_ids_that_the_api_refuses_leave_a_good_table_too(cli: Cli) -> None:
    (cli.folder / "x.csv").write_text("good")
    done = cli("fetch", "totals", BAD, "-o", "x.csv")

    assert (done.returncode, (cli.folder / "x.csv").read_text()) == (3, "good")


def test_a_killed_run_leaves_nothing_for_long(cli: Cli) -> None:
    (cli.folder / "many.txt").write_text("\n".join(IDS))
    args = ("fetch", "28hr", "--ids", "many.txt", "--json", "-o", "x.csv", "--requests-per-minute", "2")
    with cli.start(*args) as process:
        assert process.stderr is not None
        assert [json.loads(process.stderr.readline())["event"] for _ in range(2)] == ["input", "started"]
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = [path.name for path in cli.folder.iterdir() if path.name.startswith(".x.csv")]
    assert cli("fetch", "totals", "--ids", "ids.csv", "-o", "x.csv").returncode == 0

    assert sorted(Path(name).suffix for name in left) == [".lock", ".part"]
    assert sorted(path.name for path in cli.folder.iterdir()) == ["ids.csv", "many.txt", "x.csv"]


def test_a_long_fetch_that_is_stopped_names_jobs(cli: Cli, emulator: Emulator) -> None:
    before = len(emulator.log.entries)
    (cli.folder / "many.txt").write_text("\n".join(tweet_ids(600, newest_at=NOW)))
    alone = ("--requests-per-minute", "2", "--scheduler", "process")  # what was spent before would be waited for
    with cli.start("fetch", "28hr", "--ids", "many.txt", "-o", "x.csv", *alone) as process:
        assert process.stderr is not None
        while len(emulator.log.entries) == before:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait() == 130

    assert "nothing was written" in said
    assert "engagement backfill run" in said
