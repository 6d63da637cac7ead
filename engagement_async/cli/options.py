"""Options that commands share, and what they turn into: a query, a rate limit, the list of distinct IDs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from engagement_async._core.endpoints import ENDPOINTS, Endpoint
from engagement_async._core.query import FULL_ORDERS, Query
from engagement_async._core.unique_ids import UniqueIds
from engagement_async._export.layout import FORMATS
from engagement_async._ids import reading
from engagement_async.cli.completion import complete_files, complete_group_by, complete_metrics
from engagement_async.cli.inputs import LISTED_REJECTS, InputReporter, id_chunks
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.report import Reporter
from engagement_async.errors import UsageError

__all__ = [
    "LISTED_REJECTS",
    "QueryCommand",
    "all_of",
    "contract_options",
    "endpoint_argument",
    "format_options",
    "id_options",
    "make_query",
    "query_options",
    "read_distinct",
    "report_options",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def all_of(*decorators: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Return several options as one decorator, which `--help` lists in this order."""

    def decorate(command: _Command) -> _Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


class QueryCommand(click.Command):
    """A command whose help ends with the metrics and the `group_by` values of each endpoint."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        for title, names_of in (
            ("Metrics (* also with a Bearer token)", _marked_metrics),
            ("Items of --group-by", lambda endpoint: list(endpoint.group_by)),
        ):
            with formatter.section(title):
                formatter.write_dl([(name, ", ".join(names_of(endpoint))) for name, endpoint in ENDPOINTS.items()])
        super().format_epilog(ctx, formatter)


def _marked_metrics(endpoint: Endpoint) -> list[str]:
    return [f"{metric}*" if metric in endpoint.public_metrics else metric for metric in endpoint.metrics]


endpoint_argument = click.argument("endpoint", type=click.Choice(list(ENDPOINTS)))

id_options = all_of(
    click.option(
        "--ids",
        "files",
        type=NAMED,
        multiple=True,
        metavar="FILE|DIR|-",
        shell_complete=complete_files,
        help="Tweet IDs or Tweets in text, CSV, JSON, Parquet, Arrow or Excel, also compressed; - is stdin. Repeatable.",
    ),
    click.option(
        "--id-column",
        type=NAMED,
        metavar="NAME|N",
        help="Column of the IDs, by name or number. Default: tweet_id, Post id, id_str, id or the like.",
    ),
    click.option(
        "--ids-format", type=click.Choice(reading.FORMATS), help="Format of the files. Default: recognized by content."
    ),
    click.option(
        "--accept-suspicious-ids",
        is_flag=True,
        help="Go on with IDs that look like row numbers, or as if a spreadsheet had rounded them.",
    ),
)

query_options = all_of(
    click.option(
        "--metrics",
        type=NAMED,
        multiple=True,
        metavar="A,B",
        shell_complete=complete_metrics,
        help="Engagement types, listed below. Default: all that the endpoint and the credentials allow.",
    ),
    click.option(
        "--group-by",
        type=NAMED,
        multiple=True,
        metavar="[NAME=]A,B",
        shell_complete=complete_group_by,
        help="A grouping, in nesting order; up to three. Default: tweet.id,engagement.type and, where there are any, "
        "engagement.day,engagement.hour.",
    ),
    click.option(
        "--start",
        type=NAMED,
        metavar="TIME",
        help="For historical: inclusive start, as 2015-08-01 or 2015-07-01T12:24:00Z.",
    ),
    click.option("--end", type=NAMED, metavar="TIME", help="For historical: exclusive end."),
)

contract_options = all_of(
    click.option(
        "--requests-per-minute",
        type=click.IntRange(min=1),
        metavar="N",
        help="Rate limit in your contract. Also ENGAGEMENT_REQUESTS_PER_MINUTE. Has no default.",
    ),
    click.option(
        "--period",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        metavar="S",
        help="Length of the rate-limit window in seconds.",
    ),
    click.option(
        "--limit",
        "limits",
        type=NAMED,
        multiple=True,
        metavar="[ENDPOINT=]N/TIME",
        help="A rate limit beside --requests-per-minute, or instead of it: 20/s, 1000/15min, or for one endpoint "
        "28hr=100/min. Repeatable. Also ENGAGEMENT_LIMITS, with commas.",
    ),
)


def format_options(*more_formats: str, on_stdout: str | None = None) -> Callable[[_Command], _Command]:
    """Return the options that say how results are written: `more_formats` than those of files, and the default on stdout."""
    stdout_rule = "needed on stdout" if on_stdout is None else f"{on_stdout} on stdout"
    return all_of(
        click.option(
            "--format",
            "format_",
            type=click.Choice([*FORMATS, *more_formats]),
            help=f"Default: by the suffix, which must be known; parquet in directories; {stdout_rule}.",
        ),
        click.option("--wide", is_flag=True, help="One row per Tweet (day, hour), and a column per metric."),
        click.option(
            "--observed-at", is_flag=True, help="Add a column: when the response with the value was received."
        ),
        click.option("--excel", is_flag=True, help="CSV whose Tweet IDs Excel does not round."),
    )


report_options = all_of(
    click.option(
        "--json", "as_json", is_flag=True, help="Write events for machines to stderr, one JSON object per line."
    ),
    click.option("--quiet", "-q", is_flag=True, help="Write only errors and warnings to stderr."),
)


def make_query(
    endpoint: Endpoint,
    *,
    metrics: Sequence[str],
    group_by: Sequence[str],
    start: str | None,
    end: str | None,
    app_only: bool = False,
) -> Query:
    """Return the query that the options describe. With `app_only`, the default metrics are the public ones."""
    names = [name.strip() for text in metrics for name in text.split(",") if name.strip()]
    if not names:
        names = list(endpoint.public_metrics if app_only and endpoint.public_metrics else endpoint.metrics)
    groupings: dict[str, list[str]] = {}
    for text in group_by or [",".join(_default_group_by(endpoint))]:
        name, equals, values = text.rpartition("=")
        items = [item.strip() for item in values.split(",") if item.strip()]
        name = name.strip() if equals else "by_" + "_".join(_short(item) for item in items)
        if name in groupings:
            raise UsageError(f"two groupings are called {name!r}: name one of them, as --group-by other={values}")
        groupings[name] = items
    return Query(endpoint, engagement_types=names, groupings=groupings, start=start, end=end)


def _short(item: str) -> str:
    return "tweet" if item == "tweet.id" else item.removeprefix("engagement.")


def _default_group_by(endpoint: Endpoint) -> Sequence[str]:
    return FULL_ORDERS[0] if "engagement.hour" in endpoint.group_by else endpoint.group_by


def read_distinct(
    given: Sequence[str],
    files: Sequence[str],
    *,
    id_column: str | None,
    ids_format: str | None,
    strict: bool,
    reporter: Reporter,
    accept_suspicious: bool = False,
) -> tuple[list[str], int]:
    """Return the distinct IDs of the arguments and the files, in input order, and how many lines were not IDs.

    Raise `UsageError` for a bad argument, and with `strict` for a bad line; otherwise bad lines are reported.
    """
    heard = InputReporter(reporter, accepts_suspicious=accept_suspicious)
    known: UniqueIds[str] = UniqueIds()
    distinct: list[str] = []
    for chunk in id_chunks(given, files, heard, id_column=id_column, ids_format=ids_format, strict=strict):
        distinct += known.add_new(chunk)
    if not distinct:
        raise UsageError(f"there is no Tweet ID in {' or '.join(files)}")
    return distinct, heard.rejected
