"""The merge rule: any order of pulls, overlaps, re-runs, kills between any two statements."""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import (
    LAST_28_HOURS,
    TOTALS,
    Answer,
    OtherSeriesError,
    Query,
    SeriesCorruptError,
    SeriesError,
    UsageError,
    Window,
)
from engagement_async.series import EngagementSeries
from engagement_async.series.database import make_store, opened
from engagement_async.series.gathering import GROUPING, Gathered
from engagement_async.series.spans import HOUR, hour_of
from tests.support.series import (
    METRICS,
    PULL,
    ZERO,
    KilledError,
    answer,
    commit,
    fill,
    gap_hours,
    hours_between,
    killed_before,
    pulled,
    rows,
    truth,
    values,
)

IDS = ("101", "102", "103")
MINUTE = timedelta(minutes=1)
STATEMENTS = 32
"""More than a commit has."""

Pull = tuple[int, frozenset[str], frozenset[str], int | None]
"""Minutes since `ZERO`, who is asked, who fails, and before which statement the process is killed."""
SOME = st.frozensets(st.sampled_from(IDS))
PULLS = st.lists(
    st.tuples(
        st.integers(0, 60 * 120),
        st.frozensets(st.sampled_from(IDS), min_size=1),
        SOME,
        st.one_of(st.none(), st.integers(0, STATEMENTS)),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda pull: pull[0],
)


class Model:
    """What the store must say, by plain sets of hours."""

    def __init__(self) -> None:
        self.whole: dict[str, set[datetime]] = {i: set() for i in IDS}
        self.wanted: dict[str, set[datetime]] = {i: set() for i in IDS}

    def add(self, now: datetime, asked: frozenset[str], failing: frozenset[str]) -> None:
        if asked <= failing:
            return
        hours = set(hours_between(hour_of(now) - 28 * HOUR, hour_of(now)))
        for i in asked:
            self.wanted[i] |= hours
            if i not in failing:
                self.whole[i] |= hours

    def gaps(self) -> set[tuple[str, datetime]]:
        return {
            (i, hour)
            for i, wanted in self.wanted.items()
            if wanted
            for hour in set(hours_between(min(wanted), max(wanted) + HOUR)) - self.whole[i]
        }


@settings(max_examples=settings().max_examples // 12)
@given(PULLS)
def test_any_pulls_in_any_order_give_the_truth_and_exactly_the_gaps(pulls: Sequence[Pull]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        end = ZERO + 200 * HOUR
        series = EngagementSeries(Path(folder) / "s.duckdb", now=lambda: end)
        model = Model()
        for minutes, asked, failing, kill in pulls:
            now = ZERO + minutes * MINUTE
            before = {}
            if kill is not None and series.path.exists():
                before = rows(series)
            try:
                with killed_before(kill) if kill is not None else contextlib.nullcontext():
                    commit(series, pulled(sorted(asked), now, failing))
            except KilledError:
                if not series.path.exists():
                    continue
                with duckdb.connect(str(series.path), read_only=True) as plain:
                    (found,) = plain.execute(
                        "SELECT count(*) FROM pulls WHERE began_at = ?", [now.replace(tzinfo=None)]
                    ).fetchone() or (None,)
                if not found:  # as before
                    assert rows(series) == before
                    continue
            model.add(now, asked, failing)
            commit(series, pulled(sorted(asked), now, failing))  # a re-run changes nothing
        if not series.path.exists():
            return
        found = rows(series)
        complete = {(i, hour) for (i, _, hour), (_, state) in found.items() if state == "complete"}
        assert complete == {(i, hour) for i, hours in model.whole.items() for hour in hours}
        for (i, metric, hour), (value, state) in found.items():
            assert value == truth(i, metric, hour) if state == "complete" else value < truth(i, metric, hour)
        assert gap_hours(series) == model.gaps()

        fill(series, end)

        assert gap_hours(series) == set()
        found = rows(series)
        for i, wanted in model.wanted.items():
            for hour in hours_between(min(wanted), max(wanted) + HOUR) if wanted else ():
                for metric in METRICS:
                    assert found[i, metric, hour] == (truth(i, metric, hour), "complete")


@pytest.fixture
def series(tmp_path: Path) -> EngagementSeries:
    return EngagementSeries(tmp_path / "s.duckdb", now=lambda: ZERO + 200 * HOUR)


def test_the_first_hour_of_a_window_replaces_no_hour_that_was_seen_within_one(series: EngagementSeries) -> None:
    """The pages of the API call it partial, whatever the answer says."""
    commit(series, pulled(["101"], ZERO))
    late = ZERO + 20 * HOUR
    gathered = pulled(["101"], late)
    edge = hour_of(late) - 28 * HOUR
    cut = gathered.query, values(["101"], edge, hour_of(late) + HOUR, late)
    cut[1]["101"]["favorites"][f"{edge:%Y-%m-%d}"][f"{edge:%H}"] = 1
    gathered = Gathered(PULL, late)
    gathered.add(
        Answer(0, ("101",), {GROUPING: cut[1]}, windows=(Window(edge, hour_of(late) + HOUR),), observed_at=late)
    )

    assert commit(series, gathered).corrections == 0
    assert rows(series)["101", "favorites", edge] == (truth("101", "favorites", edge), "complete")


def test_an_hour_that_the_api_lowers_is_replaced_kept_and_told(series: EngagementSeries) -> None:
    commit(series, pulled(["101"], ZERO))
    later, hour = ZERO + 2 * HOUR, ZERO - 5 * HOUR
    lowered = values(["101"], later - 28 * HOUR, later + HOUR, later)
    lowered["101"]["favorites"][f"{hour:%Y-%m-%d}"][f"{hour:%H}"] = 7
    gathered = Gathered(PULL, later)
    gathered.add(
        Answer(0, ("101",), {GROUPING: lowered}, windows=(Window(later - 28 * HOUR, later + HOUR),), observed_at=later)
    )

    assert commit(series, gathered).corrections == 1
    assert rows(series)["101", "favorites", hour] == (7, "complete")
    (row,) = series.to_arrow("corrections").to_pylist()
    assert (row["value_before"], row["value"]) == (truth("101", "favorites", hour), 7)
    assert (row["observed_before"], row["observed_at"]) == (ZERO, later)
    assert series.status().corrections == 1
    assert commit(series, pulled(["101"], ZERO)).corrections == 0  # an older pull, once more
    assert rows(series)["101", "favorites", hour] == (7, "complete")


def test_what_an_answer_leaves_out_is_a_zero_by_hour_and_no_value_by_metric(series: EngagementSeries) -> None:
    start, end = ZERO - 28 * HOUR, ZERO + HOUR
    gathered = Gathered(PULL, ZERO)
    gathered.add(
        Answer(
            0,
            ("101",),
            {GROUPING: {"101": {"favorites": {"2026-02-28": {"17": 5}}}}},
            windows=(Window(start, end),),
            missing_metrics={"impressions": ("101",)},
            observed_at=ZERO,
        )
    )
    commit(series, gathered)

    found = rows(series)
    assert len(found) == 29
    assert {metric for _, metric, _ in found} == {"favorites"}
    assert sum(value for value, _ in found.values()) == 5
    assert series.status().left_out == 1
    commit(series, pulled(["101"], ZERO + HOUR))
    assert series.status().left_out == 0


def test_gone_tweets_have_no_gaps_until_they_come_back(series: EngagementSeries) -> None:
    commit(series, pulled(["101"], ZERO))
    later = ZERO + 60 * HOUR
    gone = Gathered(PULL, later)
    gone.add(Answer(0, ("101",), unavailable_tweet_ids=("101",), observed_at=later))
    commit(series, gone)
    assert (series.gaps(), series.tracked()) == ([], [("", "101")])

    commit(series, pulled(["101"], later + HOUR))
    assert len(gap_hours(series)) == 33


def test_owners_are_kept_apart(series: EngagementSeries) -> None:
    for owner, ids in (("acme", ["101"]), ("globex", ["102"])):
        gathered = Gathered(PULL, ZERO)
        given = answer(ids, ZERO - 28 * HOUR, ZERO + HOUR, ZERO)
        given.owner = owner
        gathered.add(given)
        commit(series, gathered)

    assert series.tracked() == [("acme", "101"), ("globex", "102")]
    table = series.to_arrow()
    assert table.column_names[:2] == ["owner", "tweet_id"]
    assert set(zip(table["owner"].to_pylist(), table["tweet_id"].to_pylist(), strict=True)) == set(series.tracked())


def test_snapshots_of_totals_have_deltas_by_when_they_were_observed(series: EngagementSeries) -> None:
    query = Query(TOTALS, engagement_types=["favorites"], groupings={GROUPING: ["tweet.id", "engagement.type"]})
    for hours, value in ((0, 10), (48, 25), (24, 17), (24, 17)):  # in any order, and once more
        at = ZERO + hours * HOUR
        gathered = Gathered(query, at)
        gathered.add(Answer(0, ("101",), {GROUPING: {"101": {"favorites": value}}}, observed_at=at))
        series._store.prepare(TOTALS, ["favorites"])
        series._store.commit(gathered, at)

    found = series.to_arrow("totals").to_pylist()
    assert [(row["value"], row["delta"]) for row in found] == [(10, None), (17, 7), (25, 8)]
    assert found[1]["observed_before"] == ZERO
    assert series.gaps() == []


def test_a_query_on_the_store_finds_tweets(series: EngagementSeries) -> None:
    commit(series, pulled(IDS, ZERO, failing=["102"]))
    assert series.select("SELECT tweet_id FROM tweets WHERE state = 'failed'") == [("", "102")]
    assert series.select("SELECT owner, tweet_id FROM tweets ORDER BY 2 LIMIT 1") == [("", "101")]
    with pytest.raises(UsageError, match="Referenced column"):
        series.select("SELECT nothing")
    with pytest.raises(UsageError, match="one column"):
        series.select("SELECT * FROM tweets")
    with pytest.raises(UsageError, match="fails"):
        series.select("DELETE FROM tweets")


def test_other_files_and_other_metrics_are_refused(series: EngagementSeries, tmp_path: Path) -> None:
    commit(series, pulled(["101"], ZERO))
    with pytest.raises(OtherSeriesError, match="this series has impressions, favorites"):
        series._store.prepare(LAST_28_HOURS, ["favorites"])
    assert series._store.prepare(LAST_28_HOURS, ["favorites", "impressions"]) == METRICS

    for name, says in (("text", "is no DuckDB file"), ("other", "of something else"), ("later", "a later version")):
        path = tmp_path / name
        if name == "text":
            path.write_text("tweet_id\n")
        else:
            with duckdb.connect(str(path)) as connection:
                connection.execute("CREATE TABLE thesis (i INTEGER)" if name == "other" else "SELECT 1")
                if name == "later":
                    connection.execute("CREATE TABLE series_info AS SELECT 'format' AS key, '99' AS value")
        with pytest.raises(OtherSeriesError, match=says):
            EngagementSeries(path).status()
    with pytest.raises(OtherSeriesError, match="is a folder"):
        EngagementSeries(tmp_path).status()
    with pytest.raises(UsageError, match="there is no series here"):
        EngagementSeries(tmp_path / "nothing").status()


def test_damage_is_told(series: EngagementSeries) -> None:
    commit(series, pulled(IDS, ZERO))
    with series.path.open("r+b") as file:
        file.seek(12288)
        file.write(b"x" * 100_000)

    with pytest.raises(SeriesCorruptError, match="is damaged"), opened(series.path, read_only=True, wait_s=0):
        pass


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_store_for_which_there_is_no_room_leaves_nothing(tmp_path: Path) -> None:
    with room_for(20_000), pytest.raises(SeriesError, match=r"s\.duckdb: cannot be written: File too large$"):
        make_store(tmp_path / "s.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_does_not_damage_a_store(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    make_store(path)
    large = "CREATE TABLE x AS SELECT random() FROM range(1000000)"
    with (  # noqa: PT012
        room_for(2_000_000),
        pytest.raises(SeriesError, match="cannot be written: File too large") as raised,
        opened(path, read_only=False, wait_s=1) as database,
    ):
        database.execute(large)
        database.execute("CHECKPOINT")
    assert not isinstance(raised.value, SeriesCorruptError)
    with opened(path, read_only=False, wait_s=1) as database:
        assert database.execute("SELECT count(*) FROM series_info") == [(1,)]


@pytest.mark.parametrize("kind", [duckdb.TransactionException, duckdb.FatalException, duckdb.IOException])
def test_no_space_is_no_damage_whatever_duckdb_makes_of_it(kind: type[duckdb.Error], tmp_path: Path) -> None:
    make_store(tmp_path / "s.duckdb")
    with (
        pytest.raises(SeriesError, match="No space left on device: make room") as raised,
        opened(tmp_path / "s.duckdb", read_only=False, wait_s=1),
    ):
        raise kind("Failed to commit: Could not write file x: No space left on device")
    assert not isinstance(raised.value, SeriesCorruptError)
