"""`engagement backfill usage`: what a job has used, run by run."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from engagement_async.backfill.directory import JobDirectory
from engagement_async.cli.backfill.common import job_argument, job_errors, json_option, text_of
from engagement_async.cli.backfill.status import owner_fields
from engagement_async.cli.progress import duration
from engagement_async.cli.streams import json_line

__all__ = ["report", "usage"]


@click.command()
@job_argument
@json_option
@job_errors
def usage(job: Path, as_json: bool) -> None:
    """Show what JOB has used: requests, IDs, minutes, run by run.

    A run that was killed sent at least what it last recorded, and at most three times its concurrency more. For a page with
    pictures of a job and its data, see `engagement report JOB`.
    """
    found = JobDirectory(job).status()
    ids = sum(run.ids for run in found.runs)
    seconds = sum(run.seconds for run in found.runs)
    if as_json:
        totals = {
            "requests": found.requests,
            "requests_are_exact": found.requests_are_exact,
            "ids": ids,
            "minutes": round(seconds / 60, 2),
        }
        runs = [{**asdict(run), "requests_are_exact": run.is_exact} for run in found.runs]
        click.echo(json_line({"job": text_of(job), **totals, "runs": runs, **owner_fields(found.owners)}))
        return
    click.echo(f"{'run began (UTC)':<20}{'requests':>12}{'IDs':>14}{'time':>16}  ended")
    for run in found.runs:
        ended = run.outcome or ("runs" if found.is_running and run is found.runs[-1] else "killed")
        click.echo(
            f"{_instant(run.began_at):<20}{_at_least(run.requests, run.is_exact):>12}{run.ids:>14,}"
            f"{duration(run.seconds):>16}  {ended.replace('_', ' ')}"
        )
    requests = _at_least(found.requests, found.requests_are_exact)
    click.echo(f"{'all':<20}{requests:>12}{ids:>14,}{duration(seconds):>16}")
    if found.owners:
        refused = sum(its.error is not None for its in found.owners.values())
        click.echo(f"{len(found.owners):,} owners; the credentials of {refused:,} were of no use")


def _at_least(number: int, is_exact: bool) -> str:
    return f"{number:,}" if is_exact else f"≥ {number:,}"


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


report = click.Command(
    "report", callback=usage.callback, params=usage.params, help="The earlier name of `usage`.", hidden=True
)
