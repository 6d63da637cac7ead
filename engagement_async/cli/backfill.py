"""`engagement backfill`: jobs of millions of IDs in a folder, that go on where they were stopped."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from click.core import ParameterSource

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._export.layout import FORMATS
from engagement_async._ids.reading import Reject
from engagement_async._progress import Progress, ProgressMeter, RunOutcome, WaitReason, contract_per_minute
from engagement_async.backfill.create import CreateJob, StartResult
from engagement_async.backfill.directory import JobDirectory, JobStatus
from engagement_async.backfill.exporter import PART_IDS, Exporter
from engagement_async.backfill.inputs import FileSource
from engagement_async.backfill.job import BackfillJob
from engagement_async.backfill.journal_rows import query_document
from engagement_async.backfill.runner import DRAIN_S
from engagement_async.backfill.totals import JobTotals
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.config import Auth, Settings
from engagement_async.cli.exit_codes import (
    CORRUPT,
    INCOMPLETE,
    LOCKED,
    OK,
    OTHER_JOB,
    RESOURCE,
    SOME_FAILED,
    CommandError,
)
from engagement_async.cli.progress import WAITING_FOR, count, duration
from engagement_async.cli.report import Reporter
from engagement_async.cli.signals import run_async
from engagement_async.client import check_query
from engagement_async.config import DEFAULT_BASE_URL, checked_base_url
from engagement_async.errors import (
    JobCorruptError,
    JobDiskError,
    JobError,
    JobIncompleteError,
    JobLockedError,
    OtherJobError,
    UsageError,
)

__all__ = ["backfill"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_CODES: tuple[tuple[type[JobError], int], ...] = (
    (JobLockedError, LOCKED),
    (OtherJobError, OTHER_JOB),
    (JobCorruptError, CORRUPT),
    (JobDiskError, RESOURCE),
    (JobIncompleteError, INCOMPLETE),
)
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_WHY_NOT_DONE = {
    RunOutcome.MAX_REQUESTS: "the requests of --max-requests are used up",
    RunOutcome.MAX_DURATION: "the time of --max-duration is over",
    RunOutcome.STOPPED: "it was stopped",
    RunOutcome.OUTAGE: "the API does not answer",
}


def _job_errors(command: _Command) -> _Command:
    """What is wrong with a job's folder, as exit codes."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except JobError as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), INCOMPLETE)
            raise CommandError(str(error), code) from None

    return wrapped  # type: ignore[return-value]


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", value.strip())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise click.BadParameter(f"{value!r} is no time: write 90, 90s, 30m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


_job = click.argument("job", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def _run_options(command: _Command) -> _Command:
    for option in reversed(
        (
            options.contract_options,
            click.option("--concurrency", type=click.IntRange(1, 1000), metavar="N", help="Requests at once [16]."),
            click.option("--base-url", metavar="URL", help="The API's address. Also ENGAGEMENT_BASE_URL."),
            click.option(
                "--auth", type=click.Choice(["oauth1", "bearer"]), help="Which credentials, if there are both."
            ),
            click.option(
                "--max-requests",
                type=click.IntRange(min=1),
                metavar="N",
                help="Stop after so many requests of this run.",
            ),
            click.option("--max-duration", callback=_seconds, metavar="TIME", help="Stop after 90s, 30m, 2h or 1d."),
            options.report_options,
        )
    ):
        command = option(command)
    return command


@click.group()
def backfill() -> None:
    """Ask about millions of Tweets, in as many runs as it takes.

    \b
    engagement backfill run jobs/may totals --ids mine.csv --requests-per-minute 300
    engagement backfill status jobs/may
    engagement backfill export jobs/may --output may.parquet

    A job is a folder. It can be killed at any moment: `backfill run JOB` goes on, pays for nothing twice, and an export
    is the same, byte for byte, however often that happened.
    """


@backfill.command()
@_job
@click.argument("endpoint", type=click.Choice(list(ENDPOINTS)), required=False)
@options.id_options
@options.query_options
@click.option("--strict", is_flag=True, help="Ask nothing if any line of the input is no Tweet ID.")
@click.option("--extend", is_flag=True, help="Add the IDs of --ids that the job does not have yet.")
@_run_options
@click.pass_context
@_job_errors
def run(
    ctx: click.Context,
    /,
    job: Path,
    endpoint: str | None,
    files: tuple[str, ...],
    id_column: str | None,
    ids_format: str | None,
    metrics: tuple[str, ...],
    group_by: tuple[str, ...],
    start: str | None,
    end: str | None,
    strict: bool,
    extend: bool,
    as_json: bool,
    quiet: bool,
    **contract: Any,
) -> int:
    """Start JOB (a folder), or go on with it.

    ENDPOINT and --ids start it; later they may be left out, or must be what they were. Exit codes: 0 all IDs are
    accounted for, 2 usage, input or configuration, 3 some IDs failed or some lines were none, 4 credentials, 5 stopped
    before the end, 6 disk, 11 another process runs it, 12 another job's folder, 13 corrupt, 130/143 interrupted.
    """
    directory = JobDirectory(job)
    reporter = Reporter.of(ctx.obj, as_json=as_json, quiet=quiet)
    command = _RunCommand(ctx, directory, reporter, contract)
    query = None
    if endpoint is not None:
        query = options.make_query(
            ENDPOINTS[endpoint],
            metrics=metrics,
            group_by=group_by,
            start=start,
            end=end,
            app_only=command.credentials.is_app_only,
        )
        check_query(query, command.credentials)
    elif metrics or group_by or start or end:
        raise UsageError("which endpoint? Name it after JOB, or leave out what it is to be asked")
    rejects = 0

    def on_reject(reject: Reject) -> None:
        nonlocal rejects
        rejects += 1
        reporter.rejected(reject, show=rejects <= options.LISTED_REJECTS)

    source = FileSource(files, id_column=id_column, format=ids_format, strict=strict, on_warning=reporter.warn)
    create = CreateJob(
        directory, query, source if files else None, extend=extend, options=command.flags, on_reject=on_reject
    )
    started = create()
    _report_start(reporter, directory, started)
    return command(started.totals, failed_only=False)


@backfill.command("retry-failed")
@_job
@_run_options
@click.pass_context
@_job_errors
def retry_failed(ctx: click.Context, /, job: Path, as_json: bool, quiet: bool, **contract: Any) -> int:
    """Ask the IDs of JOB that failed once more. Exit codes as for `run`."""
    directory = JobDirectory(job)
    directory.must_exist()
    command = _RunCommand(ctx, directory, Reporter.of(ctx.obj, as_json=as_json, quiet=quiet), contract)
    return command(directory.status().totals, failed_only=True)


class _RunCommand:
    """One run: contract and credentials are those of the flags, else of the flags that the job was started with, else
    of the environment or the file."""

    def __init__(
        self, ctx: click.Context, directory: JobDirectory, reporter: Reporter, contract: dict[str, Any]
    ) -> None:
        self._directory = directory
        self._reporter = reporter
        self._max_requests: int | None = contract.pop("max_requests")
        self._max_duration_s: float | None = contract.pop("max_duration")
        self.flags = {
            name: value
            for name, value in contract.items()
            if value is not None and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
        }
        settings = Settings.load(os.environ)
        known = {**directory.options(), **self.flags}
        auth: Auth | None = known.get("auth")
        self.credentials = settings.credentials(auth)
        self._limit = settings.rate_limit(known.get("requests_per_minute"), known.get("period", 60.0))
        self._base_url = known.get("base_url") or settings.base_url or DEFAULT_BASE_URL
        self._concurrency = known.get("concurrency", 16)
        checked_base_url(self._base_url)  # before it is written down: an address with a password is refused

    def __call__(self, totals: JobTotals, *, failed_only: bool) -> int:
        job = BackfillJob(self._directory.path)
        meter = ProgressMeter(totals.ids, contract_per_minute([self._limit]), time.monotonic)
        meter.outcomes, meter.rejected = totals.outcomes, totals.rejected
        last = meter.progress(0)

        def remember(progress: Progress) -> None:
            nonlocal last
            last = progress

        async def main() -> Progress:
            running = asyncio.ensure_future(
                job.run(
                    self.credentials,
                    rate_limit=self._limit,
                    failed_only=failed_only,
                    max_requests=self._max_requests,
                    max_duration_s=self._max_duration_s,
                    on_progress=remember,
                    progress_interval_s=0.2 if self._reporter.mode == "terminal" else 1.0,
                    concurrency=self._concurrency,
                    base_url=self._base_url,
                )
            )
            async with self._reporter.watching(lambda: last):
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    self._reporter.event("stopping", at_most_s=DRAIN_S)
                    self._reporter.note(
                        f"stopping: what is on its way is waited for, {DRAIN_S:.0f} s at most; a second signal ends it now"
                    )
                    job.stop()
                    self._report(await running, None, failed_only)
                    raise

        progress = run_async(main)
        exit_code = OK
        if progress.outcome is not RunOutcome.DONE:
            exit_code = INCOMPLETE
        elif progress.outcomes.failed or progress.rejected:
            exit_code = SOME_FAILED
        self._report(progress, exit_code, failed_only)
        return exit_code

    def _report(self, progress: Progress, exit_code: int | None, failed_only: bool) -> None:
        outcomes = {**progress.outcomes._asdict(), "pending": progress.pending, "rejected": progress.rejected}
        reporter = self._reporter
        reporter.event(
            "finished", outcome=progress.outcome, requests=progress.requests, outcomes=outcomes, exit_code=exit_code
        )
        reporter.note(
            f"{count(progress.requests, 'request')} · {duration(progress.elapsed_s)} · "
            f"{progress.ids_done:,} of {progress.ids_total:,} IDs are done"
        )
        width = max(len(f"{number:,}") for number in outcomes.values())
        for state, number in outcomes.items():
            if number or state == "answered":
                reporter.note(f"  {state:<12}{number:>{width},}")
        path = self._directory.path
        if progress.rejected:
            reporter.note(f"lines that are no IDs: {self._directory.rejects_path}")
        if progress.outcome in _WHY_NOT_DONE:
            name = "retry-failed" if failed_only else "run"
            reporter.note(f"not done: {_WHY_NOT_DONE[progress.outcome]}. Go on with: engagement backfill {name} {path}")
        elif progress.outcomes.failed:
            reporter.note(f"ask the failed ones again with: engagement backfill retry-failed {path}")


def _report_start(reporter: Reporter, directory: JobDirectory, started: StartResult) -> None:
    totals = started.totals
    reporter.event(
        "started",
        is_new=started.is_new,
        ids=totals.ids,
        new_ids=started.new_ids,
        pending=totals.pending,
        rejected=totals.rejected,
    )
    if started.is_new:
        twice = started.ids_read - started.new_ids
        more = f" ({twice:,} stood there more than once)" if twice else ""
        reporter.note(f"{directory.path}: a new job of {count(started.new_ids, 'ID')}{more}")
    else:
        added = f", {started.new_ids:,} of them new" if started.new_ids else ""
        reporter.note(
            f"{directory.path}: going on with {count(totals.ids, 'ID')}{added}; {totals.pending:,} are still to be asked"
        )
    if started.rejected > options.LISTED_REJECTS:
        reporter.note(f"{started.rejected:,} lines are no Tweet IDs: see {directory.rejects_path}")


@backfill.command()
@_job
@_json
@_job_errors
def status(job: Path, as_json: bool) -> None:
    """Tell how far JOB is; also while another process runs it."""
    found = JobDirectory(job).status()
    last = found.runs[-1] if found.runs else None
    state = "running" if found.is_running else "complete" if found.is_complete else "stopped"
    if as_json:
        totals = found.totals
        click.echo(
            orjson.dumps(
                {
                    "job": str(job),
                    "state": state,
                    "query": query_document(found.query),
                    "ids": totals.ids,
                    "pending": totals.pending,
                    "outcomes": totals.outcomes._asdict(),
                    "rejected": totals.rejected,
                    "requests": sum(run.requests for run in found.runs),
                    "runs": len(found.runs),
                    "last_outcome": last.outcome if last else None,
                    "seen_at": last.seen_at if last else None,
                    "now": dict(found.now) if found.is_running else None,
                }
            )
        )
        return
    for name, text in _status_lines(job, found, state):
        click.echo(f"{name:<12}{text}")


def _status_lines(job: Path, found: JobStatus, state: str) -> list[tuple[str, str]]:
    totals, query = found.totals, found.query
    done = totals.ids - totals.pending
    lines = [
        ("job", str(job)),
        ("asks", f"{query.endpoint.name}: {', '.join(query.engagement_types)}"),
        *(("grouping", f"{name}: {', '.join(group_by)}") for name, group_by in query.groupings.items()),
        *([("from", f"{query.start} to {query.end}")] if query.start else []),
        ("state", state),
        ("IDs", f"{done:,} of {totals.ids:,} done ({done / totals.ids:.1%})"),
        *(("", f"{number:>12,} {name}") for name, number in totals.outcomes._asdict().items() if number),
        ("requests", f"{sum(run.requests for run in found.runs):,} in {count(len(found.runs), 'run')}"),
    ]
    if totals.rejected:
        lines.append(("rejected", f"{totals.rejected:,} lines of the input"))
    if found.is_running and found.now:
        now = found.now
        if now["contract_per_minute"]:
            lines.append(
                ("rate", f"{now['requests_last_minute']:,} of {now['contract_per_minute']:,.0f} in the last minute")
            )
        if now["eta_s"] is not None:
            lines.append(("left", duration(now["eta_s"])))
        if now["waiting_for"]:
            lines.append(("waiting", f"{duration(now['waiting_s'])} for {WAITING_FOR[WaitReason(now['waiting_for'])]}"))
    return lines


@backfill.command()
@_job
@click.option("--output", "-o", required=True, metavar="FILE|FOLDER/|-", help="A file, or a folder of parts.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Default: the suffix's; of parts, parquet.")
@click.option(
    "--outcomes", metavar="FILE", help="Also every ID without all its values, and why: .csv, .jsonl, .parquet."
)
@click.option("--partial", is_flag=True, help="Export what is there of a job that is not complete.")
@click.option("--follow", is_flag=True, help="Write parts as they become complete, until the job is.")
@click.option("--part-ids", type=click.IntRange(min=1), default=PART_IDS, show_default=True, help="IDs a part.")
@options.report_options
@click.pass_obj
@_job_errors
def export(
    session: Session,
    job: Path,
    output: str,
    format_: str | None,
    outcomes: str | None,
    partial: bool,
    follow: bool,
    part_ids: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the tables of JOB: one row a value, sorted by the input's order.

    \b
    engagement backfill export jobs/may --output may.parquet --outcomes gone.csv
    engagement backfill export jobs/may --output parts/ --format jsonl --follow

    {grouping} in a file's name makes a file of each grouping; DuckDB and JSON hold all of them.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=quiet)

    def on_file(path: str) -> None:
        reporter.event("file", path=path)
        reporter.note(path)

    exporter = Exporter(
        JobDirectory(job),
        output,
        format=format_,
        outcomes=outcomes,
        partial=partial,
        part_ids=part_ids,
        on_file=on_file,
    )
    done = exporter.follow() if follow else exporter.export()
    reporter.event("finished", files=done.files, answered=done.answered, pending=done.pending, exit_code=OK)
    if done.pending:
        reporter.warn(f"{done.pending:,} IDs are still to be asked: this export is not the whole job")


@backfill.command()
@_job
@_json
@_job_errors
def verify(job: Path, as_json: bool) -> None:
    """Read all of JOB again, checksum by checksum. Exit code 13 when anything is not as it was written."""
    totals = JobDirectory(job).verify()
    if as_json:
        click.echo(orjson.dumps({"job": str(job), "ok": True, "batches": totals.batches, "answers": totals.answers}))
    else:
        click.echo(f"{job}: {count(totals.answers, 'answer')} of {totals.batches:,}: all is as it was written")


@backfill.command()
@_job
@_json
@_job_errors
def report(job: Path, as_json: bool) -> None:
    """Tell what JOB has spent: requests, IDs, minutes, run by run."""
    found = JobDirectory(job).status()
    requests, ids = sum(run.requests for run in found.runs), sum(run.ids for run in found.runs)
    seconds = sum(run.seconds for run in found.runs)
    if as_json:
        totals = {"requests": requests, "ids": ids, "minutes": round(seconds / 60, 2)}
        click.echo(orjson.dumps({"job": str(job), **totals, "runs": [asdict(run) for run in found.runs]}))
        return
    click.echo(f"{'run began (UTC)':<20}{'requests':>12}{'IDs':>14}{'time':>16}  ended")
    for run in found.runs:
        ended = run.outcome or ("runs" if found.is_running and run is found.runs[-1] else "killed")
        click.echo(
            f"{_instant(run.began_at):<20}{run.requests:>12,}{run.ids:>14,}{duration(run.seconds):>16}  "
            f"{ended.replace('_', ' ')}"
        )
    click.echo(f"{'all':<20}{requests:>12,}{ids:>14,}{duration(seconds):>16}")


def _instant(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
