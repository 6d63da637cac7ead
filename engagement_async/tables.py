"""A grouping as an Arrow table. Needs pyarrow (extra `[arrow]`); nothing else imports it before it is asked for."""

from __future__ import annotations

from calendar import timegm
from collections.abc import Sequence

from engagement_async.errors import UsageError
from engagement_async.groupings import Grouping, day_at, hour_at

try:
    import pyarrow as pa
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("Arrow tables and Parquet need pyarrow: pip install 'engagement-async[arrow]'") from error

__all__ = ["TYPES", "concatenated", "grouping_table"]

TYPES: dict[str, pa.DataType] = {
    "tweet_id": pa.string(),
    "engagement_type": pa.dictionary(pa.int32(), pa.string()),
    "engagement_day": pa.date32(),
    "engagement_hour": pa.timestamp("s", tz="UTC"),
    "engagement_hour_of_day": pa.int8(),
    "value": pa.int64(),
}


def grouping_table(grouping: Grouping, levels: Sequence[str]) -> pa.Table:
    """One row a value, in the grouping's own order. `levels` are its `group_by` values, as they were answered."""
    keys: list[list[str]] = [[] for _ in levels]
    values: list[int] = []
    _gather(grouping, 0, keys, values)
    by_level = dict(zip(levels, keys, strict=True))
    columns: dict[str, pa.Array] = {}
    for level in levels:
        if level == "tweet.id":
            columns["tweet_id"] = pa.array(by_level[level], TYPES["tweet_id"])
        elif level == "engagement.type":
            columns["engagement_type"] = _dictionary(by_level[level])
        elif level == "engagement.hour":
            name, array = _hours(by_level)
            columns[name] = array
        elif "engagement.hour" not in by_level:
            days = {day: day_at(day) for day in set(by_level[level])}
            columns["engagement_day"] = pa.array([days[day] for day in by_level[level]], TYPES["engagement_day"])
    try:
        columns["value"] = pa.array(values, TYPES["value"])
    except (OverflowError, pa.ArrowInvalid):
        raise UsageError("a value does not fit into 64 bits: take rows() or to_response() instead") from None
    return pa.table(columns)


def _gather(grouping: Grouping, level: int, keys: list[list[str]], values: list[int]) -> int:
    """Appends every leaf of the grouping; returns how many there were."""
    if level == len(keys) - 1:
        keys[level].extend(grouping)
        values.extend(grouping.values())
        return len(grouping)
    total = 0
    column = keys[level]
    for key, inner in grouping.items():
        count = _gather(inner, level + 1, keys, values)
        column.extend([key] * count)
        total += count
    return total


def _dictionary(types: list[str]) -> pa.Array:
    names = list(dict.fromkeys(types))
    index = {name: at for at, name in enumerate(names)}
    return pa.DictionaryArray.from_arrays(
        pa.array([index[name] for name in types], pa.int32()), pa.array(names, pa.string())
    )


def _hours(by_level: dict[str, list[str]]) -> tuple[str, pa.Array]:
    hours = by_level["engagement.hour"]
    if "engagement.day" not in by_level:
        of_day = {hour: hour_at("1970-01-01", hour).hour for hour in set(hours)}
        return "engagement_hour_of_day", pa.array([of_day[hour] for hour in hours], TYPES["engagement_hour_of_day"])
    days = by_level["engagement.day"]
    into_day = {hour: hour_at("1970-01-01", hour).hour * 3600 for hour in set(hours)}
    midnight = {day: timegm(hour_at(day, "0").timetuple()) for day in set(days)}
    seconds = [midnight[day] + into_day[hour] for day, hour in zip(days, hours, strict=True)]
    return "engagement_hour", pa.array(seconds, pa.int64()).cast(TYPES["engagement_hour"])


def concatenated(tables: list[pa.Table]) -> pa.Table:
    """One table of several; a column that some lack is null there."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
