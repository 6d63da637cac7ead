"""JSON becomes structs: an answer with all metrics of all Tweets that it speaks of, without a dict for each of them. Pure.

It is checked as strictly as `decoding` checks it, in three fifths of the time, and leaves nothing for the garbage collector.
Whatever is not that whole is None here, and left to `decoding` and `accounting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec.structs import astuple

from engagement_async._core.decoding import HOURS, MAX_VALUE, MIN_VALUE, days_of
from engagement_async._core.groupings import is_day, levels_with_days
from engagement_async._core.query import UNSUPPORTED_KEYS, Query, fake_zeros_in

__all__ = ["StructDecoder", "WholeAnswer"]

_TYPE, _DAY = "engagement.type", "engagement.day"


class WholeAnswer(NamedTuple):
    """An answer that has all metrics of each of its Tweets."""

    levels: Mapping[str, tuple[str, ...]]
    """Of each grouping."""
    groupings: dict[str, Any]
    """Nested dicts; but where the level is `engagement.type`, structs with a field for each metric, in the query's order."""
    unavailable: frozenset[str]
    """IDs that it lists as unavailable."""
    start: str | None
    end: str | None

    def is_of(self, tweet_ids: tuple[str, ...]) -> bool:
        """Return whether it has values of each of these IDs or lists it as unavailable, of no other, and of one at least."""
        if self.unavailable:
            tweet_ids = tuple(i for i in tweet_ids if i not in self.unavailable)
        return bool(tweet_ids) and all(
            _is_of(self.groupings[name], levels, tweet_ids)
            for name, levels in self.levels.items()
            if "tweet.id" in levels
        )

    def count_values(self) -> int:
        """Return how many values its groupings hold."""
        return sum(_count(self.groupings[name], levels) for name, levels in self.levels.items())


def _count(grouping: Any, levels: tuple[str, ...]) -> int:
    if levels[0] == _TYPE:
        many = len(grouping.__struct_fields__)
        return many if len(levels) == 1 else sum(_count(each, levels[1:]) for each in astuple(grouping))
    if len(levels) == 1:
        return len(grouping)
    if levels[1:] == (_TYPE,):
        return len(grouping) * len(next(iter(grouping.values())).__struct_fields__) if grouping else 0
    return sum(_count(each, levels[1:]) for each in grouping.values())


def _days_in(grouping: Any, levels: tuple[str, ...]) -> frozenset[str]:
    """Return the keys of the level of days."""
    if levels[0] == _DAY:
        return frozenset(grouping)
    inner = astuple(grouping) if levels[0] == _TYPE else grouping.values()
    return frozenset().union(*(_days_in(each, levels[1:]) for each in inner))


def _is_of(grouping: Any, levels: tuple[str, ...], tweet_ids: tuple[str, ...]) -> bool:
    if levels[0] == "tweet.id":
        return tuple(grouping) == tweet_ids or grouping.keys() == frozenset(tweet_ids)
    inner = astuple(grouping) if levels[0] == _TYPE else grouping.values()
    return bool(inner) and all(_is_of(each, levels[1:], tweet_ids) for each in inner)


class StructDecoder:
    """Decodes the whole answers to one query. Built once a query."""

    def __init__(self, query: Query) -> None:
        self._shapes: list[_Shape] = []
        if fake_zeros_in(query) is not None or (query.span is not None and any(at.hour for at in query.span)):
            return  # zeros, or hours, are to be taken out of every answer
        by_hour = {name: levels_with_days(group_by) for name, group_by in query.groupings.items()}
        every = [query.groupings] if by_hour == query.groupings else [by_hour, query.groupings]
        self._shapes = [_Shape(query, levels) for levels in every]

    def decode(self, body: bytes) -> WholeAnswer | None:
        """Return what a body holds; None when it is no whole answer, whatever the reason."""
        for shape in self._shapes:
            whole = shape.decode(body)
            if whole is not None:
                return whole
        return None


class _Shape:
    """One nesting that answers may have."""

    def __init__(self, query: Query, levels: Mapping[str, tuple[str, ...]]) -> None:
        self._levels = levels
        self._are_days_open = query.span is None
        days = str if query.span is None else Literal[days_of(*query.span)]
        names = {f"metric_{at}": metric for at, metric in enumerate(query.engagement_types)}

        def nest(level: str, inner: Any) -> Any:
            if level == _TYPE:
                return msgspec.defstruct("Types", [(name, inner) for name in names], rename=names, gc=False)
            if level == "tweet.id":
                return dict[str, inner]
            key = days if level == _DAY else HOURS if level == "engagement.hour" else str
            return Annotated[dict[key, inner], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]

        self._fields = {name: f"grouping_{at}" for at, name in enumerate(levels)}
        kinds: list[tuple[str, Any]] = []
        for name, field in self._fields.items():
            kind: Any = Annotated[int, msgspec.Meta(ge=MIN_VALUE, le=MAX_VALUE)]
            for level in reversed(levels[name]):
                kind = nest(level, kind)
            kinds.append((field, kind))
        lists = [(key, list[str | int] | None, None) for key in ("unavailable_tweet_ids", *UNSUPPORTED_KEYS)]
        answer = msgspec.defstruct(
            "WholeAnswer",
            [*kinds, *lists, ("start", str | None, None), ("end", str | None, None)],
            rename={field: name for name, field in self._fields.items()},
            gc=False,
            forbid_unknown_fields=True,
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(answer, strict=False)

    def decode(self, body: bytes) -> WholeAnswer | None:
        try:
            raw = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if any(getattr(raw, key) for key in UNSUPPORTED_KEYS):
            return None
        groupings = {name: getattr(raw, field) for name, field in self._fields.items()}
        if self._are_days_open and not all(
            all(map(is_day, _days_in(groupings[name], by))) for name, by in self._levels.items() if _DAY in by
        ):
            return None
        unavailable = frozenset(map(str, raw.unavailable_tweet_ids or ()))
        return WholeAnswer(self._levels, groupings, unavailable, raw.start, raw.end)
