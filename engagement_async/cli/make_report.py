"""`engagement report`: a job, a series or a result as a page to look at, or one picture of it."""

from __future__ import annotations

from pathlib import Path

import click

from engagement_async.cli.app import Session
from engagement_async.cli.backfill.common import job_errors
from engagement_async.cli.completion import complete_files
from engagement_async.cli.exit_codes import CORRUPT, LOCKED, OTHER_JOB, RESOURCE, errors_as_exit_codes
from engagement_async.cli.options import report_options
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.report import Reporter
from engagement_async.errors import OtherSeriesError, SeriesCorruptError, SeriesError, SeriesLockedError
from engagement_async.reports.report import FORMATS, write_report

__all__ = ["report"]

_series_errors = errors_as_exit_codes(
    SeriesError,
    ((SeriesLockedError, LOCKED), (OtherSeriesError, OTHER_JOB), (SeriesCorruptError, CORRUPT)),
    otherwise=RESOURCE,
)


@click.command()
@click.argument("source", type=click.Path(path_type=Path), shell_complete=complete_files)
@click.option(
    "--output",
    "-o",
    type=NAMED,
    default="report.html",
    show_default=True,
    metavar="FILE|-",
    shell_complete=complete_files,
    help="Where to write it; - is stdout.",
)
@click.option(
    "--picture",
    type=NAMED,
    metavar="NAME",
    help="Write one picture as svg or png: hours, top, week, half-life, outcomes, owners, requests, latency, retries.",
)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Default: by the suffix; html on stdout.")
@click.option("--title", type=NAMED, metavar="TEXT", help="The heading of the page.")
@click.option(
    "--dark",
    "is_dark",
    is_flag=True,
    help="Draw a single picture for a dark page. The HTML page follows the reader's setting.",
)
@report_options
@click.pass_obj
@job_errors
@_series_errors
def report(
    session: Session,
    source: Path,
    output: str,
    picture: str | None,
    format_: str | None,
    title: str | None,
    is_dark: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make a page with pictures of SOURCE: a job's directory, a series store, or a file that a result was saved to.

    \b
    engagement report jobs/may
    engagement report tweets.duckdb --output tweets.html
    engagement report hours.parquet --picture week --output week.png

    The page is one file that loads nothing: metrics over time, top Tweets, hour of day by weekday, half-life, IDs that are
    gone; of a job also requests a minute against the contract, latencies and retries. What a job used run by run, as text or
    JSON, is in `engagement backfill usage`.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=quiet)
    write_report(source, output, picture=picture, format=format_, title=title, is_dark=is_dark)
    reporter.event("file", path=output)
    if output != "-":
        reporter.note(output)
