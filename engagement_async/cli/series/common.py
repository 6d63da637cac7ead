"""What the subcommands share: the store, its Tweets, the client that pulls, errors as exit codes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from engagement_async._core.answer import Answer
from engagement_async._core.endpoints import LAST_28_HOURS, TOTALS, Endpoint
from engagement_async._core.outcomes import Failure, FailureKind, count_outcomes
from engagement_async._progress import Progress, ProgressMeter, contract_per_minute
from engagement_async.cli import options
from engagement_async.cli.completion import complete_files
from engagement_async.cli.config import Settings
from engagement_async.cli.connection import Connection, connection_options
from engagement_async.cli.contract import Contract, scheduler_options
from engagement_async.cli.exit_codes import (
    CORRUPT,
    INCOMPLETE,
    LOCKED,
    OK,
    OTHER_JOB,
    RESOURCE,
    SOME_FAILED,
    Interrupted,
    errors_as_exit_codes,
)
from engagement_async.cli.inputs import InputReporter
from engagement_async.cli.logs import log_options
from engagement_async.cli.metrics_file import metrics_option
from engagement_async.cli.owners import (
    OwnerFlags,
    credentials_option,
    first_owner_option,
    owned_id_chunks,
    owner_column_option,
    read_by_owner,
)
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.progress import count
from engagement_async.cli.report import Reporter
from engagement_async.client import EngagementClient
from engagement_async.credential_store import CredentialFile
from engagement_async.credentials import BearerCredentials, OAuth1Credentials
from engagement_async.errors import OtherSeriesError, SeriesCorruptError, SeriesError, SeriesLockedError, UsageError
from engagement_async.series import EngagementSeries, PullReport
from engagement_async.series.database import NoStoreError

__all__ = [
    "ENDPOINTS",
    "Puller",
    "endpoint_argument",
    "exit_code_of_pulls",
    "given_metrics",
    "interruption_told",
    "report_pull",
    "run_options",
    "series_errors",
    "store_argument",
    "tweet_options",
    "tweets_of",
]


_CODES: tuple[tuple[type[SeriesError], int], ...] = (
    (SeriesLockedError, LOCKED),
    (OtherSeriesError, OTHER_JOB),
    (SeriesCorruptError, CORRUPT),
)
ENDPOINTS = {endpoint.name: endpoint for endpoint in (LAST_28_HOURS, TOTALS)}
"""What can be pulled."""

store_argument = click.argument("store", type=click.Path(path_type=Path, dir_okay=False), shell_complete=complete_files)
endpoint_argument = click.argument("endpoint", type=click.Choice(list(ENDPOINTS)), default=LAST_28_HOURS.name)

tweet_options = options.all_of(
    options.id_options,
    owner_column_option,
    first_owner_option,
    click.option(
        "--query",
        type=NAMED,
        metavar="SQL",
        help='Pull the Tweets that a query on the store finds, as "SELECT tweet_id FROM tweets WHERE ...".',
    ),
    click.option(
        "--metrics",
        type=NAMED,
        multiple=True,
        metavar="A,B",
        help="Engagement types of the first pull; later pulls have the same. Default: all.",
    ),
)

run_options = options.all_of(
    options.contract_options,
    scheduler_options,
    click.option(
        "--concurrency",
        type=click.IntRange(1, 1000),
        default=16,
        show_default=True,
        metavar="N",
        help="Maximum requests in flight.",
    ),
    connection_options,
    credentials_option,
    click.option("--auth", type=click.Choice(["oauth1", "bearer"]), help="Which credentials to use if both are set."),
    log_options,
    metrics_option,
    options.report_options,
)


series_errors = errors_as_exit_codes(SeriesError, _CODES, otherwise=RESOURCE)
"""Turns what is wrong with a store into exit codes."""


def tweets_of(
    series: EngagementSeries, flags: dict[str, Any], reporter: Reporter
) -> tuple[Sequence[str | tuple[str, str]] | None, int]:
    """Return the Tweets that the options name, or None for all of the store; and how many lines were not IDs."""
    sql, files = flags["query"], flags["files"]
    tweets: dict[str | tuple[str, str], None] = {}
    rejected = 0
    if sql is not None:
        found = series.select(sql)
        has_owners = any(owner for owner, _ in found)
        tweets.update(dict.fromkeys(found) if has_owners else dict.fromkeys(tweet_id for _, tweet_id in found))
        if not tweets:
            raise UsageError(f"--query finds no Tweets: {sql}")
    if files and flags["owner_column"] is not None:
        heard = InputReporter(reporter, accepts_suspicious=flags["accept_suspicious_ids"])
        chunks = owned_id_chunks(
            files, flags["owner_column"], heard, id_column=flags["id_column"], format=flags["ids_format"]
        )
        by_owner = read_by_owner(chunks, files, first_owner=flags["first_owner"])
        tweets.update(dict.fromkeys((owner, tweet_id) for owner, ids in by_owner.items() for tweet_id in ids))
        rejected = heard.rejected
    elif files:
        ids, rejected = options.read_distinct(
            (),
            files,
            id_column=flags["id_column"],
            ids_format=flags["ids_format"],
            strict=False,
            reporter=reporter,
            accept_suspicious=flags["accept_suspicious_ids"],
        )
        tweets.update(dict.fromkeys(ids))
    return (list(tweets) if tweets else None), rejected


class Puller:
    """The client of a command, and its progress. Everything is checked before a request is sent."""

    def __init__(
        self, series: EngagementSeries, flags: dict[str, Any], session_flags: dict[str, Any], reporter: Reporter
    ) -> None:
        settings = Settings.load(os.environ, session_flags.get("profile"))
        self.credentials = _credentials(series, flags, settings)
        self._connection = Connection.of(settings, session_flags, os.environ, flags["base_url"])
        self._contract = Contract.of(
            settings,
            settings.rate_limits(flags["requests_per_minute"], flags["period"], flags["limits"]),
            self.credentials,
            self._connection.base_url,
            scheduler=flags["scheduler"],
            contract=flags["contract"],
            allow_plaintext_redis=flags["allow_plaintext_redis"],
        )
        self._concurrency: int = flags["concurrency"]
        self._reporter = reporter

    def check(self, endpoint: Endpoint) -> None:
        """Raise `UsageError` if there is no limit for an endpoint."""
        self._contract.limits_of(endpoint.name)

    @asynccontextmanager
    async def opened(self, endpoint: Endpoint) -> AsyncIterator[EngagementClient]:
        """Yield the client. Raise `UsageError` if there is no limit for an endpoint."""
        self.check(endpoint)
        async with (
            self._contract.opened() as given,
            EngagementClient(
                self.credentials, concurrency=self._concurrency, **self._connection.reach, **given
            ) as client,
        ):
            yield client

    @asynccontextmanager
    async def watched(
        self, client: EngagementClient, endpoint: Endpoint, tweets: int, metrics: Sequence[str]
    ) -> AsyncIterator[Callable[[Answer], None]]:
        """Show the progress of a pull while the block runs; yield what is to be called with each answer."""
        per_minute = contract_per_minute(self._contract.limits_of(endpoint.name))
        meter = ProgressMeter(tweets, per_minute, time.monotonic)

        def progress() -> Progress:
            status = client.status()
            return meter.progress(status.requests, status.waiting_s, status.waiting_for, trouble=status.trouble)

        async with self._reporter.watching(progress):
            yield lambda answer: meter.add(count_outcomes(answer, metrics))


def _credentials(
    series: EngagementSeries, flags: dict[str, Any], settings: Settings
) -> OAuth1Credentials | BearerCredentials | CredentialFile:
    """Return the credentials of the owners, if the Tweets or those of the store have any; otherwise the only ones."""
    column, path, auth = flags.get("owner_column"), flags["credentials_path"], flags["auth"]
    has_owners = False
    with suppress(NoStoreError):
        has_owners = any(owner for owner, _ in series.tracked())
    if column is None and has_owners:
        if flags.get("files"):
            raise OtherSeriesError(
                f"{series.path}: the Tweets of this series have owners: name their column with --owner-column"
            )
        if auth is not None:
            raise UsageError("--auth: this series has Tweets of many owners, whose tokens are in --credentials")
        return settings.credential_file(path)
    owners = OwnerFlags(column, path, flags.get("first_owner", False))
    owners.check(auth=auth)
    return owners.credentials(settings, auth)


@contextmanager
def interruption_told(reporter: Reporter, note: str) -> Iterator[None]:
    """Say what a signal left behind, when one ends the block."""
    try:
        yield
    except Interrupted as interrupted:
        reporter.event("interrupted", exit_code=interrupted.exit_code)
        reporter.note(note)
        raise


def given_metrics(flags: dict[str, Any], endpoint: Endpoint, *, app_only: bool, is_new: bool) -> list[str] | None:
    """Return the metrics of the options; of a new series with a Bearer token, the public ones."""
    names = [name.strip() for text in flags["metrics"] for name in text.split(",") if name.strip()]
    if names:
        return names
    return list(endpoint.public_metrics) if app_only and is_new and endpoint.public_metrics else None


def report_pull(report: PullReport, reporter: Reporter) -> None:
    """Say what a pull came to."""
    hours = f" · {report.starts_at:%Y-%m-%d %H:%M} to {report.ends_at:%Y-%m-%d %H:%M} UTC" if report.starts_at else ""
    reporter.event(
        "pulled",
        endpoint=report.endpoint,
        starts_at=report.starts_at,
        ends_at=report.ends_at,
        requests=report.requests,
        answered=report.answered,
        unavailable=report.unavailable,
        forbidden=report.forbidden,
        failed=dict(report.failed_tweet_ids),
        corrections=report.corrections,
    )
    parts = [f"{report.endpoint}: {count(report.answered, 'Tweet')}", count(report.requests, "request")]
    if report.unavailable:
        parts.append(f"{report.unavailable:,} gone")
    if report.forbidden:
        parts.append(f"{report.forbidden:,} of other owners")
    reporter.note(" · ".join(parts) + hours)
    if report.corrections:
        reporter.warn(
            f"the API lowered {count(report.corrections, 'value')} that it gave before: see the table corrections"
        )
    reporter.listed(
        "failed, and a gap in the series:",
        [f"{tweet_id}: {reason}" for tweet_id, reason in report.failed_tweet_ids.items()],
    )


def exit_code_of_pulls(reports: Sequence[PullReport], rejected: int = 0) -> int:
    """Return the exit code of pulls that came to their end."""
    failures = [reason for report in reports for reason in report.failed_tweet_ids.values()]
    kinds = {reason.kind for reason in failures if isinstance(reason, Failure)}
    if kinds & {FailureKind.TIMEOUT, FailureKind.OUTAGE}:
        return INCOMPLETE
    return SOME_FAILED if failures or rejected else OK
