"""A series store as the source of a report: its hours, its Tweets, its gaps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from engagement_async import OtherSeriesError
from engagement_async.reports.series_source import load_series
from engagement_async.reports.sources import load_source
from engagement_async.series import EngagementSeries
from engagement_async.series.spans import HOUR
from tests.support.series import METRICS, ZERO, commit, hours_between, pulled, truth

IDS = ("2006000000000000001", "2006000000000000002")


def hour_of_epoch(at: object) -> int:
    return int(at.timestamp()) // 3600  # type: ignore[attr-defined]


def test_a_store_has_its_hours_and_its_gap(tmp_path: Path) -> None:
    series = EngagementSeries(tmp_path / "s.duckdb")
    later = ZERO + 40 * HOUR
    for now in (ZERO, later):
        commit(series, pulled(IDS, now))
    seen = [*hours_between(ZERO - 28 * HOUR, ZERO), *hours_between(later - 28 * HOUR, later)]

    loaded = load_source(series.path)
    tally = loaded.tally

    assert tally.metrics == METRICS
    assert {hour_of_epoch(at) for at in seen} <= tally.seen
    for metric in METRICS:
        assert tally.sums[metric] >= sum(truth(i, metric, at) for i in IDS for at in seen)
        for at in seen:
            assert tally.by_hour[metric][hour_of_epoch(at)] == sum(truth(i, metric, at) for i in IDS)
    assert tally.outcomes == {"answered": 2}
    assert {tweet.tweet_id for tweet in tally.top} == set(IDS)
    assert {fact.name: fact.value for fact in loaded.facts}["Pulls and fills"] == "2"
    assert "24 hours of Tweets are not in these numbers" in loaded.data_notes[0]  # 12 hours of each of two


def test_hours_that_a_window_cut_are_partial(tmp_path: Path) -> None:
    series = EngagementSeries(tmp_path / "s.duckdb")
    commit(series, pulled(IDS, ZERO + HOUR / 2))

    assert load_series(series.path).tally.partial == {hour_of_epoch(ZERO)}


def test_a_zero_is_a_value_of_a_top_tweet(tmp_path: Path) -> None:
    series = EngagementSeries(tmp_path / "s.duckdb")
    commit(series, pulled(IDS, ZERO))
    with duckdb.connect(str(series.path)) as store:
        store.execute("UPDATE hours SET value = 0 WHERE engagement_type = 'favorites' AND tweet_id = ?", [IDS[0]])
        store.execute("DELETE FROM hours WHERE engagement_type = 'favorites' AND tweet_id = ?", [IDS[1]])

    sums = {tweet.tweet_id: tweet.sums for tweet in load_series(series.path).tally.top}

    assert sums[IDS[0]]["favorites"] == 0
    assert "favorites" not in sums[IDS[1]]  # no answer had it


def test_what_failed_is_an_outcome(tmp_path: Path) -> None:
    series = EngagementSeries(tmp_path / "s.duckdb")
    commit(series, pulled(IDS, ZERO, failing=IDS[:1]))

    assert load_series(series.path).tally.outcomes == {"answered": 1, "failed": 1}


def test_another_database_is_refused(tmp_path: Path) -> None:
    import duckdb

    with duckdb.connect(str(tmp_path / "a.duckdb")) as database:
        database.execute("CREATE TABLE a (b INTEGER)")

    with pytest.raises(OtherSeriesError):
        load_source(tmp_path / "a.duckdb")


@pytest.mark.parametrize("missing", ["duckdb", "pyarrow"])
def test_without_the_extra_the_error_names_it(missing: str, tmp_path: Path) -> None:
    store = tmp_path / "s.duckdb"
    store.write_bytes(bytes(8) + b"DUCK" + bytes(100))
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from engagement_async import UsageError\n"
        "from engagement_async.reports import write_report\n"
        f"try:\n    write_report({str(store)!r}, {str(tmp_path / 'r.html')!r})\n"
        "except UsageError as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "pip install 'engagement-async[series]'" in done.stdout
