"""`engagement backfill export`: the tables of a job."""

from __future__ import annotations

from pathlib import Path

import click

from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.exporter import PART_IDS, Exporter
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.backfill.common import job_argument, job_errors, outcome_counts, text_of
from engagement_async.cli.completion import complete_files
from engagement_async.cli.exit_codes import OK
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.report import Reporter

__all__ = ["export"]


@click.command(short_help="Write the tables of JOB.")
@job_argument
@click.option(
    "--output",
    "-o",
    type=NAMED,
    required=True,
    metavar="FILE|DIR/|-",
    shell_complete=complete_files,
    help="A file, or a directory of parts.",
)
@options.format_options()
@click.option(
    "--outcomes",
    type=NAMED,
    metavar="FILE",
    shell_complete=complete_files,
    help="Also write every ID that lacks values, and why: .csv, .jsonl, .parquet ...",
)
@click.option("--partial", is_flag=True, help="Export what an incomplete job has so far.")
@click.option("--follow", is_flag=True, help="Write parts as they become complete, until the job is done.")
@click.option(
    "--only-owner",
    "only_owners",
    type=NAMED,
    multiple=True,
    metavar="OWNER",
    help="Export the Tweets of this owner alone. May be repeated.",
)
@click.option("--part-ids", type=click.IntRange(min=1), default=PART_IDS, show_default=True, help="IDs per part.")
@options.report_options
@click.pass_obj
@job_errors
def export(
    session: Session,
    job: Path,
    output: str,
    format_: str | None,
    wide: bool,
    observed_at: bool,
    excel: bool,
    outcomes: str | None,
    partial: bool,
    follow: bool,
    only_owners: tuple[str, ...],
    part_ids: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the tables of JOB: one row per value, Tweets in input order.

    \b
    engagement backfill export jobs/may --output may.parquet --outcomes gone.csv
    engagement backfill export jobs/may --output parts/ --format jsonl --follow

    {grouping} in the name writes one file per grouping; DuckDB, Excel and JSON have all of them.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=quiet)
    reporter.context["job"] = text_of(job)

    def on_file(path: str) -> None:
        reporter.event("file", path=path)
        reporter.note(text_of(Path(path)))

    exporter = Exporter(
        JobDirectory(job),
        output,
        format=format_,
        wide=wide,
        observed_at=observed_at,
        excel=excel,
        outcomes=outcomes,
        partial=partial,
        part_ids=part_ids,
        only_owners=only_owners,
        on_file=on_file,
        on_progress=lambda done, total: reporter.now_and_then(
            "exporting", f"writing: {done:,} of {total:,} batches", batches_done=done, batches_total=total
        ),
    )
    done = exporter.follow() if follow else exporter.export()
    if done.pending:
        reporter.warn(f"{done.pending:,} IDs are still to be asked: this export is not the whole job")
    if done.windows is not None:
        reporter.warn(
            f"the answers are of different hours, those that begin at {done.windows[0]} to those at {done.windows[1]}: "
            "sums over Tweets mix them"
        )
    reporter.event("finished", files=done.files, outcomes=outcome_counts(done.totals), exit_code=OK)
