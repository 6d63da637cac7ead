"""One run of a job: a client requests what is pending, the committer takes the answers to the journal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from engagement_async._core.outcomes import is_outage_of_all
from engagement_async._core.rate_limit import RateLimit
from engagement_async._display.reporting import harmless
from engagement_async._engine.contracts import scheduler_for
from engagement_async._engine.observing import observed_by
from engagement_async._engine.scheduler import LaneScheduler, Scheduler
from engagement_async._engine.stream import AnswerStream
from engagement_async._progress import Progress, ProgressMeter, RunOutcome, contract_per_minute, limit_of_minute
from engagement_async.backfill.clocks import instant_now
from engagement_async.backfill.codec import pending_ids
from engagement_async.backfill.committer import GATHERED, Committer, may_gather
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.owner_records import FailedCredentials, OwnerRecords
from engagement_async.backfill.quota import DurableScheduler
from engagement_async.backfill.traffic import TrafficRecorder
from engagement_async.backfill.work import FailedWork, PendingWork, Work
from engagement_async.client import ClientStatus, EngagementClient, check_query
from engagement_async.config import (
    DEFAULT_CONCURRENCY,
    ConnectionOptions,
    check_seconds,
    parsed_base_url,
)
from engagement_async.credential_store import CredentialStore, as_store
from engagement_async.credentials import Credentials
from engagement_async.errors import EngagementError, JobDiskError, UsageError

__all__ = ["DRAIN_S", "JobRunner", "RunLimits"]

DRAIN_S = 20.0
"""How long answers that are on their way are waited for when a run stops."""
_HEARTBEAT_S = 5.0
_REQUESTS_OF_A_BATCH = 3
"""How many a batch with a Tweet for which the API refuses the request needs until some of it is answered: one of its two
halves is, as a rule. A run of a few requests must bring the batches forward that it opens."""

logger = logging.getLogger("engagement_async")


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Where one run stops before all is requested."""

    max_requests: int | None = None
    max_duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_requests is not None and (
            isinstance(self.max_requests, bool) or not isinstance(self.max_requests, int) or self.max_requests < 1
        ):
            raise UsageError(f"max_requests is a whole number from 1 on, not {self.max_requests!r}")
        if self.max_duration_s is not None:
            check_seconds("max_duration_s", self.max_duration_s)


class JobRunner:
    """One run of a job, from lock to lock. Made in a running event loop.

    The requests of a run before this one that the contract still counts are not spent again; a `scheduler` of
    another make than this package's must see to that itself.
    """

    def __init__(
        self,
        directory: JobDirectory,
        credentials: Credentials | CredentialStore,
        *,
        application: Hashable,
        limits: RunLimits,
        rate_limit: RateLimit | Sequence[RateLimit] | None,
        scheduler: Scheduler | None,
        base_url: str,
        connection: ConnectionOptions,
        failed_credentials: FailedCredentials = "failed",
    ) -> None:
        self._credentials = credentials
        self._owners = OwnerRecords(failed_credentials)
        self._limits = limits
        if scheduler is None:
            scheduler = _contract(rate_limit, application, base_url)
        elif rate_limit is not None:
            raise UsageError("rate_limit is what your contract says; a scheduler is given instead of it, not with it")
        # Others do not say which requests they know of, and must see to that themselves.
        lanes = scheduler if isinstance(scheduler, LaneScheduler) else None
        self._lanes = lanes
        self._contract_per_minute = contract_per_minute(scheduler.limits)
        self._traffic = TrafficRecorder(limit_of_minute(scheduler.limits))
        concurrency = connection.get("concurrency", DEFAULT_CONCURRENCY)
        gathers = may_gather(scheduler.limits, concurrency)
        most_open = GATHERED * concurrency if gathers else concurrency
        if limits.max_requests is not None and limits.max_requests >= _REQUESTS_OF_A_BATCH:
            most_open = min(most_open, limits.max_requests // _REQUESTS_OF_A_BATCH)
        self._quota = DurableScheduler(
            scheduler,
            grant_ahead=min(most_open + concurrency, *(limit.requests for limit in scheduler.limits)),
            max_requests=limits.max_requests,
            request_checkpoint=lambda: self._committer.request_commit(),
            on_budget_exhausted=lambda: self.stop(RunOutcome.MAX_REQUESTS),
            clock=instant_now,
            ledger_name=lambda: "" if lanes is None else lanes.ledger_name,
        )
        self._client = EngagementClient(credentials, scheduler=self._quota, base_url=base_url, **connection)
        self._committer = Committer(
            directory,
            self._quota,
            most_open=most_open,
            gathers=gathers,
            describe=self._describe,
            on_commit=self._on_commit,
            on_full=self._on_full,
            parked=lambda: 0 if self._stream is None else self._stream.parked_batches,
            owners=self._owners,
            traffic=self._traffic,
        )
        self._meter = ProgressMeter(0, self._contract_per_minute, asyncio.get_running_loop().time)
        self._began_at = time.time()
        self._outcome: RunOutcome | None = None
        self._disk_error: JobDiskError | None = None
        self._stream: AnswerStream | None = None
        self._consuming: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._is_delivering = False
        self._has_unanswered = False
        """Whether some IDs stay pending because the API did not answer."""

    async def run(
        self, *, failed_only: bool, on_progress: Callable[[Progress], object], progress_interval_s: float
    ) -> Progress:
        """Ask until all is answered or something stops the run; return how it ended."""
        tell = harmless(on_progress)
        async with self._committer.opened() as journal:
            totals = journal.totals
            to_ask = totals.outcomes.failed if failed_only else totals.pending
            clock = asyncio.get_running_loop().time
            self._meter = ProgressMeter(totals.ids, self._contract_per_minute, clock, ids_to_ask=to_ask)
            self._on_commit()
            _check_credentials(journal, self._credentials)
            outcome = RunOutcome.DONE
            if to_ask:
                ages_s = self._quota.restore(journal.document("spent"))
                if self._lanes is not None and ages_s:
                    self._lanes.count_earlier(ages_s, journal.query.endpoint.name, known_by=self._quota.known_by)
                watching = asyncio.create_task(self._watch(tell, progress_interval_s))
                try:
                    outcome = await self._ask_all(FailedWork() if failed_only else PendingWork())
                except EngagementError:
                    tell(self.progress())  # what came until then is committed
                    raise
                finally:
                    watching.cancel()
            progress = self.progress(outcome)
            tell(progress)
            return progress

    async def _ask_all(self, work: Work) -> RunOutcome:
        committer = self._committer
        await committer.begin(work)
        loop, limit_s = asyncio.get_running_loop(), self._limits.max_duration_s
        timer = None if limit_s is None else loop.call_later(limit_s, self.stop, RunOutcome.MAX_DURATION)
        try:
            with observed_by(self._traffic.begin):
                await self._ask()
        except BaseException as error:
            with suppress(Exception):  # the first error is the one to raise
                await self._end(type(error).__name__)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if committer.has_uncommitted:
            await committer.commit()
        outcome = self._outcome or self._outcome_of_owners()
        if outcome is not RunOutcome.DONE and await committer.call(work.is_done, committer.journal):
            outcome = RunOutcome.DONE  # stopped at the very end
        if self._disk_error is not None and outcome is not RunOutcome.DONE:
            await self._end(type(self._disk_error).__name__)
            raise self._disk_error
        await self._end(outcome)
        return outcome

    def _outcome_of_owners(self) -> RunOutcome:
        if self._has_unanswered:
            return RunOutcome.OUTAGE
        return RunOutcome.CREDENTIALS if self._owners.refused else RunOutcome.DONE

    def stop(self, outcome: RunOutcome) -> None:
        """Ask nothing more, and end when what is on its way has come."""
        if self._outcome is None:
            self._outcome = outcome
            self._quota.close()
            self._committer.end_soon()
            if self._stream is not None:
                self._draining = asyncio.create_task(self._drain(self._stream))

    def _on_full(self, error: JobDiskError) -> None:
        """Ask nothing more: what comes can hardly be written."""
        if self._disk_error is None:
            self._disk_error = error
            logger.warning("nothing more is requested: %s", error)
            self.stop(RunOutcome.STOPPED)

    # --- asking ---

    async def _ask(self) -> None:
        committer = self._committer
        batches = committer.batches()
        async with self._client, self._client.stream_batches(committer.journal.query, batches) as stream:
            self._stream = stream
            self._consuming = asyncio.create_task(self._consume(stream))
            committing = asyncio.create_task(committer.run())
            if self._outcome is not None:  # stopped before it began
                self._draining = asyncio.create_task(self._drain(stream))
            try:
                await asyncio.wait({self._consuming, committing}, return_when=asyncio.FIRST_EXCEPTION)
                for task in (committing, self._consuming):
                    if task.done() and not task.cancelled():
                        task.result()
            finally:
                self._quota.close()
                for left in (self._draining, self._consuming, committing):
                    if left is not None and not left.done():
                        left.cancel()
                        with suppress(asyncio.CancelledError):
                            await left
                self._owners.count(stream.take_owner_requests())
                self._stream = None

    async def _consume(self, stream: AnswerStream) -> None:
        try:
            async for answer in stream:
                self._is_delivering = True
                if pending := pending_ids(answer):  # the API did not answer: these IDs stay pending
                    self._has_unanswered = True
                    if any(is_outage_of_all(answer.failed_tweet_ids[i]) for i in pending):
                        self.stop(RunOutcome.OUTAGE)
                answer = self._owners.take(answer)
                skipped = len(pending_ids(answer))
                self._meter.ids_asked += len(answer.tweet_ids) - skipped
                self._meter.ids_skipped += skipped
                self._committer.add(answer)
        finally:
            self._committer.finish()

    async def _drain(self, stream: AnswerStream) -> None:
        stream.stop()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + DRAIN_S
        # Whatever is still in the stream when no request is out waits for a grant that will not come.
        while self._client.status().in_flight and loop.time() < give_up_at:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0.02)
        self._is_delivering = True
        while self._is_delivering:  # what came last is taken in the next rounds of the loop
            self._is_delivering = False
            await asyncio.sleep(0.01)
        if self._consuming is not None:
            self._consuming.cancel()

    async def _end(self, outcome: str) -> None:
        """Commit what is left, after the last request: then nothing is unknown any more."""
        self._quota.close()
        await self._committer.end(outcome)

    # --- reporting ---

    def _on_commit(self) -> None:
        totals = self._committer.journal.totals
        self._meter.ids_total, self._meter.outcomes = totals.ids, totals.outcomes
        self._meter.rejected = totals.rejected

    async def _watch(self, tell: Callable[[Progress], None], progress_interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(progress_interval_s)
            if loop.time() - self._committer.committed_at > _HEARTBEAT_S:
                self._committer.request_commit()
            tell(self.progress())

    def progress(self, outcome: RunOutcome | None = None) -> Progress:
        """Return how far the run is; of no IDs before it has the journal. `outcome` is how it ended."""
        status = self._client.status() if self._stream is not None else ClientStatus(0, 0, 0.0, None)
        # The quota counts the requests of the run, also when the client is closed.
        return self._meter.progress(
            self._quota.requests, status.waiting_s, status.waiting_for, outcome, trouble=status.trouble
        )

    def _describe(self, outcome: str | None) -> dict[str, Any]:
        """Return what the journal is to know of this run; what it is to know of owners is in their records then."""
        if self._stream is not None:
            self._owners.count(self._stream.take_owner_requests())
        progress = self.progress()
        return {
            "began_at": self._began_at,
            "seen_at": time.time(),
            "requests": progress.requests,
            "in_flight": self._quota.in_flight,
            "ids": self._meter.ids_asked,
            "outcome": outcome,
            "now": {
                "requests_last_minute": progress.requests_last_minute,
                "contract_per_minute": progress.contract_per_minute,
                "eta_s": progress.eta_s,
                "waiting_s": progress.waiting_s,
                "waiting_for": progress.waiting_for,
                "trouble": progress.trouble,
            },
        }


def _check_credentials(journal: Journal, credentials: Credentials | CredentialStore) -> None:
    """Raise `UsageError` if these credentials may not send the job's requests."""
    is_store = as_store(credentials) is not None
    if is_store != journal.has_owners:
        raise UsageError(
            "the Tweets of this job have owners, and credentials is one owner's: give a CredentialFile, or a mapping of "
            "owners to their credentials (--credentials FILE)"
            if journal.has_owners
            else "the Tweets of this job have no owners, so credentials is one owner's: give OAuth1Credentials or "
            "BearerCredentials (leave out --credentials)"
        )
    if not is_store:
        check_query(journal.query, cast("Credentials", credentials))


def _contract(
    rate_limit: RateLimit | Sequence[RateLimit] | None, application: Hashable, base_url: str
) -> LaneScheduler:
    """Return the contract that clients of this process share, if they spend the same."""
    if rate_limit is None:
        raise UsageError("rate_limit is what your contract says, as RateLimit(300); or give a scheduler instead")
    limits = tuple(rate_limit) if isinstance(rate_limit, Sequence) else (rate_limit,)
    return scheduler_for(limits, parsed_base_url(base_url), application)
