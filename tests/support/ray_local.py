"""Ray on this machine alone, and a pipeline in a process of its own that can be killed.

`python -m tests.support.ray_local SPEC` runs that pipeline; SPEC is JSON. Everything of Ray listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from engagement_async import ArrowFetcher, EnvironmentCredentials, RateLimit, Timeouts
from engagement_async.distributed import RedisScheduler
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.pipelines import QUERY
from tests.support.redis_server import RedisServer

__all__ = ["Killed", "Pipeline", "kill_twice", "local_ray", "ray_environment"]

ROOT = Path(__file__).parents[2]


def ray_environment() -> dict[str, str]:
    """Return the variables that keep Ray on this machine: without "clusters" it binds to 127.0.0.1."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "disabled",  # else it writes a token into the home
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    }


@contextmanager
def local_ray(folder: Path) -> Iterator[None]:
    """Run Ray with two CPUs, in processes of its own. `folder` is for its files, and has a short path."""
    os.environ.update(ray_environment())
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
        _temp_dir=str(folder),
    )
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


def make_scheduler() -> RedisScheduler:
    """Return the scheduler of the pipeline, in whatever process; which one that is, a file of its name says."""
    spec = json.loads(os.environ["PIPELINE"])
    Path(spec["pids"], str(os.getpid())).touch()
    limit = RateLimit(spec["requests"], period=spec["period"])
    return RedisScheduler(spec["redis"], limit, contract="pipeline", quarantine_s=1)


def run(spec: dict[str, Any]) -> None:
    import ray

    from engagement_async.distributed.ray import fetch_to_parquet

    with local_ray(Path(spec["ray"])):
        fetcher = ArrowFetcher(
            QUERY,
            credentials=EnvironmentCredentials(),
            scheduler=make_scheduler_of_actors,
            base_url=os.environ["ENGAGEMENT_BASE_URL"],
            timeouts=Timeouts(total_s=5),
            wide=True,
        )
        dataset = ray.data.from_arrow(pq.read_table(spec["ids"])).repartition(4)
        report = fetch_to_parquet(dataset, fetcher, spec["folder"], ids_per_part=spec["ids_per_part"])
    sys.stdout.write(json.dumps(asdict(report)))


class Pipeline:
    """One run in a process of its own. A context manager; leaving it ends what is left of it and of its Ray."""

    def __init__(self, environment: dict[str, str], **spec: Any) -> None:
        self._spec = spec
        self._environment = {
            **os.environ,
            **environment,
            **ray_environment(),
            "PIPELINE": json.dumps(spec),
            "PYTHONPATH": str(ROOT),
        }
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Pipeline:
        self.pids.mkdir(parents=True, exist_ok=True)
        for path in self.pids.iterdir():
            path.unlink()
        command = [sys.executable, "-m", "tests.support.ray_local", json.dumps(self._spec)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()

    @property
    def pids(self) -> Path:
        """A folder with a file for each actor."""
        return Path(self._spec["pids"])

    def kill_an_actor(self) -> None:
        pid = min(int(path.name) for path in self.pids.iterdir())
        os.kill(pid, signal.SIGKILL)

    def kill_the_driver(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def report(self) -> dict[str, int]:
        """Wait for its end; return what it reports."""
        assert self.process is not None
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err[-3000:]
        found: dict[str, int] = json.loads(out.splitlines()[-1])
        return found

    def left(self) -> list[int]:
        """Return the processes of its session that run."""
        assert self.process is not None
        found = []
        for path in Path("/proc").iterdir():
            with suppress(ValueError, OSError):
                if os.getsid(int(path.name)) == self.process.pid and int(path.name) != self.process.pid:
                    found.append(int(path.name))
        return found


@dataclass(frozen=True)
class Killed:
    """What came of a pipeline whose actor was killed, and then its driver, and that was run again."""

    report: dict[str, int]
    """What the last run says."""
    wrong: list[str]
    """What of the output is not as it must be."""
    requests: int
    peak: int
    """The most requests in any window."""
    asked_again: int
    """IDs in requests, beyond one request for each."""
    files: int
    seconds: float


async def kill_twice(folder: Path, ray: Path, count: int, limit: RateLimit, *, ids_per_part: int) -> Killed:
    """Fetch so many IDs with Ray; kill an actor after a third of the requests, and the driver after two thirds."""
    ids = tweet_ids(count, newest_at=time.time())
    pq.write_table(pa.table({"id": [*map(int, ids), *map(int, ids[:500])]}), folder / "ids.parquet")
    began_at = time.monotonic()
    async with (
        RedisServer(folder / "redis") as redis,
        Emulator(limit.requests, limit.period, latency_s=(0.0, 0.05)) as emulator,
    ):
        spec = {
            "ids": str(folder / "ids.parquet"),
            "folder": str(folder / "out"),
            "pids": str(folder / "pids"),
            "ray": str(ray),
            "redis": redis.url,
            "requests": limit.requests,
            "period": limit.period,
            "ids_per_part": ids_per_part,
        }
        report = await asyncio.to_thread(_run_twice, emulator, spec, count // 250)
        seconds = time.monotonic() - began_at
        wrong = [f"refused: {text}" for text in emulator.log.refusals]
        wrong += await asyncio.to_thread(_problems, emulator, ids, folder / "out")
        log = emulator.log
        files = len(list((folder / "out").glob("*.parquet")))
        return Killed(report, wrong, log.requests, log.peak, log.ids_received - count, files, seconds)


def _run_twice(emulator: Emulator, spec: dict[str, Any], requests: int) -> dict[str, int]:
    with Pipeline(emulator.environment, **spec) as pipeline:
        _wait_for(emulator, requests // 3, pipeline)
        pipeline.kill_an_actor()
        _wait_for(emulator, requests * 2 // 3, pipeline)
        pipeline.kill_the_driver()
        with Pipeline(emulator.environment, **spec) as again:  # beside the actors, which do not know of it yet
            return again.report()


def _wait_for(emulator: Emulator, requests: int, pipeline: Pipeline) -> None:
    while emulator.log.requests < requests:
        assert pipeline.process is not None
        assert pipeline.process.poll() is None, pipeline.process.communicate()[1]
        time.sleep(0.02)


def _problems(emulator: Emulator, ids: list[str], folder: Path) -> list[str]:
    """Return what of the output is not exactly what the API says of each ID, once."""
    rows = pads.dataset(folder).to_table().to_pylist()
    found = {row["tweet_id"]: row for row in rows}
    problems = [] if len(found) == len(rows) else [f"{len(rows) - len(found):,} rows too many"]
    if found.keys() != set(ids):
        problems.append(f"{len(found.keys() ^ set(ids)):,} IDs are missing, or are others")
    truth = emulator.expected("totals", ids, QUERY.engagement_types, QUERY.groupings)["by_tweet"]
    for i, row in found.items():
        values = {metric: row[metric] for metric in QUERY.engagement_types}
        expected = truth.get(i, dict.fromkeys(QUERY.engagement_types))
        if values != expected or row["state"] != ("answered" if i in truth else "unavailable"):
            problems.append(f"{i} is {row}")
    return problems


if __name__ == "__main__":
    # By its name, as other processes find it: what is in `__main__` cannot be imported there.
    from tests.support.ray_local import make_scheduler as make_scheduler_of_actors

    run(json.loads(sys.argv[1]))
