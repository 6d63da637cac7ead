"""`engagement backfill run`: start a job, or resume it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async.backfill.create import CreateJob, StartResult
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import FileSource
from engagement_async.backfill.owner_records import FailedCredentials
from engagement_async.cli import options
from engagement_async.cli.backfill.common import job_argument, job_errors, text_of
from engagement_async.cli.backfill.run_command import RunCommand, run_options
from engagement_async.cli.inputs import InputReporter
from engagement_async.cli.owners import check_owned_query, first_owner_option, owner_column_option, owner_weight_option
from engagement_async.cli.progress import count
from engagement_async.cli.report import Reporter
from engagement_async.credentials import BearerCredentials
from engagement_async.errors import UsageError

__all__ = ["run"]


@click.command(cls=options.QueryCommand)
@job_argument
@click.argument("endpoint", type=click.Choice(list(ENDPOINTS)), required=False)
@options.id_options
@owner_column_option
@first_owner_option
@owner_weight_option
@click.option(
    "--failed-credentials",
    type=click.Choice(get_args(FailedCredentials)),
    help="Outcome of Tweets whose owner has no credentials or refused ones: failed, or pending, so that the next run "
    "requests them again [failed].",
)
@options.query_options
@click.option("--strict", is_flag=True, help="Send no request if any line of the input is not a Tweet ID.")
@click.option("--extend", is_flag=True, help="Add those IDs from --ids that the job does not have yet.")
@run_options
@click.pass_context
@job_errors
def run(
    ctx: click.Context,
    /,
    job: Path,
    endpoint: str | None,
    files: tuple[str, ...],
    id_column: str | None,
    ids_format: str | None,
    accept_suspicious_ids: bool,
    metrics: tuple[str, ...],
    group_by: tuple[str, ...],
    start: str | None,
    end: str | None,
    strict: bool,
    extend: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Start JOB (a directory), or resume it.

    ENDPOINT and --ids are required once; later they can be omitted, and must be unchanged if they are given. Exit codes: 0
    all IDs are accounted for, 2 usage, input or configuration, 3 some IDs failed or some lines were not IDs, 4 credentials
    (with --failed-credentials pending, those of some owners: all others are done),
    5 incomplete, 6 disk, 11 another process runs it, 12 directory of another job, 13 corrupt, 129/130/143 interrupted.
    """
    directory = JobDirectory(job)
    reporter = Reporter.of(ctx.obj, as_json=as_json, quiet=quiet)
    reporter.context["job"] = text_of(job)
    command = RunCommand(ctx, directory, reporter, flags, failed_only=False)
    query = None
    if endpoint is not None:
        query = options.make_query(
            ENDPOINTS[endpoint],
            metrics=metrics,
            group_by=group_by,
            start=start,
            end=end,
            app_only=isinstance(command.credentials, BearerCredentials),
        )
        check_owned_query(query, command.credentials)
    elif metrics or group_by or start or end:
        raise UsageError("which endpoint? Name it after JOB, or leave out --metrics, --group-by, --start and --end")
    if not directory.is_started and (query is None or not files):
        raise UsageError(
            f"{text_of(job)}: no job was started here: name an endpoint and IDs, as in "
            f"`engagement backfill run {text_of(job)} totals --ids mine.csv`"
        )
    if extend and not files:
        raise UsageError("--extend: by which Tweets? Give --ids")
    heard = InputReporter(reporter, accepts_suspicious=accept_suspicious_ids)
    source = FileSource(
        files,
        id_column=id_column,
        format=ids_format,
        strict=strict,
        owner_column=command.owners.column,
        first_owner=command.owners.first_owner,
        on_warning=heard.on_warning,
        on_input=heard.on_input,
    )
    create = CreateJob(
        directory,
        query,
        source if files else None,
        extend=extend,
        options=command.remembered,
        owner_weights=command.owners.weights,
        on_reject=heard.on_reject,
        on_read=lambda ids: reporter.now_and_then("reading", f"reading: {ids:,} IDs so far", ids_read=ids),
    )
    started = create()
    heard.finish()
    _report_start(reporter, directory, started)
    return command(started.totals, started.runs)


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
    name = text_of(directory.path)
    if started.is_new:
        twice = started.ids_read - started.new_ids
        more = f" ({twice:,} stood there more than once)" if twice else ""
        reporter.note(f"{name}: a new job of {count(started.new_ids, 'ID')}{more}")
        if started.pinned is not None:
            reporter.note(f"asking from {started.pinned[0]} to {started.pinned[1]}, however long it takes")
    else:
        added = f", {started.new_ids:,} of them new" if started.new_ids else ""
        reporter.note(
            f"{name}: going on with {count(totals.ids, 'ID')}{added}; {totals.pending:,} are still to be asked"
        )
    if started.rejected > options.LISTED_REJECTS:
        reporter.note(f"{started.rejected:,} lines are no Tweet IDs: see {text_of(directory.rejects_path)}")
