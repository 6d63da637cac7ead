"""`engagement fetch`: any number of IDs in, one merged result out, and an outcome for every ID."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

import click
import orjson

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.merging import Merger
from engagement_async._core.outcomes import count_outcomes
from engagement_async._core.query import Query
from engagement_async._core.result import EngagementResult
from engagement_async._export.files import atomic_file, output_stream
from engagement_async._export.formats import write_parquet
from engagement_async._export.layout import TABLE_FORMATS
from engagement_async._export.rows import write_csv, write_jsonl
from engagement_async._progress import Progress, ProgressMeter, contract_per_minute
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.config import Auth, Settings
from engagement_async.cli.contract import Contract, scheduler_options
from engagement_async.cli.exit_codes import OK, SOME_FAILED, Interrupted
from engagement_async.cli.progress import count, duration, progress_event
from engagement_async.cli.report import Reporter
from engagement_async.cli.signals import run_async
from engagement_async.client import EngagementClient, check_query
from engagement_async.config import DEFAULT_BASE_URL
from engagement_async.errors import UsageError

__all__ = ["Outputs", "fetch", "gather", "report_outcomes"]

FORMATS: Final = ("json", *TABLE_FORMATS)
_PLACE: Final = "{grouping}"


@click.command()
@options.endpoint_argument
@click.argument("tweet_ids", nargs=-1, metavar="[ID]...")
@options.id_options
@click.option("--strict", is_flag=True, help="Send no request if any line of the input is not a Tweet ID.")
@options.query_options
@click.option(
    "--output",
    "-o",
    default="-",
    metavar="FILE|-",
    help="Where to write the result; - is stdout. {grouping} in the name writes one file per grouping.",
)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Default: by the suffix, otherwise json.")
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
@click.option("--base-url", metavar="URL", help="Address of the API. Also ENGAGEMENT_BASE_URL.")
@click.option("--auth", type=click.Choice(["oauth1", "bearer"]), help="Which credentials to use if both are set.")
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
    strict: bool,
    metrics: tuple[str, ...],
    group_by: tuple[str, ...],
    start: str | None,
    end: str | None,
    output: str,
    format_: str | None,
    requests_per_minute: int | None,
    period: float,
    scheduler: str | None,
    contract: str | None,
    allow_plaintext_redis: bool,
    concurrency: int,
    base_url: str | None,
    auth: Auth | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Fetch Tweets from ENDPOINT, and write one merged result.

    \b
    engagement fetch totals 1070059276213702656 --requests-per-minute 300
    engagement fetch 28hr --ids mine.csv --output hours.parquet
    engagement fetch historical --ids - --start 2026-01-01 --end 2026-03-01 -o result.json < ids.txt

    Each distinct ID is requested once, and every one is accounted for. Try it against `engagement emulator`. Exit codes: 0
    all accounted for, 2 usage, input or configuration, 3 some IDs failed or some lines were not IDs, 4 credentials, 6 disk,
    129/130/143 interrupted.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=quiet)
    settings = Settings.load(os.environ)
    credentials = settings.credentials(auth)
    query = options.make_query(
        ENDPOINTS[endpoint],
        metrics=metrics,
        group_by=group_by,
        start=start,
        end=end,
        app_only=credentials.is_app_only,
    )
    check_query(query, credentials)
    limit = settings.rate_limit(requests_per_minute, period)
    shared = Contract.of(
        settings,
        limit,
        credentials,
        base_url or settings.base_url or DEFAULT_BASE_URL,
        scheduler=scheduler,
        contract=contract,
        allow_plaintext_redis=allow_plaintext_redis,
    )
    with Outputs(output, format_, tuple(query.groupings)) as outputs:
        distinct, rejected = options.read_distinct(
            tweet_ids,
            files,
            id_column=id_column,
            ids_format=ids_format,
            strict=strict,
            reporter=reporter,
            accept_suspicious=accept_suspicious_ids,
        )
        result = gather(query, distinct, shared, concurrency, reporter)
        outputs.write(result)
    report_outcomes(result, rejected, reporter)
    return SOME_FAILED if result.failed_tweet_ids or rejected else OK


def gather(
    query: Query,
    tweet_ids: Sequence[str],
    contract: Contract,
    concurrency: int,
    reporter: Reporter,
) -> EngagementResult:
    """Return the merged answers for all IDs.

    Raise `Interrupted` if a signal came, after reporting what was done.
    """
    merger = Merger(query)
    meter = ProgressMeter(len(tweet_ids), contract_per_minute([contract.limit]), time.monotonic)
    last: Progress = meter.progress(0)

    async def run() -> None:
        client: EngagementClient | None = None

        def progress() -> Progress:
            nonlocal last
            if client is not None:
                status = client.status()
                last = meter.progress(status.requests, status.waiting_s, status.waiting_for)
            return last

        reporter.event(
            "started",
            endpoint=query.endpoint.name,
            ids=len(tweet_ids),
            requests_at_least=requests_for(query, len(tweet_ids)),
        )
        async with (
            reporter.watching(progress),
            contract.opened() as given,
            EngagementClient(
                contract.credentials, concurrency=concurrency, base_url=contract.base_url, **given
            ) as opened,
        ):
            client = opened
            try:
                async with opened.stream(query, tweet_ids) as answers:
                    async for answer in answers:
                        meter.add(count_outcomes(answer, query.engagement_types))
                        merger.add(answer)
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
        raise
    reporter.event("progress", **progress_event(last))
    reporter.note(f"{count(last.ids_total, 'ID')} · {count(last.requests, 'request')} · {duration(last.elapsed_s)}")
    return merger.result()


def requests_for(query: Query, ids: int) -> int:
    """How many requests so many distinct IDs take, when none has to be asked twice."""
    return -(-ids // query.endpoint.ids_per_request) * len(query.spans())


class Outputs:
    """The files of one result: opened before the first request, whole at the end or not there.

    Raises `UsageError` where the format cannot hold the groupings, or a folder is missing.
    """

    def __init__(self, output: str, format_: str | None, groupings: Sequence[str]) -> None:
        suffix = Path(output).suffix.removeprefix(".").lower()
        self.format = format_ or (suffix if suffix in FORMATS else "json")
        if self.format not in FORMATS:
            raise UsageError(f"unknown format {self.format!r}: one of {', '.join(FORMATS)}")
        self._groupings = groupings
        if self.format != "json" and len(groupings) > 1 and _PLACE not in output:
            raise UsageError(
                f"{self.format} holds one grouping, and there are {len(groupings)}: write {_PLACE} into --output, as "
                f"{_PLACE}.{self.format}, for a file of each; or take --format json"
            )
        if self.format == "parquet":
            try:
                import pyarrow  # noqa: F401 - before the first request, not after the last
            except ImportError:
                raise UsageError("Parquet needs pyarrow: pip install 'engagement-async[arrow]'") from None
            if output == "-" and sys.stdout.isatty():
                raise UsageError("Parquet is no text for a terminal: name a file with --output")
        if self.format == "json" and _PLACE in output:
            raise UsageError(f"json holds all groupings in one file: leave {_PLACE} out of --output")
        bad = [name for name in groupings if _PLACE in output and (name != os.path.basename(name) or name[0] == ".")]
        if bad:
            raise UsageError(f"the grouping {bad[0]!r} cannot be part of a file's name: name it otherwise")
        self._paths = {name: output.replace(_PLACE, name) for name in groupings if self.format != "json"}
        self._paths = self._paths or {"": output}
        self._files: dict[str, BinaryIO] = {}
        self._open = ExitStack()

    def __enter__(self) -> Outputs:
        with ExitStack() as stack:
            for name, path in self._paths.items():
                self._files[name] = stack.enter_context(output_stream(1) if path == "-" else atomic_file(path))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> bool | None:
        return self._open.__exit__(*raised)  # type: ignore[arg-type]

    def write(self, result: EngagementResult) -> None:
        """Write the result; the files are in place when the block ends."""
        for name, file in self._files.items():
            if self.format == "json":
                indent = orjson.OPT_INDENT_2 if file.isatty() else 0
                file.write(orjson.dumps(result.to_response(), option=orjson.OPT_APPEND_NEWLINE | indent))
            elif self.format == "jsonl":
                write_jsonl(file, result.rows(name))
            elif self.format == "csv":
                write_csv(file, result.rows(name), result.columns(name))
            else:
                write_parquet(file, [result.to_arrow(name)])
            file.flush()


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
        exit_code=SOME_FAILED if result.failed_tweet_ids or rejected else OK,
    )
    reporter.counts(outcomes)
    for metric, ids in result.unsupported_tweet_ids.items():
        reporter.note(f"  {len(ids):,} have no {metric}: they are too old for it")
    reporter.listed(
        "forbidden (Tweets of other owners; ask their public metrics with --auth bearer):",
        list(result.forbidden_tweet_ids),
    )
    reporter.listed("failed:", [f"{tweet_id}: {reason}" for tweet_id, reason in result.failed_tweet_ids.items()])
