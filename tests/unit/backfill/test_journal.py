"""The journal: a state machine held against a model, and every kind of damage told as damage."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engagement_async import HISTORICAL, Answer, Batch, Query
from engagement_async._core.batches import SpanBatch
from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill.codec import encode_answer
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import GivenSource
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.journal_rows import OLDER_SCHEMA, SCHEMA_OWNED, document_row
from engagement_async.backfill.work import PendingWork
from engagement_async.errors import JobCorruptError, JobDiskError, OtherJobError
from tests.support.jobs import BY_TWEET, TYPES, answer_to, fill, make_ids, started, unanswered


class JournalMachine(RuleBasedStateMachine):
    """Writes, rewrites, extends and reopens at will: the journal says what a dict says."""

    folder: JobDirectory
    path: Path

    @initialize(count=st.integers(1, 2000))
    def start(self, count: int) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.ids = make_ids(3000, 5)
        self.given = count
        self.answers: dict[int, Answer] = {}
        self.folder = JobDirectory(self.path / "job")
        CreateJob(self.folder, BY_TWEET, GivenSource(self.ids[:count]))()
        self.batches = [tuple(self.ids[at : min(at + 250, count)]) for at in range(0, count, 250)]
        self.journal = self.folder.open_journal()

    @rule(count=st.integers(1, 5), failing=st.booleans())
    def answer(self, count: int, failing: bool) -> None:
        batches = unanswered(self.journal, count)
        assert batches == [Batch(n, ids) for n, ids in enumerate(self.batches) if n not in self.answers][:count]
        answers = [
            Answer(n, ids, failed_tweet_ids=dict.fromkeys(ids, "down")) if failing else answer_to(n, ids)
            for n, ids, _ in batches
        ]
        self.journal.write([encode_answer(answer, TYPES) for answer in answers], {"spent": {"n": len(answers)}})
        self.answers.update((answer.batch_number, answer) for answer in answers)

    @rule()
    def mend_failed(self) -> None:
        failed = [self.journal.answer(number) for number in self.journal.failed(-1, 3)]
        expected = [a for _, a in sorted(self.answers.items()) if a.failed_tweet_ids][:3]
        assert failed == expected
        better = [answer_to(answer.batch_number, answer.tweet_ids) for answer in failed]
        self.journal.write([encode_answer(answer, TYPES) for answer in better], {})
        self.answers.update((answer.batch_number, answer) for answer in better)

    @rule(count=st.integers(1, 400))
    def extend(self, count: int) -> None:
        self.journal.close()
        new = self.ids[self.given : self.given + count]
        CreateJob(self.folder, None, GivenSource(self.ids[: min(10, self.given)] + new), extend=True)()
        self.given += len(new)
        self.batches += [tuple(new[at : at + 250]) for at in range(0, len(new), 250)]
        self.journal = self.folder.open_journal()

    @rule()
    def a_failed_transaction_leaves_no_trace(self) -> None:
        batches = unanswered(self.journal, 2)
        stored = [encode_answer(answer_to(*batch[:2]), TYPES) for batch in batches]
        with pytest.raises(TypeError):
            self.journal.write(stored, {"spent": object()})

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self.folder.open_journal()

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "journal"):
            return
        found = list(self.journal.answers(self.journal.snapshot()))
        assert [batch.tweet_ids for batch, _ in found] == self.batches
        assert {b.number: self.journal.decode(s, b) for b, s in found if s is not None} == self.answers
        tally = self.journal.verify()
        assert tally.ids == sum(map(len, self.batches))
        assert tally.pending == sum(len(ids) for n, ids in enumerate(self.batches) if n not in self.answers)
        assert tally.outcomes.failed == sum(len(answer.failed_tweet_ids) for answer in self.answers.values())

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.path)


JournalMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
test_journal_machine = JournalMachine.TestCase


def read_all(folder: JobDirectory) -> Outcomes:
    with folder.open_journal(read_only=True) as journal:
        return journal.verify().outcomes


def test_no_flipped_bit_is_ever_read_as_something_else(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 700)
    fill(folder)
    whole = folder.journal_path.read_bytes()
    expected = read_all(folder)
    told = 0
    for at in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        folder.journal_path.write_bytes(damaged)
        try:
            # Bits that hold nothing may flip, as in free space: then all is as it was.
            assert read_all(folder) == expected
        except (JobCorruptError, OtherJobError, JobDiskError):
            told += 1
    assert told > len(whole) // 41 // 3


def test_no_cut_is_ever_read_as_something_else(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 700)
    fill(folder)
    whole = folder.journal_path.read_bytes()
    for size in (0, 1, 99, 100, 4095, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        folder.journal_path.write_bytes(whole[:size])
        with pytest.raises(JobCorruptError, match=r"damaged|is cut"):
            read_all(folder)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DELETE FROM answer WHERE number = 1", "3 answers were written, 2"),
        ("DELETE FROM batch WHERE number = 2", "3 batches were written, 2"),
        ("UPDATE answer SET number = 7 WHERE number = 1", "the tally does not add up|checksum|batch"),
        ("UPDATE answer SET unavailable = 1 WHERE number = 1", "outcomes of its rows do not add up"),
        ("UPDATE answer SET sha256 = zeroblob(32) WHERE number = 1", "checksum of answer 1"),
        ("UPDATE batch SET ids = zeroblob(8) WHERE number = 1", "checksum of batch 1"),
        ("UPDATE document SET value = '{}' WHERE name = 'query'", "checksum of 'query'"),
        ("DELETE FROM document WHERE name = 'totals'", "totals are missing"),
        ("DELETE FROM document WHERE name = 'query'", r"\d+ documents were written, \d+ are there"),
        ("DROP TABLE answer", "no such table"),
    ],
)
def test_what_was_changed_by_hand_is_told(tmp_path: Path, sql: str, says: str) -> None:
    folder = started(tmp_path / "job", 700)
    fill(folder)
    connection = sqlite3.connect(folder.journal_path)
    connection.execute(sql)
    connection.commit()
    connection.close()

    with pytest.raises(JobCorruptError, match=says):
        read_all(folder)


@pytest.mark.parametrize(
    ("version", "says"), [(SCHEMA_OWNED + 1, "newer version"), (OLDER_SCHEMA - 1, "older version")]
)
def test_another_schema_is_told(tmp_path: Path, version: int, says: str) -> None:
    folder = started(tmp_path / "job", 10)
    connection = sqlite3.connect(folder.journal_path)
    connection.execute(f"PRAGMA user_version={version}")
    row = document_row("format", {"schema": version})
    connection.execute("UPDATE document SET value = ?, sha256 = ? WHERE name = ?", (*row[1:], row[0]))
    connection.commit()
    connection.close()

    with pytest.raises(OtherJobError, match=says):
        read_all(folder)


def test_a_database_of_something_else_is_told(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 10)
    folder.journal_path.unlink()
    connection = sqlite3.connect(folder.journal_path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()

    with pytest.raises(OtherJobError, match="something else"):
        read_all(folder)


def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 5000)
    with folder.open_journal() as journal:
        pages = journal._file.connection.execute("PRAGMA page_count").fetchone()[
            0
        ]  # SQLite's own way of having a small disk
        journal._file.connection.execute(f"PRAGMA max_page_count={pages + 4}")
        stored = [encode_answer(answer_to(*batch[:2]), TYPES) for batch in unanswered(journal, 20)]

        def write_all() -> None:
            for answer in stored:
                journal.write([answer], {})

        with pytest.raises(JobDiskError, match="no space is left"):
            write_all()
        committed = journal.totals.answers
    assert 0 < committed < 20
    with folder.open_journal() as journal:
        assert journal.verify().answers == committed
    fill(folder)
    assert read_all(folder).answered == 5000


@pytest.mark.parametrize(("may_write", "error"), [(False, JobDiskError), (True, JobCorruptError)])
def test_a_journal_that_may_not_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_write: bool, error: type[Exception]
) -> None:
    folder = started(tmp_path / "job", 10)
    monkeypatch.setattr("os.access", lambda *_: may_write)  # where the user may write, it is the header that forbids it
    address = f"{folder.journal_path.as_uri()}?mode=ro"
    with folder.open_journal() as journal:
        journal._file.connection.close()
        journal._file.connection = sqlite3.connect(address, uri=True, isolation_level=None)
        with pytest.raises(error, match=r"read-only|forbids"):
            journal.write([], {"spent": {}})


@pytest.mark.parametrize("failed", [True, False])
def test_a_job_may_be_verified_while_it_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, failed: bool
) -> None:
    """Answers that take the place of others, and parts that are completed, are no damage."""
    query = SPANS if not failed else BY_TWEET
    folder = started(tmp_path / "job", 40 if query is SPANS else 700, query)
    with folder.open_journal() as writer:
        work = PendingWork()
        page = work.next_page(writer)
        some = page[:-1] if query is SPANS else page
        work.write(writer, [reply(batch, failed=failed) for batch in some], {})
        assert writer.totals.parts or failed
        left = [page[-1]]
        seen = Journal.batch if query is SPANS else Journal.decode

        def changing(journal: Journal, *args: object) -> object:
            if left and journal is not writer:
                batch = left.pop()
                if query is SPANS:
                    work.write(writer, [reply(batch)], {})
                else:
                    writer.write([encode_answer(reply(batch), TYPES)], {})
            return seen(journal, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Journal, seen.__name__, changing)
        assert folder.verify() == writer.totals
    assert not left


SPANS = Query(
    HISTORICAL,
    engagement_types=TYPES,
    groupings={"by_tweet": ["tweet.id", "engagement.type"]},
    start="2026-01-01",
    end="2026-03-20",
)


def reply(batch: SpanBatch, *, failed: bool = False) -> Answer:
    """Return an answer to one batch, in which all IDs failed or none."""
    if failed:
        return Answer(batch.number, batch.tweet_ids, failed_tweet_ids=dict.fromkeys(batch.tweet_ids, "down"))
    return answer_to(batch.number, batch.tweet_ids)
