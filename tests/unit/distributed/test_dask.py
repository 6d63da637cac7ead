"""Dask: exact tables, in threads and in processes. Skipped where Dask is not installed: `make engines` runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from engagement_async import ArrowFetcher, EnvironmentCredentials, LocalScheduler, RateLimit, UsageError
from engagement_async.distributed import MachineScheduler
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.pipelines import QUERY, emulator_in_environment

dask = pytest.importorskip("dask", reason="Dask is not installed: make engines")
dd = pytest.importorskip("dask.dataframe", reason="dask[dataframe] is not installed: make engines")

from engagement_async.distributed.dask import fetch_dataframe  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Dask's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
IDS = tweet_ids(2_000, newest_at=time.time())
GONE = IDS[10:13]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_in_environment(monkeypatch, unavailable=GONE) as emulator:
        yield emulator
        assert not emulator.log.refusals


@pytest.fixture
def fetcher(emulator: Emulator, tmp_path: Path) -> Iterator[ArrowFetcher]:
    scheduler = MachineScheduler(RateLimit(100_000), contract="tests", state_dir=tmp_path / "state")
    with ArrowFetcher(
        QUERY, credentials=EnvironmentCredentials(), scheduler=scheduler, base_url=emulator.base_url, wide=True
    ) as fetcher:
        yield fetcher


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
@pytest.mark.parametrize("kind", [pa.int64(), pa.string()], ids=str)
def test_each_id_is_asked_once_and_is_there(
    scheduler: str, kind: pa.DataType, emulator: Emulator, fetcher: ArrowFetcher, tmp_path: Path
) -> None:
    ids = pa.table({"id": pa.array([*map(int, IDS), *map(int, IDS[:100])]).cast(kind), "other": [1] * 2_100})
    frame = dd.from_pandas(ids.to_pandas(), npartitions=3)

    with dask.config.set(scheduler=scheduler):
        fetch_dataframe(frame, fetcher).to_parquet(str(tmp_path / "out"), write_index=False)

    table = pads.dataset(tmp_path / "out").to_table()
    assert table.schema.remove_metadata().names == fetcher.schema.names
    rows: dict[str, dict[str, Any]] = {row["tweet_id"]: row for row in table.to_pylist()}
    assert table.num_rows == len(rows)
    assert rows.keys() == set(IDS)
    truth = emulator.expected("totals", IDS, QUERY.engagement_types, QUERY.groupings)["by_tweet"]
    for i, row in rows.items():
        assert row["state"] == ("unavailable" if i in GONE else "answered")
        assert {metric: row[metric] for metric in truth.get(i, ())} == truth.get(i, {})
    assert set(emulator.log.answered.values()) == {1}


def test_what_cannot_be_sent_is_an_error_at_once(fetcher: ArrowFetcher) -> None:
    frame = dd.from_pandas(pa.table({"ids": IDS}).to_pandas(), npartitions=1)
    with pytest.raises(UsageError, match="no column id: it has ids"):
        fetch_dataframe(frame, fetcher)
    local = ArrowFetcher(QUERY, credentials=EnvironmentCredentials(), scheduler=LocalScheduler(RateLimit(3)))
    with pytest.raises(UsageError, match="scheduler cannot go to another process"):
        fetch_dataframe(frame, local)
