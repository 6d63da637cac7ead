"""Groupings as compact columns: at most 24 bytes a value, where nested dicts take a hundred. Needs pyarrow.

Keys are kept as numbers, and the different keys once. Where each innermost dict has all metrics of the query, there are no
keys for the values at all: they stand in the order of the metrics.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

from msgspec.structs import astuple

from engagement_async._core.arrow import (
    TYPES,
    ColumnBuilder,
    int32_array,
    int64_array,
    key_arrays,
    midnight_of,
    observed_array,
    second_of_day,
    shaped_table,
)
from engagement_async._core.groupings import Grouping
from engagement_async._core.tables import Observed, TableShape
from engagement_async.errors import UsageError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:  # pragma: no cover - `arrow` says it first
    raise UsageError("columns need pyarrow: pip install 'engagement-async[arrow]'") from error

__all__ = ["PackedGrouping", "PackedKeys", "pack", "pack_structs"]

_TYPE = "engagement.type"
pa.array([], pa.string())  # the first array of all has pyarrow import pandas: here, and not in the midst of a stream


class PackedKeys:
    """The keys that lead to each row, by level: numbers, with each different key once. Of all levels but the last, runs."""

    def __init__(self, levels: Sequence[str], codes: Sequence[pa.Array], names: Sequence[pa.StringArray]) -> None:
        self.levels = tuple(levels)
        self._codes = dict(zip(levels, codes, strict=True))
        self._names = dict(zip(levels, names, strict=True))

    @classmethod
    def of(cls, builder: ColumnBuilder, levels: Sequence[str]) -> PackedKeys:
        """Return the keys of a grouping with these levels, of which the builder holds the leaves."""
        codes, names = [], []
        for level in levels[:-1]:
            ends, keys = builder.runs(level)
            numbers = {key: at for at, key in enumerate(dict.fromkeys(keys))}
            runs = _int32(map(numbers.__getitem__, keys))
            codes.append(pa.RunEndEncodedArray.from_arrays(_int32(ends), runs))
            names.append(pa.array(list(numbers), pa.string()))
        for level in levels[-1:]:
            rows, keys = builder.dictionary_codes(level)
            codes.append(rows)
            names.append(pa.array(keys, pa.string()))
        return cls(levels, codes, names)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return sum(int(each.nbytes) for each in chain(self._codes.values(), self._names.values()))

    def codes(self, level: str) -> pa.Int32Array:
        """Return a level's keys as numbers, one a row."""
        codes = self._codes[level]
        return pc.run_end_decode(codes) if pa.types.is_run_end_encoded(codes.type) else codes

    def names(self, level: str) -> list[str]:
        """Return a level's different keys, in the order of their numbers."""
        names: list[str] = self._names[level].to_pylist()
        return names

    def texts(self, level: str) -> list[str]:
        """Return a level's keys, one a row."""
        texts: list[str] = self._names[level].take(self.codes(level)).to_pylist()
        return texts

    def take(self, rows: pa.Array, levels: Sequence[str]) -> PackedKeys:
        """Return the keys of some rows, of some levels."""
        codes = [self.codes(level).take(rows) for level in levels]
        return PackedKeys(levels, codes, [self._names[level] for level in levels])

    def below(self, level: str, codes: pa.Int32Array, names: Sequence[str]) -> PackedKeys:
        """Return the same keys, with one more level."""
        return PackedKeys(
            (*self.levels, level),
            (*self._codes.values(), codes),
            (*self._names.values(), pa.array(names, pa.string())),
        )

    def equals(self, other: PackedKeys) -> bool:
        """Return whether all rows have the same numbers."""
        return all(self.codes(level).equals(other.codes(level)) for level in self.levels)

    # --- what tables are made of: `arrow.Keys` ---

    def column(self, level: str, kind: pa.DataType, convert: Callable[[str], Any] | None = None) -> pa.Array:
        """Return a level's keys, one a row. Each different key is converted once."""
        names = self._names[level]
        converted = names if convert is None else pa.array(list(map(convert, names.to_pylist())), kind)
        return converted.take(self.codes(level))

    def dictionary_codes(self, level: str) -> tuple[pa.Array, list[str]]:
        """Return a level's keys, one a row, as numbers; and the different keys in the order of those."""
        return self.codes(level), self.names(level)

    def hours_of_days(self) -> pa.Array:
        """Return hours right under days as instants, one a row."""
        midnights = self.column("engagement.day", pa.int64(), midnight_of)
        seconds = self.column("engagement.hour", pa.int64(), second_of_day)
        return pc.add(midnights, seconds).cast(TYPES["engagement_hour"])


@dataclass(frozen=True, slots=True)
class PackedGrouping:
    """The leaves of a grouping that has the same levels throughout, in its own order."""

    levels: tuple[str, ...]
    keys: PackedKeys
    """The keys of each value; with `metrics` those of each innermost dict."""
    values: pa.Int64Array
    metrics: tuple[str, ...] = ()
    """The keys of every innermost dict, in order; none where these differ, or are no engagement types."""

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return int(self.values.nbytes) + self.keys.nbytes

    def table(self, shape: TableShape, observed: Observed) -> pa.Table:
        """Return the rows as `tables.table_rows` does of the grouping, as a table."""
        if not shape.metrics:
            return _table(self._long_keys(), {"value": self.values}, shape, observed)
        if self.metrics == shape.metrics:
            return _table(self.keys, self._columns(), shape, observed)
        table = None if self.metrics else self._turned(shape, observed)
        return shaped_table(self.grouping(), self.levels, shape, observed) if table is None else table

    def grouping(self) -> Grouping:
        """Return the nested dicts."""
        nested: Grouping = {}
        self.add_to(nested)
        return nested

    def add_to(self, nested: Grouping) -> None:
        """Add the leaves to nested dicts, where none of them is yet."""
        keys = self._long_keys()
        for *outer, last, value in zip(*map(keys.texts, self.levels), self.values.to_pylist(), strict=True):
            inner = nested
            for key in outer:
                inner = inner.setdefault(key, {})
            inner[last] = value

    def _long_keys(self) -> PackedKeys:
        if not self.metrics:
            return self.keys
        many = len(self.metrics)
        rows = len(self.values) // many
        return self.keys.take(_repeated(rows, many), self.keys.levels).below(_TYPE, _tiled(rows, many), self.metrics)

    def _columns(self) -> dict[str, pa.Array]:
        """Return the values by metric."""
        many = len(self.metrics)
        rows = len(self.values) // many
        return {metric: self.values.take(_strided(rows, many, at)) for at, metric in enumerate(self.metrics)}

    def _turned(self, shape: TableShape, observed: Observed) -> pa.Table | None:
        """Return the wide table if every metric has the same other keys, in the same order; else None."""
        numbers = {metric: number for number, metric in enumerate(self.keys.names(_TYPE))}
        if numbers.keys() != set(shape.metrics):
            return None
        codes = self.keys.codes(_TYPE)
        rows = [pc.indices_nonzero(pc.equal(codes, numbers[metric])) for metric in shape.metrics]
        levels = [level for level in self.levels if level != _TYPE]
        first, *others = (self.keys.take(chosen, levels) for chosen in rows)
        if any(len(rows[0]) != len(chosen) for chosen in rows) or not all(map(first.equals, others)):
            return None
        values = {metric: self.values.take(chosen) for metric, chosen in zip(shape.metrics, rows, strict=True)}
        return _table(first, values, shape, observed)


def _table(keys: PackedKeys, values: dict[str, pa.Array], shape: TableShape, observed: Observed) -> pa.Table:
    columns = key_arrays(keys, keys.levels) | values
    if shape.has_observed_at:
        rows = len(values[shape.value_columns[0]])
        columns["observed_at"] = observed_array(keys, keys.levels, rows, observed)
    return pa.table(columns)


def pack(levels: Sequence[str], grouping: Grouping) -> PackedGrouping:
    """Return a grouping that has these levels throughout.

    Raise `UsageError` for a value that does not fit into 64 bits.
    """
    builder = ColumnBuilder(levels)
    builder.add(grouping)
    return PackedGrouping(tuple(levels), PackedKeys.of(builder, levels), builder.values())


def pack_structs(levels: Sequence[str], grouping: Any, metrics: tuple[str, ...]) -> PackedGrouping:
    """Return a grouping that has these levels, of which the innermost dicts are structs with a field for each metric.

    The fields are in the order of the metrics. Raise `UsageError` as `pack`.
    """
    outer = levels[:-1]
    builder = ColumnBuilder(outer)
    if outer:
        builder.add(grouping)
    in_order = tuple(chain.from_iterable(map(astuple, builder.leaves() if outer else [grouping])))
    return PackedGrouping(tuple(levels), PackedKeys.of(builder, outer), int64_array([in_order]), metrics)


@lru_cache(maxsize=16)
def _repeated(rows: int, many: int) -> pa.Array:
    """Return 0, 0, 0, 1, 1, 1, ..."""
    return _int32(chain.from_iterable(repeat(row, many) for row in range(rows)))


@lru_cache(maxsize=16)
def _tiled(rows: int, many: int) -> pa.Array:
    """Return 0, 1, 2, 0, 1, 2, ..."""
    return _int32(list(range(many)) * rows)


@lru_cache(maxsize=256)
def _strided(rows: int, many: int, at: int) -> pa.Array:
    """Return `at`, `at` + `many`, ..."""
    return _int32(range(at, rows * many, many))


def _int32(numbers: Iterable[int]) -> pa.Int32Array:
    return int32_array(array("i", numbers))
