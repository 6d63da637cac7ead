"""Exports: pure functions of the journal, in every format, with the types and sums of the merger."""

from __future__ import annotations

import asyncio
import csv
import gzip
import itertools
import json
import os
import random
from contextlib import ExitStack
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from engagement_async import TOTALS, Answer, Query, UsageError
from engagement_async._core.answer import ReceivedAnswer
from engagement_async._core.owned_batches import TweetsByOwner
from engagement_async._core.parsing import ResponseBytes, ResponseParser
from engagement_async._engine.body import gunzip
from engagement_async.backfill import BackfillJob, JobCorruptError, JobIncompleteError, JobLockedError
from engagement_async.backfill.codec import encode_answer
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.exporter import Exporter
from engagement_async.backfill.inputs import FileSource, GivenSource, OwnedGivenSource
from tests.support.jobs import (
    BY_TWEET,
    DAYS,
    HOURLY,
    MIXED,
    TYPES,
    answered,
    digest,
    fill,
    make_ids,
    merged,
    shuffled,
    started,
    unanswered,
)


def job_of(path: Path, query: Query, seed: int, count: int = 2000) -> JobDirectory:
    """Return a job whose answers came in an order of their own, each with its keys in an order of its own."""
    draw = random.Random(seed)
    folder = JobDirectory(path)
    CreateJob(folder, query, GivenSource(make_ids(count)))()
    with folder.open_journal() as journal:
        batches = unanswered(journal, 10**6)
        draw.shuffle(batches)
        for batch in batches:
            journal.write(
                [encode_answer(answered(query, *batch[:2], draw), query.engagement_types)], {"spent": {"n": seed}}
            )
    return folder


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs with the same answers, that came in different orders."""
    path = tmp_path_factory.mktemp("twins")
    for seed in (1, 2):
        job_of(path / f"job{seed}", MIXED, seed)
        job_of(path / f"hours{seed}", HOURLY, seed, 200)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "csv.gz", "jsonl.zst", "parquet", "arrow", "json", "xlsx"])
@pytest.mark.parametrize("name", ["job", "hours"])
def test_the_order_of_the_answers_does_not_show(twins: Path, tmp_path: Path, kind: str, name: str) -> None:
    digests = []
    for seed in (1, 2):
        is_one = kind in ("json", "xlsx")
        place = f"result.{kind}" if is_one else f"{{grouping}}.{kind}"
        (tmp_path / str(seed)).mkdir()
        outcomes = tmp_path / str(seed) / f"outcomes.{'csv' if is_one else kind}"
        Exporter(JobDirectory(twins / f"{name}{seed}"), tmp_path / str(seed) / place, outcomes=outcomes).export()
        digests.append({path.name: digest(path) for path in (tmp_path / str(seed)).iterdir()})

    assert digests[0] == digests[1]
    assert len(digests[0]) == (2 if is_one else {"job": 4, "hours": 3}[name])


def iter_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_rows_are_sorted_by_the_input_and_equal_the_merger(twins: Path, tmp_path: Path) -> None:
    folder = JobDirectory(twins / "job1")
    for kind in ("parquet", "jsonl", "csv"):
        Exporter(folder, tmp_path / f"{{grouping}}.{kind}").export()
    result = merged(folder)
    place = {tweet_id: at for at, tweet_id in enumerate(result.tweet_ids)}
    for name in MIXED.groupings:
        failed = result.failed_tweet_ids
        expected = [row for row in result.rows(name) if row.get("tweet_id") not in failed]
        rows = iter_rows(tmp_path / f"{name}.parquet")
        key = lambda row: (place.get(row.get("tweet_id"), 0), TYPES.index(row["engagement_type"]))  # noqa: E731
        assert rows == sorted(expected, key=key)
        assert list(rows[0]) == list(result.columns(name))
        assert iter_rows(tmp_path / f"{name}.jsonl") == rows
        assert iter_rows(tmp_path / f"{name}.csv") == [{key: str(value) for key, value in row.items()} for row in rows]


def test_types_are_those_of_to_arrow_and_sums_in_sql_equal_the_merger(twins: Path, tmp_path: Path) -> None:
    folder = JobDirectory(twins / "hours1")
    Exporter(folder, tmp_path / "{grouping}.parquet").export()
    Exporter(folder, tmp_path / "all.duckdb", outcomes=tmp_path / "a.csv").export()
    result = merged(folder)
    for name in HOURLY.groupings:
        table = pq.read_table(tmp_path / f"{name}.parquet")
        seconds = pa.schema(  # Parquet has no timestamps of whole seconds
            field.with_type(pa.timestamp("s", "UTC")) if pa.types.is_timestamp(field.type) else field
            for field in table.schema
        )
        assert seconds.equals(result.to_arrow(name).schema)
    rows = [row for row in result.rows("hours") if row["tweet_id"] not in result.failed_tweet_ids]
    expected = sorted(
        (kind, sum(row["value"] for row in rows if row["engagement_type"] == kind)) for kind in HOURLY.engagement_types
    )
    sql = "SELECT engagement_type::VARCHAR, sum(value)::BIGINT FROM {} GROUP BY 1 ORDER BY 1"
    with duckdb.connect() as connection:
        assert connection.sql(sql.format(f"'{tmp_path}/hours.parquet'")).fetchall() == expected
    with duckdb.connect(str(tmp_path / "all.duckdb"), read_only=True) as connection:
        assert connection.sql(sql.format("hours")).fetchall() == expected
        columns = connection.sql(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'hours'"
        ).fetchall()
        days = connection.sql("SELECT engagement_day, value FROM days ORDER BY 1").fetchall()
        states = connection.sql("SELECT state, count(*) FROM outcomes GROUP BY 1 ORDER BY 1").fetchall()
    assert columns == [
        ("tweet_id", "VARCHAR"),
        ("engagement_type", "VARCHAR"),
        ("engagement_hour", "TIMESTAMP WITH TIME ZONE"),
        ("value", "BIGINT"),
    ]
    assert days == [(date.fromisoformat(day), result.groupings["days"][day]) for day in sorted(DAYS)]
    assert states == [("failed", 8), ("unavailable", 8)]
    table = pq.read_table(tmp_path / "hours.parquet")
    assert table["engagement_hour"][0].as_py() == datetime(2026, 1, 1, 3, tzinfo=UTC)


def test_parts_together_are_the_whole(twins: Path, tmp_path: Path) -> None:
    folder = JobDirectory(twins / "job1")
    done = Exporter(folder, f"{tmp_path}/parts/", format="jsonl", part_ids=600).export()
    Exporter(folder, tmp_path / "{grouping}.jsonl").export()

    assert len(done.files) == 2 * 4 + 1
    for name in MIXED.groupings:
        parts = sorted((tmp_path / "parts").glob(f"{name}-*.jsonl"))
        assert b"".join(path.read_bytes() for path in parts) == (tmp_path / f"{name}.jsonl").read_bytes()
    with pytest.raises(UsageError, match="a part of another export"):
        Exporter(folder, tmp_path / "parts", format="jsonl", part_ids=1000).export()


async def test_parts_can_be_followed_while_the_job_runs(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(started, tmp_path / "job", 2000)
    told: list[str] = []
    job = BackfillJob(folder.path)
    with ExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, folder.locked())  # as a run holds it
        following = asyncio.create_task(
            job.export(f"{tmp_path}/parts/", format="csv", part_ids=500, follow=True, on_file=told.append)
        )
        await asyncio.to_thread(fill, folder, 3)
        while not told and not following.done():
            await asyncio.sleep(0.02)
        assert not following.done()
        await asyncio.to_thread(fill, folder)
        done = await following
    await job.export(f"{tmp_path}/whole/", format="csv", part_ids=500)

    assert list(done.files) == told
    for path in (tmp_path / "whole").iterdir():
        assert digest(path) == digest(tmp_path / "parts" / path.name)
    assert len(told) == 4


async def test_nobody_is_followed_for_ever(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(started, tmp_path / "job", 2000)
    await asyncio.to_thread(fill, folder, 3)
    with pytest.raises(JobIncompleteError, match="nobody runs the job"):
        await BackfillJob(folder.path).export(f"{tmp_path}/parts/", part_ids=500, follow=True)
    with pytest.raises(UsageError, match="name a folder"):
        await BackfillJob(folder.path).export(tmp_path / "x.csv", follow=True)

    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["by_tweet-00000.parquet"]


def test_a_job_that_is_not_complete_is_exported_when_that_is_wanted(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder, 2)
    with pytest.raises(JobIncompleteError, match="500 of 1,000 IDs"):
        Exporter(folder, tmp_path / "x.csv").export()
    done = Exporter(folder, tmp_path / "x.csv", outcomes=tmp_path / "a.jsonl", partial=True).export()

    assert (done.pending, len(iter_rows(tmp_path / "x.csv"))) == (500, 1000)
    assert {row["state"] for row in iter_rows(tmp_path / "a.jsonl")} == {"pending"}


def test_a_damaged_journal_leaves_the_last_export_as_it_was(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder)
    Exporter(folder, tmp_path / "x.csv").export()
    before = digest(tmp_path / "x.csv")
    raw = bytearray(folder.journal_path.read_bytes())
    raw[-100] ^= 4
    folder.journal_path.write_bytes(raw)
    with pytest.raises(JobCorruptError):
        Exporter(folder, tmp_path / "x.csv").export()

    assert digest(tmp_path / "x.csv") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "x.csv"]


class Late(Exporter):
    """An exporter of a job that gets one more ID whenever a table is about to be written."""

    def __init__(self, *args: Any, changes: int = 1_000, **options: Any) -> None:
        super().__init__(*args, **options)
        self.changes = iter(range(1, changes + 1))

    def _write_json(self, *args: Any) -> None:
        for number in itertools.islice(self.changes, 1):
            CreateJob(self._directory, None, GivenSource([str(number)]), extend=True)()
        super()._write_json(*args)


def test_a_job_that_goes_on_changing_is_told(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder)

    with pytest.raises(JobLockedError, match="changed meanwhile"):
        Late(folder, tmp_path / "x.json", partial=True).export()
    assert not (tmp_path / "x.json").exists()


def test_a_job_that_changes_meanwhile_is_read_again(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder)
    told: list[str] = []

    done = Late(
        folder, tmp_path / "x.json", outcomes=tmp_path / "o.csv", partial=True, on_file=told.append, changes=2
    ).export()

    assert (done.totals.ids, done.pending) == (1002, 2)
    assert [row["tweet_id"] for row in iter_rows(tmp_path / "o.csv") if row["state"] == "pending"] == ["1", "2"]
    assert told == list(done.files) == [str(tmp_path / "o.csv"), str(tmp_path / "x.json")]


def test_parts_that_are_written_again_are_told_once(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder)
    told: list[str] = []

    class LateParts(Exporter):
        def _check(self, *args: Any) -> None:
            if len(self._files) == 4:
                CreateJob(self._directory, None, GivenSource(["1"]), extend=True)()
            super()._check(*args)

    done = LateParts(
        folder, f"{tmp_path}/parts/", format="jsonl", part_ids=250, partial=True, on_file=told.append
    ).export()

    assert [Path(path).name for path in told] == [f"by_tweet-0000{n}.jsonl" for n in range(5)]
    assert told == list(done.files)


def test_a_job_that_is_no_longer_complete_is_one_that_changed(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder)

    with pytest.raises(JobLockedError, match="changed meanwhile"):
        Late(folder, tmp_path / "x.json", changes=1).export()


def test_a_job_that_changes_meanwhile_is_told_where_rows_are_in_a_pipe_by_then(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = started(tmp_path / "job", 1000)
    fill(folder)

    with pytest.raises(JobLockedError, match="changed meanwhile"):
        Late(folder, "-", format="json", partial=True, changes=1).export()
    assert capfd.readouterr().out.count("by_tweet") == 1


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "duckdb", "json"])
def test_a_job_without_any_value_makes_empty_tables(tmp_path: Path, kind: str) -> None:
    folder = JobDirectory(tmp_path / "job")
    CreateJob(folder, HOURLY, GivenSource(["1", "2"]))()
    with folder.open_journal() as journal:
        journal.write([encode_answer(Answer(0, ("1", "2"), unavailable_tweet_ids=("1", "2")), TYPES)], {})
    place = f"{{grouping}}.{kind}" if kind not in ("duckdb", "json") else f"x.{kind}"
    Exporter(folder, tmp_path / place).export()

    if kind == "parquet":
        table = pq.read_table(tmp_path / "hours.parquet")
        assert (table.num_rows, table.column_names) == (0, ["tweet_id", "engagement_type", "engagement_hour", "value"])
    elif kind == "csv":
        assert (tmp_path / "days.csv").read_text() == "engagement_day,value\n"
    elif kind == "duckdb":
        with duckdb.connect(str(tmp_path / "x.duckdb"), read_only=True) as connection:
            assert connection.sql("SELECT count(*) FROM hours").fetchall() == [(0,)]
    elif kind == "json":
        assert json.loads((tmp_path / "x.json").read_text()) == {
            "unavailable_tweet_ids": ["1", "2"],
            "hours": {},
            "days": {},
        }
    else:
        assert (tmp_path / "hours.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("output", "options", "says"),
    [
        ("x", {}, "which format"),
        ("x.xls", {}, "which format"),
        ("x.csv", {}, "csv holds one grouping, and there are 3"),
        ("x/y/{grouping}.csv", {}, "no folder"),
        ("{grouping}.duckdb", {}, "leave {grouping} out"),
        ("x.json", {"outcomes": "a.duckdb"}, "outcomes are"),
        ("parts/", {"format": "duckdb"}, "a folder holds"),
        ("parts/", {"part_ids": 0}, "from 1 on"),
        ("-", {"format": "duckdb"}, "needs a file"),
        ("x/y/z.duckdb", {}, "no folder"),
    ],
)
def test_an_output_that_cannot_be_is_told(twins: Path, tmp_path: Path, output: str, options: Any, says: str) -> None:
    before = sorted(tmp_path.iterdir())
    place = output if output == "-" else f"{tmp_path}/{output}"
    with pytest.raises(UsageError, match=says.replace("{", r"\{").replace("}", r"\}")):
        Exporter(JobDirectory(twins / "job1"), place, **options).export()
    assert sorted(tmp_path.iterdir()) == before


def test_stdout_gets_text(twins: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Exporter(JobDirectory(twins / "job1"), "-", format="json").export()

    assert json.loads(capfd.readouterr().out)["all"]


def test_a_grouping_that_is_no_name_for_a_file_is_told(tmp_path: Path) -> None:
    query = Query(BY_TWEET.endpoint, engagement_types=TYPES, groupings={"../up": ["tweet.id"]})
    folder = JobDirectory(tmp_path / "job")
    CreateJob(folder, query, GivenSource(["1"]))()
    for output in (f"{tmp_path}/{{grouping}}.csv", f"{tmp_path}/parts/"):
        with pytest.raises(UsageError, match="cannot be part of a file's name"):
            Exporter(folder, output).export()


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("observed_at", [False, True])
def test_shapes_of_tables_are_those_of_results(twins: Path, tmp_path: Path, wide: bool, observed_at: bool) -> None:
    folder = JobDirectory(twins / "job1")
    result = merged(folder)
    for kind in ("parquet", "arrow", "jsonl", "csv"):
        Exporter(folder, tmp_path / f"{{grouping}}.{kind}", wide=wide, observed_at=observed_at).export()
    Exporter(folder, tmp_path / "x.duckdb", wide=wide, observed_at=observed_at, outcomes=tmp_path / "gone.csv").export()

    place = {tweet_id: at for at, tweet_id in enumerate(result.tweet_ids)}
    for name in MIXED.groupings:
        columns = list(result.columns(name, wide=wide, observed_at=observed_at))
        expected = [
            row
            for row in result.rows(name, wide=wide, observed_at=observed_at)
            if row.get("tweet_id") not in result.failed_tweet_ids
        ]
        key = lambda row: (place.get(row.get("tweet_id"), 0), TYPES.index(row.get("engagement_type", TYPES[0])))  # noqa: E731
        expected.sort(key=key)
        assert pq.read_table(tmp_path / f"{name}.parquet").column_names == columns
        assert iter_rows(tmp_path / f"{name}.parquet") == expected
        assert pyarrow.feather.read_table(tmp_path / f"{name}.arrow").to_pylist() == expected
        texts = [{column: text_of(value) for column, value in row.items()} for row in expected]
        lines = iter_rows(tmp_path / f"{name}.jsonl")
        assert [{column: text_of(value) for column, value in row.items()} for row in lines] == texts
        assert iter_rows(tmp_path / f"{name}.csv") == texts
        with duckdb.connect(str(tmp_path / "x.duckdb"), read_only=True) as connection:
            found = connection.sql(f'SELECT * FROM "{name}"').to_arrow_table().to_pylist()
        assert [list(row.values()) for row in found] == [list(row.values()) for row in expected]
    gone = iter_rows(tmp_path / "gone.csv")
    assert all(("observed_at" in row) == observed_at for row in gone)
    for row in gone if observed_at else ():
        at = result.observed_at.get(row["tweet_id"])
        assert row["observed_at"] == ("" if at is None else text_of(at))


def text_of(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "" if value is None else str(value)


def test_a_job_from_before_instants_were_kept_has_none(tmp_path: Path) -> None:
    folder = JobDirectory(tmp_path / "job")
    CreateJob(folder, BY_TWEET, GivenSource(["1"]))()
    with folder.open_journal() as journal:
        journal.write([encode_answer(Answer(0, ("1",), {"by_tweet": {"1": dict.fromkeys(TYPES, 1)}}), TYPES)], {})
    Exporter(folder, tmp_path / "x.parquet", observed_at=True).export()
    Exporter(folder, tmp_path / "x.csv", observed_at=True, wide=True).export()

    assert pq.read_table(tmp_path / "x.parquet")["observed_at"].null_count == len(TYPES)
    assert iter_rows(tmp_path / "x.csv")[0]["observed_at"] == ""


def test_an_output_is_neither_an_input_nor_in_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("tweet_id\n1\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "by_tweet-00000.csv").hardlink_to(ids)
    folder = JobDirectory(tmp_path / "job")
    monkeypatch.chdir(tmp_path)
    CreateJob(folder, BY_TWEET, FileSource(["ids.csv"]))()
    with folder.open_journal() as journal:
        journal.write([encode_answer(Answer(0, ("1",), {"by_tweet": {"1": dict.fromkeys(TYPES, 1)}}), TYPES)], {})
    (tmp_path / "soft.csv").symlink_to(ids)
    for output in ("ids.csv", "soft.csv", f"{tmp_path}/parts/by_tweet-00000.csv", "parts/"):
        with pytest.raises(UsageError, match="is the same file as the input"):
            Exporter(folder, output, format="csv").export()
        with pytest.raises(UsageError, match="is the same file as the input"):
            Exporter(folder, "new.csv", outcomes="ids.csv").export()
    for output in ("job/x.csv", "job/", "job", "job/journal.sqlite"):
        with pytest.raises(UsageError, match="lies in the folder of a job"):
            Exporter(folder, output, format="csv").export()
    os.mkfifo("pipe.duckdb")
    with pytest.raises(UsageError, match="duckdb needs a file"):
        Exporter(folder, "pipe.duckdb").export()

    assert ids.read_text() == "tweet_id\n1\n"
    assert folder.verify().pending == 0


@pytest.mark.parametrize("name", [b"ids.csv", b"ids-\xff.csv"], ids=["beside a pipe", "no UTF-8"])
def test_every_input_that_is_a_file_is_known_by_its_name(tmp_path: Path, name: bytes) -> None:
    ids = tmp_path / os.fsdecode(name)
    ids.write_text("tweet_id\n1\n")
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_text, args=("2\n",), daemon=True)
    writer.start()
    folder = JobDirectory(tmp_path / "job")
    CreateJob(folder, BY_TWEET, FileSource([ids, tmp_path / "pipe"] if name == b"ids.csv" else [ids]))()

    for output, outcomes in ((ids, None), (tmp_path / "new.csv", ids)):
        with pytest.raises(UsageError, match="is the same file as the input"):
            Exporter(folder, output, outcomes=outcomes, partial=True).export()
    assert ids.read_text() == "tweet_id\n1\n"


def test_outcomes_are_no_part(twins: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (tmp_path / "soft.csv").symlink_to(parts / "by_tweet-00001.csv")
    exporter: Any = partial(Exporter, JobDirectory(twins / "job1"), parts, format="csv", part_ids=1000)
    for outcomes in (parts / "by_tweet-00000.csv", tmp_path / "soft.csv"):
        for export in (exporter(outcomes=outcomes).export, exporter(outcomes=outcomes).follow):
            with pytest.raises(UsageError, match="is named twice"):
                export()
            assert list(parts.iterdir()) == []
    exporter(outcomes=parts / "outcomes.csv").export()


def received(folder: JobDirectory, *, unavailable: bool, keeps: bool) -> None:
    """Answer all batches as if by one response each, with keys in an order of its own."""
    draw = random.Random(5)
    with folder.open_journal() as journal:
        parser = ResponseParser(journal.query.without_owners())
        for batch in unanswered(journal, 10**6):
            ids, out = batch.tweet_ids, batch.tweet_ids[1:9] if unavailable and batch.number % 2 else ()
            values = {
                name: {i: {t: str(int(i) % 97) for t in TYPES} for i in ids if i not in out} for name in ("a", "b")
            }
            body = json.dumps(
                {**{n: shuffled(v, draw) for n, v in values.items()}, "unavailable_tweet_ids": out}
            ).encode()
            kept = ResponseBytes(lambda body=body: gzip.compress(body), gunzip)  # type: ignore[misc]
            answer = parser.parse(batch.number, ids, 200, {}, body, response=kept if keeps else None).answer
            journal.write([journal.encode(answer)], {})


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl", "csv"])
@pytest.mark.parametrize("options", [{}, {"wide": True}, {"part_ids": 1000}])
@pytest.mark.parametrize("owned", [False, True])
def test_responses_and_parsed_answers_give_the_same_bytes(
    tmp_path: Path, kind: str, options: dict[str, Any], owned: bool
) -> None:
    query = Query(TOTALS, engagement_types=TYPES, groupings={name: ["tweet.id", "engagement.type"] for name in "ab"})
    ids = make_ids(3000)
    found = []
    for keeps in (True, False):
        folder = JobDirectory(tmp_path / f"job-{keeps}")
        source = OwnedGivenSource(TweetsByOwner({"x": ids[:1500], "y": ids[1500:]})) if owned else GivenSource(ids)
        CreateJob(folder, query, source)()
        received(folder, unavailable=True, keeps=keeps)
        with folder.open_journal() as journal:
            _, encoded = next(journal.answers(journal.snapshot()))
            assert encoded is not None
            assert (encoded.response is not None) == keeps
            journal.verify()
        output = tmp_path / f"out-{keeps}"
        output.mkdir()
        Exporter(
            folder, f"{output}/" if "part_ids" in options else f"{output}/{{grouping}}.{kind}", format=kind, **options
        ).export()
        found.append({path.name: path.read_bytes() for path in output.iterdir()})

    assert found[0] == found[1]
    assert sum(map(len, found[0].values())) > 10_000


def test_a_response_of_other_tweets_is_damage(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 500, BY_TWEET)
    groupings = {"by_tweet": {"1": {"favorites": "1", "replies": "1"}}}
    with folder.open_journal() as journal:
        for batch in unanswered(journal, 2):
            answer = ReceivedAnswer(batch.number, batch.tweet_ids)
            answer.keep(gzip.compress(json.dumps(groupings).encode()), 2, dict)
            journal.write([journal.encode(answer)], {})

    with pytest.raises(JobCorruptError, match="response to batch 0 cannot be read: it is no whole answer for its IDs"):
        Exporter(folder, tmp_path / "x.parquet").export()
    assert not (tmp_path / "x.parquet").exists()
