"""Exports: hours and days, time zones, all formats, and the same sums for DuckDB, pandas and Polars."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from engagement_async import UsageError
from engagement_async._export.layout import FORMATS
from engagement_async.series import EngagementSeries
from engagement_async.series.spans import HOUR
from tests.support.series import METRICS, ZERO, commit, hours_between, pulled, rows, truth

IDS = ("101", "102")
FIRST, END = ZERO - 28 * HOUR, ZERO + 20 * HOUR
TRUTH = {
    (i, metric, hour): truth(i, metric, hour) for i in IDS for metric in METRICS for hour in hours_between(FIRST, END)
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> EngagementSeries:
    series = EngagementSeries(tmp_path_factory.mktemp("series") / "s.duckdb")
    for now in (ZERO, END):
        commit(series, pulled(IDS, now))
    return series


def test_duckdb_pandas_and_polars_read_the_same_sums(series: EngagementSeries, tmp_path: Path) -> None:
    expected: Counter[tuple[str, date]] = Counter()
    for (_, metric, hour), value in TRUTH.items():
        expected[metric, hour.date()] += value

    with duckdb.connect(str(series.path), read_only=True) as plain:
        found = plain.execute(
            "SELECT engagement_type, engagement_hour::DATE, sum(value) FROM hours WHERE NOT is_partial GROUP BY ALL"
        ).fetchall()
    assert {(metric, day): value for metric, day, value in found} == expected

    path = tmp_path / "hours.parquet"
    series.export(path)
    assert pq.read_table(path).schema.names == ["tweet_id", "engagement_type", "engagement_hour", "value", "state"]
    frame = pd.read_parquet(path)
    whole = frame[frame.state == "complete"]
    by_day = whole.groupby([whole.engagement_type.astype(str), whole.engagement_hour.dt.date]).value.sum()
    assert by_day.to_dict() == expected
    polars = (
        pl.read_parquet(path)
        .filter(pl.col("state") == "complete")
        .group_by(pl.col("engagement_type").cast(pl.String), pl.col("engagement_hour").dt.date())
        .agg(pl.col("value").sum())
    )
    assert {(metric, day): value for metric, day, value in polars.iter_rows()} == expected


@pytest.mark.parametrize(
    ("zone", "of"),
    [
        ("UTC", lambda hour: hour.date()),
        ("Asia/Kolkata", lambda hour: (hour + 5.5 * HOUR).date()),
        ("America/New_York", lambda hour: (hour - 5 * HOUR).date()),
    ],
)
def test_days_are_those_of_a_time_zone(series: EngagementSeries, zone: str, of: object) -> None:
    assert callable(of)
    expected: Counter[tuple[str, str, date]] = Counter()
    hours: Counter[date] = Counter(of(hour) for hour in hours_between(FIRST, END))
    for (i, metric, hour), value in TRUTH.items():
        expected[i, metric, of(hour)] += value

    table = series.to_arrow(by="day", time_zone=zone, observed_at=True).to_pylist()

    for row in table:
        key = row["tweet_id"], row["engagement_type"], row["engagement_day"]
        is_last = row["engagement_day"] == of(END)  # END itself is cut at once: nothing of it was seen
        assert row["value"] == expected[key]
        assert row["state"] == ("complete" if hours[row["engagement_day"]] == 24 and not is_last else "partial")
        assert row["observed_at"] in (ZERO, END)
    assert {row["engagement_day"] for row in table} == set(hours)


def test_days_on_which_clocks_are_changed_have_23_or_25_hours(tmp_path: Path) -> None:
    for now, day, hours in (
        (datetime(2026, 3, 30, 2, tzinfo=UTC), date(2026, 3, 29), 23),
        (datetime(2026, 10, 26, 2, tzinfo=UTC), date(2026, 10, 25), 25),
    ):
        series = EngagementSeries(tmp_path / f"{hours}.duckdb")
        commit(series, pulled(["101"], now))
        (row,) = [
            row
            for row in series.to_arrow(by="day", time_zone="Europe/Berlin", wide=True).to_pylist()
            if row["engagement_day"] == day
        ]
        first = datetime(day.year, day.month, day.day, tzinfo=UTC) - (1 if hours == 23 else 2) * HOUR
        assert row["favorites"] == sum(truth("101", "favorites", first + n * HOUR) for n in range(hours))
        assert row["state"] == "complete"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("by", ["hour", "day"])
def test_every_format_has_every_row(series: EngagementSeries, tmp_path: Path, name: str, by: str) -> None:
    rows_of = {"hour": len(IDS) * len(METRICS) * 49, "day": len(IDS) * len(METRICS) * 3}[by]
    path = tmp_path / f"out.{name}"

    assert series.export(path, by=by) == [str(path)]

    if name == "csv":
        with path.open(newline="") as file:
            found = list(csv.DictReader(file))
        assert (len(found), found[0]["state"]) == (rows_of, "complete" if by == "hour" else "partial")
    elif name == "jsonl":
        assert len(path.read_text().splitlines()) == rows_of
    elif name == "json":
        nested = json.loads(path.read_text())["hours"]
        days = nested["101"]["favorites"]
        assert days["2026-02-28"] == (
            {f"{hour:02}": str(truth("101", "favorites", ZERO - (24 - hour) * HOUR)) for hour in range(24)}
            if by == "hour"
            else str(sum(truth("101", "favorites", ZERO - n * HOUR) for n in range(1, 25)))
        )
    elif name == "duckdb":
        with duckdb.connect(str(path), read_only=True) as found_in:
            assert found_in.execute("SELECT count(*) FROM hours").fetchone() == (rows_of,)
    assert path.stat().st_size > 100


def test_wide_tables_have_a_column_for_each_metric(series: EngagementSeries) -> None:
    long = rows(series)
    wide = series.to_arrow(wide=True)

    assert wide.column_names == ["tweet_id", "engagement_hour", *METRICS, "state"]
    assert len(wide) * 2 == len(long)
    for row in wide.to_pylist():
        for metric in METRICS:
            assert long[row["tweet_id"], metric, row["engagement_hour"]] == (row[metric], row["state"])


def test_what_cannot_be_is_refused(series: EngagementSeries, tmp_path: Path) -> None:
    tables: tuple[tuple[dict[str, Any], str], ...] = (
        ({"by": "week"}, "none of hour, day"),
        ({"table": "tweets"}, "none of hours, totals, corrections"),
        ({"time_zone": "Mars/Olympus", "by": "day"}, "no time zone"),
        ({"time_zone": "Europe/Berlin"}, "export by day"),
        ({"table": "totals", "wide": True}, "are for hours"),
    )
    for options, says in tables:
        with pytest.raises(UsageError, match=says):
            series.to_arrow(**options)
    outputs: tuple[tuple[str, dict[str, Any], str], ...] = (
        (str(series.path), {}, "same file"),
        ("x.json", {"table": "totals"}, "take jsonl"),
        ("x.unknown", {}, "which format"),
    )
    for output, options, says in outputs:
        with pytest.raises(UsageError, match=says):
            series.export(tmp_path / output, **options)
    assert len(series.to_arrow("corrections")) == 0
