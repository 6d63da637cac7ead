"""A series store as the source of a report."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from engagement_async._core.endpoints import LAST_28_HOURS, TOTALS
from engagement_async.reports.loaded import Loaded
from engagement_async.reports.page import Fact
from engagement_async.reports.tally import MOST_GONE, Tally, TweetValues
from engagement_async.series import EngagementSeries
from engagement_async.series.database import Database, opened

__all__ = ["load_series"]

_WAIT_S: Final = 60.0
_ROWS: Final = 50_000
_SEEN: Final = (
    "SELECT owner, tweet_id, epoch(min(starts_at)), epoch(arg_min(ends_at, starts_at)) FROM coverage GROUP BY ALL"
)
_HOURS: Final = """SELECT owner, tweet_id, engagement_type, (epoch(engagement_hour) // 3600)::BIGINT, value
    FROM hours WHERE value != 0 ORDER BY owner, tweet_id"""
_METRICS: Final = "SELECT DISTINCT engagement_type FROM hours WHERE owner = ? AND tweet_id = ?"
"""Those of a Tweet with values, zeros among them, which are not read with the others."""
_TOTALS: Final = """SELECT owner, tweet_id, engagement_type, NULL, arg_max(value, observed_at)
    FROM totals GROUP BY owner, tweet_id, engagement_type ORDER BY owner, tweet_id"""


def load_series(path: Path) -> Loaded:
    """Read a series store. Raise `SeriesError` for one that cannot be read."""
    series = EngagementSeries(path)
    status = series.status()
    metrics = series.metrics(LAST_28_HOURS) or series.metrics(TOTALS) or ()
    tally = Tally(tuple(metrics))
    with opened(path, read_only=True, wait_s=_WAIT_S) as database:
        _add_outcomes(tally, database)
        for hour, is_partial in database.execute(
            "SELECT (epoch(engagement_hour) // 3600)::BIGINT, bool_or(is_partial) FROM hours GROUP BY ALL"
        ):
            tally.seen.add(hour)
            if is_partial:
                tally.cut.add(hour)
        spans = {(owner, i): (start, end) for owner, i, start, end in database.execute(_SEEN)}
        for owner, values in _tweets(database, _HOURS if status.hours else _TOTALS):
            tally.add(values, owner=owner or None, seen=spans.get((owner, values.tweet_id)))
        for tweet in tally.top:
            for (metric,) in database.execute(_METRICS, tweet.owner or "", tweet.tweet_id):
                tweet.sums.setdefault(metric, 0)
    facts = (
        Fact("Pulls and fills", f"{status.pulls:,}"),
        Fact("Gaps", f"{status.gap_hours:,}", "hours of Tweets that no pull saw whole"),
        Fact("Corrections", f"{status.corrections:,}", "hours that the API lowered later"),
    )
    notes: tuple[str, ...] = ()
    if status.gap_hours:
        notes = (
            f"{status.gap_hours:,} hours of Tweets are not in these numbers, as no pull saw them whole: "
            "engagement series fill closes such gaps.",
        )
    return Loaded("Series", path.name, tally, facts=facts, data_notes=notes)


def _add_outcomes(tally: Tally, database: Database) -> None:
    rows = database.execute("SELECT owner, state, count(*) FROM tweets GROUP BY ALL ORDER BY owner")
    for owner, state, count in rows:
        tally.outcomes[state] += count
        if owner:
            tally.by_owner[owner][state] += count
    gone = (
        "SELECT tweet_id, owner FROM tweets WHERE state = 'unavailable' ORDER BY last_asked_at DESC, tweet_id LIMIT ?"
    )
    for tweet_id, owner in database.execute(gone, MOST_GONE):
        tally.add_gone(tweet_id, owner or None)


def _tweets(database: Database, sql: str) -> Iterator[tuple[str, TweetValues]]:
    """Yield the values of each Tweet, and its owner."""
    for (owner, tweet_id), rows in groupby(_rows(database, sql), key=lambda row: (row[0], row[1])):
        values = TweetValues(tweet_id, {}, {}, {})
        for _, _, metric, hour, value in rows:
            values.sums[metric] = values.sums.get(metric, 0) + value
            if hour is not None:
                values.hours.setdefault(metric, {})[hour] = value
        yield owner, values


def _rows(database: Database, sql: str) -> Iterator[tuple[Any, ...]]:
    found = database.connection.execute(sql)
    while page := found.fetchmany(_ROWS):
        yield from page
