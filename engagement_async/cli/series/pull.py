"""`engagement series pull`: the last 28 hours, or a snapshot of totals, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engagement_async.cli.logs import logging_as
from engagement_async.cli.report import Reporter
from engagement_async.cli.series.common import (
    ENDPOINTS,
    Puller,
    endpoint_argument,
    exit_code_of_pulls,
    given_metrics,
    interruption_told,
    report_pull,
    run_options,
    series_errors,
    store_argument,
    tweet_options,
    tweets_of,
)
from engagement_async.cli.signals import run_async
from engagement_async.credentials import BearerCredentials
from engagement_async.series import EngagementSeries, PullReport

__all__ = ["pull"]


@click.command(short_help="Pull the last 28 hours of Tweets, or their totals, into STORE.")
@store_argument
@endpoint_argument
@tweet_options
@run_options
@click.pass_context
@series_errors
def pull(ctx: click.Context, /, store: Path, endpoint: str, as_json: bool, quiet: bool, **flags: Any) -> int:
    """Pull the last 28 hours of Tweets into STORE, or a snapshot of their totals.

    \b
    engagement series pull tweets.duckdb --ids mine.csv
    engagement series pull tweets.duckdb
    engagement series pull tweets.duckdb totals

    Without --ids and --query all Tweets of the store are pulled. Exit codes: 0 all accounted for, 2 usage, input or
    configuration, 3 some IDs failed or some lines were not IDs, 4 credentials, 5 no answer because of an outage, 6 disk, 11
    another pull is at work, 12 the file is no such store, 13 damaged, 129/130/143 interrupted: the store is as before.
    """
    reporter = Reporter.of(ctx.obj, as_json=as_json, quiet=quiet)
    series = EngagementSeries(store)
    puller = Puller(series, flags, ctx.obj.flags, reporter)
    asked = ENDPOINTS[endpoint]
    known = series.metrics(asked)
    metrics = given_metrics(
        flags, asked, app_only=isinstance(puller.credentials, BearerCredentials), is_new=known is None
    )
    tweets, rejected = tweets_of(series, flags, reporter)
    total = len(tweets) if tweets is not None else len(series.tracked())

    async def main() -> PullReport:
        async with (
            puller.opened(asked) as client,
            puller.watched(client, asked, total, metrics or known or asked.metrics) as on_answer,
        ):
            return await series.pull(client, tweets, endpoint=asked, engagement_types=metrics, on_answer=on_answer)

    with logging_as(ctx.obj), interruption_told(reporter, "interrupted: a pull is added as a whole, or not at all"):
        report = run_async(main)
    report_pull(report, reporter)
    exit_code = exit_code_of_pulls([report], rejected)
    reporter.event("finished", exit_code=exit_code)
    return exit_code
