"""BackfillJob: asks about millions of Tweets in as many runs as it takes, and never loses or pays twice for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from engagement_async._core.outcomes import Outcomes
from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._engine.scheduler import Scheduler
from engagement_async._ids.reading import Reject
from engagement_async._progress import Progress, RunOutcome
from engagement_async.backfill.create import CreateJob, StartResult
from engagement_async.backfill.directory import JobDirectory, JobStatus
from engagement_async.backfill.exporter import PART_IDS, Exported, Exporter
from engagement_async.backfill.inputs import FileSource, GivenSource, IdSource
from engagement_async.backfill.runner import JobRunner, RunLimits
from engagement_async.backfill.totals import JobTotals
from engagement_async.config import DEFAULT_BASE_URL, ConnectionOptions, check_seconds
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
    "OtherJobError",
    "Outcomes",
    "Progress",
    "RunOutcome",
]


class BackfillJob:
    """A durable job in the directory at `path`. Making the object touches nothing.

    >>> job = BackfillJob("jobs/totals-2026-05")
    >>> await job.start(query, files=["ids.csv"])  # or tweet_ids=[...]; calling it again does no harm
    >>> progress = await job.run(credentials, rate_limit=RateLimit(300))
    >>> progress.outcome, progress.outcomes
    >>> await job.export("totals.parquet")

    Raise a `JobError` (see `engagement_async.errors`) for what is wrong with the directory, and the client's errors for
    what is wrong with the request.
    """

    def __init__(self, path: str | Path) -> None:
        self.directory = JobDirectory(path)
        self._runner: JobRunner | None = None

    def __repr__(self) -> str:
        return f"BackfillJob({str(self.directory.path)!r})"

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
    ) -> StartResult:
        """Put distinct IDs and the query into the directory, unless they are there already.

        Once started, what is given must be what was given before (`OtherJobError`), or more IDs with `extend`. IDs come
        from `tweet_ids` or `files`, whose `id_column` and `format` are those of `read_ids`; a line that is none goes to the
        job's `rejects.jsonl` and to `on_reject`, or with `strict` stops it all as a `UsageError`. `on_warning` gets what is
        doubtful. `options` are remembered for whoever resumes the job: no secrets.

        Return what the start found and did. Raise `UsageError` or a `JobError`. `query` is needed once.
        """
        if tweet_ids is not None and files:
            raise UsageError("give tweet_ids or files, not both")
        if isinstance(tweet_ids, (str, bytes)):
            raise UsageError("tweet_ids is one string: give a list of IDs, as [tweet_id]")
        source: IdSource | None = None
        if tweet_ids is not None:
            source = GivenSource(tweet_ids)
        elif files:
            source = FileSource(files, id_column=id_column, format=format, strict=strict, on_warning=on_warning)
        create = CreateJob(self.directory, query, source, extend=extend, options=options, on_reject=on_reject)
        return await asyncio.to_thread(create)

    # --- running ---

    async def run(
        self,
        credentials: Credentials,
        *,
        rate_limit: RateLimit | Sequence[RateLimit] | None = None,
        scheduler: Scheduler | None = None,
        base_url: str = DEFAULT_BASE_URL,
        failed_only: bool = False,
        max_requests: int | None = None,
        max_duration_s: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        progress_interval_s: float = 1.0,
        **connection: Unpack[ConnectionOptions],
    ) -> Progress:
        """Ask for what is pending, or with `failed_only` once more for the IDs that failed, in as few requests as hold them.

        It ends when all is answered, after `max_requests` or `max_duration_s` seconds, when `stop` is called, or with the
        outcome "outage" when the API answered nobody for `outage_timeout_s`; all but the first leave IDs pending.
        `on_progress` is called every `progress_interval_s` seconds, and once more at the end.

        `credentials`, `rate_limit`, `scheduler`, `base_url` and the other keywords, the `connection`, are those of
        `EngagementClient`. Requests of a run before this one that the contract still counts are not spent again; a
        `scheduler` of your own must see to that itself.

        Return the progress at the end, with its outcome. Raise `JobLockedError` while another run holds the job, another
        `JobError`, and what the client raises.
        """
        check_seconds("progress_interval_s", progress_interval_s)
        runner = JobRunner(
            self.directory,
            credentials,
            limits=RunLimits(max_requests, max_duration_s),
            rate_limit=rate_limit,
            scheduler=scheduler,
            base_url=base_url,
            connection=connection,
        )
        if self._runner is not None:
            raise JobLockedError(f"{self.directory.path}: this object runs the job already")
        self._runner = runner
        try:
            return await runner.run(
                failed_only=failed_only,
                on_progress=on_progress or _ignore,
                progress_interval_s=progress_interval_s,
            )
        finally:
            self._runner = None

    def stop(self) -> None:
        """End a run in good order: nothing more is asked, what is on its way is waited for (20 s) and committed."""
        if self._runner is not None:
            self._runner.stop(RunOutcome.STOPPED)

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
        """Write tables of the answers to `output`, a file or a folder; its suffix, or `format`, says which kind.

        `outcomes` is a second file, of every ID that was not plainly answered. `partial` allows a job that is not complete.
        A folder gets parts of `part_ids` Tweets each; with `follow`, each as soon as it is complete, until the job is.
        `on_file` is called with each path that was written.

        Return what was written. Raise `UsageError` before anything is written, or a `JobError`.
        """

        def write() -> Exported:
            exporter = Exporter(
                self.directory,
                output,
                format=format,
                outcomes=outcomes,
                partial=partial,
                part_ids=part_ids,
                on_file=on_file,
            )
            return exporter.follow() if follow else exporter.export()

        return await asyncio.to_thread(write)

    # --- looking ---

    async def status(self) -> JobStatus:
        """Return how far the job is; also while another process runs it. Raise a `JobError` for what is wrong with it."""
        return await asyncio.to_thread(self.directory.status)

    async def verify(self) -> JobTotals:
        """Read every row again, checksum by checksum, and return the totals. Raise `JobCorruptError`."""
        return await asyncio.to_thread(self.directory.verify)


def _ignore(_progress: Progress) -> None:
    pass
