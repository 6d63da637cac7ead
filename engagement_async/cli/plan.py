"""`engagement plan`: what a fetch would take, before any request. Needs no credentials and no network."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Final

import click
import orjson

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.owned_batches import Claims
from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async.cli import options
from engagement_async.cli.app import Session
from engagement_async.cli.config import Settings
from engagement_async.cli.connection import profile_option
from engagement_async.cli.exit_codes import OK, SOME_FAILED
from engagement_async.cli.inputs import InputReporter, id_chunks
from engagement_async.cli.owners import OwnerFlags, first_owner_option, owned_id_chunks, owner_column_option
from engagement_async.cli.progress import duration
from engagement_async.cli.report import Reporter
from engagement_async.errors import UsageError

__all__ = ["Distinct", "Plan", "answer_bytes", "make_plan", "plan"]

_ID_BYTES: Final = len('"1070059276213702656":{},')
_VALUE_BYTES: Final = len('"1234",')
_HOURS_OF_28: Final = 29
"""The reference page's example spans 29 hour buckets."""


class Distinct:
    """Counts distinct IDs in about nine bytes each: they are in many small arrays, of which one at a time becomes a set."""

    _PARTS: Final = 509  # a prime: IDs of one machine share their last bits

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(self._PARTS)]

    def update(self, tweet_ids: Iterable[str]) -> None:
        """Add IDs."""
        parts = self._parts
        for tweet_id in map(int, tweet_ids):
            parts[tweet_id % self._PARTS].append(tweet_id)

    def count(self) -> int:
        """Return the number of distinct IDs."""
        return sum(len(set(part)) for part in self._parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fetch takes."""

    endpoint: str
    ids_read: int
    rejected: int
    duplicates: int
    unique_ids: int
    ids_per_request: int
    requests: int
    owners: int | None
    """How many owners the Tweets have; None if they have none."""
    requests_for_owners: int
    """Those of the requests that are sent because Tweets of several owners are never in one."""
    seconds: float
    """At the rate limit, if every request is answered the first time."""
    bytes_of_answers: int
    """Decoded; compressed on the wire it is a fifth or less. An estimate: see `answer_bytes`."""


def make_plan(
    query: Query,
    *,
    ids_read: int,
    rejected: int,
    unique_ids: int,
    limit: RateLimit,
    by_owner: Collection[int] | None = None,
) -> Plan:
    """Return the plan for that many distinct IDs. `by_owner` has their number for each owner, where there are such."""
    size = query.endpoint.ids_per_request
    parts = query.spans()
    full = sum(answer_bytes(part, size) for part in parts)
    batches = sum(ids // size for ids in by_owner or (unique_ids,))
    rests = Counter(ids % size for ids in by_owner or (unique_ids,))
    of_rests = sum(count * answer_bytes(part, rest) for rest, count in rests.items() if rest for part in parts)
    requests = sum(ceil(ids / size) for ids in by_owner or (unique_ids,)) * len(parts)
    return Plan(
        endpoint=query.endpoint.name,
        ids_read=ids_read,
        rejected=rejected,
        duplicates=ids_read - unique_ids,
        unique_ids=unique_ids,
        ids_per_request=size,
        requests=requests,
        owners=None if by_owner is None else len(by_owner),
        requests_for_owners=requests - ceil(unique_ids / size) * len(parts),
        seconds=round(requests * limit.period / limit.requests, 1),
        bytes_of_answers=batches * full + of_rests,
    )


def answer_bytes(query: Query, ids: int) -> int:
    """Return the approximate size of one decoded answer: every key that its groupings nest, values of four digits."""
    hours = _hours(query)
    days = ceil(hours / 24)
    types = len(query.engagement_types)
    each_type = sum(len(metric) + len('"":{},') for metric in query.engagement_types) / types
    total = len("{}")
    for group_by in query.groupings.values():
        nodes = 1
        for level, value in enumerate(group_by):
            of_day = "engagement.day" in group_by[:level]
            count, length = {
                "tweet.id": (ids, _ID_BYTES),
                "engagement.type": (types, each_type),
                "engagement.day": (days, len('"2015-09-14":{},')),
                "engagement.hour": (hours if of_day else 24, len('"17":{},')),
            }[value]
            nodes = nodes * count // (days if value == "engagement.hour" and of_day else 1)
            total += round(nodes * length)
        total += nodes * (_VALUE_BYTES - len("{},"))
    return total


def _hours(query: Query) -> int:
    if not query.endpoint.takes_bounds:
        return _HOURS_OF_28
    if query.start is None or query.end is None:
        return 4 * 7 * 24
    first, last = (datetime.fromisoformat(bound).replace(tzinfo=UTC) for bound in (query.start, query.end))
    return max(1, ceil((last - first).total_seconds() / 3600))


@click.command(cls=options.QueryCommand)
@options.endpoint_argument
@click.argument("tweet_ids", nargs=-1, metavar="[ID]...")
@options.id_options
@owner_column_option
@first_owner_option
@options.query_options
@options.contract_options
@profile_option
@click.option("--json", "as_json", is_flag=True, help="Write the plan as one JSON object to stdout.")
@click.pass_obj
def plan(
    session: Session,
    endpoint: str,
    tweet_ids: tuple[str, ...],
    files: tuple[str, ...],
    id_column: str | None,
    ids_format: str | None,
    accept_suspicious_ids: bool,
    owner_column: str | None,
    first_owner: bool,
    metrics: tuple[str, ...],
    group_by: tuple[str, ...],
    start: str | None,
    end: str | None,
    requests_per_minute: int | None,
    period: float,
    limits: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show what a fetch of these IDs from ENDPOINT would take. Sends no request, and needs no credentials.

    \b
    engagement plan totals --ids mine.csv --requests-per-minute 300

    Exit codes: 0 every line holds an ID, 2 usage, or an input that cannot be read, 3 some lines were not IDs.
    """
    reporter = Reporter.of(session, as_json=as_json, quiet=False)
    settings = Settings.load(os.environ, session.flags.get("profile"))
    of_contract = settings.rate_limits(requests_per_minute, period, limits)
    limit = _slowest([each for each in of_contract if each.endpoint in (None, endpoint)], endpoint)
    query = options.make_query(ENDPOINTS[endpoint], metrics=metrics, group_by=group_by, start=start, end=end)
    ids_read = 0
    heard = InputReporter(reporter, accepts_suspicious=accept_suspicious_ids)
    by_owner: Collection[int] | None = None
    OwnerFlags(owner_column, first_owner=first_owner).check(tweet_ids)
    if owner_column is not None:
        chunks = owned_id_chunks(files, owner_column, heard, id_column=id_column, format=ids_format)
        ids_read, by_owner = _count_by_owner(chunks, first_owner=first_owner)
        unique_ids = sum(by_owner)
    else:
        distinct = Distinct()
        for chunk in id_chunks(tweet_ids, files, heard, id_column=id_column, ids_format=ids_format):
            ids_read += len(chunk)
            distinct.update(chunk)
        unique_ids = distinct.count()
    if not ids_read:
        raise UsageError(f"there is no Tweet ID in {' or '.join(files)}")
    rejected = heard.rejected
    made = make_plan(query, ids_read=ids_read, rejected=rejected, unique_ids=unique_ids, limit=limit, by_owner=by_owner)
    if as_json:
        click.echo(orjson.dumps(asdict(made)))
        return SOME_FAILED if rejected else OK
    rate = f"{limit.requests:,} requests in {limit.period:g} s"
    for name, value in (
        ("lines read", f"{made.ids_read + made.rejected:,}"),
        ("rejected", f"{made.rejected:,}"),
        ("duplicates", f"{made.duplicates:,}"),
        ("unique IDs", f"{made.unique_ids:,}"),
        *([] if made.owners is None else [("owners", f"{made.owners:,}")]),
        ("requests", f"{made.requests:,}  ({_request_text(made)})"),
        ("time", f"{duration(made.seconds)}  (at {rate}, without retries)"),
        ("answers", f"about {_size(made.bytes_of_answers)}  (values of 4 digits; compressed, a fifth or less)"),
    ):
        click.echo(f"{name:<12}{value}")
    return SOME_FAILED if rejected else OK


def _count_by_owner(chunks: Iterable[tuple[list[str], list[str]]], *, first_owner: bool) -> tuple[int, Collection[int]]:
    """Return how many IDs were read, and how many distinct ones each owner has."""
    claims: Claims[str] = Claims(first_owner=first_owner)
    counts: Counter[int] = Counter()
    ids_read = 0
    for owners, ids in chunks:
        ids_read += len(ids)
        counts.update(number for _, number in claims.new(ids, map(claims.number_of, owners)))
    return ids_read, counts.values()


def _request_text(made: Plan) -> str:
    text = f"{made.ids_per_request} IDs each"
    if made.owners is None:
        return text
    return f"at most {text}; {made.requests_for_owners:,} of them because owners are never mixed"


def _slowest(limits: Sequence[RateLimit], endpoint: str) -> RateLimit:
    """Return the limit that a long run is as fast as."""
    if not limits:
        raise UsageError(f"--limit has none for {endpoint}: add what the contract says of it, as --limit 300/min")
    return min(limits, key=lambda limit: limit.requests / limit.period)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
