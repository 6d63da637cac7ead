"""BackfillJob: asks about millions of Tweets in as many runs as it takes, and never loses or pays twice for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._engine.scheduler import Scheduler
from engagement_async._ids.reading import Reject
from engagement_async.backfill.create import FileIds, GivenIds, Source, Started, Starting
from engagement_async.backfill.exporter import PART_IDS, Exported, Exporter
from engagement_async.backfill.job_progress import Progress
from engagement_async.backfill.journal import Folder, Journal, Tally
from engagement_async.backfill.runner import Run
from engagement_async.config import DEFAULT_BASE_URL, SizeLimits, Timeouts
from engagement_async.credentials import Credentials
from engagement_async.errors import (
    JobCorruptError,
    JobDiskError,
    JobError,
    JobIncompleteError,
    JobLockedError,
    OtherJobError,
    UsageError,
)

__all__ = [
    "BackfillJob",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "JobStatus",
    "OtherJobError",
    "RunReport",
    "job_options",
    "job_status",
    "verified",
]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run spent."""

    began_at: float
    """Epoch seconds, as `seen_at`, its last sign of life."""
    seen_at: float
    requests: int
    ids: int
    """IDs that it got answers for."""
    outcome: str | None
    """Why it ended: an `Outcome`, the name of an error, or None: it runs, or was killed."""

    @property
    def seconds(self) -> float:
        return max(0.0, self.seen_at - self.began_at)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as its journal knows it, from any process, at any time."""

    query: Query
    tally: Tally
    is_running: bool
    runs: tuple[RunReport, ...]
    now: Mapping[str, Any] = field(default_factory=dict)
    """Of the last run, as of its last sign of life: `requests_last_minute`, `contract_per_minute`, `eta_s`,
    `waiting_s`, `waiting_for`."""

    @property
    def is_complete(self) -> bool:
        """Whether every ID has its place."""
        return not self.tally.pending


class BackfillJob:
    """A job in a folder. Making the object touches nothing.

    >>> job = BackfillJob("jobs/totals-2026-05")
    >>> await job.start(query, files=["ids.csv"])                 # or tweet_ids=[...]; again and again does no harm
    >>> progress = await job.run(credentials, rate_limit=RateLimit(300))
    >>> progress.outcome, progress.counts
    >>> await job.export("totals.parquet")

    Raises `JobError`s (see `engagement_async.errors`) for what is wrong with the folder, and the client's errors
    for what is wrong with the request.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = Folder(path)
        self._run: Run | None = None

    def __repr__(self) -> str:
        return f"BackfillJob({str(self.folder.path)!r})"

    # --- starting ---

    async def start(
        self,
        query: Query | None = None,
        tweet_ids: Iterable[str | int] | None = None,
        *,
        files: Sequence[str | Path] = (),
        id_column: str | None = None,
        format: str | None = None,  # noqa: A002 - as `read_ids` calls it
        extend: bool = False,
        strict: bool = False,
        options: Mapping[str, Any] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        on_warning: Callable[[str], object] | None = None,
    ) -> Started:
        """Puts distinct IDs and the query into the folder, unless they are there already.

        Once started, what is given must be what was given before (`OtherJobError`), or more IDs with `extend`. IDs come
        from `tweet_ids` or `files`, see `read_ids`; a line that is none goes to the folder's `rejects.jsonl`, or with
        `strict` stops it all as a `UsageError`. `options` are remembered for whoever goes on with the job: no secrets.
        """
        if tweet_ids is not None and files:
            raise UsageError("give tweet_ids or files, not both")
        if isinstance(tweet_ids, (str, bytes)):
            raise UsageError("tweet_ids is one string: give a list of IDs, as [tweet_id]")
        source: Source | None = None
        if tweet_ids is not None:
            source = GivenIds(tweet_ids)
        elif files:
            source = FileIds(files, id_column=id_column, format=format, strict=strict, on_warning=on_warning)
        starting = Starting(self.folder, query, source, extend=extend, options=options, on_reject=on_reject)
        return await asyncio.to_thread(starting)

    # --- running ---

    async def run(
        self,
        credentials: Credentials,
        *,
        rate_limit: RateLimit | Sequence[RateLimit] | None = None,
        scheduler: Scheduler | None = None,
        concurrency: int = 16,
        base_url: str = DEFAULT_BASE_URL,
        max_requests: int | None = None,
        max_duration_s: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        every_s: float = 1.0,
        timeouts: Timeouts | None = None,
        size_limits: SizeLimits | None = None,
    ) -> Progress:
        """Asks what is still to be asked, until all is answered, `max_requests` are sent, `max_duration_s` are over or
        `stop` is called. `on_progress` is called every `every_s`, and once more at the end.

        Requests of a run before this one that the contract still counts are not spent again; with a `scheduler` of your
        own, that is its affair. When the API does not answer for a quarter of an hour, the run ends with the outcome
        "outage" and leaves the IDs pending.
        """
        run = Run(self.folder, credentials, rate_limit, scheduler, concurrency, base_url, timeouts, size_limits)
        return await self._running(run, False, max_requests, max_duration_s, on_progress, every_s)

    async def retry_failed(
        self,
        credentials: Credentials,
        *,
        rate_limit: RateLimit | Sequence[RateLimit] | None = None,
        scheduler: Scheduler | None = None,
        concurrency: int = 16,
        base_url: str = DEFAULT_BASE_URL,
        max_requests: int | None = None,
        max_duration_s: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        every_s: float = 1.0,
        timeouts: Timeouts | None = None,
        size_limits: SizeLimits | None = None,
    ) -> Progress:
        """Asks the IDs that failed once more, in as few requests as hold them. As `run`."""
        run = Run(self.folder, credentials, rate_limit, scheduler, concurrency, base_url, timeouts, size_limits)
        return await self._running(run, True, max_requests, max_duration_s, on_progress, every_s)

    async def _running(
        self,
        run: Run,
        again: bool,
        max_requests: int | None,
        max_duration_s: float | None,
        on_progress: Callable[[Progress], object] | None,
        every_s: float,
    ) -> Progress:
        if max_requests is not None and (isinstance(max_requests, bool) or max_requests < 1):
            raise UsageError(f"max_requests is a whole number from 1 on, not {max_requests!r}")
        if max_duration_s is not None and not max_duration_s > 0:
            raise UsageError(f"max_duration_s is a number of seconds above 0, not {max_duration_s!r}")
        if self._run is not None:
            raise JobLockedError(f"{self.folder.path}: this object runs the job already")
        self._run = run
        try:
            return await run(again, max_requests, max_duration_s, on_progress, every_s)
        finally:
            self._run = None

    def stop(self) -> None:
        """Ends a run in good order: nothing more is asked, what is on its way is waited for (20 s) and committed."""
        if self._run is not None:
            self._run.stop("stopped")

    # --- taking out ---

    async def export(
        self,
        output: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        outcomes: str | Path | None = None,
        partial: bool = False,
        part_ids: int = PART_IDS,
        follow: bool = False,
        on_file: Callable[[str], object] | None = None,
    ) -> Exported:
        """Writes tables: see `Exporter`. With `follow` parts as they become complete, until the job is."""

        def write() -> Exported:
            exporter = Exporter(
                self.folder,
                output,
                format=format,
                outcomes=outcomes,
                partial=partial,
                part_ids=part_ids,
                on_file=on_file,
            )
            return exporter.follow() if follow else exporter.export()

        return await asyncio.to_thread(write)  # all of it: also the first look at the folder reads the disk

    # --- looking ---

    async def status(self) -> JobStatus:
        """How far the job is; also while another process runs it."""
        return await asyncio.to_thread(job_status, self.folder)

    async def verify(self) -> Tally:
        """Reads every row again, checksum by checksum. Raises `JobCorruptError`."""
        return await asyncio.to_thread(verified, self.folder)


def job_status(folder: Folder) -> JobStatus:
    """The same, synchronously."""
    folder.must_exist()
    is_running = folder.is_locked
    with Journal.open(folder, read_only=True) as journal:
        runs = journal.documents("run ")
        return JobStatus(
            journal.query,
            journal.tally,
            is_running,
            tuple(
                RunReport(run["began_at"], run["seen_at"], run["requests"], run["ids"], run["outcome"]) for run in runs
            ),
            runs[-1]["now"] if runs else {},
        )


def job_options(folder: Folder) -> dict[str, Any]:
    """The options that the job was last started with; none when it was not."""
    folder.check()
    if not folder.is_started:
        return {}
    with Journal.open(folder, read_only=True) as journal:
        return dict(journal.document("options") or {})


def verified(folder: Folder) -> Tally:
    folder.must_exist()
    with Journal.open(folder, read_only=True) as journal:
        return journal.verify()
