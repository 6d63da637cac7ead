"""Nested groupings: their levels, leaves, days and hours, and their rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from datetime import UTC, date, datetime, time
from functools import lru_cache
from itertools import chain
from typing import Any

from engagement_async.errors import InvalidAnswerError

__all__ = [
    "Grouping",
    "actual_levels",
    "clip",
    "day_at",
    "drop_empty",
    "has_only_days",
    "hour_at",
    "hour_of_day",
    "is_day",
    "iter_rows",
    "keep_ids",
    "key_columns",
    "keys_at",
    "leaf_dicts",
    "levels_with_days",
    "metrics_by_tweet",
    "metrics_of",
    "remove",
    "split_by_levels",
    "values_at",
    "without_ids",
]

Grouping = dict[str, Any]
"""Nested dicts in the order of a `group_by`, with integer leaves."""

_TEXT_COLUMNS = {"owner": "owner", "tweet.id": "tweet_id", "engagement.type": "engagement_type"}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def leaf_dicts(grouping: Grouping, depth: int, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Grouping]]:
    """Yield the innermost dicts of a grouping, each with the keys that lead to it."""
    if depth == 0:
        yield path, grouping
        return
    for key, inner in grouping.items():
        yield from leaf_dicts(inner, depth - 1, (*path, key))


def split_by_levels(group_by: tuple[str, ...], grouping: Grouping) -> list[tuple[tuple[str, ...], Grouping]]:
    """Return the grouping with its actual levels: with `engagement.day` where the API nested hours under days that are not
    in `group_by`. If it did so for some batches alone, those are a part of their own.
    """
    with_days = levels_with_days(group_by)
    if with_days == group_by:
        return [(group_by, grouping)]
    at = group_by.index("engagement.hour")
    are_days = {_DAY.fullmatch(key) is not None for _, inner in leaf_dicts(grouping, at, ()) for key in inner}
    if are_days == {True, False}:
        bare, nested = (_only(grouping, at, days=days) for days in (False, True))
        return [(group_by, bare), (with_days, nested)]
    return [(group_by, grouping)] if are_days == {False} else [(with_days, grouping)]


def levels_with_days(group_by: tuple[str, ...]) -> tuple[str, ...]:
    """Return the levels of an answer that nests hours under days, whether `group_by` has days or not."""
    if "engagement.hour" not in group_by or "engagement.day" in group_by:
        return group_by
    at = group_by.index("engagement.hour")
    return (*group_by[:at], "engagement.day", *group_by[at:])


def actual_levels(group_by: tuple[str, ...], grouping: Grouping) -> tuple[str, ...]:
    """Return the levels of a grouping that has the same ones throughout, as one answer's has."""
    return split_by_levels(group_by, grouping)[0][0]


def _only(grouping: Grouping, depth: int, *, days: bool) -> Grouping:
    if depth:
        return {key: _only(inner, depth - 1, days=days) for key, inner in grouping.items()}
    return {key: value for key, value in grouping.items() if (_DAY.fullmatch(key) is not None) == days}


@lru_cache(maxsize=4096)
def is_day(key: str) -> bool:
    """Return whether a key is a day, as `2016-02-10`."""
    try:
        return _DAY.fullmatch(key) is not None and date.fromisoformat(key) is not None
    except ValueError:
        return False


def has_only_days(groupings: Mapping[str, Grouping], levels: Mapping[str, tuple[str, ...]]) -> bool:
    """Return whether groupings have only days as keys where `levels` has `engagement.day`."""
    return all(
        all(map(is_day, keys_at(grouping, levels[name].index("engagement.day"))))
        for name, grouping in groupings.items()
        if "engagement.day" in levels[name]
    )


def keys_at(grouping: Grouping, level: int) -> Set[str]:
    """Return the keys at a level of a grouping: the IDs, if that is `tweet.id`."""
    if not level:
        return grouping.keys()
    layer: Iterable[Grouping] = (grouping,)
    for _ in range(level):
        layer = chain.from_iterable(map(dict.values, layer))
    return frozenset(chain.from_iterable(layer))


def without_ids(grouping: Grouping, group_by: tuple[str, ...], tweet_ids: Collection[str]) -> Grouping:
    """Return one answer's grouping by Tweet without these IDs, whatever its nesting; emptied dicts go too."""
    return _without_ids(grouping, actual_levels(group_by, grouping).index("tweet.id"), tweet_ids)


def _without_ids(grouping: Grouping, level: int, tweet_ids: Collection[str]) -> Grouping:
    if not level:
        return {key: value for key, value in grouping.items() if key not in tweet_ids}
    kept = {key: _without_ids(inner, level - 1, tweet_ids) for key, inner in grouping.items()}
    return {key: inner for key, inner in kept.items() if inner}


def keep_ids(grouping: Grouping, level: int, tweet_ids: Collection[str]) -> None:
    """Delete all but these IDs from a grouping that has `tweet.id` at this level, in place; emptied dicts go too."""
    if not level:
        unwanted = [key for key in grouping if key not in tweet_ids]
    else:
        for inner in grouping.values():
            keep_ids(inner, level - 1, tweet_ids)
        unwanted = [key for key, inner in grouping.items() if not inner]
    for key in unwanted:
        del grouping[key]


def remove(grouping: Grouping, levels: tuple[str, ...], keys: Mapping[str, Collection[str]], at: int = 0) -> None:
    """Delete in place what lies under any of `keys` at every level that they name; emptied dicts go too.

    >>> remove(grouping, ("tweet.id", "engagement.type"), {"tweet.id": {"20"}, "engagement.type": {"video_views"}})
    """
    chosen = keys.get(levels[at])
    is_last = not any(level in keys for level in levels[at + 1 :])
    for key in list(grouping) if chosen is None else [key for key in chosen if key in grouping]:
        if not is_last:
            remove(grouping[key], levels, keys, at + 1)
            if grouping[key]:
                continue
        del grouping[key]


def drop_empty(grouping: Grouping, depth: int) -> None:
    """Delete dicts that hold no leaf, in place, down to the dicts of this level."""
    if depth > 1:
        for inner in grouping.values():
            drop_empty(inner, depth - 1)
    if depth:
        for key in [key for key, inner in grouping.items() if not inner]:
            del grouping[key]


def values_at(grouping: Grouping, levels: tuple[str, ...], keys: Mapping[str, str], at: int = 0) -> Iterator[int]:
    """Return the leaves under these keys, one a level; all of the levels that `keys` does not name."""
    key = keys.get(levels[at])
    found = list(grouping.values()) if key is None else [grouping[key]] if key in grouping else []
    if at == len(levels) - 1:
        yield from found
    else:
        for inner in found:
            yield from values_at(inner, levels, keys, at + 1)


def metrics_of(grouping: Grouping, levels: tuple[str, ...]) -> Set[str]:
    """Return the engagement types in a grouping that has them as a level."""
    return keys_at(grouping, levels.index("engagement.type"))


def metrics_by_tweet(grouping: Grouping, levels: tuple[str, ...]) -> Mapping[str, Collection[str]]:
    """Return the engagement types of each ID in a grouping that has both as levels."""
    if levels[:2] == ("tweet.id", "engagement.type"):
        return grouping
    at_id, at_type = levels.index("tweet.id"), levels.index("engagement.type")
    found: dict[str, set[str]] = {}
    for path, inner in leaf_dicts(grouping, max(at_id, at_type), ()):
        for key in inner:
            keys = (*path, key)
            found.setdefault(keys[at_id], set()).add(keys[at_type])
    return found


def clip(
    grouping: Grouping, levels: tuple[str, ...], hours: Mapping[str, Collection[int]], at: int = 0, day: str = ""
) -> None:
    """Delete these hours of these days, in place; emptied dicts go too. Days are a level above hours."""
    level = levels[at]
    if level == "engagement.hour":
        unwanted = [hour for hour in grouping if hour_at(day, hour).hour in hours[day]]
    else:
        found = [key for key in hours if key in grouping] if level == "engagement.day" else list(grouping)
        for key in found:
            clip(grouping[key], levels, hours, at + 1, key if level == "engagement.day" else day)
        unwanted = [key for key in found if not grouping[key]]
    for key in unwanted:
        del grouping[key]


def iter_rows(levels: tuple[str, ...], grouping: Grouping) -> Iterator[dict[str, Any]]:
    """Yield tidy rows, one a leaf."""
    columns = key_columns(levels)
    # One row is filled in place, and what is yielded are copies: nothing else is as quick.
    row: dict[str, Any] = dict.fromkeys((*columns, "value"))
    copy = row.copy
    texts = [(_TEXT_COLUMNS[level], level) for level in levels[:-1] if level in _TEXT_COLUMNS]
    time = next((column for column in columns if column not in _TEXT_COLUMNS.values()), None)
    last = _TEXT_COLUMNS.get(levels[-1], time or "")
    keys: dict[str, str] = {}
    series_known: dict[tuple[str, ...], list[Any]] = {}
    for leaves in _innermost(levels, grouping, keys, 0):
        for column, level in texts:
            row[column] = keys[level]
        series: Iterable[Any] = leaves
        if time == last:  # few different series of keys, as the hours of a day: each is read once
            outer = keys.get("engagement.day") or keys.get("engagement.hour") or ""
            series = series_known.get((outer, *leaves), ())
            if not series:
                series = [_read_time(last, {**keys, levels[-1]: key}) for key in leaves]
                series_known[(outer, *leaves)] = series
        elif time is not None:
            row[time] = _read_time(time, keys)
        for row[last], row["value"] in zip(series, leaves.values(), strict=False):
            yield copy()


def _innermost(levels: tuple[str, ...], grouping: Grouping, keys: dict[str, str], at: int) -> Iterator[Grouping]:
    """Yield the innermost dicts of a grouping; `keys` holds those that lead to the one that was yielded last."""
    last = len(levels) - 1
    if at == last:
        yield grouping
        return
    for keys[levels[at]], inner in grouping.items():
        if at == last - 1:
            yield inner
        else:
            yield from _innermost(levels, inner, keys, at + 1)


def key_columns(levels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a row's keys: a data engineer's names for `group_by` values. An hour's column holds its day."""
    names = {**_TEXT_COLUMNS, "engagement.day": "engagement_day"}
    if "engagement.hour" in levels:
        names["engagement.hour"] = "engagement_hour" if "engagement.day" in levels else "engagement_hour_of_day"
    return tuple(names[level] for level in levels if not (level == "engagement.day" and "engagement.hour" in levels))


def _read_time(column: str, keys: Mapping[str, str]) -> Any:
    """Return the value of a column of time, from the keys of a leaf by level."""
    if column == "engagement_hour":
        return hour_at(keys["engagement.day"], keys["engagement.hour"])
    if column == "engagement_hour_of_day":
        return hour_of_day(keys["engagement.hour"])
    return day_at(keys["engagement.day"])


@lru_cache(maxsize=4096)
def hour_at(day: str, hour: str) -> datetime:
    """Return `2016-02-10` and `17` as an aware UTC datetime. Raise `InvalidAnswerError` for anything else."""
    try:
        return datetime.fromisoformat(day).replace(hour=int(hour), tzinfo=UTC)
    except (ValueError, OverflowError):  # an hour beyond a C long
        raise InvalidAnswerError(f"the API gave {day[:40]!r} and {hour[:40]!r} for a day and an hour") from None


@lru_cache(maxsize=256)
def hour_of_day(hour: str) -> int:
    """Return `17` as an integer. Raise `InvalidAnswerError` for anything but an hour."""
    try:
        return time(int(hour)).hour
    except (ValueError, OverflowError):
        raise InvalidAnswerError(f"the API gave {hour[:40]!r} for an hour") from None


@lru_cache(maxsize=4096)
def day_at(day: str) -> date:
    """Return `2016-02-10` as a date. Raise `InvalidAnswerError` for anything else."""
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise InvalidAnswerError(f"the API gave {day[:40]!r} for a day") from None
