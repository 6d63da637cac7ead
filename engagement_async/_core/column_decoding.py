"""JSON becomes columns: the ordinary answer to one query, decoded without a dict for each Tweet. Needs pyarrow.

Ordinary is an answer of exactly the IDs that were asked for, with all groupings and metrics and nothing else. All others
are left to `decoding` and `accounting`, which look at every ID.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from engagement_async._core.packed import PackedGrouping, pack, pack_structs
from engagement_async._core.query import Query
from engagement_async._core.structs import StructDecoder

__all__ = ["ColumnDecoder", "DecodedColumns"]


class DecodedColumns(NamedTuple):
    """An ordinary answer: its groupings by name, and its window as the API wrote it."""

    groupings: dict[str, PackedGrouping]
    start: str | None
    end: str | None


class ColumnDecoder:
    """Decodes the ordinary answers to one query. Built once a query."""

    def __init__(self, query: Query) -> None:
        self._metrics = query.engagement_types
        self._structs = StructDecoder(query, only_innermost=True)

    def decode(self, body: bytes, tweet_ids: tuple[str, ...]) -> DecodedColumns | None:
        """Return what an ordinary answer says of these IDs; None when it is no such answer, whatever the reason."""
        whole = self._structs.decode(body)
        if whole is None or whole.unavailable or not whole.is_of(tweet_ids):
            return None
        groupings = {name: self._packed(levels, whole.groupings[name]) for name, levels in whole.levels.items()}
        return DecodedColumns(groupings, whole.start, whole.end)

    def _packed(self, levels: tuple[str, ...], grouping: Any) -> PackedGrouping:
        if levels[-1] == "engagement.type":
            return pack_structs(levels, grouping, self._metrics)
        return pack(levels, grouping)
