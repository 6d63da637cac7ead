"""A job's directory: its owner's alone, locked by one process, and never another's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engagement_async import UsageError
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import GivenSource
from engagement_async.errors import JobDiskError, JobLockedError, OtherJobError
from tests.support.jobs import BY_TWEET, fill, started


def test_a_job_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = started(tmp_path / "job", 500)
        with folder.locked():
            fill(folder)
    finally:
        os.umask(before)

    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in folder.path.iterdir()} == {0o600}


def test_two_cannot_run_one_job(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 10)
    assert not folder.is_locked
    with folder.locked():
        assert folder.is_locked
        with pytest.raises(JobLockedError), JobDirectory(folder.path).locked():
            pass
    assert not folder.is_locked


@pytest.mark.parametrize(
    ("path", "error"), [("..", UsageError), ("../..", UsageError), (".", UsageError), ("/", UsageError)]
)
def test_a_job_is_a_folder_of_its_own(path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        JobDirectory(path).check()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OtherJobError, match="thesis"):
        CreateJob(JobDirectory(tmp_path), BY_TWEET, GivenSource(["1"]))()
    with pytest.raises(OtherJobError, match="is a file"):
        CreateJob(JobDirectory(tmp_path / "thesis.tex"), BY_TWEET, GivenSource(["1"]))()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["inner", "sub/inner"])
def test_a_job_lies_in_no_other_job(tmp_path: Path, name: str) -> None:
    outer = started(tmp_path / "job", 3)
    for use in (
        CreateJob(JobDirectory(outer.path / name), BY_TWEET, GivenSource(["1"])),
        JobDirectory(outer.path / name).must_exist,
    ):
        with pytest.raises(UsageError, match="lies in the folder of a job"):
            use()
    outer.check()


def test_the_folders_above_a_job_are_made(tmp_path: Path) -> None:
    CreateJob(JobDirectory(tmp_path / "a" / "b"), BY_TWEET, GivenSource(["1"]))()

    assert (tmp_path / "a" / "b" / "journal.sqlite").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    folder = started(tmp_path / "job", 10)
    folder.path.chmod(0o500)
    try:
        with pytest.raises(JobDiskError), folder.locked(), folder.open_journal() as journal:
            journal.write([], {"spent": {}})
    finally:
        folder.path.chmod(0o700)
