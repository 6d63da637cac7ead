"""ColumnarAnswer: an answer that holds its values as columns, for callers that make Arrow tables of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from engagement_async._core.answer import Answer
from engagement_async._core.groupings import Grouping, split_by_levels
from engagement_async._core.query import OWNER, Query
from engagement_async._core.tables import Observed, TableShape, check_shape, table_columns
from engagement_async.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from engagement_async._core.packed import PackedGrouping

__all__ = ["ColumnarAnswer", "to_columns", "with_columns"]

_FIELDS = tuple(field.name for field in fields(Answer) if field.name != "groupings")

Packed = dict[str, "tuple[PackedGrouping, ...]"]
"""Grouping name to its parts: several where the API nested hours under days for some Tweets alone."""


class ColumnarAnswer(Answer):
    """An `Answer` that holds its values as columns, in less than a third of the memory.

    `client.stream(..., columnar=True)` hands them out. `to_arrow` makes a table of a grouping; all outcomes are where an
    `Answer` has them. `groupings` is there too, made anew whenever it is read.
    """

    _nested: dict[str, Grouping]
    _packed: Packed
    _query: Query | None = None

    def __repr__(self) -> str:
        return f"<ColumnarAnswer of batch {self.batch_number}: {len(self.tweet_ids)} IDs>"

    @property
    def groupings(self) -> dict[str, Grouping]:
        """Grouping name to nested dicts, as in `Answer`."""
        groupings = dict(self._nested)
        for name, parts in self._packed.items():
            nested: Grouping = {}
            for part in parts:
                part.add_to(nested)
            groupings[name] = nested
        return groupings

    @groupings.setter
    def groupings(self, groupings: dict[str, Grouping]) -> None:
        self._nested, self._packed = groupings, {}

    def to_arrow(self, grouping: str, *, wide: bool = False, observed_at: bool = False) -> pa.Table:
        """Return the rows of a grouping as a `pyarrow.Table`: the columns of `EngagementResult.to_arrow`.

        Without values it has no rows, and the same columns.

        Args:
            grouping: The name of a grouping of the query.
            wide: Whether there is one row for all metrics of a Tweet (of a day, an hour), with a column for each.
            observed_at: Whether the last column says when the response with the value was received.

        Raises:
            UsageError: The query has no such grouping, a wide table cannot be made of it, or a sum over parts of the span
                does not fit into 64 bits.
            InvalidAnswerError: The API gave a day or an hour that is none.
        """
        query = self._query
        if query is None or grouping not in query.groupings:
            names = "" if query is None else ", ".join(query.groupings)
            raise UsageError(f"no grouping {grouping!r} in this answer: it has {names}")
        from engagement_async._core.arrow import concat
        from engagement_async._core.packed import pack

        group_by = query.groupings[grouping]
        shape = TableShape(query.engagement_types if wide else (), has_observed_at=observed_at)
        check_shape(group_by, shape)
        parts = self._packed.get(grouping)
        if parts is None:  # no values, or a sum that is too large for a column
            parts = tuple(
                pack(*part) for part in split_by_levels(_api_levels(group_by), self._nested.get(grouping, {}))
            )
        observed = self._observed(group_by) if observed_at else None
        table = concat([part.table(shape, observed) for part in parts])
        values = shape.value_columns
        keys = dict.fromkeys(name for part in parts for name in table_columns(part.levels, shape)[: -len(values)])
        table = table.select([*keys, *values])
        if self.owner is not None and (group_by[0] == OWNER or "tweet.id" in group_by):
            return _with_owner(table, self.owner)
        return table

    def _observed(self, group_by: tuple[str, ...]) -> Observed:
        if not (self.observed_later or self.failed_tweet_ids):
            return self.observed_at
        instants = {i: at for i in self.tweet_ids if (at := self.observed_at_of(i)) is not None}
        if "tweet.id" in group_by:
            return instants
        return max(instants.values(), default=None) if group_by[0] == OWNER else self.observation.last_at


def with_columns(answer: Answer, groupings: Mapping[str, PackedGrouping]) -> ColumnarAnswer:
    """Return the same answer with these groupings."""
    made = _copy(answer)
    made._packed = {name: (grouping,) for name, grouping in groupings.items()}
    return made


def to_columns(answer: Answer, query: Query) -> ColumnarAnswer:
    """Return an answer to this query with its values as columns. Raise `UsageError` if pyarrow is not installed.

    `query` has `owner` as a level where the caller's has it.
    """
    from engagement_async._core.packed import pack

    made = _copy(answer)
    made._query = query
    if isinstance(answer, ColumnarAnswer):
        nested, made._packed = answer._nested, dict(answer._packed)
    else:
        nested = answer.groupings
    for name, grouping in nested.items():
        levels = _api_levels(query.groupings[name])
        try:
            made._packed[name] = tuple(pack(*part) for part in split_by_levels(levels, grouping))
        except UsageError:  # a sum over parts of the span that is larger than 64 bits: the dicts can hold it
            made._nested[name] = grouping
    return made


def _copy(answer: Answer) -> ColumnarAnswer:
    """Return the same answer without its groupings."""
    return ColumnarAnswer(**{name: getattr(answer, name) for name in _FIELDS})


def _api_levels(group_by: tuple[str, ...]) -> tuple[str, ...]:
    return group_by[1:] if group_by[:1] == (OWNER,) else group_by


def _with_owner(table: pa.Table, owner: str) -> pa.Table:
    import pyarrow as pa

    codes = pa.repeat(pa.scalar(0, pa.int32()), len(table))
    return table.add_column(0, "owner", pa.DictionaryArray.from_arrays(codes, pa.array([owner], pa.string())))
