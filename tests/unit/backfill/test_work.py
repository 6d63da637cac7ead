"""However answers come, in parts, out of order, broken off, gone on with: the journal holds the same in the end."""

from __future__ import annotations

import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import HISTORICAL, LAST_28_HOURS, Answer, Failure, FailureKind, Query
from engagement_async._core.batches import SpanBatch
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import GivenSource
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.work import FailedWork, PendingWork, Work
from tests.support.jobs import merged

TYPES = ("favorites",)
GROUPINGS = {"t": ("tweet.id", "engagement.day"), "all": ("engagement.day",)}
ONE = Query(LAST_28_HOURS, engagement_types=TYPES, groupings=GROUPINGS)
SPANS = Query(HISTORICAL, engagement_types=TYPES, groupings=GROUPINGS, start="2026-01-01", end="2026-03-20")
IDS = [str(10**18 + n) for n in range(60)]
OUTAGE = Failure("nobody was answered", kind=FailureKind.OUTAGE)


def day_of(span: int) -> str:
    return f"2026-0{span + 1}-15"


def value(tweet_id: str, span: int) -> int:
    return int(tweet_id) % 89 + span * 100


class Api:
    """What is true of each ID, and what is answered now: `refused` fail in one span alone, the last."""

    def __init__(self, query: Query, gone: set[str], refused: set[str]) -> None:
        self.spans = len(query.spans())
        self.gone = gone
        self.refused = refused

    def answer(self, batch: SpanBatch, ids: tuple[str, ...], down: set[str]) -> Answer:
        """Return an answer to some of a batch's IDs."""
        failed: dict[str, str] = {i: OUTAGE for i in ids if i in down}
        if batch.span == self.spans - 1:
            failed |= {i: Failure("no", kind=FailureKind.REFUSED) for i in ids if i in self.refused - down}
        out = self.gone | failed.keys()
        known = [i for i in ids if i not in out]
        day = day_of(batch.span)
        groupings: dict[str, Any] = {"t": {i: {day: value(i, batch.span)} for i in known}} if known else {}
        if known:
            groupings["all"] = {day: sum(value(i, batch.span) for i in known)}
        unavailable = tuple(i for i in ids if i in self.gone - failed.keys())
        return Answer(batch.number, ids, groupings, unavailable_tweet_ids=unavailable, failed_tweet_ids=failed)


@contextmanager
def job(query: Query, ids: list[str]) -> Iterator[JobDirectory]:
    """Make a job on a disk that is quick."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    directory = JobDirectory(folder / "job")
    CreateJob(directory, query, GivenSource(ids))()
    yield directory
    shutil.rmtree(folder)


def go_on(directory: JobDirectory, api: Api, work: Work, most: int, chance: Random | None) -> bool:
    """Ask some batches and write the answers; return whether nothing is left to ask.

    `chance` has them come in pieces, in any order, some of them never, some without all IDs; without it they come whole.
    """
    with directory.open_journal() as journal:
        while page := work.next_page(journal):
            batches = (chance.sample(page, len(page)) if chance else page)[:most]
            most -= len(batches)
            answers: list[Answer] = []
            for batch in batches:
                ids = batch.tweet_ids
                down = set(chance.sample(ids, chance.randint(0, min(2, len(ids))))) if chance else set()
                cut = chance.randint(0, len(ids)) if chance else 0
                # One of ten is broken off before it is delivered.
                came = [half for half in (ids[:cut], ids[cut:]) if half and (not chance or chance.random() < 0.9)]
                answers += [api.answer(batch, half, down) for half in came]
            for at in range(0, len(answers), 3):
                work.write(journal, answers[at : at + 3], {})
            if most <= 0:
                return False
        return not journal.totals.pending


SOME_IDS = st.lists(st.integers(0, 59), unique=True, max_size=3)


@given(
    query=st.sampled_from([ONE, SPANS]),
    count=st.integers(1, 60),
    gone=SOME_IDS,
    refused=SOME_IDS,
    runs=st.lists(st.integers(1, 9), max_size=12),
    retried=st.integers(0, 3),
    chance=st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_what_is_answered_in_the_end_is_what_one_answer_would_be(
    query: Query, count: int, gone: list[int], refused: list[int], runs: list[int], retried: int, chance: Random
) -> None:
    ids = IDS[:count]
    gone_ids = {IDS[n] for n in gone if n < count}
    refused_ids = {IDS[n] for n in refused if n < count} - gone_ids
    api = Api(query, gone_ids, refused_ids)
    with job(query, ids) as directory:
        for most in runs:
            if go_on(directory, api, PendingWork(), most, chance):
                break
            directory.verify()
        while not go_on(directory, api, PendingWork(), 10**6, None):
            pass
        check(directory, api, ids, failed=refused_ids)

        # Some of those that were refused are answered later.
        api.refused = {i for i in sorted(refused_ids) if chance.random() < 0.5}
        go_on(directory, api, FailedWork(), retried, chance)
        directory.verify()
        go_on(directory, api, FailedWork(), 10**6, None)
        check(directory, api, ids, failed=api.refused)


@pytest.mark.parametrize("query", [ONE, SPANS], ids=["batches", "spans"])
def test_failed_ids_are_done_when_all_were_asked(query: Query) -> None:
    """Not when none is pending: none ever is."""
    api = Api(query, set(), set(IDS))
    with job(query, IDS) as directory:
        go_on(directory, api, PendingWork(), 10**6, None)
        api.refused = set()
        work = FailedWork()
        with directory.open_journal() as journal:
            assert journal.totals.outcomes.failed == len(IDS)
            *some, last = work.next_page(journal)
            work.write(journal, [api.answer(batch, batch.tweet_ids, set()) for batch in some], {})
            assert not work.is_done(journal)
            work.write(journal, [api.answer(last, last.tweet_ids, set(last.tweet_ids))], {})  # an outage
            assert not work.is_done(journal)
            work.write(journal, [api.answer(last, last.tweet_ids, set())], {})
            assert work.is_done(journal)


def test_failed_ids_of_pages_that_were_not_read_are_not_done() -> None:
    api = Api(ONE, set(), set(IDS))
    with job(ONE, IDS) as directory:
        go_on(directory, api, PendingWork(), 10**6, None)
        with directory.open_journal() as journal:
            assert not FailedWork().is_done(journal)


def check(directory: JobDirectory, api: Api, ids: list[str], failed: set[str]) -> None:
    """Hold what the journal has against what is true."""
    totals = directory.verify()
    assert totals.pending == totals.parts == 0
    assert totals.outcomes.failed == len(failed)
    assert totals.outcomes.unavailable == len(api.gone)
    result = merged(directory)
    answered = [i for i in ids if i not in failed | api.gone]
    assert list(result.failed_tweet_ids) == [i for i in ids if i in failed]
    spans = range(api.spans)
    assert result.groupings["t"] == {i: {day_of(span): value(i, span) for span in spans} for i in answered}
    sums = {day_of(span): sum(value(i, span) for i in answered) for span in spans} if answered else {}
    assert result.groupings["all"] == sums


def test_nothing_is_asked_again_that_was_answered(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "job")
    CreateJob(directory, SPANS, GivenSource(IDS[:30]))()
    api = Api(SPANS, set(), set())
    with directory.open_journal() as journal:
        work = PendingWork()
        page = work.next_page(journal)
        assert [(batch.number, len(batch.tweet_ids), batch.span) for batch in page] == [
            (0, 25, 0), (1, 25, 1), (2, 25, 2), (3, 5, 0), (4, 5, 1), (5, 5, 2)
        ]  # fmt: skip
        work.write(journal, [api.answer(page[1], page[1].tweet_ids, set(page[1].tweet_ids[3:5]))], {})
        work.write(journal, [api.answer(batch, batch.tweet_ids, set()) for batch in page[3:]], {})
        assert (journal.totals.answers, journal.totals.parts) == (1, 1)
        assert work.next_page(journal) == []
    with directory.open_journal() as journal:
        again = PendingWork().next_page(journal)
        assert [(batch.number, len(batch.tweet_ids)) for batch in again] == [(0, 25), (1, 2), (2, 25)]
    assert directory.verify().pending == 25


def test_an_answer_that_comes_twice_counts_once(tmp_path: Path) -> None:
    directory = JobDirectory(tmp_path / "job")
    CreateJob(directory, ONE, GivenSource(IDS[:25]))()
    api = Api(ONE, set(), set())
    with directory.open_journal() as journal:
        work = PendingWork()
        (batch,) = work.next_page(journal)
        answer = api.answer(batch, batch.tweet_ids, set())
        work.write(journal, [answer, answer], {})
        work.write(journal, [answer], {})
    check(directory, api, IDS[:25], failed=set())


@pytest.mark.parametrize("query", [ONE, SPANS])
def test_an_outage_alone_leaves_all_as_it_was(tmp_path: Path, query: Query) -> None:
    directory = JobDirectory(tmp_path / "job")
    CreateJob(directory, query, GivenSource(IDS[:30]))()
    api = Api(query, set(), set())
    with directory.open_journal() as journal:
        for work in (PendingWork(), PendingWork()):
            page = work.next_page(journal)
            assert len(page) == 2 * len(query.spans())
            work.write(journal, [api.answer(batch, batch.tweet_ids, set(IDS)) for batch in page], {})
        assert (journal.totals.answers, journal.totals.parts) == (0, 0)


def test_batches_of_which_nothing_came_take_no_memory() -> None:
    ids = [str(10**18 + n) for n in range(30_000)]  # as of an owner whose credentials are of no use
    with job(ONE, ids) as directory, directory.open_journal() as journal:
        work = PendingWork()
        tracemalloc.start()
        try:
            answer_all(journal, work, OUTAGE)
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert journal.totals.pending == len(ids)
        assert used < 10 * len(ids)


def test_batches_of_failed_ids_take_no_memory_once_they_are_answered() -> None:
    ids = [str(10**18 + n) for n in range(30_000)]
    with job(ONE, ids) as directory, directory.open_journal() as journal:
        answer_all(journal, PendingWork(), "no")
        tracemalloc.start()
        try:
            work = FailedWork()
            answer_all(journal, work, "no")
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert journal.totals.outcomes.failed == len(ids)
        assert used < 10 * len(ids)


def answer_all(journal: Journal, work: Work, failure: str) -> None:
    """Write answers in which all IDs failed."""
    while page := work.next_page(journal):
        failed = (dict.fromkeys(batch.tweet_ids, failure) for batch in page)
        answers = [Answer(b.number, b.tweet_ids, failed_tweet_ids=each) for b, each in zip(page, failed, strict=True)]
        work.write(journal, answers, {})
