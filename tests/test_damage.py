"""Every bit of a small journal flipped, one at a time: whatever reads or goes on with it gives the right numbers, or says
that it is damaged; and what a repair saves is right.

A sample of the bits in `make test`, all of them in `make nightly`. `ENGAGEMENT_TEST_BITS=N` looks at N of them.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from engagement_async import Answer, Query
from engagement_async.backfill.codec import encode_answer
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.exporter import Exporter
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.repair import repair
from engagement_async.backfill.work import PendingWork
from engagement_async.errors import JobCorruptError
from tests.support.jobs import MIXED, TYPES, started

RUN: dict[str, Any] = {"began_at": 1.0, "seen_at": 2.0, "requests": 3, "ids": 600, "outcome": None, "now": {}}
IS_NIGHTLY = settings().max_examples >= 5_000
SAMPLE = int(os.environ.get("ENGAGEMENT_TEST_BITS", "0")) or (None if IS_NIGHTLY else 500)
"""How many bits; None for all."""

pytestmark = [pytest.mark.hypothesis, pytest.mark.timeout(0 if IS_NIGHTLY else 120)]


def answer(number: int, ids: tuple[str, ...]) -> Answer:
    """Return an answer whose values follow from its IDs."""
    values = {i: {"favorites": int(i) % 97, "replies": int(i) % 7} for i in ids}
    return Answer(
        number,
        ids,
        {
            "by_tweet": values,
            "by_type": {metric: {i: values[i][metric] for i in ids} for metric in TYPES},
            "all": {metric: sum(values[i][metric] for i in ids) for metric in TYPES},
        },
    )


def go_on(directory: JobDirectory) -> None:
    """Do what a run does with a journal, without a network."""
    with directory.open_journal() as journal:
        work = PendingWork()
        while page := work.next_page(journal):
            work.write(journal, [answer(each.number, each.tweet_ids) for each in page], {"run 000000": RUN})
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


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """Make a folder that is quick to write to."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def make(path: Path, answered: int) -> JobDirectory:
    """Make a job of three batches, some of which are answered."""
    directory = started(path, 600, MIXED)
    with directory.open_journal() as journal:
        for number in range(answered):
            stored = encode_answer(answer(number, journal.batch(number).tweet_ids), TYPES)
            journal.write([stored], {"run 000000": RUN})
    return directory


def test_no_flipped_bit_is_ever_read_as_something_else(memory: Path) -> None:
    directory = make(memory / "read" / "job", 3)
    whole = directory.journal_path.read_bytes()
    expected = seen(directory, MIXED)
    damaged = 0
    for bit in bits_of(whole, 1):
        directory.journal_path.write_bytes(flipped(whole, bit))
        try:
            assert seen(directory, MIXED) == expected, f"bit {bit}"
        except JobCorruptError:
            damaged += 1
        try:
            assert directory.verify() == expected[0], f"bit {bit}"
        except JobCorruptError:
            damaged += 1

    assert damaged


def test_no_run_goes_on_with_a_flipped_bit_to_other_numbers(memory: Path) -> None:
    directory = make(memory / "run" / "job", 1)
    whole = directory.journal_path.read_bytes()
    go_on(directory)
    expected = seen(directory, MIXED)
    damaged = 0
    for bit in bits_of(whole, 2):
        directory.journal_path.write_bytes(flipped(whole, bit))
        try:
            go_on(directory)
            assert seen(directory, MIXED) == expected, f"bit {bit}"
        except JobCorruptError:
            damaged += 1

    assert damaged


def test_what_a_repair_saves_is_right(memory: Path) -> None:
    """A flipped bit costs no more than the row that it is in; what is lost is asked or added again."""
    directory = make(memory / "repair" / "job", 3)
    whole = directory.journal_path.read_bytes()
    expected = seen(directory, MIXED)
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
            totals, runs, files = seen(directory, MIXED)
            assert (totals.outcomes, files) == (expected[0].outcomes, expected[2]), f"bit {bit}"
            assert done.lost_documents or runs == expected[1]

    assert lost or not IS_NIGHTLY


def flipped(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_journal_that_cannot_even_say_what_it_asks_is_not_repaired(tmp_path: Path) -> None:
    directory = make(tmp_path / "job", 1)
    directory.journal_path.write_bytes(bytes(directory.journal_path.stat().st_size))

    with pytest.raises(JobCorruptError, match="not even what the job asks"):
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


def journal_ids(directory: JobDirectory, number: int) -> bytes:
    """Return the IDs of a batch as they lie in the journal."""
    from engagement_async.backfill.codec import pack_ids

    with directory.open_journal() as journal:
        return pack_ids(journal.batch(number).tweet_ids)
