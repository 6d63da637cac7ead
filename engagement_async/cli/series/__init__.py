"""`engagement series`: a running series in a DuckDB file. One file per subcommand."""

from __future__ import annotations

import click

from engagement_async.cli.app import Group
from engagement_async.cli.series.export import export
from engagement_async.cli.series.fill import fill
from engagement_async.cli.series.pull import pull
from engagement_async.cli.series.status import status
from engagement_async.cli.series.watch import watch

__all__ = ["series"]


@click.group(cls=Group)
def series() -> None:
    """Keep a running series of Tweets: one row for each Tweet, metric and hour, in a DuckDB file.

    \b
    engagement series pull tweets.duckdb --ids mine.csv --requests-per-minute 300
    engagement series fill tweets.duckdb
    engagement series status tweets.duckdb
    engagement series export tweets.duckdb --by day --output days.csv

    Pulls may overlap and be repeated: an hour is replaced when a pull saw more of it, and never added to. Hours between
    pulls that nobody saw are known, and `fill` gets them. A pull that is killed leaves the file as it was.
    """


for command in (pull, fill, watch, export, status):
    series.add_command(command)
