"""What is read of a source: the same numbers, whatever the same data was saved to."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from engagement_async import Answer, EngagementResult, Merger, OtherJobError, Query, UsageError
from engagement_async._core.endpoints import TOTALS
from engagement_async._core.outcomes import Outcomes, OwnerResult
from engagement_async._export.rows import write_csv
from engagement_async.reports.sources import load_result, load_source
from engagement_async.reports.tally import Tally
from tests.support.reports import END, GONE, METRICS, START, add_run, answered_job, busy_slots, result_of, value_of


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answered_job(tmp_path_factory.mktemp("reports") / "job").path


@pytest.fixture(scope="module")
def result(job: Path) -> EngagementResult:
    from engagement_async.backfill.directory import JobDirectory

    return result_of(JobDirectory(job))


def json_file(result: EngagementResult, folder: Path) -> Path:
    path = folder / "result.json"
    path.write_bytes(orjson.dumps(result.to_response()))
    return path


def json_lines(result: EngagementResult, folder: Path) -> Path:
    path = folder / "hours.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in result.rows("by_hour")))
    return path


def csv_file(result: EngagementResult, folder: Path) -> Path:
    path = folder / "hours.csv"
    with path.open("wb") as file:
        write_csv(file, result.rows("by_hour"), result.columns("by_hour"))
    return path


def packed(result: EngagementResult, folder: Path) -> Path:
    path = folder / "hours.csv.gz"
    path.write_bytes(gzip.compress(csv_file(result, folder).read_bytes()))
    return path


def wide_file(result: EngagementResult, folder: Path) -> Path:
    path = folder / "wide.csv"
    with path.open("wb") as file:
        write_csv(file, result.rows("by_hour", wide=True), result.columns("by_hour", wide=True))
    return path


def parquet(result: EngagementResult, folder: Path) -> Path:
    path = folder / "hours.parquet"
    pq.write_table(result.to_arrow("by_hour", observed_at=True), path)
    return path


def numbers(tally: Tally) -> dict[str, Any]:
    return {
        "sums": dict(tally.sums),
        "by_hour": {metric: dict(hours) for metric, hours in tally.by_hour.items()},
        "seen": tally.seen,
        "top": [(tweet.tweet_id, dict(tweet.sums)) for tweet in tally.top],
        "answered": tally.outcomes["answered"],
    }


def test_a_job_and_its_result_have_the_same_numbers(job: Path, result: EngagementResult) -> None:
    of_job, of_result = load_source(job), load_result(result)

    assert numbers(of_job.tally) == numbers(of_result.tally)
    assert of_job.tally.gone == of_result.tally.gone
    assert dict(of_job.tally.outcomes + of_result.tally.outcomes) == {"answered": 108, "unavailable": 12}
    assert of_job.tally.partial == of_result.tally.partial == set()
    assert [half.median_h for half in of_job.tally.lifetimes.found()] == [
        half.median_h for half in of_result.tally.lifetimes.found()
    ]


@pytest.mark.parametrize("save", [json_file, json_lines, csv_file, packed, wide_file, parquet])
def test_saved_results_have_the_same_numbers(
    save: Callable[[EngagementResult, Path], Path], result: EngagementResult, tmp_path: Path
) -> None:
    loaded = load_source(save(result, tmp_path))

    assert numbers(loaded.tally) == numbers(load_result(result).tally)
    assert loaded.tally.metrics == METRICS
    assert len(loaded.notes) == 1  # what such a file does not say


def test_the_numbers_are_those_of_the_answers(job: Path) -> None:
    tally = load_source(job).tally
    ids = [tweet.tweet_id for tweet in tally.top]
    hour = int(START.timestamp()) // 3600

    assert tally.seen == set(range(hour, hour + 28))
    assert tally.sums["url_clicks"] == 0
    assert tally.sums["impressions"] == sum(tally.by_hour["impressions"].values())
    first = sum(value_of(ids[0], "impressions", each) for each in range(28))
    assert dict(tally.top[0].sums) == {
        metric: sum(value_of(ids[0], metric, each) for each in range(28)) for metric in METRICS
    }
    assert first == max(tweet.sums["impressions"] for tweet in tally.top)
    assert len(tally.gone) == 3 * GONE


def test_a_job_knows_its_runs(tmp_path: Path) -> None:
    folder = answered_job(tmp_path / "job")
    add_run(folder)
    add_run(folder, slots=busy_slots(), number=1)

    loaded = load_source(folder.path)

    assert loaded.status is not None
    assert len(loaded.status.runs) == 2
    assert sum(slot.sent for slot in loaded.traffic.slots) == 300
    assert loaded.traffic.contracts[0].requests == 20


def test_the_hour_that_was_running_is_partial(result: EngagementResult) -> None:
    merger = Merger(result.query)
    merger.add(
        Answer(
            0,
            tuple(result.tweet_ids),
            result.groupings,
            windows=result.windows,
            observed_at=END - timedelta(minutes=20),
        )
    )

    assert load_result(merger.result()).tally.partial == {int(END.timestamp()) // 3600 - 1}


def test_totals_have_sums_and_top_tweets_and_no_time() -> None:
    merger = Merger(
        Query(
            TOTALS,
            engagement_types=["favorites"],
            groupings={"all": ["engagement.type"], "by_tweet": ["engagement.type", "tweet.id"]},
        )
    )
    merger.add(Answer(0, ("7", "8"), {"all": {"favorites": 5}, "by_tweet": {"favorites": {"7": 2, "8": 3}}}))

    tally = load_result(merger.result()).tally

    assert dict(tally.sums) == {"favorites": 5}
    assert [tweet.tweet_id for tweet in tally.top] == ["8", "7"]
    assert not tally.seen


def test_a_result_with_owners_has_outcomes_by_owner(result: EngagementResult) -> None:
    merger = Merger(result.query)
    merger.add(Answer(0, ("7",), {"by_type": {}, "by_hour": {}}, unavailable_tweet_ids=("7",), owner="<a>"))
    owned = merger.result()
    owned.owners["b"] = OwnerResult(Outcomes(failed=3), 1, "refused")

    loaded = load_result(owned)

    assert loaded.tally.gone == [("7", "<a>")]
    assert loaded.tally.by_owner["b"]["failed"] == 3
    assert loaded.errors == {"<a>": None, "b": "refused"}


TABLE = b"tweet_id,value\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(1, 500))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"hello", "by its suffix"),
        ("a.json", b"[1, 2]", "by its suffix"),
        ("a.json", b'{"a": 1}', "no grouping"),
        ("a.jsonl", b'{"tweet_id": "7", "value": 1}\nno', "line 2 is no JSON object"),
        ("a.jsonl", b'{"tweet_id": "7", "value": "x"}\n', "a row of the table is none of an export"),
        ("a.csv", b"tweet_id,state,detail\n7,failed,no\n", "a row of the table|has no values"),
        (
            "a.csv",
            b"tweet_id,engagement_hour,value\n7,noon,3\n",
            "engagement_hour of the table is no time of an engagement: 'noon'",
        ),
        ("a.csv", b"", "has no values"),
        ("a.parquet", b"PAR1no", "cannot be read as Parquet"),
        ("a.csv.gz", gzip.compress(TABLE, mtime=0)[:-9], "is cut short: copy it again"),
        ("a.csv.gz", gzip.compress(TABLE, mtime=0) + b"junk", "is no whole gzip file"),
        ("a.csv.gz", gzip.compress(TABLE, mtime=0)[:15] + b"\xff" * 40, "is no whole gzip file|is cut short"),
        ("a.csv", b"tweet_id,value\n\xff\xfe,1\n", "is no text in UTF-8"),
        ("a.csv", b"tweet_id,value\n7," + b"1" * 200_000, "cannot be read as a table"),
        ("a.csv", b"tweet_id,value\n7,99999999999999999999999999\n", "none of an export"),
        ("a.csv", b"tweet_id,value\n7,%d\n8,1\n" % (2**63 - 1), "add up to a number beyond 64 bits"),
        ("a.csv", b"tweet_id,value\n" + b"7" * 5000 + b",1\n", "no Tweet ID"),
        ("a.jsonl", b'{"tweet_id": "7", "engagement_hour": 5, "value": 1}\n', "is no time of an engagement: 5"),
        ("a.json", b'{"start": "x", "end": "2026-01-01T00:00:00Z"}', "start of the result is no time"),
        ("a.json", b'{"start": "2026-01-01", "end": null}', "end of the result is no time"),
        ("a.json", b'{"start": "0001-01-01", "end": "9999-01-01"}', "start of the result is no time"),
        ("a.json", b'{"start": "2026-01-02", "end": "2026-01-01"}', "later than its end"),
        ("a.json", b'{"unavailable_tweet_ids": null}', "no list of Tweet IDs"),
        ("a.json", b'{"unavailable_tweet_ids": [7]}', "no list of Tweet IDs"),
        ("a.json", b'{"g": {"7": 99999999999999999999}}', "no number of engagements"),
        ("a.json", b'{"g": {"7": {"2026-13-41": 1}}}', "for a day|levels"),
    ],
)
def test_another_file_is_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=says) as raised:
        load_source(tmp_path / name)
    assert str(raised.value).startswith(f"{tmp_path / name}: ")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_source(tmp_path / "nothing")
    with pytest.raises(UsageError, match="a folder without a job"):
        load_source(tmp_path)


def test_a_database_of_something_else_is_no_job(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.execute("CREATE TABLE a (b)")
    database.close()

    with pytest.raises(OtherJobError, match="a database of something else"):
        load_source(tmp_path)
