"""Options that commands share, and what they turn into: a query, a rate limit, the list of distinct IDs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from engagement_async._core.endpoints import ENDPOINTS, Endpoint
from engagement_async._core.query import FULL_ORDERS, Query
from engagement_async._ids import reading
from engagement_async.cli.inputs import LISTED_REJECTS, InputReporter, id_chunks
from engagement_async.cli.report import Reporter
from engagement_async.errors import UsageError

__all__ = [
    "LISTED_REJECTS",
    "all_of",
    "contract_options",
    "endpoint_argument",
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


endpoint_argument = click.argument("endpoint", type=click.Choice(list(ENDPOINTS)))

id_options = all_of(
    click.option(
        "--ids",
        "files",
        multiple=True,
        metavar="FILE|DIR|-",
        help="Tweet IDs in text, CSV, JSON, Parquet or Arrow, also compressed, or Tweets in JSON; - is stdin. Repeatable.",
    ),
    click.option(
        "--id-column",
        metavar="NAME|N",
        help="Column of the IDs, by name or number, unless it is tweet_id, Post id, id_str, id or the like.",
    ),
    click.option(
        "--ids-format", type=click.Choice(reading.FORMATS), help="Format of the files. Default: as they look."
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
        multiple=True,
        metavar="A,B",
        help="Engagement types. Default: all that the endpoint and the credentials allow.",
    ),
    click.option(
        "--group-by",
        multiple=True,
        metavar="[NAME=]A,B",
        help="A grouping, in nesting order; up to three. Default: tweet.id,engagement.type and, where there are any, "
        "engagement.day,engagement.hour.",
    ),
    click.option(
        "--start", metavar="TIME", help="For historical: inclusive start, as 2015-08-01 or 2015-07-01T12:24:00Z."
    ),
    click.option("--end", metavar="TIME", help="For historical: exclusive end."),
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
    distinct: dict[str, None] = {}
    for chunk in id_chunks(given, files, heard, id_column=id_column, ids_format=ids_format, strict=strict):
        distinct.update(dict.fromkeys(chunk))
    if not distinct:
        raise UsageError(f"there is no Tweet ID in {' or '.join(files)}")
    return list(distinct), heard.rejected
