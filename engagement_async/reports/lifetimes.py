"""How fast the engagement of a Tweet comes: its half-life, and how much had come at which age. Pure.

Only Tweets that were seen from their first hour on count, and only their first hours, the same number for all: else the ones
that were watched for longer would seem to live for longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

__all__ = ["HORIZONS", "HalfLife", "Lifetimes", "born_at", "half_life_h"]

HORIZONS: Final = (24, 72, 168, 672)
"""Hours of a Tweet's life that are looked at: a day, three days, a week, four weeks."""
_HOUR_S: Final = 3600
_EPOCH_MS: Final = 1288834974657
_FIRST_SNOWFLAKE: Final = 1 << 40
"""IDs below it are older than the scheme: they do not hold an instant."""


class HalfLife(NamedTuple):
    """Of one metric."""

    metric: str
    horizon_h: int
    """How many hours of each Tweet's life were looked at."""
    tweets: int
    """Tweets with engagement of this kind that were seen for so long from their first hour on."""
    median_h: float
    """The age at which half of its engagement in these hours had come, of the Tweet in the middle."""
    quartiles_h: tuple[float, float]
    """The same of the Tweets at a quarter and at three quarters."""
    shares: Sequence[float]
    """What share of all engagement in these hours had come at the end of each hour of age."""


def born_at(tweet_id: str) -> float | None:
    """Return when a Tweet was made, in seconds since the epoch; None for IDs that do not tell."""
    number = int(tweet_id)
    return ((number >> 22) + _EPOCH_MS) / 1000 if number >= _FIRST_SNOWFLAKE else None


def half_life_h(values: Sequence[int], born_after_h: float) -> float:
    """Return the age, in hours, at which half of the sum had come; within an hour it came evenly.

    Args:
        values: By hour, from the one in which the Tweet was made on. Their sum is not 0.
        born_after_h: How much of that hour had passed before.
    """
    wanted, before = sum(values) / 2, 0
    for hour, value in enumerate(values):
        if value and before + value >= wanted:
            share = (wanted - before) / value
            return share * (1 - born_after_h) if hour == 0 else hour + share - born_after_h
        before += value
    raise ValueError("there is no engagement to halve")


@dataclass(slots=True)
class _Cohort:
    """The Tweets that were seen for so many hours, and one metric of them."""

    by_age: list[int]
    half_lives: Counter[float] = field(default_factory=Counter)


class Lifetimes:
    """Gathers the hours of Tweets, one by one."""

    def __init__(self) -> None:
        self._cohorts: dict[tuple[int, str], _Cohort] = {}

    def add(self, tweet_id: str, hours: Mapping[str, Mapping[int, int]], seen: tuple[float, float]) -> None:
        """Count a Tweet.

        Args:
            tweet_id: Its ID.
            hours: Metric to hour (hours since the epoch) to value.
            seen: From when until when its hours are whole, in seconds since the epoch.
        """
        born = born_at(tweet_id)
        if born is None:
            return
        first = int(born // _HOUR_S)
        # The hour of the birth is whole for a window that begins within it: there was nothing before.
        if seen[0] > born and int(seen[0] // _HOUR_S) > first:
            return
        for horizon in HORIZONS:
            if (first + horizon) * _HOUR_S > seen[1]:
                break
            for metric, values in hours.items():
                ages = [values.get(first + age, 0) for age in range(horizon)]
                if not any(ages):
                    continue
                cohort = self._cohorts.setdefault((horizon, metric), _Cohort([0] * horizon))
                cohort.by_age = [before + now for before, now in zip(cohort.by_age, ages, strict=True)]
                cohort.half_lives[round(half_life_h(ages, born / _HOUR_S % 1), 2)] += 1

    def found(self) -> list[HalfLife]:
        """Return the half-life of each metric, over the longest span for which half of those of a day were seen."""
        metrics = dict.fromkeys(metric for _, metric in self._cohorts)
        counts = {horizon: self._tweets(horizon) for horizon in HORIZONS}
        if not counts[HORIZONS[0]]:
            return []
        horizon = max(h for h in HORIZONS if 2 * counts[h] >= counts[HORIZONS[0]])
        return [self._of(horizon, metric) for metric in metrics if (horizon, metric) in self._cohorts]

    def _tweets(self, horizon: int) -> int:
        cohorts = [cohort for (its, _), cohort in self._cohorts.items() if its == horizon]
        return max((cohort.half_lives.total() for cohort in cohorts), default=0)

    def _of(self, horizon: int, metric: str) -> HalfLife:
        cohort = self._cohorts[horizon, metric]
        total, before, shares = sum(cohort.by_age), 0, []
        for value in cohort.by_age:
            before += value
            shares.append(before / total)
        quarter, median, three_quarters = (_quantile(cohort.half_lives, at) for at in (0.25, 0.5, 0.75))
        return HalfLife(metric, horizon, cohort.half_lives.total(), median, (quarter, three_quarters), shares)


def _quantile(counts: Counter[float], at: float) -> float:
    """Return the smallest value that so large a share of all is not above."""
    wanted, before = at * counts.total(), 0
    for value, count in sorted(counts.items()):
        before += count
        if before >= wanted:
            return value
    raise ValueError("there are no values")
