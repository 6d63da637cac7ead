"""The start of a job: whole or not there, and the same again does no harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engagement_async import HISTORICAL, TOTALS, Query, UsageError
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import GivenSource
from engagement_async.errors import OtherJobError
from tests.support.jobs import BY_TWEET, digest, make_ids


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    folder = JobDirectory(tmp_path / "job")
    with pytest.raises(UsageError, match="no Tweet ID"):
        CreateJob(folder, BY_TWEET, GivenSource(["1", "x"]))()
    assert not folder.path.exists()
    with pytest.raises(UsageError, match="there is no Tweet ID"):
        CreateJob(folder, BY_TWEET, GivenSource([]))()
    assert not folder.path.exists()


def test_what_an_interrupted_start_left_is_discarded(tmp_path: Path) -> None:
    folder = JobDirectory(tmp_path / "job")
    folder.make()
    folder.starting_path.write_bytes(b"half a journal")

    assert CreateJob(folder, BY_TWEET, GivenSource(make_ids(10)))().is_new
    assert not folder.starting_path.exists()


def test_the_same_input_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    ids = make_ids(600)
    folder = JobDirectory(tmp_path / "job")
    CreateJob(folder, BY_TWEET, GivenSource(ids + ids[:50]))()
    before = digest(folder.journal_path)

    again = CreateJob(folder, BY_TWEET, GivenSource(ids + ids[:50]))()
    assert (again.is_new, again.new_ids, again.totals.ids) == (False, 0, 600)
    for other in (ids, ids[::-1], [*ids, "7"]):
        with pytest.raises(OtherJobError, match="other IDs"):
            CreateJob(folder, BY_TWEET, GivenSource(other))()
    assert digest(folder.journal_path) == before

    more = CreateJob(folder, None, GivenSource([*ids, "7", "8", "7"]), extend=True)()
    assert (more.new_ids, more.totals.ids) == (2, 602)
    # Killed and called again, the same command must do no harm.
    assert CreateJob(folder, None, GivenSource([*ids, "7", "8", "7"]), extend=True)().new_ids == 0
    assert CreateJob(folder, None, GivenSource(ids + ids[:50]))().totals.ids == 602


LAST_FOUR_WEEKS = Query(HISTORICAL, engagement_types=["favorites"], groupings={"d": ["engagement.day"]})
NOON = datetime(2026, 1, 1, 12, 34, 56, tzinfo=UTC)


def test_the_last_four_weeks_are_those_of_the_start(tmp_path: Path) -> None:
    """However long the job takes, and whenever the same command goes on with it."""
    folder = JobDirectory(tmp_path / "job")
    ids = make_ids(10)
    begun = CreateJob(folder, LAST_FOUR_WEEKS, GivenSource(ids), wall_clock=NOON.timestamp)()
    later = NOON + timedelta(days=5)

    assert begun.pinned == ("2025-12-04T12:00:00Z", "2026-01-01T12:00:00Z")
    again = CreateJob(folder, LAST_FOUR_WEEKS, GivenSource(ids), wall_clock=later.timestamp)()
    assert (again.is_new, again.pinned) == (False, None)
    with folder.open_journal(read_only=True) as journal:
        assert (journal.query.start, journal.query.end) == begun.pinned
    other = Query(
        HISTORICAL,
        engagement_types=["favorites"],
        groupings={"d": ["engagement.day"]},
        start="2025-12-01",
        end="2025-12-20",
    )
    with pytest.raises(OtherJobError, match=r"start 2025-12-04T12:00:00Z, not 2025-12-01"):
        CreateJob(folder, other, GivenSource(ids))()


def test_a_span_that_was_given_stays_the_one_that_is_asked(tmp_path: Path) -> None:
    """The last four weeks are not taken for it, also if they are the same at that hour."""
    start, end = "2025-12-04T12:00:00Z", "2026-01-01T12:00:00Z"
    given = Query(HISTORICAL, engagement_types=["favorites"], groupings={"d": ["engagement.day"]}, start=start, end=end)
    folder = JobDirectory(tmp_path / "job")
    assert CreateJob(folder, given, GivenSource(["1"]), wall_clock=NOON.timestamp)().pinned is None

    with pytest.raises(OtherJobError, match="start 2025-12-04T12:00:00Z, not nothing"):
        CreateJob(folder, LAST_FOUR_WEEKS, GivenSource(["1"]), wall_clock=NOON.timestamp)()


def test_another_query_is_told_by_what_differs(tmp_path: Path) -> None:
    folder = JobDirectory(tmp_path / "job")
    CreateJob(folder, BY_TWEET, GivenSource(["1"]))()
    other = Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})

    with pytest.raises(OtherJobError, match=r"another query: metrics favorites,replies, not favorites\. Name"):
        CreateJob(folder, other, GivenSource(["1"]))()
    with pytest.raises(OtherJobError, match=r"the endpoint totals, not historical; .*groupings by_tweet=tweet.id,"):
        CreateJob(folder, LAST_FOUR_WEEKS, GivenSource(["1"]))()
