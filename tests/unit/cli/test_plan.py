"""The plan: its arithmetic against a count made the long way, and its words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async.cli.app import Session
from engagement_async.cli.plan import Distinct, answer_bytes, make_plan, plan
from engagement_async.errors import UsageError

ID = "1070059276213702656"


def run(*args: str, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(plan, args, obj=Session(), catch_exceptions=False, standalone_mode=False)
    assert result.return_value == code, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize(
    ("endpoint", "unique", "bounds", "requests", "seconds"),
    [
        ("totals", 0, (), 0, 0),
        ("totals", 1, (), 1, 0.2),
        ("totals", 250, (), 1, 0.2),
        ("totals", 5_000_001, (), 20_001, 4000.2),
        ("28hr", 26, (), 2, 0.4),
        ("historical", 26, ("2024-01-01", "2024-01-29"), 2, 0.4),
        ("historical", 26, ("2024-01-01", "2024-03-01"), 6, 1.2),
    ],
)
def test_requests_and_time(endpoint: str, unique: int, bounds: Sequence[str], requests: int, seconds: float) -> None:
    start, end = bounds or (None, None)
    query = Query(
        ENDPOINTS[endpoint], engagement_types=["favorites"], groupings={"g": ["tweet.id"]}, start=start, end=end
    )
    made = make_plan(query, ids_read=unique + 3, rejected=1, unique_ids=unique, limit=RateLimit(300))
    assert (made.requests, made.seconds, made.duplicates) == (requests, seconds, 3)


@pytest.mark.parametrize(
    "group_by",
    [
        ("tweet.id", "engagement.type"),
        ("engagement.type",),
        ("tweet.id", "engagement.type", "engagement.day"),
        ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
        ("engagement.type", "engagement.hour"),
    ],
)
def test_bytes_are_about_those_of_an_answer(group_by: tuple[str, ...]) -> None:
    types = ["impressions", "favorites", "url_clicks"]
    hours = [("2026-02-10", f"{hour:02}") for hour in range(10, 24)] + [("2026-02-11", f"{h:02}") for h in range(15)]

    def nested(levels: tuple[str, ...], day: str | None = None) -> object:
        if not levels:
            return "1234"
        keys = {
            "tweet.id": [str(10**18 + n) for n in range(25)],
            "engagement.type": types,
            "engagement.day": sorted({day for day, _ in hours}),
            "engagement.hour": [hour for at, hour in hours if at == day] if day else [f"{h:02}" for h in range(24)],
        }[levels[0]]
        return {key: nested(levels[1:], key if levels[0] == "engagement.day" else day) for key in keys}

    query = Query(ENDPOINTS["28hr"], engagement_types=types, groupings={"g": group_by})
    real = len(orjson.dumps({"g": nested(group_by)}))
    assert answer_bytes(query, 25) == pytest.approx(real, rel=0.25, abs=60)


@given(st.lists(st.lists(st.integers(1, 300) | st.integers(1, 2**63 - 1))))
def test_distinct_ids_are_counted(chunks: list[list[int]]) -> None:
    distinct = Distinct()
    for chunk in chunks:
        distinct.update(map(str, chunk))
    assert distinct.count() == len({tweet_id for chunk in chunks for tweet_id in chunk})


def test_for_people_and_for_machines(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(f"tweet_id\n{ID}\n{ID}\n7\n1.7E+18\n")

    out, err = run("totals", "--ids", str(path), "--requests-per-minute", "300", code=3)
    assert out.splitlines() == [
        "lines read  4",
        "rejected    1",
        "duplicates  1",
        "unique IDs  2",
        "requests    1  (250 IDs each)",
        "time        0 s  (at 300 requests in 60 s, without retries)",
        "answers     about 330 bytes  (values of 4 digits; compressed, a fifth or less)",
    ]
    assert err.startswith(f"warning: {path}:5: '1.7E+18' is a float: a spreadsheet made it one")

    out, err = run("totals", "--ids", str(path), "--requests-per-minute", "300", "--json", code=3)
    assert json.loads(out) | {"bytes_of_answers": 0} == {
        "endpoint": "totals",
        "ids_read": 3,
        "rejected": 1,
        "duplicates": 1,
        "unique_ids": 2,
        "owners": None,
        "requests_for_owners": 0,
        "ids_per_request": 250,
        "requests": 1,
        "seconds": 0.2,
        "bytes_of_answers": 0,
    }
    rejected, taken = map(json.loads, err.splitlines())
    assert (rejected["event"], taken["event"]) == ("rejected", "input")
    assert (taken["format"], taken["column"], taken["ids"], taken["rejected"]) == ("csv", "tweet_id", 3, 1)


def test_ids_as_arguments() -> None:
    out, _ = run("totals", f"{ID},{int(ID) + 1}", f"https://x.com/a/status/{ID}", "--requests-per-minute", "300")

    assert "unique IDs  2\n" in out


@pytest.mark.parametrize(("flags", "code"), [((), 2), (("--accept-suspicious-ids",), 0)])
def test_ids_from_stdin_that_all_end_in_00_stop_it_unless_they_are_accepted(flags: tuple[str, ...], code: int) -> None:
    ids = "\n".join(f"{n}00" for n in range(1, 200))
    command = [sys.executable, "-m", "engagement_async", "plan", "28hr", "--ids", "-", "--requests-per-minute", "9"]
    done = subprocess.run([*command, *flags], input=ids, capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert "standard input: every ID ends in 00" in done.stderr
    assert ("If they are right: --accept-suspicious-ids" in done.stderr) == (code == 2)
    assert ("unique IDs  199\n" in done.stdout) == (code == 0)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["totals", "--requests-per-minute", "300"], "which Tweets"),
        (["totals", "--ids", "-"], "how many requests per minute"),
        (["totals", "--ids", "-", "--requests-per-minute", "1", "--metrics", "likes"], "no metric 'likes'"),
        (["totals", "--ids", "-", "--requests-per-minute", "1", "--start", "2024-01-01"], "takes no start and end"),
        (["totals", "--ids", "none.txt", "--requests-per-minute", "1"], "No such file"),
        (["totals", "--ids", "-", "--requests-per-minute", "1"], "there is no Tweet ID in -"),
        (["totals", "12x", "--requests-per-minute", "1"], "'12x' is not a Tweet ID"),
    ],
)
def test_what_is_wrong_is_told(args: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGAGEMENT_REQUESTS_PER_MINUTE", raising=False)
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(plan, args, obj=Session(), catch_exceptions=False)
