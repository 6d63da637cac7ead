"""The values of one request, nested in the order of each grouping's `group_by`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

from .metrics import Life
from .snowflake import HOUR_S

__all__ = ["Table", "instant"]

_TIMES = ("engagement.day", "engagement.hour")
# What older clients call a metric.
_RENAMED = {"media_clicks": "media_engagements"}
_COUNTED_SINCE = int(datetime(2015, 9, 15, tzinfo=UTC).timestamp()) // HOUR_S
_COUNTED_LATE = ("favorites", "replies", "retweets")


def instant(seconds: float) -> str:
    """Return an instant (epoch seconds) as the API writes it."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Table:
    """The Tweets of a request, and what an answer counts of them.

    `metrics`: in the order of the answer. `metrics_without_value`: Tweet to the metrics that are left out for it.
    `over_1800_days`: Tweets whose video views are a fake zero. `start`, `end`: hours since 1970, `end` exclusive.
    `hour`: the current one; later ones are zeros. `is_history`: whether favorites, replies and retweets before
    2015-09-15 are zeros, as documented for historical.
    """

    metrics: Sequence[str]
    lives: Sequence[tuple[str, Life]]
    metrics_without_value: Mapping[str, tuple[str, ...]]
    over_1800_days: frozenset[str]
    start: int
    end: int
    hour: int
    is_history: bool

    def nest(self, group_by: Sequence[str], hours: Literal["dated", "bare"]) -> dict[str, Any]:
        """Return one grouping; its leaves are integers. It is empty when no Tweet has anything to show."""
        levels = list(group_by)
        if "engagement.hour" in levels and "engagement.day" not in levels and hours == "dated":
            levels.insert(levels.index("engagement.hour"), "engagement.day")
        times = [level for level in levels if level in _TIMES]
        cells, edges = self._cells(times)
        sums = self._sums(edges, by_tweet="tweet.id" in levels, by_type="engagement.type" in levels)
        if levels[len(levels) - len(times) :] == times and len(set(cells)) == len(cells):
            outer = [level for level in levels if level not in _TIMES]
            return _nest_runs(sums, outer, cells)
        return _nest_cells(sums, levels, times, cells)

    def _cells(self, times: Sequence[str]) -> tuple[list[tuple[str, ...]], list[int]]:
        """Return the keys of each cell of time in the order of `times`, and the hours between which the cells lie."""
        if not times:
            return [()], [self.start, self.end]
        days = range(self.start // 24, (self.end - 1) // 24 + 1)
        if "engagement.hour" in times:
            starts = list(range(self.start, self.end))
        else:
            starts = [max(day * 24, self.start) for day in days]
        dates = {day: instant(day * 24 * HOUR_S)[:10] for day in days}
        keys = [{"engagement.day": dates[hour // 24], "engagement.hour": f"{hour % 24:02d}"} for hour in starts]
        return [tuple(key[level] for level in times) for key in keys], [*starts, self.end]

    def _sums(
        self, edges: Sequence[int], *, by_tweet: bool, by_type: bool
    ) -> Iterable[tuple[dict[str, str], list[int]]]:
        """Yield keys and one value a cell, summed over what the grouping does not name."""
        past = [min(edge, self.hour + 1) for edge in edges]
        past_counted_late = [max(edge, _COUNTED_SINCE) for edge in past]
        sums: dict[tuple[str, str], list[int]] = {}
        for tweet_id, life in self.lives:
            shares = life.shares(past)
            shares_counted_late = life.shares(past_counted_late) if self.is_history else shares
            left_out = self.metrics_without_value.get(tweet_id, ())
            for metric in self.metrics:
                if metric in left_out:
                    continue
                if metric == "video_views" and tweet_id in self.over_1800_days:
                    values = [0] * (len(edges) - 1)
                else:
                    of_metric = shares_counted_late if metric in _COUNTED_LATE else shares
                    values = life.values(_RENAMED.get(metric, metric), of_metric)
                key = (tweet_id if by_tweet else "", metric if by_type else "")
                if (before := sums.get(key)) is not None:
                    values = [left + right for left, right in zip(before, values, strict=True)]
                sums[key] = values
        for (tweet_id, metric), values in sums.items():
            yield {"tweet.id": tweet_id, "engagement.type": metric}, values


_Sums = Iterable[tuple[dict[str, str], list[int]]]


def _nest_runs(sums: _Sums, outer: Sequence[str], cells: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Nest the usual orders, which end in the time: their innermost level is made of whole runs of cells."""
    nested: dict[str, Any] = {}
    runs = [(path, [cell[-1] for cell in run if cell]) for path, run in groupby(cells, key=lambda cell: cell[:-1])]
    for keys, values in sums:
        path = [keys[level] for level in outer]
        if cells[0] == ():
            _descend(nested, path[:-1])[path[-1]] = values[0]
            continue
        rest = iter(values)
        for times_path, run in runs:
            # The run comes first in zip, so that no more is taken from `rest` than it needs.
            _descend(nested, (*path, *times_path)).update(zip(run, rest, strict=False))
    return nested


def _nest_cells(
    sums: _Sums, levels: Sequence[str], times: Sequence[str], cells: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """Nest any order, cell by cell; cells of the same keys are added."""
    nested: dict[str, Any] = {}
    for keys, values in sums:
        for cell, value in zip(cells, values, strict=True):
            cell_keys = keys | dict(zip(times, cell, strict=True))
            *path, last = [cell_keys[level] for level in levels]
            innermost = _descend(nested, path)
            innermost[last] = innermost.get(last, 0) + value
    return nested


def _descend(nested: dict[str, Any], path: Iterable[str]) -> dict[str, Any]:
    for key in path:
        nested = nested.setdefault(key, {})
    return nested
