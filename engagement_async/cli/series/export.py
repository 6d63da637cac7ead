"""`engagement series export`: tables out of a store."""

from __future__ import annotations

from pathlib import Path

import click

from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.completion import complete_files
from engagement_async.cli.exit_codes import OK
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.report import Reporter
from engagement_async.cli.series.common import series_errors, store_argument
from engagement_async.series import EngagementSeries

__all__ = ["export"]


@click.command(short_help="Write a table of STORE: hours, days, totals or corrections.")
@store_argument
@click.argument("table", type=click.Choice(["hours", "totals", "corrections"]), default="hours")
@click.option(
    "--output",
    "-o",
    type=NAMED,
    required=True,
    metavar="FILE|DIR/|-",
    shell_complete=complete_files,
    help="Where to write the table; - is stdout.",
)
@click.option(
    "--by",
    type=click.Choice(["hour", "day"]),
    default="hour",
    show_default=True,
    help="A row for each hour, or sums by day.",
)
@click.option(
    "--time-zone",
    type=NAMED,
    metavar="NAME",
    default="UTC",
    show_default=True,
    help="Time zone of the days, as Europe/Berlin.",
)
@options.format_options()
@options.report_options
@click.pass_obj
@series_errors
def export(
    session: Session,
    store: Path,
    table: str,
    output: str,
    by: str,
    time_zone: str,
    format_: str | None,
    wide: bool,
    observed_at: bool,
    excel: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a table of STORE: hours (or days of them), totals with their deltas, or corrections.

    \b
    engagement series export tweets.duckdb --output hours.parquet
    engagement series export tweets.duckdb --by day --time-zone Europe/Berlin --wide --output days.xlsx
    engagement series export tweets.duckdb totals --output totals.csv
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=quiet)
    files = EngagementSeries(store).export(
        output,
        table,
        by=by,
        time_zone=time_zone,
        wide=wide,
        observed_at=observed_at,
        excel=excel,
        format=format_,
    )
    for path in files:
        reporter.event("file", path=path)
        if path != "-":
            reporter.note(path)
    reporter.event("finished", files=files, exit_code=OK)
