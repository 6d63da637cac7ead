"""A grouping as an Arrow table. Needs pyarrow (extra `[arrow]`); nothing else imports it before it is asked for.

Keys of the outer levels repeat for many leaves: they are gathered as runs, and Arrow unrolls them.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from engagement_async.errors import UsageError
from engagement_async.groupings import Grouping, day_at, hour_at

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("Arrow tables and Parquet need pyarrow: pip install 'engagement-async[arrow]'") from error

_Convert = Callable[[str], Any]

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
    gathered = _Gathered(levels)
    gathered.take(grouping, 0)
    columns: dict[str, pa.Array] = {}
    for level in levels:
        if level == "tweet.id":
            columns["tweet_id"] = gathered.unrolled(level, pa.string(), None)
        elif level == "engagement.type":
            columns["engagement_type"] = gathered.dictionary(level)
        elif level == "engagement.hour":
            seconds = gathered.unrolled(level, pa.int64(), _second_of_day)
            if "engagement.day" in levels:
                midnights = gathered.unrolled("engagement.day", pa.int64(), _midnight)
                columns["engagement_hour"] = pc.add(midnights, seconds).cast(TYPES["engagement_hour"])
            else:
                columns["engagement_hour_of_day"] = pc.divide(seconds, 3600).cast(TYPES["engagement_hour_of_day"])
        elif "engagement.hour" not in levels:
            columns["engagement_day"] = gathered.unrolled(level, pa.date32(), day_at)
    try:
        columns["value"] = pa.array(gathered.values, TYPES["value"])
    except (OverflowError, pa.ArrowInvalid):
        raise UsageError("a value does not fit into 64 bits: take rows() or to_response() instead") from None
    return pa.table(columns)


def concatenated(tables: list[pa.Table]) -> pa.Table:
    """One table of several; a column that some lack is null there."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")


class _Gathered:
    """The leaves of a grouping in order, and for each level the runs of its keys: (key, the row after its last)."""

    def __init__(self, levels: Sequence[str]) -> None:
        self._levels = list(levels)
        self._last = len(levels) - 1
        self._keys: list[list[str]] = [[] for _ in levels]
        self._ends: list[list[int]] = [[] for _ in levels]
        self._series: dict[tuple[str, ...], int] = {}
        self._last_keys: list[int] = []
        self.values: list[int] = []

    def take(self, grouping: Grouping, level: int) -> None:
        if level == self._last:
            self._take_leaves([grouping])
            return
        keys, ends, values = self._keys[level], self._ends[level], self.values
        if level == self._last - 1:
            keys += grouping
            at = len(values)
            ends += [at := at + len(leaves) for leaves in grouping.values()]
            self._take_leaves(grouping.values())
            return
        for key, inner in grouping.items():
            self.take(inner, level + 1)
            keys.append(key)
            ends.append(len(values))

    def _take_leaves(self, dicts: Iterable[Grouping]) -> None:
        # The innermost dicts have few different series of keys, as the hours of a day: each is converted once.
        series, values = self._series, self.values
        for leaves in dicts:
            self._last_keys.append(series.setdefault(tuple(leaves), len(series)))
            values += leaves.values()

    def unrolled(self, level: str, kind: pa.DataType, convert: _Convert | None) -> pa.Array:
        """A level's keys, one a row."""
        at = self._levels.index(level)
        if at < self._last:
            keys = self._keys[at]
            return self._unroll(at, pa.array(keys if convert is None else list(map(convert, keys)), kind))
        series = [pa.array(keys if convert is None else list(map(convert, keys)), kind) for keys in self._series]
        return pa.concat_arrays([series[number] for number in self._last_keys] or [pa.array([], kind)])

    def dictionary(self, level: str) -> pa.Array:
        """The same as a dictionary array."""
        at = self._levels.index(level)
        keys = self._keys[at] if at < self._last else [key for keys in self._series for key in keys]
        names = list(dict.fromkeys(keys))
        index = {name: number for number, name in enumerate(names)}
        return pa.DictionaryArray.from_arrays(
            self.unrolled(level, pa.int32(), index.__getitem__), pa.array(names, pa.string())
        )

    def _unroll(self, at: int, keys: pa.Array) -> pa.Array:
        ends = self._ends[at]
        if not ends or not ends[-1]:
            return keys[:0]
        if len(set(ends)) < len(ends) or not ends[0]:  # runs of nothing, which Arrow does not take
            kept = [n for n, end in enumerate(ends) if end > (ends[n - 1] if n else 0)]
            keys, ends = keys.take(pa.array(kept)), [ends[n] for n in kept]
        return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int64()), keys))


@lru_cache(maxsize=64)
def _second_of_day(hour: str) -> int:
    return hour_at("1970-01-01", hour).hour * 3600


@lru_cache(maxsize=4096)
def _midnight(day: str) -> int:
    return timegm(hour_at(day, "0").timetuple())
