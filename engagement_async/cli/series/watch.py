"""`engagement series watch`: pulls on a schedule, until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engagement_async._core.endpoints import HISTORICAL, LAST_28_HOURS
from engagement_async.cli.logs import logging_as
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.progress import duration
from engagement_async.cli.report import Reporter
from engagement_async.cli.series.common import (
    ENDPOINTS,
    Puller,
    endpoint_argument,
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
from engagement_async.cli.units import seconds
from engagement_async.credentials import BearerCredentials
from engagement_async.errors import UsageError
from engagement_async.series import EngagementSeries, PullReport

__all__ = ["watch"]

_WINDOW_S = 27 * 3600.0
"""Of the 28 hours, the one that is running is not whole."""


@click.command(short_help="Pull on a schedule, and fill the gaps, until a signal comes.")
@store_argument
@endpoint_argument
@click.option(
    "--every",
    type=NAMED,
    callback=seconds,
    required=True,
    metavar="TIME",
    help="Time from one pull to the next, as 6h. Below 27h the windows of 28 hours meet.",
)
@click.option(
    "--jitter",
    type=NAMED,
    callback=seconds,
    metavar="TIME",
    help="Add up to so much at random. Default: a twentieth of --every.",
)
@click.option("--no-fill", is_flag=True, help="Leave gaps as they are, instead of filling them after each pull.")
@tweet_options
@run_options
@click.pass_context
@series_errors
def watch(
    ctx: click.Context,
    /,
    store: Path,
    endpoint: str,
    every: float,
    jitter: float | None,
    no_fill: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Pull into STORE on a schedule, and fill the gaps, until a signal comes.

    \b
    engagement series watch tweets.duckdb --ids mine.csv --every 6h

    The files of --ids and the --query are read again before each pull; stdin is read once. A pull that is late, as after the
    machine slept, is made at once. A pull that fails for an outage is tried again after a growing pause. SIGTERM and SIGINT
    stop it (exit codes 143 and 130), and a pull that is under way then adds nothing. Other exit codes: as for `pull`.
    """
    reporter = Reporter.of(ctx.obj, as_json=as_json, quiet=quiet)
    series = EngagementSeries(store)
    puller = Puller(series, flags, ctx.obj.flags, reporter)
    asked = ENDPOINTS[endpoint]
    jitter = every / 20 if jitter is None else jitter
    fills = asked is LAST_28_HOURS and not no_fill
    if asked is LAST_28_HOURS and every + jitter > _WINDOW_S:
        reporter.warn(
            f"--every {duration(every)} leaves a gap between the windows of 28 hours each time: take 24h or less"
        )
    is_stdin = "-" in flags["files"]
    known = series.metrics(asked)
    metrics = given_metrics(
        flags, asked, app_only=isinstance(puller.credentials, BearerCredentials), is_new=known is None
    )
    first = tweets_of(series, flags, reporter)[0]
    if first is None and (known is None or not series.tracked()):
        raise UsageError("which Tweets? Give --ids FILE, or --ids - for stdin")

    def on_pull(report: PullReport) -> None:
        report_pull(report, reporter)

    async def main() -> None:
        async with puller.opened(asked) as client:
            if fills:
                puller.check(HISTORICAL)
            await series.watch(
                client,
                lambda: first if is_stdin else tweets_of(series, flags, reporter)[0],
                every_s=every,
                jitter_s=jitter,
                endpoint=asked,
                engagement_types=metrics,
                fills=fills,
                on_pull=on_pull,
            )

    with logging_as(ctx.obj), interruption_told(reporter, "stopped: what was pulled is in the store"):
        run_async(main)
