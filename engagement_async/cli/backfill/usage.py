"""`engagement backfill usage`: what a job has used, run by run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click

from engagement_async._core.words import owner_text
from engagement_async.backfill.directory import JobDirectory, JobStatus
from engagement_async.cli.backfill.common import job_argument, job_errors, json_option, text_of
from engagement_async.cli.backfill.status import owner_fields
from engagement_async.cli.progress import duration
from engagement_async.cli.streams import json_line, printable

__all__ = ["report", "usage"]

_LISTED_OWNERS = 20


@click.command(short_help="Show the requests, IDs and minutes of each run of JOB.")
@job_argument
@json_option
@job_errors
def usage(job: Path, as_json: bool) -> None:
    """Show the requests, IDs and minutes that JOB has used, by run and by owner.

    A run that was killed sent at least what it last recorded, and at most twice its concurrency more; five times under a
    contract of at least 200 times its concurrency requests a window. For a page with pictures of a job and its data, see
    `engagement report JOB`.
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
        owners = owner_fields(found.owners)
        if owners:
            owners["owner_requests_are_exact"] = found.owner_requests_are_exact
        click.echo(json_line({"job": text_of(job), **totals, "runs": runs, **owners}))
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
    for line in _owner_lines(found):
        click.echo(printable(line))


def _owner_lines(found: JobStatus) -> Iterator[str]:
    """Yield what was spent on owners, the worst first; nothing where there are none."""
    owners = found.owners
    if not owners:
        return
    refused = sum(its.error is not None for its in owners.values())
    yield f"{len(owners):,} owners, {refused:,} of them with unusable credentials"
    listed = [(owner_text(owner), its) for owner, its in islice(owners.items(), _LISTED_OWNERS)]
    width = max(map(len, ("owner", *(name for name, _ in listed))))
    yield f"{'owner':<{width}}{'requests':>12}{'IDs':>14}{'failed':>12}{'forbidden':>12}{'pending':>12}"
    for name, its in listed:
        requests = _at_least(its.requests, found.owner_requests_are_exact)
        outcomes = its.outcomes
        yield (
            f"{name:<{width}}{requests:>12}{its.ids:>14,}{outcomes.failed:>12,}{outcomes.forbidden:>12,}"
            f"{its.pending:>12,}"
        )
    if len(owners) > len(listed):
        yield f"and {len(owners) - len(listed):,} more: --json has all of them"


def _at_least(number: int, is_exact: bool) -> str:
    return f"{number:,}" if is_exact else f"≥ {number:,}"


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


report = click.Command(
    "report",
    callback=usage.callback,
    params=usage.params,
    help="The earlier name of `usage`. For a page with pictures, see `engagement report JOB`.",
    hidden=True,
)
