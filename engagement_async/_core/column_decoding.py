"""JSON becomes columns: the ordinary answer to one query, decoded without a dict for each Tweet. Needs pyarrow.

Ordinary is an answer of exactly the IDs that were asked for, with all groupings and metrics and nothing else. All others
are left to `decoding` and `accounting`, which look at every ID.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast

import msgspec

from engagement_async._core.decoding import HOURS, MAX_VALUE, MIN_VALUE, days_of, has_exactly
from engagement_async._core.groupings import has_days_alone, levels_with_days
from engagement_async._core.packed import PackedGrouping, pack, pack_structs
from engagement_async._core.query import UNSUPPORTED_KEYS, Query, fake_zeros_in

__all__ = ["ColumnDecoder", "DecodedColumns"]

_TypedDict = cast("Any", TypedDict)  # made from data


class DecodedColumns(NamedTuple):
    """An ordinary answer: its groupings by name, and its window as the API wrote it."""

    groupings: dict[str, PackedGrouping]
    start: str | None
    end: str | None


class ColumnDecoder:
    """Decodes the ordinary answers to one query. Built once a query."""

    def __init__(self, query: Query) -> None:
        span = query.span
        self._shapes: list[_Shape] = []
        if fake_zeros_in(query) is not None or (span is not None and any(at.hour for at in span)):
            return  # zeros and hours must be taken out: there are no ordinary answers
        days = str if span is None else Literal[days_of(*span)]
        by_hour = {name: levels_with_days(group_by) for name, group_by in query.groupings.items()}
        levels = [query.groupings] if by_hour == query.groupings else [by_hour, query.groupings]
        self._shapes = [_Shape(query.engagement_types, each, days) for each in levels]

    def decode(self, body: bytes, tweet_ids: tuple[str, ...]) -> DecodedColumns | None:
        """Return what an ordinary answer says of these IDs; None when it is no such answer, whatever the reason."""
        for shape in self._shapes:
            decoded = shape.decode(body, tweet_ids)
            if decoded is not None:
                return decoded
        return None


class _Shape:
    """One nesting that answers may have."""

    def __init__(self, metrics: tuple[str, ...], levels: Mapping[str, tuple[str, ...]], days: Any) -> None:
        self._metrics = metrics
        self._levels = levels
        self._names = {name: f"grouping_{at}" for at, name in enumerate(levels)}
        fields = {metric: f"metric_{at}" for at, metric in enumerate(metrics)}
        self._read = attrgetter(*fields.values())
        leaf = Annotated[int, msgspec.Meta(ge=MIN_VALUE, le=MAX_VALUE)]
        # A struct takes half the time and a quarter of the memory of a dict, and has all fields or is refused.
        leaves = msgspec.defstruct(
            "Leaves", [(name, leaf) for name in fields.values()], rename={v: k for k, v in fields.items()}, gc=False
        )

        def nest(level: str, inner: Any) -> Any:
            if level == "engagement.type":
                return leaves if inner is leaf else _TypedDict("Types", dict.fromkeys(metrics, inner))
            if level == "tweet.id":
                return dict[str, inner]
            key = days if level == "engagement.day" else HOURS if level == "engagement.hour" else str
            return Annotated[dict[key, inner], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]

        kinds: list[tuple[str, Any]] = []
        for name, field in self._names.items():
            kind: Any = leaf
            for level in reversed(levels[name]):
                kind = nest(level, kind)
            kinds.append((field, kind))
        lists: list[tuple[str, Any, Any]] = [
            (key, list[str | int] | None, None) for key in ("unavailable_tweet_ids", *UNSUPPORTED_KEYS)
        ]
        answer = msgspec.defstruct(
            "ApiAnswer",
            [*kinds, *lists, ("start", str | None, None), ("end", str | None, None)],
            rename={field: name for name, field in self._names.items()},
            gc=False,
            forbid_unknown_fields=True,
        )
        self._are_days_open = days is str
        self._lists = [key for key, _, _ in lists]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(answer, strict=False)

    def decode(self, body: bytes, tweet_ids: tuple[str, ...]) -> DecodedColumns | None:
        try:
            raw = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if any(getattr(raw, key) for key in self._lists):
            return None
        groupings = {name: getattr(raw, field) for name, field in self._names.items()}
        if self._are_days_open and not has_days_alone(groupings, self._levels):
            return None
        for name, levels in self._levels.items():
            if "tweet.id" in levels and not has_exactly(groupings[name], levels.index("tweet.id"), tweet_ids):
                return None
        return DecodedColumns(
            {name: self._packed(self._levels[name], grouping) for name, grouping in groupings.items()},
            raw.start,
            raw.end,
        )

    def _packed(self, levels: tuple[str, ...], grouping: Any) -> PackedGrouping:
        if levels[-1] == "engagement.type":
            return pack_structs(levels, grouping, self._metrics, self._read)
        return pack(levels, grouping)
