"""What nested groupings are made of: levels, leaves, days and hours; and their rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from engagement_async.errors import InvalidAnswerError

__all__ = [
    "Grouping",
    "answered_levels",
    "answered_shapes",
    "columns_of",
    "day_at",
    "hour_at",
    "leaf_dicts",
    "only_keys",
    "rows_of",
]

Grouping = dict[str, Any]
"""Nested dicts in the order of a `group_by`, with integer leaves."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def leaf_dicts(grouping: Grouping, depth: int, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Grouping]]:
    """The innermost dicts of a grouping, each with the keys that lead to it."""
    if depth == 0:
        yield path, grouping
        return
    for key, inner in grouping.items():
        yield from leaf_dicts(inner, depth - 1, (*path, key))


def answered_shapes(group_by: tuple[str, ...], grouping: Grouping) -> list[tuple[tuple[str, ...], Grouping]]:
    """The grouping with its levels as they were answered: `engagement.day` is put in where the API nested hours under days
    that were not asked for. Should it have done so for some batches alone, those are a part of their own."""
    if "engagement.hour" not in group_by or "engagement.day" in group_by:
        return [(group_by, grouping)]
    at = group_by.index("engagement.hour")
    with_days = (*group_by[:at], "engagement.day", *group_by[at:])
    are_days = {_DAY.fullmatch(key) is not None for _, inner in leaf_dicts(grouping, at, ()) for key in inner}
    if are_days == {True, False}:
        bare = only_keys(grouping, at, lambda key: _DAY.fullmatch(key) is None)
        nested = only_keys(grouping, at, lambda key: _DAY.fullmatch(key) is not None)
        return [(group_by, bare), (with_days, nested)]
    return [(group_by, grouping)] if are_days == {False} else [(with_days, grouping)]


def answered_levels(group_by: tuple[str, ...], grouping: Grouping) -> tuple[str, ...]:
    """The levels of a grouping that has one shape throughout, as one answer's has."""
    return answered_shapes(group_by, grouping)[0][0]


def only_keys(grouping: Grouping, level: int, is_kept: Callable[[str], bool]) -> Grouping:
    """Return the grouping with those keys of one level that `is_kept` accepts, and without what that empties."""
    if not level:
        return {key: value for key, value in grouping.items() if is_kept(key)}
    filtered = {key: only_keys(inner, level - 1, is_kept) for key, inner in grouping.items()}
    return {key: inner for key, inner in filtered.items() if inner}


def rows_of(levels: tuple[str, ...], grouping: Grouping) -> Iterator[dict[str, Any]]:
    """Tidy rows, one a leaf, lazily."""
    columns = columns_of(levels)
    readers = [_reader(levels, column) for column in columns]
    for path, leaves in leaf_dicts(grouping, len(levels) - 1, ()):
        for key, value in leaves.items():
            keys = (*path, key)
            row: dict[str, Any] = {column: read(keys) for column, read in zip(columns, readers, strict=True)}
            row["value"] = value
            yield row


def columns_of(levels: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a row's keys: a data engineer's names for `group_by` values. An hour's column takes its day in."""
    names = {"tweet.id": "tweet_id", "engagement.type": "engagement_type", "engagement.day": "engagement_day"}
    if "engagement.hour" in levels:
        names["engagement.hour"] = "engagement_hour" if "engagement.day" in levels else "engagement_hour_of_day"
    return tuple(names[level] for level in levels if not (level == "engagement.day" and "engagement.hour" in levels))


def _reader(levels: tuple[str, ...], column: str) -> Callable[[tuple[str, ...]], Any]:
    """What makes one column's value of a leaf's keys."""
    at = {level: index for index, level in enumerate(levels)}
    if column == "engagement_hour":
        day, hour = at["engagement.day"], at["engagement.hour"]
        return lambda keys: hour_at(keys[day], keys[hour])
    if column == "engagement_hour_of_day":
        hour = at["engagement.hour"]
        return lambda keys: hour_at("1970-01-01", keys[hour]).hour
    if column == "engagement_day":
        day = at["engagement.day"]
        return lambda keys: day_at(keys[day])
    return itemgetter(at["tweet.id" if column == "tweet_id" else "engagement.type"])


@lru_cache(maxsize=4096)
def hour_at(day: str, hour: str) -> datetime:
    """`2016-02-10` and `17` as an aware UTC datetime. `InvalidAnswerError` when the API gave something else."""
    try:
        return datetime.fromisoformat(day).replace(hour=int(hour), tzinfo=UTC)
    except ValueError:
        raise InvalidAnswerError(f"the API gave {day!r} and {hour!r} for a day and an hour") from None


@lru_cache(maxsize=4096)
def day_at(day: str) -> date:
    """`2016-02-10` as a date. `InvalidAnswerError` when the API gave something else."""
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise InvalidAnswerError(f"the API gave {day!r} for a day") from None
