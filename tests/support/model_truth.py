"""What is true of the Tweets of the model API, as pure functions: numbers, and how they lie in groupings.

Written from the API's reference pages alone; it imports nothing of the package.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

__all__ = ["EPOCH", "NOW", "Asked", "Groupings", "buckets", "expected_groupings", "nest", "pruned", "value"]

Groupings = Mapping[str, Sequence[str]]
HOUR = timedelta(hours=1)
TIMES = ("engagement.day", "engagement.hour")
NOW = datetime(2026, 11, 21, 22, tzinfo=UTC)
"""The data stand still at this instant, however long a run takes; what counts is the loop's own clock."""
EPOCH = NOW.timestamp()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the server read it. `number` counts all requests from 1; `at` is its arrival on the loop's clock."""

    number: int
    at: float
    endpoint: str
    tweet_ids: tuple[str, ...]
    metrics: tuple[str, ...]
    groupings: Groupings = field(default_factory=dict)
    start: datetime | None = None
    end: datetime | None = None


@cache
def value(tweet_id: str, metric: str, hour: datetime | None = None) -> int:
    """Return the truth: from 0 to 999. Zeros are values too."""
    mixed = zlib.crc32(f"{tweet_id} {metric} {hour}".encode())
    return mixed % 1000 if mixed % 7 else 0


@cache
def buckets(endpoint: str, start: datetime | None = None, end: datetime | None = None) -> tuple[datetime | None, ...]:
    """Return the hours in which anything happened (every 13th), or a single None where the endpoint knows no time."""
    if endpoint == "totals":
        return (None,)
    last = _hour_above(end or NOW)
    first = last - timedelta(hours=28) if endpoint == "28hr" else last - timedelta(weeks=4)
    if start is not None:
        first = start.replace(minute=0, second=0)
    hours = (first + n * HOUR for n in range(int((last - first) / HOUR)))
    return tuple(hour for hour in hours if int(hour.timestamp() // 3600) % 13 == 0)


def _hour_above(at: datetime) -> datetime:
    down = at.replace(minute=0, second=0)
    return down if down == at else down + HOUR


@cache
def series(
    tweet_id: str, metric: str, endpoint: str, start: datetime | None, end: datetime | None, times: tuple[str, ...]
) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Return the values of one metric by these levels of time: keys in their order, and the sum of the hours below them."""
    found: dict[tuple[str, ...], int] = {}
    for hour in buckets(endpoint, start, end):
        keys = tuple(_time_key(level, hour) for level in times)
        found[keys] = found.get(keys, 0) + value(tweet_id, metric, hour)
    return tuple(found.items())


def _time_key(level: str, hour: datetime | None) -> str:
    assert hour is not None
    return f"{hour:%Y-%m-%d}" if level == "engagement.day" else f"{hour:%H}"


def nest(
    asked: Asked, group_by: Sequence[str], tweets: Mapping[str, Iterable[str]], *, days_above_hours: bool
) -> dict[str, Any]:
    """Return the values of Tweets (each with its metrics), nested in that order; what has the same path is added."""
    levels = list(group_by)
    if days_above_hours and "engagement.hour" in levels and "engagement.day" not in levels:
        levels.insert(levels.index("engagement.hour"), "engagement.day")
    times = tuple(level for level in levels if level in TIMES)
    nested: dict[str, Any] = {}
    for tweet_id, metrics in tweets.items():
        for metric in metrics:
            for time_keys, number in series(tweet_id, metric, asked.endpoint, asked.start, asked.end, times):
                keys = iter(time_keys)
                path = [tweet_id if at == "tweet.id" else metric if at not in TIMES else next(keys) for at in levels]
                inner = nested
                for key in path[:-1]:
                    inner = inner.setdefault(key, {})
                inner[path[-1]] = inner.get(path[-1], 0) + number
    return nested


def expected_groupings(
    asked: Asked,
    values: Mapping[str, Iterable[str]],
    *,
    sums: Mapping[str, Iterable[str]] | None = None,
    days_above_hours: bool = True,
) -> dict[str, dict[str, Any]]:
    """Return what a request should give when `values` has the Tweets with values, and the metrics that each has.

    `sums` says the same for groupings without `tweet.id`, where it differs.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, group_by in asked.groupings.items():
        tweets = values if sums is None or "tweet.id" in group_by else sums
        found[name] = nest(asked, group_by, tweets, days_above_hours=days_above_hours)
    return found


def pruned(grouping: Mapping[str, Any], *, zeros: bool) -> dict[str, Any]:
    """Without empty objects, and without zeros if `zeros`: a sum over nobody may be 0 or absent."""
    kept: dict[str, Any] = {}
    for key, inner in grouping.items():
        if isinstance(inner, Mapping):
            inner = pruned(inner, zeros=zeros)
            if not inner:
                continue
        elif zeros and not inner:
            continue
        kept[key] = inner
    return kept
