"""`engagement backfill`: durable jobs of millions of IDs in a directory. One file per subcommand."""

from __future__ import annotations

import click

from engagement_async.cli.app import Group
from engagement_async.cli.backfill.export import export
from engagement_async.cli.backfill.retry_failed import retry_failed
from engagement_async.cli.backfill.run import run
from engagement_async.cli.backfill.status import status
from engagement_async.cli.backfill.usage import report, usage
from engagement_async.cli.backfill.verify import verify

__all__ = ["backfill"]


@click.group(cls=Group)
def backfill() -> None:
    """Fetch millions of Tweets, in as many runs as it takes.

    \b
    engagement backfill run jobs/may totals --ids mine.csv --requests-per-minute 300
    engagement backfill status jobs/may
    engagement backfill export jobs/may --output may.parquet

    A job is a directory. It can be killed at any moment: `backfill run JOB` resumes it, and repeats no request but those
    whose answers were not on the disk yet. An export is the same, byte for byte, however often that happened.
    """


for command in (run, retry_failed, status, export, verify, usage, report):
    backfill.add_command(command)
