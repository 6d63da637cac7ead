"""Every bit of a small journal flipped, one at a time: whatever reads or goes on with it gives the right numbers, or says
that it is damaged; and what a repair saves is right.

A sample of the bits in `make test`, all of them in `make nightly`. `ENGAGEMENT_TEST_BITS=N` looks at N of them.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from engagement_async import HISTORICAL, Answer, Query
from engagement_async._core.owned_batches import TweetsByOwner
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.exporter import Exporter
from engagement_async.backfill.inputs import FileSource, GivenSource, OwnedGivenSource
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.repair import repair
from engagement_async.backfill.work import FailedWork, PendingWork
from engagement_async.errors import JobCorruptError
from tests.support.jobs import MIXED, TYPES, make_ids, merged, started

RUN: dict[str, Any] = {"began_at": 1.0, "seen_at": 2.0, "requests": 3, "ids": 600, "outcome": None, "now": {}}
IS_NIGHTLY = settings().max_examples >= 5_000
SAMPLE = int(os.environ.get("ENGAGEMENT_TEST_BITS", "0")) or (None if IS_NIGHTLY else 300)
"""How many bits; None for all."""

pytestmark = [pytest.mark.hypothesis, pytest.mark.timeout(0 if IS_NIGHTLY else 120)]


SPANS = Query(
    HISTORICAL,
    engagement_types=TYPES,
    groupings={"by_tweet": ["tweet.id", "engagement.type"], "all": ["engagement.type"]},
    start="2026-01-01",
    end="2026-02-10",
)


@dataclass(frozen=True)
class Kind:
    """A query, and how many IDs of it make a small journal."""

    query: Query
    ids: int


KINDS = {"batches": Kind(MIXED, 600), "parts": Kind(SPANS, 60)}
"""Of answers to whole batches, and of answers to single spans of batches."""
KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def answer(number: int, ids: tuple[str, ...], query: Query = MIXED) -> Answer:
    """Return an answer whose values follow from its IDs."""
    values = {i: {"favorites": int(i) % 97, "replies": int(i) % 7} for i in ids}
    groupings: dict[str, Any] = {
        "by_tweet": values,
        "by_type": {metric: {i: values[i][metric] for i in ids} for metric in TYPES},
        "all": {metric: sum(values[i][metric] for i in ids) for metric in TYPES},
    }
    return Answer(number, ids, {name: groupings[name] for name in query.groupings})


def go_on(directory: JobDirectory, most: int = 10**6) -> None:
    """Do what a run does with a journal, without a network; stop after so many requests."""
    with directory.open_journal() as journal:
        work = PendingWork()
        while page := work.next_page(journal)[:most]:
            most -= len(page)
            answers = [answer(each.number, each.tweet_ids, journal.query) for each in page]
            work.write(journal, answers, {"run 000000": RUN})
            if not most:
                return
        if journal.totals.pending:
            raise AssertionError("it went on to the end, and IDs are pending")


def seen(directory: JobDirectory, query: Query) -> Any:
    """Return what status and an export say of a job."""
    status = directory.status()
    folder = directory.path.parent / "out"
    folder.mkdir(exist_ok=True)
    Exporter(directory, folder / "{grouping}.csv", outcomes=folder / "outcomes.jsonl", partial=True).export()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert query == status.query
    return status.totals, status.runs, files


def bits_of(data: bytes, seed: int) -> Iterator[int]:
    """Yield the bits to flip."""
    every = range(len(data) * 8)
    yield from every if SAMPLE is None else random.Random(seed).sample(every, min(SAMPLE, len(every)))


@pytest.fixture
def tmp_memory() -> Iterator[Path]:
    """Make a folder that is quick to write to."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def make(path: Path, answered: int, kind: Kind = KINDS["batches"]) -> JobDirectory:
    """Make a job of which some requests were answered."""
    directory = started(path, kind.ids, kind.query)
    go_on(directory, answered)
    return directory


@KIND
def test_no_flipped_bit_is_ever_read_as_something_else(tmp_memory: Path, kind: Kind) -> None:
    directory = make(tmp_memory / "job", 3, kind)
    whole = directory.journal_path.read_bytes()
    expected = seen(directory, kind.query)
    damaged = 0
    for bit in bits_of(whole, 1):
        directory.journal_path.write_bytes(flipped(whole, bit))
        try:
            assert seen(directory, kind.query) == expected, f"bit {bit}"
        except JobCorruptError:
            damaged += 1
        try:
            assert directory.verify() == expected[0], f"bit {bit}"
        except JobCorruptError:
            damaged += 1

    assert damaged


@KIND
def test_no_run_goes_on_with_a_flipped_bit_to_other_numbers(tmp_memory: Path, kind: Kind) -> None:
    directory = make(tmp_memory / "job", 1, kind)
    whole = directory.journal_path.read_bytes()
    go_on(directory)
    expected = seen(directory, kind.query)
    damaged = 0
    for bit in bits_of(whole, 2):
        directory.journal_path.write_bytes(flipped(whole, bit))
        try:
            go_on(directory)
            assert seen(directory, kind.query) == expected, f"bit {bit}"
        except JobCorruptError:
            damaged += 1

    assert damaged


@KIND
def test_what_a_repair_saves_is_right(tmp_memory: Path, kind: Kind) -> None:
    """A flipped bit costs no more than the row that it is in; what is lost is asked or added again."""
    directory = make(tmp_memory / "job", 3, kind)
    whole = directory.journal_path.read_bytes()
    runs_before = directory.status().runs
    go_on(directory)
    expected = seen(directory, kind.query)
    lost = 0
    for bit in list(bits_of(whole, 3))[:: 1 if IS_NIGHTLY else 10]:
        directory.journal_path.write_bytes(flipped(whole, bit))
        for path in directory.path.glob("journal.damaged-*"):
            path.unlink()
        try:
            directory.verify()
            continue
        except JobCorruptError:
            done = repair(directory)
        assert done.lost_answers <= 1
        assert done.lost_batches <= 1
        lost += done.lost_answers + done.lost_batches
        assert directory.verify() == done.totals
        if not done.lost_batches:
            go_on(directory)
            totals, runs, files = seen(directory, kind.query)
            assert (totals.outcomes, files) == (expected[0].outcomes, expected[2]), f"bit {bit}"
            assert done.lost_documents or runs == runs_before

    assert lost or not IS_NIGHTLY


def flipped(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_journal_that_cannot_even_say_what_it_asks_is_not_repaired(tmp_path: Path) -> None:
    directory = make(tmp_path / "job", 1)
    directory.journal_path.write_bytes(bytes(directory.journal_path.stat().st_size))

    with pytest.raises(JobCorruptError, match="not even the query of the job"):
        repair(directory)


def test_a_repair_of_what_is_whole_changes_nothing(tmp_path: Path) -> None:
    directory = make(tmp_path / "job", 2)
    before = directory.journal_path.read_bytes()
    done = repair(directory)

    assert (done.kept_as, done.totals.answers) == (None, 2)
    assert directory.journal_path.read_bytes() == before


def test_ids_that_cannot_be_read_are_new_when_they_are_added_again(tmp_path: Path) -> None:
    directory = make(tmp_path / "job", 3)
    with Journal.open(directory.journal_path) as journal:
        before = journal.sources()
    data = directory.journal_path.read_bytes()
    first = data.index(journal_ids(directory, 1)[:64])
    directory.journal_path.write_bytes(flipped(data, first * 8))
    done = repair(directory)

    assert (done.lost_batches, done.lost_ids, done.totals.answers) == (1, 250, 2)
    with directory.open_journal() as journal:
        assert [record.fingerprint for record in journal.sources()] == [""]
    assert before[0].fingerprint


@pytest.mark.parametrize("lost", [(1,), (3,), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("documents", [(), ("totals",), ("totals", "input 000000")])
def test_ids_that_cannot_be_read_come_back_out_of_the_same_file(
    tmp_path: Path, lost: tuple[int, ...], documents: tuple[str, ...]
) -> None:
    """Also those of the last batches, that leave no gap; and it is told how many they are, if anything still says so."""
    directory = JobDirectory(tmp_path / "job")
    (tmp_path / "ids.txt").write_text("\n".join(make_ids(1000)))
    source = FileSource([tmp_path / "ids.txt"])
    CreateJob(directory, MIXED, source)()
    go_on(directory)
    expected = seen(directory, MIXED)
    spoil(directory, "batch", "number", *lost)
    spoil(directory, "document", "name", *documents)

    done = repair(directory)
    added = CreateJob(directory, None, source, extend=True)()

    assert done.lost_ids == (None if "input 000000" in documents else 250 * len(lost))
    assert added.new_ids == 250 * len(lost)
    go_on(directory)
    assert seen(directory, MIXED)[0].outcomes == expected[0].outcomes

    # What was lost and added again does not count as lost once more.
    spoil(directory, "batch", "number", 3)
    spoil(directory, "document", "name", "totals")
    assert repair(directory).lost_ids == (None if documents[1:] and len(lost) < 4 else 250)


def test_a_job_without_its_totals_does_not_claim_that_no_ids_are_lost(tmp_path: Path) -> None:
    """The last input may be gone with all of its batches. Else nothing is new when all are added again."""
    directory = make(tmp_path / "job", 3)
    spoil(directory, "document", "name", "totals")

    assert repair(directory).lost_ids is None
    assert CreateJob(directory, None, GivenSource(make_ids(KINDS["batches"].ids)), extend=True)().new_ids == 0


def test_a_job_of_which_all_ids_are_lost_still_knows_that_they_have_owners(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "job")
    tweets = TweetsByOwner({"acme": make_ids(5)})
    CreateJob(directory, MIXED, OwnedGivenSource(tweets))()
    spoil(directory, "batch", "number", 0)

    assert repair(directory).lost_ids == 5
    assert CreateJob(directory, None, OwnedGivenSource(tweets), extend=True)().new_ids == 5


@pytest.mark.parametrize("lost", [0, 1])
def test_sums_are_exact_when_an_answer_is_lost_that_was_asked_again(tmp_path: Path, lost: int) -> None:
    """What was failed and came later is a part of the sums of its own batch, and of no other's."""
    directory = started(tmp_path / "job", 500, MIXED)
    with directory.open_journal() as journal:
        batches = list(journal.batches())
        for number, ids, _ in batches:
            some = answer(number, ids[2:])
            failed = dict.fromkeys(ids[:2], "down")
            journal.write([journal.encode(replace(some, tweet_ids=ids, failed_tweet_ids=failed))], {})
        work = FailedWork()
        while page := work.next_page(journal):
            work.write(journal, [answer(each.number, each.tweet_ids) for each in page], {})
    spoil(directory, "answer", "number", lost)

    assert repair(directory).lost_answers == 1
    go_on(directory)

    assert merged(directory).groupings == answer(0, (*batches[0].tweet_ids, *batches[1].tweet_ids)).groupings


def spoil(directory: JobDirectory, table: str, key: str, *keys: object) -> None:
    """Damage rows of the journal."""
    with closing(sqlite3.connect(directory.journal_path)) as connection, connection:
        connection.executemany(
            f"UPDATE {table} SET sha256 = zeroblob(32) WHERE {key} = ?",
            [(each,) for each in keys],
        )


def journal_ids(directory: JobDirectory, number: int) -> bytes:
    """Return the IDs of a batch as they lie in the journal."""
    from engagement_async.backfill.codec import pack_ids

    with directory.open_journal() as journal:
        return pack_ids(journal.batch(number).tweet_ids)
