"""What a series keeps: a pull is one transaction, and gaps are what the coverage lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from engagement_async._core.endpoints import Endpoint
from engagement_async.errors import OtherSeriesError, UsageError
from engagement_async.series.database import Database, NoStoreError, make_store, opened
from engagement_async.series.gathering import Gathered, coverage_table
from engagement_async.series.readings import TweetState
from engagement_async.series.reports import Gap, PullReport, SeriesStatus
from engagement_async.series.schema import COVERAGE, MERGE_HOURS, MERGE_TOTALS, REPLACE_COVERAGE, UPDATE_TWEETS
from engagement_async.series.spans import Span, missing, union

__all__ = ["COMMIT_WAIT_S", "Store"]

COMMIT_WAIT_S = 600.0
"""How long a commit waits while another program reads the store: what was pulled is paid for."""
_WAIT_S = 5.0
_IS_ASKED = f"state NOT IN ('{TweetState.UNAVAILABLE}', '{TweetState.FORBIDDEN}')"

_SUPERSEDED = f"""WITH shared AS (SELECT tweet_id FROM tweets GROUP BY tweet_id HAVING count(*) > 1),
    answered AS (
        SELECT owner, tweet_id FROM tweets SEMI JOIN shared USING (tweet_id) WHERE state = '{TweetState.ANSWERED}'
        UNION SELECT owner, tweet_id FROM coverage SEMI JOIN shared USING (tweet_id)
        UNION SELECT owner, tweet_id FROM totals SEMI JOIN shared USING (tweet_id)),
    superseded AS (
        SELECT owner, tweet_id FROM tweets SEMI JOIN shared USING (tweet_id)
        LEFT JOIN (SELECT *, true AS was_answered FROM answered) USING (owner, tweet_id)
        WHERE state != '{TweetState.FORBIDDEN}'
        QUALIFY row_number() OVER (
            PARTITION BY tweet_id ORDER BY was_answered IS NULL, last_asked_at DESC, owner) > 1)"""  # noqa: S608 - ours
"""Tweets with owners whose place another one took, as where a name was corrected: a Tweet is asked for with one owner alone,
one with whom it was answered before any other, and of these the last one."""
_GAPPY = f"""{_SUPERSEDED},
    wanted AS (
        SELECT owner, tweet_id, least(wanted_from, $1) AS wanted_from, wanted_to
        FROM tweets ANTI JOIN superseded USING (owner, tweet_id)
        WHERE {_IS_ASKED} AND wanted_from IS NOT NULL),
    whole AS (
        SELECT owner, tweet_id FROM wanted JOIN coverage USING (owner, tweet_id)
        WHERE starts_at <= wanted_from AND ends_at >= wanted_to),
    gappy AS (FROM wanted ANTI JOIN whole USING (owner, tweet_id) WHERE wanted_from < wanted_to)"""  # noqa: S608 - ours
"""Tweets that no single span covers: the others, which are the rule, are left out before they are looked at one by one."""


class Store:
    """The file of a series. It is open only while it is read or written.

    Args:
        path: The DuckDB file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, endpoint: Endpoint, metrics: Sequence[str] | None) -> tuple[str, ...]:
        """Return the metrics of an endpoint: those that the store has, else the given ones, else all.

        Raise `OtherSeriesError` if both are there and differ.
        """
        known = self.metrics(endpoint.name)
        if known and metrics is not None and set(metrics) != set(known):
            raise OtherSeriesError(
                f"{self.path}: this series has {', '.join(known)} of {endpoint.name}: leave out the metrics, or begin "
                "another store for others"
            )
        return known or tuple(metrics if metrics is not None else endpoint.metrics)

    def commit(self, gathered: Gathered, ended_at: datetime) -> PullReport:
        """Merge a pull into the store: all of it, or nothing. The first pull makes the store."""
        endpoint, window, counts = gathered.query.endpoint, gathered.window, gathered.counts
        make_store(self.path)
        times = [_naive(at) for at in (gathered.began_at, ended_at, *(window or (None, None)))]
        with opened(self.path, read_only=False, wait_s=COMMIT_WAIT_S) as database:
            with database.registered(gathered.tables()), database.transaction():
                ((before,),) = database.execute("SELECT count(*) FROM corrections")
                if gathered.span is None and endpoint.name not in _metrics(database):
                    metrics = json.dumps(gathered.query.engagement_types)
                    database.execute("INSERT INTO series_info VALUES (?, ?)", f"metrics {endpoint.name}", metrics)
                for statement in MERGE_HOURS if endpoint.has_window else MERGE_TOTALS:
                    database.execute(statement)
                if endpoint.has_window:
                    _merge_coverage(database)
                for statement in UPDATE_TWEETS:
                    database.execute(statement)
                ((after,),) = database.execute("SELECT count(*) FROM corrections")
                row = [endpoint.name, *times, gathered.requests, *counts.values(), after - before]
                database.execute(f"INSERT INTO pulls VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608 - marks
            database.execute("CHECKPOINT")
        starts_at, ends_at = window or (None, None)
        return PullReport(
            endpoint.name,
            starts_at,
            ends_at,
            requests=gathered.requests,
            answered=counts[TweetState.ANSWERED],
            unavailable=counts[TweetState.UNAVAILABLE],
            forbidden=counts[TweetState.FORBIDDEN],
            corrections=after - before,
            failed_tweet_ids=gathered.failed,
        )

    def want_from(self, start: datetime) -> None:
        """Extend the series of every Tweet back to an hour."""
        with opened(self.path, read_only=False, wait_s=_WAIT_S) as database, database.transaction():
            database.execute(
                "UPDATE tweets SET wanted_from = least(wanted_from, ?) WHERE wanted_from IS NOT NULL", _naive(start)
            )

    def metrics(self, endpoint: str) -> tuple[str, ...] | None:
        """Return the metrics of an endpoint, or None if it was not pulled."""
        with suppress(NoStoreError), opened(self.path, read_only=True, wait_s=_WAIT_S) as database:
            return _metrics(database).get(endpoint)
        return None

    def tracked(self) -> list[tuple[str, str]]:
        """Return the Tweets that are asked when none are given, as `(owner, tweet_id)`: all but the forbidden ones.

        Each of them once, with the owner with whom it was answered.
        """
        return self.select(
            f"""{_SUPERSEDED} SELECT owner, tweet_id FROM tweets ANTI JOIN superseded USING (owner, tweet_id)
                WHERE state != '{TweetState.FORBIDDEN}' ORDER BY ALL"""  # noqa: S608 - ours
        )

    def check_owners(self, *, have_owners: bool) -> None:
        """Raise `OtherSeriesError` for Tweets with owners where those of the series have none, or the other way round.

        Each of them would be in the store twice.
        """
        found: list[tuple[bool]] = []
        with suppress(NoStoreError), opened(self.path, read_only=True, wait_s=_WAIT_S) as database:
            found = database.execute("SELECT DISTINCT owner != '' FROM tweets")
        if len(found) > 1:
            raise OtherSeriesError(
                f"{self.path}: holds Tweets with owners and without, whose hours count twice: begin another store"
            )
        if found and found[0][0] != have_owners:
            raise OtherSeriesError(
                f"{self.path}: the Tweets of this series have "
                + (
                    "owners: name their column, and give the credentials of the owners (--owner-column, --credentials)"
                    if not have_owners
                    else "no owners: leave out their column, and the credentials of owners (--owner-column, --credentials)"
                )
                + ", or begin another store"
            )

    def select(self, sql: str) -> list[tuple[str, str]]:
        """Return the Tweets of a query on the store, as `(owner, tweet_id)`.

        Raise `UsageError` for a query that DuckDB refuses, or whose columns are neither an ID nor an owner and an ID.
        """
        import duckdb

        with opened(self.path, read_only=True, wait_s=_WAIT_S) as database:
            try:
                rows = database.execute(sql)
            except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
                first = str(error).partition("\n")[0]
                raise UsageError(
                    f"the query for Tweets fails: {first} (tables: tweets, hours, totals, coverage)"
                ) from None
            except AttributeError:  # DuckDB gives no result
                raise UsageError("the query for Tweets has no statement: write SELECT tweet_id FROM tweets") from None
        if rows and len(rows[0]) not in (1, 2):
            raise UsageError("a query for Tweets returns one column, tweet_id, or two, owner and tweet_id")
        return [("" if len(row) == 1 else str(row[0] or ""), str(row[-1])) for row in rows]

    def gaps(self, wanted_from: datetime | None = None) -> list[Gap]:
        """Return the hours between pulls that no answer held whole, by time; from an earlier hour on, if that is given."""
        with opened(self.path, read_only=True, wait_s=_WAIT_S) as database:
            return _gaps(database, wanted_from)

    def last_pull_at(self, endpoint: str) -> datetime | None:
        """Return when the last pull of an endpoint began; None if there was none, or no store."""
        with suppress(NoStoreError), opened(self.path, read_only=True, wait_s=_WAIT_S) as database:
            ((at,),) = database.execute("SELECT max(began_at) FROM pulls WHERE endpoint = ?", endpoint)
            return _aware(at)
        return None

    def status(self) -> SeriesStatus:
        """Return how far the series is."""
        with opened(self.path, read_only=True, wait_s=_WAIT_S) as database:
            ((partial,),) = database.execute("SELECT count(*) FROM hours WHERE is_partial")
            return _status(database, partial, tuple(_gaps(database)))

    def glance(self) -> tuple[SeriesStatus, int]:
        """Return the status without what takes a look at every hour, its partial hours and its gaps, and how many Tweets
        have gaps. Does not wait for a program that has the store open.
        """
        with opened(self.path, read_only=True, wait_s=0.0) as database:
            ((with_gaps,),) = database.execute(f"{_GAPPY} SELECT count(*) FROM gappy", None)  # noqa: S608 - ours
            return _status(database, 0, ()), with_gaps


def _status(database: Database, partial_hours: int, gaps: tuple[Gap, ...]) -> SeriesStatus:
    states = dict(database.execute("SELECT state, count(*) FROM tweets GROUP BY state"))
    counts = {
        table: database.execute(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - names of our own
        for table in ("hours", "totals", "corrections", "left_out", "pulls")
    }
    ((last,),) = database.execute("SELECT max(began_at) FROM pulls WHERE endpoint != 'historical'")
    ((first, end),) = database.execute("SELECT min(starts_at), max(ends_at) FROM coverage")
    return SeriesStatus(
        metrics=_metrics(database),
        tweets={state.value: states.get(state.value, 0) for state in TweetState},
        partial_hours=partial_hours,
        **counts,
        last_pull_at=_aware(last),
        starts_at=_aware(first),
        ends_at=_aware(end),
        gaps=gaps,
    )


def _metrics(database: Database) -> Mapping[str, tuple[str, ...]]:
    rows = database.execute("SELECT key, value FROM series_info WHERE key LIKE 'metrics %' ORDER BY key")
    return {key.partition(" ")[2]: tuple(json.loads(value)) for key, value in rows}


def _merge_coverage(database: Database) -> None:
    """Add the hours that are whole to those that were before.

    In Python, as nested windows of DuckDB before 1.4 join spans that do not meet.
    """
    merged = [
        (*tweet, *span)
        for tweet, rows in groupby(database.execute(COVERAGE), key=itemgetter(0, 1))
        for span in union(Span(row[2], row[3]) for row in rows)
    ]
    with database.registered({"new_coverage": coverage_table(merged)}):
        for statement in REPLACE_COVERAGE:
            database.execute(statement)


def _gaps(database: Database, wanted_from: datetime | None = None) -> list[Gap]:
    rows = database.execute(
        f"""{_GAPPY} SELECT owner, tweet_id, wanted_from, wanted_to, starts_at, ends_at
            FROM gappy LEFT JOIN coverage USING (owner, tweet_id)
            ORDER BY owner, tweet_id, starts_at""",  # noqa: S608 - ours
        _naive(wanted_from),
    )
    found: dict[Span, list[tuple[str, str]]] = {}
    for tweet, group in groupby(rows, key=itemgetter(0, 1)):
        spans = list(group)
        wanted = Span(_utc(spans[0][2]), _utc(spans[0][3]))
        for gap in missing(wanted, [Span(_utc(row[4]), _utc(row[5])) for row in spans if row[4] is not None]):
            found.setdefault(gap, []).append(tweet)
    return [Gap(*span, tuple(tweets)) for span, tweets in sorted(found.items())]


def _naive(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None)


def _aware(at: Any) -> datetime | None:
    return None if at is None else _utc(at)


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)
