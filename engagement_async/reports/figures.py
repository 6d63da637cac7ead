"""The numbers behind the pictures of data: sums over time, the week, what is not shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from engagement_async._core.plots import Point
from engagement_async.reports.tally import Tally

__all__ = ["MOST_POINTS", "WEEKDAYS", "Cell", "Panels", "panels_of", "week_of"]

MOST_POINTS: Final = 240
"""Points of one panel: more hours become days, and so on."""
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_STEPS_H: Final = (1, 3, 6, 24, 7 * 24, 28 * 24, 364 * 24)
_NAMES: Final = {1: "an hour", 3: "in 3 hours", 6: "in 6 hours", 24: "a day", 168: "a week"}
_DAY_H: Final = 24
_MONDAY_H: Final = 4 * 24
"""Hours since the epoch of the first Monday."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Sums over time, one panel a metric."""

    step: timedelta
    unit: str
    """What one point is of, as `an hour`."""
    points: Mapping[str, Sequence[Point]]
    """Metric to its points, in order of time; nothing where no answer speaks of."""
    silent: Sequence[str]
    """Metrics without any engagement: they have no panel."""
    starts_at: datetime
    ends_at: datetime


class Cell(NamedTuple):
    """One hour of one day of the week."""

    weekday: int
    """0 is Monday."""
    hour: int
    mean: float | None
    """Engagement in such an hour, on average; None where none was seen."""
    hours: int
    """How many such hours were seen whole."""


def panels_of(tally: Tally) -> Panels | None:
    """Return the panels of a tally: hours, or longer steps where there are many; None where it has no time."""
    is_daily = not tally.by_hour
    sums: Mapping[str, Mapping[int, int]] = tally.by_day if is_daily else tally.by_hour
    if not sums:
        return None
    seen: set[int] = {hour for by_time in sums.values() for hour in by_time} if is_daily else tally.seen
    shortest = _DAY_H if is_daily else 1
    span = max(seen) - min(seen) + shortest
    step = next((h for h in _STEPS_H if h >= shortest and span <= h * MOST_POINTS), _STEPS_H[-1])
    loud = [metric for metric in tally.metrics if metric in sums and any(sums[metric].values())]
    silent = [metric for metric in tally.metrics if metric in sums and metric not in loud]
    wholes = seen - tally.partial
    points = {metric: _points(sums[metric], seen, wholes, step=step, shortest=shortest) for metric in loud}
    unit = _NAMES.get(step, f"in {step // _DAY_H} days")
    begin, end = _instant(min(seen)), _instant(max(seen) + shortest)
    return Panels(timedelta(hours=step), unit, points, silent, begin, end)


def _points(
    sums: Mapping[int, int], seen: Iterable[int], wholes: Iterable[int], *, step: int, shortest: int
) -> list[Point]:
    by_bin: dict[int, int] = {}
    for hour in seen:
        by_bin.setdefault(_begin(hour, step), 0)
    for hour, value in sums.items():
        begin = _begin(hour, step)
        by_bin[begin] = by_bin.get(begin, 0) + value
    whole_hours: dict[int, int] = {}
    for hour in wholes:
        begin = _begin(hour, step)
        whole_hours[begin] = whole_hours.get(begin, 0) + shortest
    return [Point(_instant(begin), value, whole_hours.get(begin, 0) < step) for begin, value in sorted(by_bin.items())]


def _instant(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * 3600, UTC)


def _begin(hour: int, step: int) -> int:
    """Return the beginning of the step that an hour is in: steps of days begin at midnight, those of weeks on Monday."""
    return (hour - _MONDAY_H) // step * step + _MONDAY_H


def week_of(tally: Tally, metric: str) -> list[Cell]:
    """Return the mean of a metric in each hour of the week (UTC), over the hours that were seen whole."""
    sums: Mapping[int, int] = tally.by_hour.get(metric, {})
    values, hours = [0] * 168, [0] * 168
    for hour in tally.seen - tally.partial:
        place = (hour - _MONDAY_H) % 168
        values[place] += sums.get(hour, 0)
        hours[place] += 1
    return [
        Cell(place // 24, place % 24, values[place] / hours[place] if hours[place] else None, hours[place])
        for place in range(168)
    ]
