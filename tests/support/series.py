"""What the tests of series share: a truth by hour, answers that are functions of it, and what a store says of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from engagement_async import HISTORICAL, LAST_28_HOURS, Answer, Failure, FailureKind, Query, Window
from engagement_async.series import EngagementSeries
from engagement_async.series.database import Database
from engagement_async.series.gathering import GROUPING, Gathered
from engagement_async.series.spans import HOUR, Span, hour_of

ZERO = datetime(2026, 3, 1, tzinfo=UTC)
METRICS = ("impressions", "favorites")
LEVELS = ("tweet.id", "engagement.type", "engagement.day", "engagement.hour")
PULL = Query(LAST_28_HOURS, engagement_types=METRICS, groupings={GROUPING: LEVELS})


def truth(tweet_id: str, metric: str, hour: datetime) -> int:
    """Return what a Tweet's metric counts in an hour: never nothing, so that a part of it is less."""
    return 60 * (1 + hash((int(tweet_id), METRICS.index(metric), hour.timestamp())) % 97)


def hours_between(first: datetime, end: datetime) -> list[datetime]:
    return [first + n * HOUR for n in range((end - first) // HOUR)]


def values(tweet_ids: Iterable[str], first: datetime, end: datetime, now: datetime) -> dict[str, Any]:
    """Return a grouping of the truth; the hour of `now` has but its minutes so far."""
    found: dict[str, Any] = {}
    for tweet_id in tweet_ids:
        for metric in METRICS:
            for hour in hours_between(first, end):
                minutes = min(60, max(0, (now - hour) // timedelta(minutes=1)))
                days = found.setdefault(tweet_id, {}).setdefault(metric, {})
                days.setdefault(f"{hour:%Y-%m-%d}", {})[f"{hour:%H}"] = truth(tweet_id, metric, hour) * minutes // 60
    return found


def answer(
    tweet_ids: Collection[str], first: datetime, end: datetime, now: datetime, failing: Collection[str] = ()
) -> Answer:
    failed = {i: Failure("HTTP 500", kind=FailureKind.SERVER) for i in tweet_ids if i in failing}
    answered = [i for i in tweet_ids if i not in failing]
    return Answer(
        0,
        tuple(tweet_ids),
        {GROUPING: values(answered, first, end, now)} if answered else {},
        windows=(Window(first, end),) if answered else (),
        failed_tweet_ids=dict(failed),
        observed_at=now,
        requests=1,
    )


def pulled(tweet_ids: Collection[str], now: datetime, failing: Collection[str] = ()) -> Gathered:
    """Return what a pull at `now` is answered: 29 hours, of which the last one is running."""
    gathered = Gathered(PULL, now)
    end = hour_of(now) + HOUR
    gathered.add(answer(tweet_ids, end - 29 * HOUR, end, now, failing))
    return gathered


def commit(series: EngagementSeries, gathered: Gathered) -> Any:
    store = series._store
    store.prepare(LAST_28_HOURS, METRICS)
    return store.commit(gathered, gathered.began_at)


def fill(series: EngagementSeries, now: datetime) -> None:
    for part in series.fill_plan():
        span = Span(part.starts_at, part.ends_at)
        query = Query(
            HISTORICAL, engagement_types=METRICS, groupings={GROUPING: LEVELS}, start=span.starts_at, end=span.ends_at
        )
        gathered = Gathered(query, now, span)
        gathered.add(answer([tweet_id for _, tweet_id in part.tweets], *span, now))
        series._store.commit(gathered, now)


def rows(series: EngagementSeries) -> dict[tuple[str, str, datetime], tuple[int, str]]:
    """Return all hours of a store, which has each of them once."""
    table = series.to_arrow().to_pylist()
    found = {
        (row["tweet_id"], row["engagement_type"], row["engagement_hour"]): (row["value"], row["state"]) for row in table
    }
    assert len(found) == len(table)
    return found


def gap_hours(series: EngagementSeries) -> set[tuple[str, datetime]]:
    return {
        (tweet_id, hour)
        for gap in series.gaps()
        for _, tweet_id in gap.tweets
        for hour in hours_between(gap.starts_at, gap.ends_at)
    }


class KilledError(BaseException):
    """The process is no more."""


@contextmanager
def killed_before(statement: int) -> Iterator[None]:
    """Let no statement from this one on reach the database."""
    left = statement
    execute = Database.execute

    def counted(self: Database, sql: str, *parameters: object) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        return execute(self, sql, *parameters)

    with patch.object(Database, "execute", counted):
        yield
