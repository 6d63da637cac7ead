"""One run of a job as a command: rate limit and credentials, progress, signals, and the exit code."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from engagement_async._progress import Progress, ProgressMeter, RunOutcome, contract_per_minute
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.job import BackfillJob
from engagement_async.backfill.owner_records import FailedCredentials
from engagement_async.backfill.runner import DRAIN_S
from engagement_async.backfill.status import owner_lines
from engagement_async.backfill.totals import JobTotals
from engagement_async.backfill.until_done import UntilDone
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.backfill.common import exit_code_of_job, outcome_counts, text_of
from engagement_async.cli.backfill.status import owner_fields
from engagement_async.cli.config import Auth, Settings
from engagement_async.cli.connection import Connection, connection_options
from engagement_async.cli.contract import Contract, Given, scheduler_options
from engagement_async.cli.exit_codes import Interrupted
from engagement_async.cli.logs import log_options, logging_as
from engagement_async.cli.metrics_file import metrics_option
from engagement_async.cli.owners import OwnerFlags, credentials_option
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.progress import count, duration
from engagement_async.cli.report import Mode, Reporter
from engagement_async.cli.signals import run_async
from engagement_async.cli.units import seconds
from engagement_async.config import DEFAULT_CONCURRENCY
from engagement_async.errors import EngagementError, UsageError

__all__ = ["RunCommand", "run_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_REMEMBERED = ("requests_per_minute", "period", "limits", "concurrency", "auth", "owner_column", "failed_credentials")
"""Flags that stay in force when they are omitted later. Never where credentials are sent: a directory may be a gift."""
_WHY_NOT_DONE = {
    RunOutcome.MAX_REQUESTS: "the requests of --max-requests are used up",
    RunOutcome.MAX_DURATION: "the time of --max-duration is over",
    RunOutcome.STOPPED: "it was stopped",
    RunOutcome.OUTAGE: "the API does not answer",
    RunOutcome.CREDENTIALS: "some owners' credentials are unusable, and their Tweets stay pending until there are new ones",
}


def run_options(command: _Command) -> _Command:
    """Add the options of commands that send requests for a job."""
    for option in reversed(
        (
            options.contract_options,
            scheduler_options,
            click.option(
                "--concurrency", type=click.IntRange(1, 1000), metavar="N", help="Maximum requests in flight [16]."
            ),
            connection_options,
            credentials_option,
            click.option(
                "--auth", type=click.Choice(["oauth1", "bearer"]), help="Which credentials to use if both are set."
            ),
            click.option(
                "--max-requests",
                type=click.IntRange(min=1),
                metavar="N",
                help="Stop gracefully after N requests of this run.",
            ),
            click.option(
                "--max-duration",
                type=NAMED,
                callback=seconds,
                metavar="TIME",
                help="Stop gracefully after 90s, 30m, 2h or 1h30m.",
            ),
            click.option(
                "--until-done",
                is_flag=True,
                help="Run again after a growing pause if the API does not answer or the disk is full.",
            ),
            log_options,
            metrics_option,
            options.report_options,
        )
    ):
        command = option(command)
    return command


class RunCommand:
    """Run a job. Rate limit and credentials come from the flags, otherwise from the flags that the job was started with,
    otherwise from the environment or the file.
    """

    def __init__(
        self,
        ctx: click.Context,
        directory: JobDirectory,
        reporter: Reporter,
        flags: dict[str, Any],
        *,
        failed_only: bool,
    ) -> None:
        self._directory = directory
        self._reporter = reporter
        self._failed_only = failed_only
        self._is_stopping = False
        self._is_running = False
        """Whether a run has begun, which can be stopped; otherwise the contract is opened, or a pause is made."""
        self._max_requests: int | None = flags.pop("max_requests")
        self._max_duration_s: float | None = flags.pop("max_duration")
        self._until_done: bool = flags.pop("until_done")
        if self._until_done and self._max_requests is not None:
            raise UsageError("--until-done runs until all is done, whatever that takes: leave out --max-requests")
        given = {
            name: value
            for name, value in flags.items()
            if value is not None and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        }
        self.remembered = {name: given[name] for name in _REMEMBERED if name in given}
        """Flags for the job to remember."""
        session_flags = ctx.obj.flags
        settings = Settings.load(os.environ, session_flags.get("profile"))
        known = {**directory.options(), **given}
        auth: Auth | None = known.get("auth")
        self.owners = OwnerFlags(
            known.get("owner_column"),
            given.get("credentials_path"),
            given.get("first_owner", False),
            given.get("owner_weights", {}),
        )
        self.owners.check(auth=auth)
        self._failed_credentials: FailedCredentials = (
            "failed" if failed_only else known.get("failed_credentials", "failed")
        )
        if self.owners.column is None and "failed_credentials" in given:
            raise UsageError("--failed-credentials is about Tweets with owners: name their column with --owner-column")
        self.credentials = self.owners.credentials(settings, auth)
        self._concurrency: int = known.get("concurrency", DEFAULT_CONCURRENCY)
        self._session: Session = ctx.obj
        self._connection = Connection.of(settings, session_flags, os.environ, given.get("base_url"))
        self._contract = Contract.of(
            settings,
            settings.rate_limits(known.get("requests_per_minute"), known.get("period", 60.0), known.get("limits", ())),
            self.credentials,
            self._connection.base_url,
            scheduler=given.get("scheduler"),
            contract=given.get("contract"),
            allow_plaintext_redis=given.get("allow_plaintext_redis", False),
        )

    def __call__(self, totals: JobTotals, runs: int) -> int:
        """Run the job; return the exit code. `totals` and `runs` are those before it."""
        job = BackfillJob(self._directory.path)
        meter = ProgressMeter(totals.ids, contract_per_minute(self._contract.limits), time.monotonic)
        meter.outcomes, meter.rejected = totals.outcomes, totals.rejected
        last = meter.progress(0)
        stopped: Progress | None = None

        def remember(progress: Progress) -> None:
            nonlocal last
            last = progress

        async def main() -> Progress:
            nonlocal stopped
            running = asyncio.ensure_future(self._run(job, remember, runs))
            async with self._reporter.watching(lambda: last, None if self.owners.column is None else self._owner_lines):
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    self._reporter.event("stopping", at_most_s=DRAIN_S)
                    self._reporter.stopping(
                        f"stopping: what is on its way is waited for, {DRAIN_S:.0f} s at most; a second signal ends it now"
                    )
                    self._is_stopping = True
                    if self._is_running:
                        job.stop()
                    else:
                        running.cancel()
                    try:
                        stopped = await running
                    except asyncio.CancelledError:
                        stopped = last
                    raise

        try:
            with logging_as(self._session):
                progress = run_async(main)
        except Interrupted as interrupted:
            progress = stopped or last
            if progress.outcome not in (RunOutcome.DONE, RunOutcome.CREDENTIALS):
                self._report(progress, interrupted.exit_code)
                raise
        exit_code = exit_code_of_job(progress)
        self._report(progress, exit_code)
        return exit_code

    def _owner_lines(self) -> list[str]:
        return owner_lines(self._directory.owners())

    async def _run(self, job: BackfillJob, on_progress: Callable[[Progress], None], runs: int) -> Progress:
        """Run the job once, or until it is done."""
        async with self._contract.opened() as given:
            return await self._run_with(given, job, on_progress, runs)

    async def _run_with(
        self,
        contract: Given,
        job: BackfillJob,
        on_progress: Callable[[Progress], None],
        runs: int,
    ) -> Progress:
        policy = UntilDone(self._max_duration_s) if self._until_done else None
        while True:
            runs += 1
            self._reporter.context["run"] = runs
            self._is_running = True
            try:
                progress = await job.run(
                    self.credentials,
                    failed_only=self._failed_only,
                    failed_credentials=self._failed_credentials,
                    max_requests=self._max_requests,
                    max_duration_s=self._max_duration_s if policy is None else policy.left_s(),
                    on_progress=on_progress,
                    progress_interval_s=0.2 if self._reporter.mode is Mode.TERMINAL else 1.0,
                    concurrency=self._concurrency,
                    **self._connection.reach,
                    **contract,
                )
            except EngagementError as error:
                pause_s = None if policy is None or self._is_stopping else policy.pause_after_error(error)
                if pause_s is None:
                    raise
                self._reporter.warn(f"{error}; running again in {duration(pause_s)}")
            else:
                pause_s = None if policy is None or self._is_stopping else policy.pause_after(progress)
                if pause_s is None:
                    return progress
                assert progress.outcome is not None  # noqa: S101 - the run has ended
                self._reporter.warn(f"{_WHY_NOT_DONE[progress.outcome]}; running again in {duration(pause_s)}")
            finally:
                self._is_running = False
            await asyncio.sleep(pause_s)

    def _report(self, progress: Progress, exit_code: int) -> None:
        counts = outcome_counts(progress)
        reporter = self._reporter
        owners = {} if self.owners.column is None else self._directory.status().owners
        reporter.event(
            "finished",
            outcome=progress.outcome,
            requests=progress.requests,
            outcomes=counts,
            **owner_fields(owners),
            exit_code=exit_code,
        )
        reporter.note(
            f"{count(progress.requests, 'request')} · {duration(progress.elapsed_s)} · "
            f"{progress.ids_done:,} of {progress.ids_total:,} IDs are done"
        )
        reporter.counts(counts)
        for place, line in enumerate(owner_lines(owners)):
            reporter.note(f"  {line}" if place else f"owners: {line}", is_trouble=place > 0)
        path = text_of(self._directory.path)
        tokens = self._tokens(progress.outcome)
        if progress.rejected:
            reporter.note(f"lines that are no IDs: {text_of(self._directory.rejects_path)}")
        if progress.outcome in _WHY_NOT_DONE:
            name = "retry-failed" if self._failed_only else "run"
            reporter.note(
                f"not done: {_WHY_NOT_DONE[progress.outcome]}. Go on with: engagement backfill {name} {path}{tokens}",
                is_trouble=progress.outcome is RunOutcome.CREDENTIALS,
            )
        elif progress.pending:
            reporter.note(f"{count(progress.pending, 'ID')} are still pending: engagement backfill run {path}{tokens}")
        elif progress.outcomes.failed:
            reporter.note(
                f"{count(progress.outcomes.failed, 'ID')} failed: request them again with "
                f"engagement backfill retry-failed {path}{tokens}",
                is_trouble=True,
            )

    def _tokens(self, outcome: RunOutcome | None) -> str:
        """Return what the next command must be told of the tokens: the job does not know the file that a flag named."""
        named = self.owners.credentials_path
        if named is not None:
            return f" --credentials {text_of(Path(named))}"
        return " --credentials FILE" if outcome is RunOutcome.CREDENTIALS else ""
