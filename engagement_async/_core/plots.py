"""What a plot of one grouping shows: the sums behind each of its panels, one panel a metric. Pure.

`charts` draws it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum, auto
from typing import Any, Final, NamedTuple

__all__ = ["ALL_METRICS", "MOST_TWEETS", "Axis", "PlotData", "Point", "plot_data"]

ALL_METRICS: Final = "all metrics"
"""The name of the panel of a grouping without `engagement.type`: its values are sums over the metrics."""
MOST_TWEETS: Final = 25
"""Tweets that a plot shows, those with the largest values."""
_STEPS: Final = {"engagement_hour": timedelta(hours=1), "engagement_day": timedelta(days=1)}


class Axis(Enum):
    """What the values are spread over."""

    HOURS = auto()
    DAYS = auto()
    HOURS_OF_DAY = auto()
    TWEETS = auto()
    OWNERS = auto()
    METRICS = auto()


class Point(NamedTuple):
    """One value of a panel."""

    key: datetime | int | str
    """The beginning of an hour or a day (aware, UTC), an hour of the day, a Tweet ID, an owner, or a metric."""
    value: int
    is_partial: bool = False
    """Whether the edge of a window cuts this hour or day."""


@dataclass(frozen=True, slots=True)
class PlotData:
    """The panels of a plot."""

    axis: Axis
    panels: Mapping[str, Sequence[Point]]
    """Metric to its points: in order of time, or the largest values first."""
    left_out: int = 0
    """Tweets or owners that are not shown."""


_AXES: Final = (
    ("engagement_hour", Axis.HOURS),
    ("engagement_day", Axis.DAYS),
    ("engagement_hour_of_day", Axis.HOURS_OF_DAY),
    ("tweet_id", Axis.TWEETS),
    ("owner", Axis.OWNERS),
)
"""The column that a plot is spread over, the best one first."""


def plot_data(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    metrics: Sequence[str],
    window: tuple[datetime, datetime] | None = None,
) -> PlotData:
    """Return what a plot of these tidy rows shows.

    Hours and days that have no row between the first and the last one are zeros.

    Args:
        columns: The columns of the rows.
        rows: As of `EngagementResult.rows`.
        metrics: The panels, in order.
        window: The time that all answers cover: hours and days that it cuts are partial.
    """
    has_metrics = "engagement_type" in columns
    column, axis = next(((column, axis) for column, axis in _AXES if column in columns), ("", Axis.METRICS))
    sums: dict[str, dict[Any, int]] = {metric: defaultdict(int) for metric in (metrics if has_metrics else ())}
    for row in rows:
        metric = row["engagement_type"] if has_metrics else ALL_METRICS
        if has_metrics and metric not in sums:
            continue
        sums.setdefault(metric, defaultdict(int))[row.get(column, metric)] += row["value"]
    sums = {metric: values for metric, values in sums.items() if values}
    if axis is Axis.METRICS:
        points = sorted((Point(metric, sum(values.values())) for metric, values in sums.items()), key=_largest_first)
        return PlotData(axis, {"": points} if points else {})
    if column in _STEPS:
        return PlotData(axis, _over_time(sums, _STEPS[column], window))
    if axis is Axis.HOURS_OF_DAY:
        return PlotData(
            axis, {m: [Point(hour, values.get(hour, 0)) for hour in range(24)] for m, values in sums.items()}
        )
    ranked = {m: _ranked(values) for m, values in sums.items()}
    if any(points[0].value for points in ranked.values()):  # else there are zeros alone, and they are shown
        ranked = {m: [point for point in points if point.value] for m, points in ranked.items() if points[0].value}
    left_out = max((len(points) - MOST_TWEETS for points in ranked.values()), default=0)
    return PlotData(axis, {metric: points[:MOST_TWEETS] for metric, points in ranked.items()}, max(0, left_out))


def _ranked(values: Mapping[Any, int]) -> list[Point]:
    return sorted((Point(str(key), value) for key, value in values.items()), key=_largest_first)


def _over_time(
    sums: Mapping[str, Mapping[datetime | date, int]], step: timedelta, window: tuple[datetime, datetime] | None
) -> dict[str, list[Point]]:
    begins = sorted({_begin(key) for values in sums.values() for key in values})
    panels: dict[str, list[Point]] = {}
    for metric, values in sums.items():
        by_begin = {_begin(key): value for key, value in values.items()}
        at, panels[metric] = begins[0], []
        while at <= begins[-1]:
            is_cut = window is not None and (at < window[0] or at + step > window[1])
            panels[metric].append(Point(at, by_begin.get(at, 0), is_cut))
            at += step
    return panels


def _begin(key: datetime | date) -> datetime:
    return key if isinstance(key, datetime) else datetime.combine(key, time(), UTC)


def _largest_first(point: Point) -> tuple[int, str]:
    return -point.value, str(point.key)
