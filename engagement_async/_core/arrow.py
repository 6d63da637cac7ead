"""Groupings as Arrow tables. Needs pyarrow (extra `[arrow]`); nothing imports it before the first table is made.

Keys repeat for many leaves: each different one is converted once, and rows refer to it by number.
"""

from __future__ import annotations

import struct
from array import array
from calendar import timegm
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import Any, Protocol

from engagement_async._core.groupings import Grouping, day_at, hour_at
from engagement_async._core.tables import LONG, Observed, TableShape, wide_grouping
from engagement_async.errors import UsageError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("Arrow tables and Parquet need pyarrow: pip install 'engagement-async[arrow]'") from error

__all__ = [
    "TYPES",
    "ColumnBuilder",
    "Keys",
    "concat",
    "grouping_table",
    "int32_array",
    "int64_array",
    "key_arrays",
    "midnight_of",
    "observed_array",
    "second_of_day",
    "shaped_table",
    "with_owners",
]

TYPES: dict[str, pa.DataType] = {
    "owner": pa.dictionary(pa.int32(), pa.string()),
    "tweet_id": pa.string(),
    "engagement_type": pa.dictionary(pa.int32(), pa.string()),
    "engagement_day": pa.date32(),
    "engagement_hour": pa.timestamp("s", tz="UTC"),
    "engagement_hour_of_day": pa.int8(),
    "value": pa.int64(),
    "observed_at": pa.timestamp("us", tz="UTC"),
}

_TOO_LARGE = "a value does not fit into 64 bits: take rows() or to_response() instead"
_AT_ONCE = 10_000
"""Innermost dicts whose values are packed at once."""


class Keys(Protocol):
    """The keys that lead to each row of a table, by level."""

    def column(self, level: str, kind: pa.DataType, convert: Callable[[str], Any] | None = None) -> pa.Array:
        """Return a level's keys, one a row. Each different key is converted once."""
        ...

    def dictionary_codes(self, level: str) -> tuple[pa.Array, list[str]]:
        """Return a level's keys, one a row, as numbers; and the different keys in the order of those."""
        ...

    def hours_of_days(self) -> pa.Array:
        """Return hours right under days as instants, one a row."""
        ...


def grouping_table(grouping: Grouping, levels: Sequence[str]) -> pa.Table:
    """Return one row a value, in the grouping's own order. `levels` are its actual ones, as `split_by_levels` tells."""
    return shaped_table(grouping, levels, LONG, None)


def shaped_table(grouping: Grouping, levels: Sequence[str], shape: TableShape, observed: Observed) -> pa.Table:
    """Return the rows of `table_rows` as a table."""
    if shape.metrics:
        return _wide_table(grouping, tuple(levels), shape, observed)
    builder = ColumnBuilder(levels)
    builder.add(grouping)
    columns = key_arrays(builder, levels)
    columns["value"] = builder.values()
    if shape.has_observed_at:
        columns["observed_at"] = observed_array(builder, levels, len(columns["value"]), observed)
    return pa.table(columns)


def _wide_table(grouping: Grouping, levels: tuple[str, ...], shape: TableShape, observed: Observed) -> pa.Table:
    (*keys, _), grouping = wide_grouping(levels, grouping)
    builder = ColumnBuilder(keys)
    columns: dict[str, pa.Array] = {}
    if keys:
        builder.add(grouping)  # the metrics of one path are a leaf
        columns = key_arrays(builder, keys)
    rows = builder.leaves() if keys else [grouping] if grouping else []
    for metric in shape.metrics:
        columns[metric] = _int64([values.get(metric) for values in rows])
    if shape.has_observed_at:
        columns["observed_at"] = observed_array(builder, keys, len(rows), observed)
    return pa.table(columns)


def observed_array(keys: Keys, levels: Sequence[str], rows: int, observed: Observed) -> pa.Array:
    """Return the column `observed_at`."""
    if isinstance(observed, Mapping):
        key = "tweet.id" if "tweet.id" in levels else "owner"
        return keys.column(key, TYPES["observed_at"], observed.get)
    return pa.repeat(pa.scalar(observed, TYPES["observed_at"]), rows)


def _int64(values: list[int | None]) -> pa.Array:
    try:
        return pa.array(values, pa.int64())
    except OverflowError:
        raise UsageError(_TOO_LARGE) from None


def int64_array(parts: Iterable[tuple[int, ...]]) -> pa.Array:
    """Return the integers of all parts as one column. Raise `UsageError` if one does not fit into 64 bits."""
    packed = bytearray()
    for values in parts:
        try:
            packed += struct.pack(f"{len(values)}q", *values)
        except struct.error:
            raise UsageError(_TOO_LARGE) from None
    return pa.Array.from_buffers(pa.int64(), len(packed) // 8, [None, pa.py_buffer(packed)])


def key_arrays(keys: Keys, levels: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns of the keys, by their names."""
    columns: dict[str, pa.Array] = {}
    for level in levels:
        if level == "owner":
            columns["owner"] = keys.column(level, pa.string()).dictionary_encode()
        elif level == "tweet.id":
            columns["tweet_id"] = keys.column(level, pa.string())
        elif level == "engagement.type":
            codes, names = keys.dictionary_codes(level)
            columns["engagement_type"] = pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))
        elif level == "engagement.hour":
            if tuple(levels[-2:]) == ("engagement.day", "engagement.hour"):
                columns["engagement_hour"] = keys.hours_of_days()
                continue
            seconds = keys.column(level, pa.int64(), second_of_day)
            if "engagement.day" in levels:
                midnights = keys.column("engagement.day", pa.int64(), midnight_of)
                columns["engagement_hour"] = pc.add(midnights, seconds).cast(TYPES["engagement_hour"])
            else:
                columns["engagement_hour_of_day"] = pc.divide(seconds, 3600).cast(TYPES["engagement_hour_of_day"])
        elif "engagement.hour" not in levels:
            columns["engagement_day"] = keys.column(level, pa.date32(), day_at)
    return columns


def concat(tables: list[pa.Table]) -> pa.Table:
    """Return one table of several; a column that some lack is null there."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")


def with_owners(table: pa.Table, owners: Mapping[str, str]) -> pa.Table:
    """Return the table with a column `owner` before the others. `owners` are those of Tweets."""
    encoded = table["tweet_id"].combine_chunks().dictionary_encode()
    column = pa.array([owners.get(i) for i in encoded.dictionary.to_pylist()], pa.string())
    return table.add_column(0, "owner", column.take(encoded.indices).dictionary_encode())


class ColumnBuilder:
    """The innermost dicts of a grouping, in order; and of each level above them its keys, each with how many of those
    dicts lie under it.
    """

    def __init__(self, levels: Sequence[str]) -> None:
        self._levels = list(levels)
        self._last = len(levels) - 1
        self._keys: list[list[str]] = [[] for _ in range(self._last)]
        self._spans: list[list[int]] = [[] for _ in range(self._last)]
        self._leaves: list[Grouping] = []
        self._parents: dict[int, pa.Array] = {}

    def add(self, grouping: Grouping) -> None:
        """Add a grouping: level by level, whatever the dicts are that its keys are in."""
        dicts = [grouping]
        sizes: list[list[int]] = []
        for keys in self._keys:
            keys += chain.from_iterable(dicts)
            sizes.append(list(map(len, dicts)))
            dicts = list(chain.from_iterable(map(dict.values, dicts)))
        self._leaves += dicts
        counts = [1] * len(dicts)
        for spans, dict_sizes in zip(reversed(self._spans), reversed(sizes), strict=True):
            spans += counts  # of the keys, how many innermost dicts lie under each
            ends = list(accumulate(counts, initial=0))
            starts = list(accumulate(dict_sizes, initial=0))
            counts = [ends[end] - ends[start] for start, end in pairwise(starts)]

    def leaves(self) -> list[Any]:
        """Return the leaves, one a row, whatever they are."""
        return [leaf for leaves in self._leaves for leaf in leaves.values()]

    def values(self) -> pa.Array:
        """Return the leaves, one a row."""
        parts = [self._leaves[at : at + _AT_ONCE] for at in range(0, len(self._leaves), _AT_ONCE)]
        return int64_array(tuple(chain.from_iterable(map(dict.values, part))) for part in parts)

    def column(self, level: str, kind: pa.DataType, convert: Callable[[str], Any] | None = None) -> pa.Array:
        """Return a level's keys, one a row. Each different key is converted once."""
        at = self._levels.index(level)
        if level == "tweet.id" and not at and self._last:  # they are all different, and outermost
            keys, codes = self._keys[at], self._places(at)
        else:
            codes, keys = self.dictionary_codes(level)
        return pa.array(keys if convert is None else list(map(convert, keys)), kind).take(codes)

    def dictionary_codes(self, level: str) -> tuple[pa.Array, list[str]]:
        """Return a level's keys, one a row, as numbers; and the different keys in the order of those."""
        at = self._levels.index(level)
        if at == self._last:
            # The innermost dicts have few different series of keys, as the hours of a day.
            every = list(map(tuple, self._leaves))
            distinct = dict.fromkeys(every)
            numbers = {key: n for n, key in enumerate(dict.fromkeys(chain.from_iterable(distinct)))}
            known = {series: array("i", map(numbers.__getitem__, series)) for series in distinct}
            if len(known) == 1:
                return int32_array(known[every[0]] * len(every)), list(numbers)
            packed = {series: codes.tobytes() for series, codes in known.items()}
            rows = array("i", b"".join(map(packed.__getitem__, every)))
            return int32_array(rows), list(numbers)
        keys = self._keys[at]
        numbers = {key: n for n, key in enumerate(dict.fromkeys(keys))}
        codes = array("i", map(numbers.__getitem__, keys))
        return int32_array(codes).take(self._places(at)), list(numbers)

    def _places(self, at: int) -> pa.Array:
        """Return for each row which of an outer level's keys it lies under."""
        if at not in self._parents:
            starts = array("i", (0, *self._ends_at(at)))
            rows = pa.nulls(starts[-1])
            self._parents[at] = pc.list_parent_indices(pa.ListArray.from_arrays(int32_array(starts), rows))
        return self._parents[at]

    def _ends_at(self, at: int) -> list[int]:
        """Return for each of an outer level's keys the number of the row behind the last one under it."""
        ends = self._ends
        return ends if at == self._last - 1 else [ends[n - 1] if n else 0 for n in accumulate(self._spans[at])]

    def runs(self, level: str) -> tuple[list[int], list[str]]:
        """Return the keys of an outer level, each with the number of the row behind the last one under it."""
        at = self._levels.index(level)
        keys, ends = self._keys[at], self._ends_at(at)
        if self._all_filled and (at == self._last - 1 or 0 not in self._spans[at]):
            return ends, keys
        filled = [n for n, (before, end) in enumerate(zip(chain((0,), ends), ends, strict=False)) if before < end]
        return [ends[n] for n in filled], [keys[n] for n in filled]

    @cached_property
    def _ends(self) -> list[int]:
        """The number of the row behind each innermost dict."""
        return list(accumulate(map(len, self._leaves)))

    @cached_property
    def _all_filled(self) -> bool:
        return all(self._leaves)

    def hours_of_days(self) -> pa.Array:
        """Return hours right under days, the usual case, as instants, one a row. Each series of hours is made once."""
        every = list(zip(self._keys[-1], map(tuple, self._leaves), strict=True))
        packed: dict[tuple[str, tuple[str, ...]], bytes] = {}
        for day, hours in dict.fromkeys(every):
            midnight = midnight_of(day)
            packed[day, hours] = array("q", [midnight + second_of_day(hour) for hour in hours]).tobytes()
        rows = array("q", b"".join(map(packed.__getitem__, every)))
        return pa.Array.from_buffers(TYPES["engagement_hour"], len(rows), [None, pa.py_buffer(rows)])


def int32_array(numbers: array[int]) -> pa.Array:
    """Return the numbers as one column, without a copy."""
    return pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers)])


def second_of_day(hour: str) -> int:
    """Return at which second of its day an hour begins."""
    return hour_at("1970-01-01", hour).hour * 3600


def midnight_of(day: str) -> int:
    """Return when a day begins, in epoch seconds."""
    return timegm(hour_at(day, "0").timetuple())
