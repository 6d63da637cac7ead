"""Ray: exact parts, also when actors and drivers are killed. Skipped where Ray is not installed: `make engines` runs it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from engagement_async import (
    LAST_28_HOURS,
    ArrowFetcher,
    AuthError,
    BearerCredentials,
    CredentialFile,
    EnvironmentCredentials,
    JobIncompleteError,
    OtherJobError,
    Query,
    RateLimit,
    UsageError,
)
from engagement_async.distributed import MachineScheduler
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.pipelines import QUERY, emulator_in_environment, write_owners
from tests.support.ray_local import kill_twice, local_ray
from tests.support.redis_server import needs_redis

ray = pytest.importorskip("ray", reason="Ray is not installed: make engines")

from engagement_async.distributed import ray as pipelines  # noqa: E402
from engagement_async.distributed.ray import PartsReport, fetch_to_parquet  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
IDS = tweet_ids(3_000, newest_at=time.time())
GONE = IDS[10:13]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a folder for Ray's sockets, whose names may have a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    owners = getattr(request, "param", 1)
    with emulator_in_environment(monkeypatch, unavailable=GONE, owners=owners) as emulator:
        yield emulator


def fetcher(emulator: Emulator, folder: Path, **options: Any) -> ArrowFetcher:
    scheduler = MachineScheduler(RateLimit(100_000), contract="tests", state_dir=folder / "state")
    given = {"query": QUERY, "credentials": EnvironmentCredentials(), "wide": True, **options}
    return ArrowFetcher(scheduler=scheduler, base_url=emulator.base_url, **given)


def read(folder: Path) -> dict[str, dict[str, Any]]:
    rows = pads.dataset(folder).to_table().to_pylist()
    found = {row["tweet_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_runs_of_one_driver(
    emulator: Emulator, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one test, since Ray takes long to start."""
    with local_ray(short_path):
        mine = fetcher(emulator, tmp_path)
        ids = ray.data.from_arrow(pa.table({"id": [*map(int, IDS[:2_000]), *map(int, IDS[:50])]}))
        found = fetch_to_parquet(ids, mine, tmp_path / "out")
        assert found == PartsReport(parts=2, tweet_ids=2_000, found=0, pending=0, lost=0)

        # More IDs, as text, many of them known: only what is new is asked.
        more = ray.data.from_arrow(pa.table({"id": IDS[1_000:]})).repartition(5)
        found = fetch_to_parquet(more, mine, tmp_path / "out", actors=1, ids_per_part=300)
        assert (found.tweet_ids, found.found, found.parts) == (1_000, 2_000, 4)
        assert set(emulator.log.answered.values()) == {1}
        assert len(emulator.log.answered) == len(IDS)
        rows = read(tmp_path / "out")
        assert rows.keys() == set(IDS)
        assert {i for i, row in rows.items() if row["state"] == "unavailable"} == set(GONE)
        assert ray.data.read_parquet(str(tmp_path / "out")).count() == len(IDS)

        # Nothing at all.
        requests = emulator.log.requests
        assert fetch_to_parquet(ids.limit(0), mine, tmp_path / "none", actors=1) == PartsReport(0, 0, 0, 0, 0)
        assert emulator.log.requests == requests

        # An API that answers nobody leaves IDs for the next run.
        short = fetcher(emulator, tmp_path, outage_timeout_s=0.3)
        emulator.set_faults({"503": 1})
        found = fetch_to_parquet(ids.limit(300), short, tmp_path / "outage", actors=1)
        assert (found.parts, found.tweet_ids, found.pending) == (0, 0, 300)
        emulator.set_faults(None)
        assert fetch_to_parquet(ids.limit(300), short, tmp_path / "outage", actors=1).tweet_ids == 300

        # Errors, each with its fix.
        other = fetcher(emulator, tmp_path, wide=False)
        with pytest.raises(OtherJobError, match="another query"):
            fetch_to_parquet(ids, other, tmp_path / "out")
        literal = fetcher(emulator, tmp_path, credentials=BearerCredentials(emulator.bearer_token))
        with pytest.raises(UsageError, match="BearerCredentials holds secrets"):
            fetch_to_parquet(ids, literal, tmp_path / "literal")
        with pytest.raises(UsageError, match="actors is a whole number"):
            fetch_to_parquet(ids, mine, tmp_path / "zero", actors=0)
        with pytest.raises(UsageError, match="no column id"):
            fetch_to_parquet(ray.data.from_items([{"ids": 3}]), mine, tmp_path / "column", actors=1)

        # An actor that is lost again and again is no endless loop.
        monkeypatch.setattr(pipelines, "LOSSES_MAX", 1)
        deadly = fetcher(emulator, tmp_path, tls=end_this_process)
        with pytest.raises(JobIncompleteError, match="lost 2 times"):
            fetch_to_parquet(ids.limit(10), deadly, tmp_path / "deadly", actors=1)

        emulator.revoke()
        with pytest.raises(AuthError, match="credentials were refused"):
            fetch_to_parquet(more, mine, tmp_path / "refused", actors=1)


def end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("emulator", [3], indirect=True)
def test_each_owner_signs_for_its_tweets(tmp_path: Path, short_path: Path, emulator: Emulator) -> None:
    owners = write_owners(tmp_path / "owners.csv", emulator)
    query = Query(LAST_28_HOURS, engagement_types=["impressions"], groupings={"it": ["tweet.id", "engagement.type"]})
    ids = pa.table({"id": IDS[:300], "owner": [emulator.owner_of(i) for i in IDS[:300]]})

    with local_ray(short_path):
        mine = fetcher(emulator, tmp_path, query=query, credentials=CredentialFile(owners))
        dataset = ray.data.from_arrow(ids).repartition(3)
        fetch_to_parquet(dataset.limit(100), mine, tmp_path / "out", ids_per_part=50)
        fetch_to_parquet(dataset, mine, tmp_path / "out", ids_per_part=50)

    rows = read(tmp_path / "out")
    assert {i: row["owner"] for i, row in rows.items()} == dict(zip(*ids.to_pydict().values(), strict=True))
    assert {row["state"] for i, row in rows.items() if i not in GONE} == {"answered"}
    assert set(emulator.log.answered.values()) == {1}


@needs_redis
async def test_killed_actors_and_drivers_repeat_no_finished_part(tmp_path: Path, short_path: Path) -> None:
    count, per_part = 24_000, 500

    found = await kill_twice(tmp_path, short_path, count, RateLimit(30, period=2), ids_per_part=per_part)

    assert found.report["found"] + found.report["tweet_ids"] == count
    assert found.report["found"] > count // 4
    assert found.wrong == []
    assert found.peak <= 30
    at_once = 2 * per_part  # what an actor has in flight
    assert found.asked_again <= at_once + 2 * at_once
