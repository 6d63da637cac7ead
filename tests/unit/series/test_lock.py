from __future__ import annotations

from pathlib import Path

import pytest

from engagement_async import SeriesLockedError, UsageError
from engagement_async.series.database import opened
from engagement_async.series.lock import check_place, locked
from tests.support.jobs import started


def test_one_at_a_time_and_the_next_one_after_it(tmp_path: Path) -> None:
    store = tmp_path / "s.duckdb"
    with locked(store):
        with pytest.raises(SeriesLockedError, match="another pull or fill is at work"), locked(store):
            raise AssertionError
        with locked(tmp_path / "other.duckdb"):
            pass
    with locked(store):
        pass
    assert not store.exists()


def test_no_store_is_made_in_the_folder_of_a_job(tmp_path: Path) -> None:
    job = started(tmp_path / "job", 3)
    before = sorted(job.path.iterdir())
    with pytest.raises(UsageError, match="lies in the folder of a job"):
        check_place(job.path / "s.duckdb")
    check_place(tmp_path / "s.duckdb")
    assert sorted(job.path.iterdir()) == before


def test_a_name_that_duckdb_cannot_open_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.duckdb"
    with pytest.raises(UsageError, match="DuckDB opens only files whose names are UTF-8"):
        check_place(path)
    with pytest.raises(UsageError, match="names are UTF-8"), opened(path, read_only=True, wait_s=0):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"), locked(tmp_path / "no" / "s.duckdb"):
        raise AssertionError
