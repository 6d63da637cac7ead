"""Spark: exact tables from `mapInArrow`. Skipped where Spark or Java are not installed: `make engines` runs it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import (
    LAST_28_HOURS,
    ArrowFetcher,
    CredentialFile,
    EnvironmentCredentials,
    LocalScheduler,
    Query,
    RateLimit,
    UsageError,
)
from engagement_async.distributed import MachineScheduler, spark
from engagement_async.distributed.spark import fetch_dataframe
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.pipelines import QUERY, write_owners

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Spark's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
IDS = tweet_ids(2_000, newest_at=time.time())
GONE = IDS[10:13]


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 9))
def test_batches_of_any_size_become_calls_of_one(sizes: list[int], rows: int) -> None:
    batches = [pa.RecordBatch.from_pydict({"id": pa.array([*range(size)], pa.int64())}) for size in sizes]

    tables = list(spark._tables(iter(batches), rows))

    assert [i for table in tables for i in table["id"].to_pylist()] == [i for size in sizes for i in range(size)]
    assert all(table.num_rows == rows for table in tables[:-1])
    assert all(0 < table.num_rows <= rows for table in tables)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a session on two cores. Everything of it listens on 127.0.0.1."""
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed: make engines")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java: apt-get install default-jre-headless")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYSPARK_PYTHON", sys.executable)
        patched.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            sql.SparkSession.builder.master("local[2]")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
            .getOrCreate()
        )
        yield session
        session.stop()


def fetcher(emulator: Emulator, folder: Path, **options: Any) -> ArrowFetcher:
    """Return a fetcher whose secrets are in a file: Spark's processes have the environment of its start."""
    secrets = write_owners(folder / "owners.csv", emulator)
    scheduler = MachineScheduler(RateLimit(100_000), contract="tests", state_dir=folder / "state")
    given = {"query": QUERY, "wide": True, **options}
    return ArrowFetcher(credentials=CredentialFile(secrets), scheduler=scheduler, base_url=emulator.base_url, **given)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()], ids=str)
def test_each_id_is_asked_once_and_is_there(session: Any, tmp_path: Path, kind: pa.DataType) -> None:
    with Emulator(None, owners=3, unavailable=GONE, unavailable_fraction=0.0, count_ids=True) as emulator:
        ids = [*IDS, *IDS[:100]]
        table = {"id": pa.array(map(int, ids), pa.int64()).cast(kind), "owner": [emulator.owner_of(i) for i in ids]}
        pq.write_table(pa.table({**table, "other": [1] * len(ids)}), tmp_path / "ids.parquet")
        frame = session.read.parquet(str(tmp_path / "ids.parquet")).repartition(3)
        mine = fetcher(emulator, tmp_path)

        fetch_dataframe(frame, mine, ids_per_call=500).write.parquet(str(tmp_path / "out"))

        found = pads.dataset(tmp_path / "out").to_table()
        assert found.schema.names == mine.schema.names
        rows: dict[str, dict[str, Any]] = {row["tweet_id"]: row for row in found.to_pylist()}
        assert found.num_rows == len(rows)
        assert rows.keys() == set(IDS)
        truth = emulator.expected("totals", IDS, QUERY.engagement_types, QUERY.groupings)["by_tweet"]
        for i, row in rows.items():
            assert row["owner"] == emulator.owner_of(i)
            assert row["state"] == ("unavailable" if i in GONE else "answered")
            assert {metric: row[metric] for metric in truth.get(i, ())} == truth.get(i, {})
        assert set(emulator.log.answered.values()) == {1}
        assert not emulator.log.refusals


def test_hours_are_instants(session: Any, tmp_path: Path) -> None:
    query = Query(
        LAST_28_HOURS,
        engagement_types=["favorites"],
        groupings={"it": ["tweet.id", "engagement.type", "engagement.hour"]},
    )
    with Emulator(None, unavailable_fraction=0.0) as emulator:
        frame = session.createDataFrame([(int(IDS[0]), "owner1")], "id long, owner string")
        rows = fetch_dataframe(frame, fetcher(emulator, tmp_path, query=query, wide=False)).collect()

    hours = [row["engagement_hour"] for row in rows]
    assert len(rows) == len(set(hours)) >= 28
    assert {hour.minute for hour in hours} == {0}


def test_what_cannot_be_sent_is_an_error_at_once(session: Any, tmp_path: Path) -> None:
    frame = session.createDataFrame([(20,)], "ids long")
    with Emulator(None) as emulator:
        mine = fetcher(emulator, tmp_path)
    with pytest.raises(UsageError, match="no column id: it has ids"):
        fetch_dataframe(frame, mine)
    with pytest.raises(UsageError, match="ids_per_call is a whole number"):
        fetch_dataframe(frame, mine, ids_per_call=0)
    local = ArrowFetcher(QUERY, credentials=EnvironmentCredentials(), scheduler=LocalScheduler(RateLimit(3)))
    with pytest.raises(UsageError, match="scheduler cannot go to another process"):
        fetch_dataframe(frame, local)
