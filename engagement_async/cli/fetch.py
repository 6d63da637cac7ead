"""`engagement fetch`: any number of IDs in, one merged result out, and an outcome for every ID."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import click

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.merging import Merger
from engagement_async._core.outcomes import Failure, FailureKind, count_outcomes, is_about_credentials
from engagement_async._core.owned_batches import take_turns
from engagement_async._core.query import Query
from engagement_async._core.result import EngagementResult
from engagement_async._core.tables import TableShape
from engagement_async._engine.stream import AnswerStream
from engagement_async._export.layout import TableLayout
from engagement_async._progress import Progress, ProgressMeter, contract_per_minute
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.completion import complete_files
from engagement_async.cli.config import Auth, Settings
from engagement_async.cli.connection import Connection, connection_options
from engagement_async.cli.contract import Contract, scheduler_options
from engagement_async.cli.exit_codes import INCOMPLETE, OK, SOME_FAILED, Interrupted
from engagement_async.cli.inputs import InputReporter
from engagement_async.cli.logs import check_outputs_apart, log_options, logging_as
from engagement_async.cli.metrics_file import metrics_option
from engagement_async.cli.outputs import Outputs
from engagement_async.cli.owners import (
    OwnerFlags,
    check_owned_query,
    owned_id_chunks,
    owner_fields,
    owner_options,
    read_by_owner,
    report_owners,
)
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.progress import count, duration, progress_event
from engagement_async.cli.report import Reporter
from engagement_async.cli.signals import run_async
from engagement_async.cli.table import TABLE, TableOutput
from engagement_async.cli.units import seconds
from engagement_async.client import EngagementClient
from engagement_async.credential_store import CredentialFile
from engagement_async.credentials import BearerCredentials
from engagement_async.errors import UsageError

__all__ = ["exit_code_of_result", "fetch", "gather", "report_outcomes"]

_EVEN: Mapping[str, int] = {}
_MANY = 20
"""Requests from which on it is worth a job that what was answered is kept."""


@click.command(cls=options.QueryCommand)
@options.endpoint_argument
@click.argument("tweet_ids", nargs=-1, metavar="[ID]...")
@options.id_options
@owner_options
@click.option("--strict", is_flag=True, help="Send no request if any line of the input is not a Tweet ID.")
@options.query_options
@click.option(
    "--output",
    "-o",
    type=NAMED,
    default="-",
    metavar="FILE|DIR/|-",
    shell_complete=complete_files,
    help="Where to write the result; - is stdout. {grouping} in the name, or a directory, writes one file per grouping.",
)
@options.format_options(TABLE, on_stdout="json")
@options.contract_options
@scheduler_options
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=16,
    show_default=True,
    metavar="N",
    help="Maximum requests in flight.",
)
@connection_options
@click.option("--auth", type=click.Choice(["oauth1", "bearer"]), help="Which credentials to use if both are set.")
@click.option(
    "--max-duration",
    type=NAMED,
    callback=seconds,
    metavar="TIME",
    help="Stop after 90s, 30m, 2h or 1h30m, and write what came by then. The other IDs are failed, and the exit code is 5.",
)
@log_options
@metrics_option
@options.report_options
@click.pass_obj
def fetch(
    session: Session,
    endpoint: str,
    tweet_ids: tuple[str, ...],
    files: tuple[str, ...],
    id_column: str | None,
    ids_format: str | None,
    accept_suspicious_ids: bool,
    owner_column: str | None,
    credentials_path: str | None,
    first_owner: bool,
    owner_weights: dict[str, int],
    strict: bool,
    metrics: tuple[str, ...],
    group_by: tuple[str, ...],
    start: str | None,
    end: str | None,
    output: str,
    format_: str | None,
    wide: bool,
    observed_at: bool,
    excel: bool,
    requests_per_minute: int | None,
    period: float,
    limits: tuple[str, ...],
    scheduler: str | None,
    contract: str | None,
    allow_plaintext_redis: bool,
    concurrency: int,
    base_url: str | None,
    auth: Auth | None,
    max_duration: float | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Fetch Tweets from ENDPOINT, and write one merged result.

    \b
    engagement fetch totals 1070059276213702656 --requests-per-minute 300
    engagement fetch 28hr --ids mine.csv --output hours.parquet
    engagement fetch historical --ids - --start 2026-01-01 --end 2026-03-01 -o result.json < ids.txt

    Each distinct ID is requested once, and every one is accounted for. Try it against `engagement emulator`. Exit codes: 0
    all accounted for, 2 usage, input or configuration, 3 some IDs failed or some lines were not IDs, 4 credentials, 5 some
    IDs were not answered because of an outage or the time that was given, 6 disk, 129/130/143 interrupted.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=quiet)
    settings = Settings.load(os.environ, session.flags.get("profile"))
    owners = OwnerFlags(owner_column, credentials_path, first_owner, owner_weights)
    owners.check(tweet_ids, auth=auth)
    credentials = owners.credentials(settings, auth)
    query = options.make_query(
        ENDPOINTS[endpoint],
        metrics=metrics,
        group_by=group_by,
        start=start,
        end=end,
        app_only=isinstance(credentials, BearerCredentials),
    )
    check_owned_query(query, credentials)
    connection = Connection.of(settings, session.flags, os.environ, base_url)
    shared = Contract.of(
        settings,
        settings.rate_limits(requests_per_minute, period, limits),
        credentials,
        connection.base_url,
        scheduler=scheduler,
        contract=contract,
        allow_plaintext_redis=allow_plaintext_redis,
    )
    shared.limits_of(endpoint)
    shape = TableShape(query.engagement_types if wide else (), has_observed_at=observed_at)
    has_owners = owner_column is not None
    inputs = [*files, str(credentials.path)] if isinstance(credentials, CredentialFile) else files
    outputs = _outputs(session, output, format_, query, inputs, shape=shape, excel=excel, has_owners=has_owners)
    with logging_as(session), suppress(_NothingToWrite), outputs:
        distinct: Sequence[str] | Mapping[str, Sequence[str]]
        if owner_column is None:
            distinct, rejected = options.read_distinct(
                tweet_ids,
                files,
                id_column=id_column,
                ids_format=ids_format,
                strict=strict,
                reporter=reporter,
                accept_suspicious=accept_suspicious_ids,
            )
        else:
            heard = InputReporter(reporter, accepts_suspicious=accept_suspicious_ids)
            chunks = owned_id_chunks(files, owner_column, heard, id_column=id_column, format=ids_format, strict=strict)
            distinct = read_by_owner(chunks, files, first_owner=first_owner)
            owners.check_weights(distinct)
            rejected = heard.rejected
        result = gather(query, distinct, shared, connection, reporter, concurrency, max_duration, owner_weights)
        if len(result.failed_tweet_ids) == len(result.tweet_ids) and not outputs.is_stream:
            reporter.warn(f"no ID was answered: nothing was written to {output}")
            raise _NothingToWrite
        outputs.write(result)
    report_outcomes(result, rejected, reporter)
    return exit_code_of_result(result, rejected)


class _NothingToWrite(Exception):  # noqa: N818 - no error: it leaves the files as they were
    """The result has no values, for want of answers: what an earlier fetch wrote is worth more."""


def _outputs(
    session: Session,
    output: str,
    format_: str | None,
    query: Query,
    inputs: Sequence[str],
    *,
    shape: TableShape,
    excel: bool,
    has_owners: bool,
) -> Outputs | TableOutput:
    if format_ == TABLE:
        if shape.has_observed_at or excel:
            raise UsageError("--format table is for eyes: write csv or another format for --observed-at and --excel")
        return TableOutput(output)
    layout = TableLayout(output, format_, query.groupings, shape=shape, excel=excel, stream_format="json")
    check_outputs_apart(session, layout.files())
    return Outputs(layout, query, inputs, has_owners=has_owners)


def exit_code_of_result(result: EngagementResult, rejected: int) -> int:
    """Return the exit code of a fetch that came to its end."""
    kinds = {reason.kind for reason in result.failed_tweet_ids.values() if isinstance(reason, Failure)}
    if kinds & {FailureKind.TIMEOUT, FailureKind.OUTAGE}:
        return INCOMPLETE
    return SOME_FAILED if result.failed_tweet_ids or rejected else OK


def gather(
    query: Query,
    tweet_ids: Sequence[str] | Mapping[str, Sequence[str]],
    contract: Contract,
    connection: Connection,
    reporter: Reporter,
    concurrency: int,
    max_duration_s: float | None = None,
    owner_weights: Mapping[str, int] = _EVEN,
) -> EngagementResult:
    """Return the merged answers for all IDs, or those that came within `max_duration_s`. A mapping has them by owner.

    Raise `Interrupted` if a signal came, after reporting what was done.
    """
    counts = list(map(len, tweet_ids.values())) if isinstance(tweet_ids, Mapping) else [len(tweet_ids)]
    merger = Merger(query)
    meter = ProgressMeter(sum(counts), contract_per_minute(contract.limits_of(query.endpoint.name)), time.monotonic)
    last: Progress = meter.progress(0)

    async def take(answers: AnswerStream) -> None:
        async for answer in answers:
            meter.add(count_outcomes(answer, query.engagement_types))
            merger.add(answer)

    async def run() -> None:
        client: EngagementClient | None = None

        def progress() -> Progress:
            nonlocal last
            if client is not None:
                status = client.status()
                last = meter.progress(status.requests, status.waiting_s, status.waiting_for, trouble=status.trouble)
            return last

        reporter.event(
            "started",
            endpoint=query.endpoint.name,
            ids=sum(counts),
            requests_at_least=sum(requests_for(query, count) for count in counts),
        )
        async with (
            reporter.watching(progress),
            contract.opened() as given,
            EngagementClient(contract.credentials, concurrency=concurrency, **connection.reach, **given) as opened,
        ):
            client = opened
            try:
                async with _stream(opened, query, tweet_ids, owner_weights) as answers:
                    try:
                        async with asyncio.timeout(max_duration_s):
                            await take(answers)
                    except TimeoutError:
                        await answers.give_up(opened.why_timed_out(max_duration_s or 0.0))
                        await take(answers)
            finally:
                progress()
                client = None

    try:
        run_async(run)
    except Interrupted as interrupted:
        reporter.event("interrupted", **progress_event(last), exit_code=interrupted.exit_code)
        reporter.note(
            f"interrupted: {last.ids_done:,} of {last.ids_total:,} IDs were answered for, with "
            f"{count(last.requests, 'request')}; nothing was written"
        )
        if requests_for(query, last.ids_total) >= _MANY:
            reporter.note(
                "to keep what is answered and go on after a stop, make it a job: engagement backfill run JOB ..."
            )
        raise
    reporter.event("progress", **progress_event(last))
    reporter.note(f"{count(last.ids_total, 'ID')} · {count(last.requests, 'request')} · {duration(last.elapsed_s)}")
    return merger.result()


def _stream(
    client: EngagementClient,
    query: Query,
    tweet_ids: Sequence[str] | Mapping[str, Sequence[str]],
    owner_weights: Mapping[str, int],
) -> AnswerStream:
    if not isinstance(tweet_ids, Mapping):
        return client.stream(query, tweet_ids)
    of_owners = {owner: iter(ids) for owner, ids in tweet_ids.items()}
    return client.stream_batches(query, take_turns(of_owners, query.endpoint.ids_per_request, owner_weights))


def requests_for(query: Query, ids: int) -> int:
    """How many requests so many distinct IDs take, when none has to be asked twice."""
    return -(-ids // query.endpoint.ids_per_request) * len(query.spans())


def report_outcomes(result: EngagementResult, rejected: int, reporter: Reporter) -> None:
    """Where every ID ended up, on stderr; those that failed or are forbidden one by one, with the reason."""
    outcomes = {**result.outcomes, **({"rejected": rejected} if rejected else {})}
    reporter.event(
        "finished",
        outcomes=outcomes,
        unavailable=result.unavailable_tweet_ids,
        forbidden=result.forbidden_tweet_ids,
        unsupported=result.unsupported_tweet_ids,
        failed=result.failed_tweet_ids,
        **owner_fields(result.owners),
        exit_code=exit_code_of_result(result, rejected),
    )
    reporter.counts(outcomes)
    report_owners(result.owners, reporter)
    for metric, ids in result.unsupported_tweet_ids.items():
        reporter.note(f"  {len(ids):,} have no {metric}: they are too old for it")
    reporter.listed(
        "forbidden (Tweets of other owners; ask their public metrics with --auth bearer):",
        list(result.forbidden_tweet_ids),
    )
    failed = {i: reason for i, reason in result.failed_tweet_ids.items() if not is_about_credentials(reason)}
    reporter.listed("failed:", [f"{tweet_id}: {reason}" for tweet_id, reason in failed.items()])
