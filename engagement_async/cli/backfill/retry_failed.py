"""`engagement backfill retry-failed`: request the failed IDs of a job once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engagement_async.backfill.directory import JobDirectory
from engagement_async.cli.backfill.common import job_argument, job_errors, text_of
from engagement_async.cli.backfill.run_command import RunCommand, run_options
from engagement_async.cli.report import Reporter

__all__ = ["retry_failed"]


@click.command("retry-failed")
@job_argument
@run_options
@click.pass_context
@job_errors
def retry_failed(ctx: click.Context, /, job: Path, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Request the failed IDs of JOB once more. Exit codes as for `run`: 5 if IDs are still pending."""
    directory = JobDirectory(job)
    directory.must_exist()
    reporter = Reporter.of(ctx.obj, as_json=as_json, quiet=quiet)
    reporter.context["job"] = text_of(job)
    command = RunCommand(ctx, directory, reporter, flags, failed_only=True)
    status = directory.status()
    return command(status.totals, len(status.runs))
