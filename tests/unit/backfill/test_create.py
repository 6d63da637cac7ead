"""The start of a job: whole or not there, and the same again does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from engagement_async import UsageError
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
