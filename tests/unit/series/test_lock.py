from __future__ import annotations

from pathlib import Path

import pytest

from engagement_async import SeriesLockedError, UsageError
from engagement_async.series.lock import locked


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


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"), locked(tmp_path / "no" / "s.duckdb"):
        raise AssertionError
