"""Ray: any dataset of IDs in, a folder of Parquet parts out, by async actors that share one contract.

The driver cuts the IDs into parts, and hands each to an actor, which fetches it and writes its file. Ray repeats nothing:
when an actor is lost, the driver looks which of its parts are there, and gives out the others again. When the driver itself
is lost, run it again: what is in the parts is not requested again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engagement_async.distributed.arrow_fetcher import ArrowFetcher
from engagement_async.errors import EngagementError, JobIncompleteError, UsageError

try:
    import ray
    from ray.exceptions import RayActorError
except ImportError as error:
    raise UsageError("pipelines on Ray need ray: pip install 'engagement-async[ray]'") from error

from engagement_async.distributed.arrow_tables import ids_of, owners_of
from engagement_async.distributed.part_cutter import Part, PartCutter
from engagement_async.distributed.parts import PartWriter, Written, begin_run, finished_ids

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["PartsReport", "fetch_to_parquet"]

logger = logging.getLogger("engagement_async")

READ_AT_ONCE = 10_000
"""IDs of the dataset that the driver holds at once, beside what it remembers of each."""
LOSSES_MAX = 5
"""So often may the actors be lost that fetch one and the same part."""
CLOSE_WITHIN_S = 10.0


@dataclass(frozen=True)
class PartsReport:
    """What a run of `fetch_to_parquet` did."""

    parts: int
    """Parts that this run wrote."""
    tweet_ids: int
    """Distinct IDs that are in them."""
    found: int
    """Distinct IDs that were in the parts of earlier runs, and were not requested again."""
    pending: int
    """IDs that nobody answered, and that are in no part: run it again."""
    lost: int
    """How often a part was given out again, because its actor was lost."""


def fetch_to_parquet(
    dataset: Dataset,
    fetcher: ArrowFetcher,
    folder: str | os.PathLike[str],
    *,
    actors: int = 2,
    parts_at_once: int = 2,
    ids_per_part: int = 1_000,
    actor_options: Mapping[str, Any] | None = None,
) -> PartsReport:
    """Fetch every ID of a dataset into a folder of Parquet files, and return what was done. Run it again to resume it.

    Each distinct ID is in exactly one file, with the columns of `fetcher.schema`, whatever was killed meanwhile, and those
    that are in the files are not requested again. What was in flight is: at most `actors` x `parts_at_once` x `ids_per_part`
    IDs when the driver is killed, `parts_at_once` x `ids_per_part` when an actor is.

    Examples:
        >>> fetch_to_parquet(ray.data.read_parquet("ids/"), fetcher, "/data/engagement", actors=4)
        >>> ray.data.read_parquet("/data/engagement")

    Args:
        dataset: A column `id` (or `tweet_id`), and `owner` where credentials are those of many owners.
        fetcher: What fetches them. Its `scheduler` is one that processes share: a `RedisScheduler`, or a `MachineScheduler`
            where Ray has one machine.
        folder: Where the files go: a folder that all machines have, on a file system with `flock`.
        actors: How many actors there are. They wait for the contract, mostly.
        parts_at_once: How many parts each of them fetches at once.
        ids_per_part: IDs of one file, in whole requests.
        actor_options: Options of Ray for the actors, such as `resources` or `runtime_env`.

    Raises:
        UsageError: An option is not what it must be, the dataset has no such column, or the fetcher cannot be sent.
        OtherJobError: The folder holds something else.
        JobLockedError: Another run has taken over the folder meanwhile.
        JobCorruptError: A part cannot be read.
        JobIncompleteError: Actors are lost again and again.
        EngagementError: What the methods of `EngagementClient` raise.
    """
    for name, value in (("actors", actors), ("parts_at_once", parts_at_once), ("ids_per_part", ids_per_part)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} is a whole number from 1 on, not {value!r}")
    pickle.dumps(fetcher)  # Ray would hide what is wrong with it
    columns = dataset.columns() or []
    cutter = PartCutter(
        ids_per_part=ids_per_part,
        ids_per_request=fetcher.query.endpoint.ids_per_request,
        has_owners="owner" in columns,
    )
    writer = begin_run(folder, fetcher.query, wide=fetcher.wide)
    found = 0
    for ids, owners in finished_ids(writer.folder):
        cutter.know(ids, owners)
        found += len(ids)
    pool = _Pool(fetcher, writer, actors, parts_at_once, actor_options or {})
    try:
        for part in _parts(dataset, cutter):
            pool.fetch(part)
        pool.finish()
    finally:
        pool.close()
    return PartsReport(pool.parts, pool.tweet_ids, found, pool.pending, pool.lost)


def _parts(dataset: Dataset, cutter: PartCutter) -> Iterator[Part]:
    for table in dataset.iter_batches(batch_size=READ_AT_ONCE, batch_format="pyarrow"):
        yield from cutter.add(ids_of(table), owners_of(table))
    yield from cutter.rest()


class _Actor:
    """Fetches parts in a process of its own, several at once on one event loop."""

    def __init__(self, fetcher: ArrowFetcher, writer: PartWriter) -> None:
        self._fetcher = fetcher
        self._writer = writer

    async def fetch(self, number: int, ids: pa.Table) -> Written | EngagementError:
        """Fetch a part, and write it. Return an error of ours: of one that is raised Ray makes another, and logs it."""
        try:
            table = await self._fetcher.fetch(ids)
            return await asyncio.to_thread(self._writer.write, number, table)
        except EngagementError as error:
            return error

    async def close(self) -> None:
        """Close the client: what it has of the contract goes back at once."""
        await self._fetcher.aclose()


class _Pool:
    """The actors, and the parts that they have."""

    def __init__(
        self, fetcher: ArrowFetcher, writer: PartWriter, actors: int, at_once: int, options: Mapping[str, Any]
    ) -> None:
        options = {
            "num_cpus": 0,  # they wait, and must not keep the dataset from being read
            "scheduling_strategy": "SPREAD",
            **options,
            "max_restarts": 0,  # calls of an actor that restarts would fail one after the other
            "max_task_retries": 0,  # Ray would repeat what is finished
            "max_concurrency": at_once + 1,
        }
        self._new: Callable[[], Any] = lambda: ray.remote(_Actor).options(**options).remote(fetcher, writer)
        self._writer = writer
        self._actors = [self._new() for _ in range(actors)]
        self._free = deque([*range(actors)] * at_once)
        self._running: dict[Any, tuple[Part, int, Any]] = {}
        self._losses: dict[int, int] = {}
        self.parts = self.tweet_ids = self.pending = self.lost = 0

    def fetch(self, part: Part) -> None:
        """Give a part to an actor, once one of them has room for it."""
        while not self._free:
            self._take_one()
        self._give(part, self._free.popleft())

    def finish(self) -> None:
        """Wait for all parts."""
        while self._running:
            self._take_one()

    def close(self) -> None:
        """Let the actors give back what they have of the contract, and end them."""
        if not self._running:  # else there is an error, and what they do is not to be waited for
            ray.wait(
                [actor.close.remote() for actor in self._actors], num_returns=len(self._actors), timeout=CLOSE_WITHIN_S
            )
        for actor in self._actors:
            ray.kill(actor)

    def _give(self, part: Part, at: int) -> None:
        actor = self._actors[at]
        columns = {"tweet_id": pa.array(part.tweet_ids, pa.string())}
        if part.owners is not None:
            columns["owner"] = pa.array(part.owners, pa.string())
        self._running[actor.fetch.remote(part.number, pa.table(columns))] = part, at, actor

    def _take_one(self) -> None:
        """Wait for one part, and take note of it. Raise what went wrong with it."""
        (done,), _ = ray.wait(list(self._running), num_returns=1)
        part, at, actor = self._running.pop(done)
        try:
            written: Written | EngagementError = ray.get(done)
        except RayActorError as error:
            self._replace(at, actor)
            ids = self._writer.written(part.number)
            if not ids:
                self._lose(part, at, error)
                return
            written = Written(ids, len(part.tweet_ids) - ids)  # and nobody was left to say so
        if isinstance(written, EngagementError):
            raise written
        self._count(written)
        self._free.append(at)

    def _replace(self, at: int, actor: Any) -> None:
        """Put a new actor into the place of one that was lost, unless another of its parts was the first to find out."""
        if self._actors[at] is actor:
            ray.kill(actor)  # it may be cut off, and at work
            self._actors[at] = self._new()

    def _count(self, written: Written) -> None:
        self.parts += written.tweet_ids > 0
        self.tweet_ids += written.tweet_ids
        self.pending += written.pending

    def _lose(self, part: Part, at: int, error: Exception) -> None:
        """Give the part out again. Raise `JobIncompleteError` if that does not end."""
        self.lost += 1
        self._losses[part.number] = self._losses.get(part.number, 0) + 1
        if self._losses[part.number] > LOSSES_MAX:
            raise JobIncompleteError(
                f"actors were lost {LOSSES_MAX + 1} times at one part ({type(error).__name__}): see Ray's logs for what "
                "ends them, such as a lack of memory, and run it again"
            ) from None
        logger.warning("an actor was lost (%s): its part is fetched again", type(error).__name__)
        self._give(part, at)
