"""What a report says of data, gathered Tweet by Tweet: sums by metric and hour, the top Tweets, lifetimes, outcomes. Pure.

It is as large as there are hours, however many Tweets there are.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from engagement_async._core.groupings import Grouping, day_at, hour_at, leaf_dicts
from engagement_async._core.plots import ALL_METRICS
from engagement_async.reports.lifetimes import Lifetimes

__all__ = [
    "GONE",
    "MOST_GONE",
    "PENDING",
    "TOP",
    "Choice",
    "Tally",
    "TopTweet",
    "TweetValues",
    "choose_groupings",
    "values_of",
]

TOP: Final = 25
"""Tweets with the most engagement that a report lists."""
MOST_GONE: Final = 200
"""IDs that are gone and listed one by one; the others are counted."""
GONE: Final = "unavailable"
PENDING: Final = "pending"
_RANKED_BY: Final[tuple[str, ...]] = ("impressions", "engagements", "favorites")
_HOUR_S: Final = 3600


class TweetValues(NamedTuple):
    """What is known of one Tweet."""

    tweet_id: str
    sums: dict[str, int]
    """By metric."""
    hours: dict[str, dict[int, int]]
    """By metric, then by hour: hours since the epoch."""
    days: dict[str, dict[int, int]]
    """By metric, then by day, where there are no hours: hours since the epoch at its beginning."""


class Choice(NamedTuple):
    """Which groupings a report is made of: of several that say the same, one."""

    tweets: str | None
    """The one by Tweet."""
    times: str | None
    """The one by time; None where that by Tweet has the time."""
    sums: str | None
    """The one that the sums by metric are of, where there is neither."""


def choose_groupings(levels: Mapping[str, Sequence[str]]) -> Choice:
    """Return which groupings to take, given the levels of each by name."""

    def best(*wanted: str, without: Sequence[str] = ()) -> str | None:
        fitting = [n for n, its in levels.items() if set(wanted) <= set(its) and not set(without) & set(its)]
        return min(fitting, key=lambda name: "engagement.type" not in levels[name], default=None)

    timed = best("tweet.id", "engagement.day", "engagement.hour") or best("tweet.id", "engagement.day")
    tweets = timed or best("tweet.id")
    times = None if timed else best("engagement.day", "engagement.hour") or best("engagement.day")
    sums = None if tweets or times else next(iter(levels), None)
    return Choice(tweets, times, sums)


def values_of(levels: Sequence[str], grouping: Grouping) -> Iterable[TweetValues]:
    """Return the values of a grouping, Tweet by Tweet; of one without Tweets, all of them under an empty ID."""
    found: dict[str, TweetValues] = {}
    at = {level: place for place, level in enumerate(levels)}
    id_at, type_at = at.get("tweet.id"), at.get("engagement.type")
    day_at_, hour_at_ = at.get("engagement.day"), at.get("engagement.hour")
    for path, leaves in leaf_dicts(grouping, len(levels) - 1, ()):
        for key, value in leaves.items():
            keys = (*path, key)
            tweet_id = "" if id_at is None else keys[id_at]
            metric = ALL_METRICS if type_at is None else keys[type_at]
            its = found.get(tweet_id)
            if its is None:
                its = found[tweet_id] = TweetValues(tweet_id, {}, {}, {})
            its.sums[metric] = its.sums.get(metric, 0) + value
            if day_at_ is not None:
                spread = its.days if hour_at_ is None else its.hours
                hour = _hour(keys[day_at_], None if hour_at_ is None else keys[hour_at_])
                by_time = spread.setdefault(metric, {})
                by_time[hour] = by_time.get(hour, 0) + value
    return found.values()


@lru_cache(maxsize=4096)
def _hour(day: str, hour: str | None) -> int:
    if hour is None:
        return day_at(day).toordinal() * 24 - _EPOCH_ORDINAL_H
    return int(hour_at(day, hour).timestamp()) // _HOUR_S


_EPOCH_ORDINAL_H: Final = 719_163 * 24


class TopTweet(NamedTuple):
    """One of the Tweets with the most engagement."""

    tweet_id: str
    owner: str | None
    sums: dict[str, int]
    """By metric."""


@dataclass(slots=True)
class Tally:
    """Gathers data. Give it every Tweet once."""

    metrics: tuple[str, ...]
    """All metrics that may come, in the order of the query."""
    sums: Counter[str] = field(default_factory=Counter)
    """By metric."""
    by_hour: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """By metric and hour: hours since the epoch."""
    by_day: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """By metric and day, where there are no hours."""
    seen: set[int] = field(default_factory=set)
    """The hours that some answer speaks of."""
    cut: set[int] = field(default_factory=set)
    """Those of them that are known to be cut for some Tweet."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """IDs by outcome."""
    by_owner: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """The same for each owner, where there are several."""
    gone: list[tuple[str, str | None]] = field(default_factory=list)
    """The first IDs that are gone, each with its owner."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    _whole: tuple[int, int] | None = None
    _top: list[tuple[int, int, TopTweet]] = field(default_factory=list)

    @property
    def ranked_by(self) -> str:
        """The metric that says which Tweets are the top ones."""
        fallback = self.metrics[0] if self.metrics else ALL_METRICS
        return next((metric for metric in _RANKED_BY if metric in self.metrics), fallback)

    @property
    def top(self) -> list[TopTweet]:
        """The Tweets with the most engagement, the first one first."""
        return [tweet for _, _, tweet in sorted(self._top, key=lambda item: item[:2], reverse=True)]

    def add(self, values: TweetValues, *, owner: str | None = None, seen: tuple[float, float] | None = None) -> None:
        """Count one Tweet, or sums over Tweets.

        Args:
            values: What is known of it.
            owner: Whose it is, where there are several.
            seen: From when until when its hours are whole, in seconds since the epoch.
        """
        self.sums.update(values.sums)
        self._add_times(values)
        if not values.tweet_id:
            return
        rank = values.sums.get(self.ranked_by, 0)
        if rank > 0:
            item = (rank, -int(values.tweet_id), TopTweet(values.tweet_id, owner, values.sums))
            push = heapq.heappush if len(self._top) < TOP else heapq.heappushpop
            push(self._top, item)
        if seen is not None and values.hours:
            self.lifetimes.add(values.tweet_id, values.hours, seen)

    def add_times(self, values: TweetValues) -> None:
        """Count hours or days alone, of sums whose Tweets are added by themselves."""
        self._add_times(values)

    def _add_times(self, values: TweetValues) -> None:
        for spread, sums in ((values.hours, self.by_hour), (values.days, self.by_day)):
            for metric, by_time in spread.items():
                sums[metric].update(by_time)
        self.seen.update(hour for by_time in values.hours.values() for hour in by_time)

    def add_gone(self, tweet_id: str, owner: str | None = None) -> None:
        """Note an ID that is gone; its outcome is counted with the others."""
        if len(self.gone) < MOST_GONE:
            self.gone.append((tweet_id, owner))

    def add_span(self, starts_at: float, ends_at: float) -> None:
        """Note that an answer speaks of the time between two instants, in seconds since the epoch."""
        first, end = starts_at // _HOUR_S, -(-ends_at // _HOUR_S)
        self.seen.update(range(int(first), int(end)))
        whole = int(-(-starts_at // _HOUR_S)), int(ends_at // _HOUR_S)
        before = self._whole or whole
        self._whole = max(before[0], whole[0]), min(before[1], whole[1])

    @property
    def partial(self) -> set[int]:
        """The hours that are not whole for every Tweet: the edge of a window cuts them, or some answers lack them."""
        if self._whole is None:
            return self.cut
        first, end = self._whole
        return self.cut | {hour for hour in self.seen if not first <= hour < end}
