"""BackfillJob: fetches millions of Tweets in as many runs as it takes, and never loses an answer or pays for it twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from engagement_async._core.html import note_html
from engagement_async._core.outcomes import Outcomes
from engagement_async._core.owned_batches import TweetsByOwner, checked_weights, have_owners
from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._display.reporting import ProgressOption, check_progress, reporting
from engagement_async._engine.contracts import application_of
from engagement_async._engine.scheduler import Scheduler
from engagement_async._ids.reading import Reject
from engagement_async._progress import CallProgress, Progress, RunOutcome
from engagement_async.backfill.create import CreateJob, StartResult
from engagement_async.backfill.directory import JobDirectory, JobStatus
from engagement_async.backfill.exporter import PART_IDS, Exported, Exporter
from engagement_async.backfill.inputs import FileSource, GivenSource, IdSource, OwnedGivenSource
from engagement_async.backfill.owner_records import FailedCredentials, check_failed_credentials
from engagement_async.backfill.runner import JobRunner, RunLimits
from engagement_async.backfill.status import job_html
from engagement_async.backfill.totals import JobTotals
from engagement_async.config import DEFAULT_BASE_URL, ConnectionOptions, check_seconds
from engagement_async.credential_store import CredentialStore, Lookup, as_store
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
    """A durable job: a directory that knows its IDs, its query and every answer. Making the object touches nothing.

    Its methods raise a `JobError` for what is wrong with the directory, and the client's errors for what is wrong with the
    request.

    Examples:
        >>> job = BackfillJob("jobs/totals-2026-05")
        >>> await job.start(query, files=["ids.csv"])  # or tweet_ids=[...]; does nothing if it was started before
        >>> progress = await job.run(credentials, rate_limit=RateLimit(300))
        >>> progress.outcome, progress.outcomes
        >>> await job.export("totals.parquet")

    Args:
        path: The directory. It need not exist yet; directories above it are made.
    """

    def __init__(self, path: str | Path) -> None:
        self.directory = JobDirectory(path)
        self._is_running = self._is_stopped = False
        self._runner: JobRunner | None = None

    def __repr__(self) -> str:
        return f"BackfillJob({str(self.directory.path)!r})"

    def _repr_html_(self) -> str:
        """Return how far the job is, for notebooks: by its totals alone, so that it takes no time."""
        title = f"BackfillJob {self.directory.path}"
        try:
            return job_html(self.directory.glance(), title)
        except (JobError, UsageError) as error:
            return note_html(title, str(error))

    # --- starting ---

    async def start(
        self,
        query: Query | None = None,
        tweet_ids: Iterable[str | int] | Mapping[str, Iterable[str | int]] | TweetsByOwner | None = None,
        *,
        files: Sequence[str | Path] = (),
        id_column: str | None = None,
        owner_column: str | None = None,
        first_owner: bool = False,
        owner_weights: Mapping[str, int] | None = None,
        format: str | None = None,  # noqa: A002 - as `read_ids` calls it
        extend: bool = False,
        strict: bool = False,
        options: Mapping[str, Any] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        on_warning: Callable[[str], object] | None = None,
    ) -> StartResult:
        """Put distinct IDs and the query into the directory, unless they are there already, and return what was done.

        A job that was started before takes the same query and IDs, or more IDs with `extend`.

        Args:
            query: What to request of each Tweet. Required once.
            tweet_ids: Any iterable of `str` or integers; or give `files`. Required once. Of many owners: a mapping of owners
                to IDs, or `TweetsByOwner`.
            files: Files with IDs, as `read_ids` takes them.
            id_column: Name of their column, or its number from 1.
            owner_column: Name or number of the column of the Tweets' owners, where there are many.
            first_owner: Whether a Tweet that is listed for two owners belongs to the first one, instead of being an error.
            owner_weights: How many requests an owner may send in each turn, where it is more than one. They are remembered,
                as those of `TweetsByOwner` are, until a later start gives others.
            format: Their format.
            extend: Whether to add IDs that the job does not have yet.
            strict: Whether a line that is not an ID is an error. Otherwise it goes to the job's `rejects.jsonl`.
            options: Remembered for later runs, as JSON. No secrets.
            on_reject: Called with each line that is not an ID.
            on_warning: Called with a message if every ID of a file ends in 00.

        Raises:
            UsageError: The input cannot be read, or with `strict` has a line that is not an ID.
            OtherJobError: The directory has another job, or other IDs.
            JobError: Anything else that is wrong with the directory.
        """
        if tweet_ids is not None and files:
            raise UsageError("give tweet_ids or files, not both")
        if isinstance(tweet_ids, (str, bytes)):
            raise UsageError("tweet_ids is one string: give a list of IDs, as [tweet_id]")
        source: IdSource | None = None
        weights = checked_weights(owner_weights or {})
        if isinstance(tweet_ids, TweetsByOwner):
            weights = {**tweet_ids.weights, **weights}
            source = OwnedGivenSource(tweet_ids)
        elif isinstance(tweet_ids, Mapping) and have_owners(tweet_ids):
            source = OwnedGivenSource(TweetsByOwner(tweet_ids, first_owner=first_owner))
        elif tweet_ids is not None:
            source = GivenSource(tweet_ids)
        elif files:
            source = FileSource(
                files,
                id_column=id_column,
                format=format,
                strict=strict,
                owner_column=owner_column,
                first_owner=first_owner,
                on_warning=on_warning,
            )
        create = CreateJob(
            self.directory, query, source, extend=extend, options=options, owner_weights=weights, on_reject=on_reject
        )
        return await asyncio.to_thread(create)

    # --- running ---

    async def run(
        self,
        credentials: Credentials | CredentialStore | Mapping[str, Credentials] | Lookup,
        *,
        rate_limit: RateLimit | Sequence[RateLimit] | None = None,
        scheduler: Scheduler | None = None,
        base_url: str = DEFAULT_BASE_URL,
        failed_only: bool = False,
        failed_credentials: FailedCredentials = "failed",
        max_requests: int | None = None,
        max_duration_s: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        progress_interval_s: float = 1.0,
        progress: ProgressOption = False,
        **connection: Unpack[ConnectionOptions],
    ) -> Progress:
        """Request what is pending, until the job is done or something ends the run, and return how far it is.

        A run ends when the job is done, after `max_requests` or `max_duration_s`, when `stop` is called, or with the outcome
        `OUTAGE` if the API answered nobody for `outage_timeout_s`, or with `CREDENTIALS` if nothing is left but the IDs of
        owners that `failed_credentials="pending"` keeps. All but the first leave IDs to request. The rate limit is
        kept across runs: what an earlier run sent still counts (a custom `scheduler` must do this itself).

        Args:
            credentials: As for `EngagementClient`.
            rate_limit: As for `EngagementClient`.
            scheduler: As for `EngagementClient`.
            base_url: As for `EngagementClient`.
            failed_only: Whether to request only the IDs that failed, once more, in as few requests as possible (each batch
                by itself if a grouping sums over Tweets).
            failed_credentials: What the IDs of an owner become whose credentials are of no use: `"failed"`, or `"pending"`,
                so that the next run requests them again. `status().owners` says whose they are, and why.
            max_requests: Stop gracefully after this many requests of this run.
            max_duration_s: Stop gracefully after this many seconds.
            on_progress: Called with the run's `Progress` every `progress_interval_s` seconds, and once at the end.
            progress_interval_s: Seconds between two calls of `on_progress`.
            progress: As for `EngagementClient.totals`: a bar, or a function that gets a `CallProgress`.
            connection: `concurrency`, `outage_timeout_s`, `timeouts`, `size_limits`, `tls`, `proxy` and `allow_http_to` of
                `EngagementClient`.

        Raises:
            UsageError: An option cannot be, or the job needs other credentials.
            JobLockedError: The job is running already.
            JobError: Anything else that is wrong with the directory.
            AuthError: The credentials were refused; as the other errors of `EngagementClient.totals`.
        """
        check_seconds("progress_interval_s", progress_interval_s)
        check_progress(progress)
        check_failed_credentials(failed_credentials)
        if failed_only and failed_credentials == "pending":
            raise UsageError(
                "failed_only requests IDs that are failed already: failed_credentials='pending' is for other runs"
            )
        of_owners: Credentials | CredentialStore = as_store(credentials) or cast("Credentials", credentials)
        if self._is_running:
            raise JobLockedError(f"{self.directory.path}: this object runs the job already")
        self._is_running, self._is_stopped = True, False
        try:
            runner = self._runner = JobRunner(
                self.directory,
                of_owners,
                application=await asyncio.to_thread(application_of, of_owners),  # a store may read a file
                limits=RunLimits(max_requests, max_duration_s),
                rate_limit=rate_limit,
                scheduler=scheduler,
                base_url=base_url,
                connection=connection,
                failed_credentials=failed_credentials,
            )
            if self._is_stopped:
                runner.stop(RunOutcome.STOPPED)
            running = runner.run(
                failed_only=failed_only, on_progress=on_progress or _ignore, progress_interval_s=progress_interval_s
            )
            if progress is False:
                return await running
            return await _shown(progress, self.directory.path.name, runner, running)
        finally:
            self._is_running, self._runner = False, None

    def stop(self) -> None:
        """Stop the run gracefully: send no new requests, wait up to 20 s for those in flight, and commit their answers.

        Do nothing if no run has begun.
        """
        self._is_stopped = True
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
        wide: bool = False,
        observed_at: bool = False,
        excel: bool = False,
        only_owners: Sequence[str] = (),
        part_ids: int = PART_IDS,
        follow: bool = False,
        on_file: Callable[[str], object] | None = None,
    ) -> Exported:
        """Write tables with one row per value, Tweets in input order, and return which.

        Args:
            output: A file, or a directory of parts: one that exists, or a path that ends in `/`. `{grouping}` in a file's
                name writes one file per grouping.
            format: `json`, `jsonl`, `csv`, `tsv`, `parquet`, `arrow`, `duckdb` or `xlsx`. By default, by the suffix; parquet
                for parts. Text is compressed if the name ends in `.gz` or `.zst`.
            outcomes: Also write a table of every ID that lacks values, with its state and the reason.
            partial: Whether to export an incomplete job.
            wide: Whether tables have one row for all metrics of a Tweet (of a day, an hour), and a column for each.
            observed_at: Whether tables have a column that says when the response with the value was received.
            excel: Whether CSV is written so that Excel keeps Tweet IDs.
            only_owners: The owners whose Tweets are exported; all of them by default.
            part_ids: IDs per part.
            follow: Whether to write parts as they become complete, while another process runs the job, until it is done.
            on_file: Called with the path of each file once it is complete.

        Raises:
            UsageError: The output is not possible. Nothing was written.
            JobIncompleteError: The job is incomplete, and neither `partial` nor `follow` is set.
            JobError: Anything else that is wrong with the directory.
        """

        def write() -> Exported:
            exporter = Exporter(
                self.directory,
                output,
                format=format,
                outcomes=outcomes,
                partial=partial,
                wide=wide,
                observed_at=observed_at,
                excel=excel,
                part_ids=part_ids,
                only_owners=only_owners,
                on_file=on_file,
            )
            return exporter.follow() if follow else exporter.export()

        return await asyncio.to_thread(write)

    # --- looking ---

    async def status(self) -> JobStatus:
        """Return how far the job is, also while another process runs it. Raise `JobError` if it cannot be read."""
        return await asyncio.to_thread(self.directory.status)

    async def verify(self) -> JobTotals:
        """Read every row again, compare its checksum, and return the totals. Raise `JobCorruptError` if any differs."""
        return await asyncio.to_thread(self.directory.verify)


async def _shown(progress: ProgressOption, label: str, runner: JobRunner, running: Awaitable[Progress]) -> Progress:
    """Return how a run ended, having shown its progress."""
    ended: Progress | None = None

    def sample(*, is_finished: bool) -> CallProgress:
        now = (ended or runner.progress()).as_of_a_call()
        return replace(now, ids_total=now.ids_total or None, is_finished=is_finished)

    async with reporting(progress, label, sample):
        ended = await running
    return ended


def _ignore(_progress: Progress) -> None:
    pass
