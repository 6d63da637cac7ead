"""The command line with Tweets of many owners: real processes against the emulator."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engagement_async.emulator import Emulator, tweet_ids

REVOKED, UNKNOWN = "owner7", "owner9"


class Shop:
    """An emulator with 20 owners, a file of their tokens, one of their Tweets, and a shell."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self.folder = folder
        self.owned: dict[str, list[str]] = defaultdict(list)
        lines = ["handle,tweet_id"]
        for tweet_id in tweet_ids(700, newest_at=time.time()):
            owner = emulator.owner_of(tweet_id) or ""
            self.owned[owner].append(tweet_id)
            lines.append(f"{owner},{tweet_id}")
        (folder / "ids.csv").write_text("\n".join(lines) + "\n")
        self.write_tokens()
        self.environ = {
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(folder / "config"),
            "ENGAGEMENT_STATE_DIR": os.environ["ENGAGEMENT_STATE_DIR"],
            "ENGAGEMENT_REQUESTS_PER_MINUTE": "60000",
            "ENGAGEMENT_BASE_URL": emulator.base_url,
            "ENGAGEMENT_CONSUMER_KEY": emulator.consumer_key,
            "ENGAGEMENT_CONSUMER_SECRET": emulator.consumer_secret,
            "ENGAGEMENT_CREDENTIALS_FILE": "owners.csv",
        }

    @property
    def secrets(self) -> list[str]:
        tokens = [each for owner in self.emulator.owners for each in (owner.access_token, owner.access_token_secret)]
        return [self.emulator.consumer_secret, *tokens]

    def write_tokens(self, *, without: str = UNKNOWN) -> None:
        owners = [owner for owner in self.emulator.owners if owner.handle != without]
        path = self.folder / "owners.csv"
        lines = [f"{owner.handle},{owner.access_token},{owner.access_token_secret}" for owner in owners]
        path.write_text("owner,access_token,access_token_secret\n" + "\n".join(lines))
        path.chmod(0o600)

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engagement_async", *args]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=100)
        assert not [secret for secret in self.secrets if secret in done.stdout + done.stderr]
        return done

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open() as file:
            return list(csv.DictReader(file))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Emulator(requests_per_minute=None, owners=20, log_size=None) as emulator:
        emulator.revoke(REVOKED)
        yield Shop(emulator, tmp_path)


def test_fetch_signs_each_request_with_its_owners_token(shop: Shop) -> None:
    by_tweet, by_owner = "tweet.id,engagement.type", "sums=owner,engagement.type"
    what = ("--metrics", "favorites,impressions", "--group-by", by_tweet, "--group-by", by_owner)
    done = shop(
        "fetch", "28hr", "--ids", "ids.csv", "--owner-column", "handle", *what, "-o", "{grouping}.csv", "--json"
    )

    assert done.returncode == 3, done.stderr
    rows = shop.rows("by_tweet_type.csv")
    assert list(rows[0]) == ["owner", "tweet_id", "engagement_type", "value"]
    assert all(row["owner"] == shop.emulator.owner_of(row["tweet_id"]) for row in rows)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        sums[row["owner"], row["engagement_type"]] += int(row["value"])
    assert {(row["owner"], row["engagement_type"]): int(row["value"]) for row in shop.rows("sums.csv")} == sums
    event = json.loads(done.stderr.splitlines()[-1])
    assert event["outcomes"]["failed"] == len(shop.owned[REVOKED]) + len(shop.owned[UNKNOWN])
    assert event["outcomes"]["forbidden"] == 0
    assert set(list(event["owners"])[:2]) == {REVOKED, UNKNOWN}
    assert event["owners"][UNKNOWN]["requests"] == 0
    assert event["owners"][REVOKED]["requests"] <= 2
    good = [ids for owner, ids in shop.owned.items() if owner not in (REVOKED, UNKNOWN)]
    assert len(shop.emulator.log) == sum(ceil(len(ids) / 25) for ids in good) + event["owners"][REVOKED]["requests"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.arrow", "out.duckdb", "out.xlsx"])
def test_every_format_has_the_owner_first(shop: Shop, name: str) -> None:
    options = (
        "--metrics",
        "favorites",
        "--group-by",
        "tweet.id,engagement.type",
        "--wide",
        "--observed-at",
        "-o",
        name,
    )
    done = shop("fetch", "28hr", "--ids", "ids.csv", "--owner-column", "1", *options)

    assert done.returncode == 3, done.stderr
    assert f"owner {UNKNOWN}: the credential store has no credentials" in done.stderr
    columns = ["owner", "tweet_id", "favorites", "observed_at"]
    path = shop.folder / name
    if name.endswith("jsonl"):
        assert list(json.loads(path.read_text().splitlines()[0])) == columns
    elif name.endswith("parquet"):
        assert pq.read_table(path).column_names == columns
    elif name.endswith("duckdb"):
        import duckdb

        with duckdb.connect(str(path), read_only=True) as connection:
            assert [each[0] for each in connection.sql("SELECT * FROM by_tweet_type").description] == columns
            states = connection.sql("SELECT owner, count(*) FROM outcomes WHERE state = 'failed' GROUP BY 1").fetchall()
        assert dict(states) == {owner: len(shop.owned[owner]) for owner in (REVOKED, UNKNOWN)}
    else:
        assert path.stat().st_size


def test_plan_counts_what_it_costs_that_owners_are_never_mixed(shop: Shop) -> None:
    done = shop("plan", "28hr", "--ids", "ids.csv", "--owner-column", "handle", "--json")

    plan = json.loads(done.stdout)
    requests = sum(ceil(len(ids) / 25) for ids in shop.owned.values())
    assert (plan["requests"], plan["owners"]) == (requests, len(shop.owned))
    assert plan["requests_for_owners"] == requests - ceil(700 / 25)
    assert (
        "because owners are never mixed" in shop("plan", "28hr", "--ids", "ids.csv", "--owner-column", "handle").stdout
    )


def test_an_owner_with_a_weight_sends_more_requests_at_each_turn(shop: Shop) -> None:
    heavy = "owner3"
    ids = {owner: shop.emulator.tweet_ids(owner, 100) for owner in (heavy, "owner4", "owner5")}
    lines = [f"{owner},{i}" for owner, its in ids.items() for i in its]
    (shop.folder / "few.csv").write_text("handle,tweet_id\n" + "\n".join(lines))
    what = ("--metrics", "favorites", "--group-by", "tweet.id", "-o", "out.csv", "--concurrency", "1")
    done = shop("fetch", "28hr", "--ids", "few.csv", "--owner-column", "handle", "--owner-weight", f"{heavy}=3", *what)

    assert done.returncode == 0, done.stderr
    order = [entry.owner for entry in shop.emulator.log]
    assert order == [heavy, heavy, heavy, "owner4", "owner5", heavy, *["owner4", "owner5"] * 3]
    done = shop("fetch", "28hr", "--ids", "few.csv", "--owner-column", "handle", "--owner-weight", "owner6=3", *what)
    assert (done.returncode, len(shop.emulator.log)) == (2, len(order))
    assert "there are no Tweets of an owner 'owner6'" in done.stderr


def test_an_id_of_two_owners_is_an_error_before_the_first_request(shop: Shop) -> None:
    with (shop.folder / "ids.csv").open("a") as file:
        file.write(f"owner1,{shop.owned['owner2'][0]}\n")
    done = shop("fetch", "28hr", "--ids", "ids.csv", "--owner-column", "handle")

    assert done.returncode == 2
    assert "is given for two owners, 'owner2' and 'owner1'" in done.stderr
    assert not len(shop.emulator.log)
    options = ("--first-owner", "-o", "out.csv", "--metrics", "favorites", "--group-by", "tweet.id")
    assert shop("fetch", "28hr", "--ids", "ids.csv", "--owner-column", "handle", *options).returncode == 3
    assert all(row["owner"] == shop.emulator.owner_of(row["tweet_id"]) for row in shop.rows("out.csv"))


def test_a_job_says_how_it_goes_on_with_the_file_of_tokens(shop: Shop) -> None:
    del shop.environ["ENGAGEMENT_CREDENTIALS_FILE"]

    def told(*args: str, code: int) -> list[str]:
        done = shop(*args)
        assert done.returncode == code, done.stderr
        return shlex.split(done.stderr.splitlines()[-1].rpartition("engagement ")[2])

    what = ("--ids", "ids.csv", "--owner-column", "handle", "--credentials", "owners.csv", "--metrics", "favorites")
    hint = told("backfill", "run", "job", "28hr", *what, "--max-requests", "3", code=5)
    assert hint == ["backfill", "run", "job", "--credentials", "owners.csv"]
    hint = told(*hint, code=3)
    assert hint == ["backfill", "retry-failed", "job", "--credentials", "owners.csv"]
    assert told(*hint, code=3) == hint


def test_a_quiet_job_is_not_silent_about_trouble(shop: Shop) -> None:
    what = ("--ids", "ids.csv", "--owner-column", "handle", "--metrics", "favorites", "--quiet")
    done = shop("backfill", "run", "job", "28hr", *what, "--max-requests", "3")
    assert (done.returncode, done.stdout) == (5, "")
    assert "not done" not in done.stderr  # as it was told, night after night

    done = shop("backfill", "run", "job", "--quiet")
    failed = len(shop.owned[REVOKED]) + len(shop.owned[UNKNOWN])
    assert (done.returncode, done.stdout) == (3, "")
    *owners, hint = done.stderr.splitlines()
    assert sorted(line.split(":")[0].strip() for line in owners) == [f"owner {REVOKED}", f"owner {UNKNOWN}"]
    assert hint == f"{failed} IDs failed: request them again with engagement backfill retry-failed job"

    shop.emulator.reissue(REVOKED)
    shop.write_tokens(without="")
    assert shop("backfill", "retry-failed", "job", "--quiet").stderr == ""
