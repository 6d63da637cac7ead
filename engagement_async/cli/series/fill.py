"""`engagement series fill`: the gaps of a store, from historical."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engagement_async._core.endpoints import HISTORICAL
from engagement_async.cli.logs import logging_as
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.progress import count
from engagement_async.cli.report import Reporter
from engagement_async.cli.series.common import (
    Puller,
    exit_code_of_pulls,
    interruption_told,
    report_pull,
    run_options,
    series_errors,
    store_argument,
)
from engagement_async.cli.signals import run_async
from engagement_async.series import EngagementSeries, PullReport

__all__ = ["fill"]


@click.command(short_help="Close the gaps of STORE from historical.")
@store_argument
@click.option(
    "--start",
    type=NAMED,
    metavar="TIME",
    help="Extend the series of all Tweets back to this hour (UTC), as 2026-01-01 or 2026-01-01T12:00:00Z.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be requested, and send nothing.")
@run_options
@click.pass_context
@series_errors
def fill(
    ctx: click.Context, /, store: Path, start: str | None, dry_run: bool, as_json: bool, quiet: bool, **flags: Any
) -> int:
    """Close the gaps of STORE from historical, in spans of at most four weeks.

    Each span is kept once it is answered. Exit codes: as for `pull`.
    """
    reporter = Reporter.of(ctx.obj, as_json=as_json, quiet=quiet)
    series = EngagementSeries(store)
    plan = series.fill_plan(start=start)
    for span in plan if dry_run else ():
        click.echo(
            f"{span.starts_at:%Y-%m-%d %H:%M} to {span.ends_at:%Y-%m-%d %H:%M} UTC: "
            f"{count(len(span.tweets), 'Tweet')}, {count(span.requests, 'request')}"
        )
    if dry_run:
        return 0
    puller = Puller(series, flags, ctx.obj.flags, reporter)
    metrics = series.metrics() or ()

    async def main() -> list[PullReport]:
        async with (
            puller.opened(HISTORICAL) as client,
            puller.watched(client, HISTORICAL, sum(len(span.tweets) for span in plan), metrics) as on_answer,
        ):
            return await series.fill(client, start=start, on_answer=on_answer)

    with logging_as(ctx.obj), interruption_told(reporter, "interrupted: the spans that were answered are in the store"):
        reports = run_async(main)
    for report in reports:
        report_pull(report, reporter)
    left = len(series.gaps())
    if not reports:
        reporter.note("there are no gaps to fill")
    elif left:
        reporter.warn(f"{count(left, 'gap')} left: engagement series status {store}")
    exit_code = exit_code_of_pulls(reports)
    reporter.event("finished", exit_code=exit_code)
    return exit_code
