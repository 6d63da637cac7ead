"""JSON becomes structs: an answer with all metrics of all Tweets that it speaks of, without a dict for each of them. Pure.

It is checked as strictly as `decoding` checks it, in three fifths of the time, and leaves nothing for the garbage collector.
Whatever is not that whole is None here, and left to `decoding` and `accounting`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast

import msgspec
from msgspec.structs import astuple

from engagement_async._core.decoding import HOURS, MAX_VALUE, MIN_VALUE, days_of, has_exactly
from engagement_async._core.groupings import is_day, levels_with_days
from engagement_async._core.query import UNSUPPORTED_KEYS, Query, fake_zeros_in

__all__ = ["StructDecoder", "WholeAnswer"]

_TYPE, _DAY = "engagement.type", "engagement.day"
_TypedDict = cast("Any", TypedDict)  # made from data


class WholeAnswer(NamedTuple):
    """An answer that has all metrics of each of its Tweets."""

    levels: Mapping[str, tuple[str, ...]]
    """Of each grouping."""
    groupings: dict[str, Any]
    """Nested dicts; for the metrics structs, with a field for each in the query's order: see `StructDecoder`."""
    unavailable: frozenset[str]
    """IDs that it lists as unavailable."""
    start: str | None
    end: str | None

    def is_of(self, tweet_ids: tuple[str, ...]) -> bool:
        """Return whether it has values of each of these IDs or lists it as unavailable, of no other, and of one at least."""
        if self.unavailable:
            tweet_ids = tuple(i for i in tweet_ids if i not in self.unavailable)
        return bool(tweet_ids) and all(
            _is_of(self.groupings[name], levels.index("tweet.id"), tweet_ids)
            for name, levels in self.levels.items()
            if "tweet.id" in levels
        )

    def has_only_days(self) -> bool:
        """Return whether it has only days as keys where its levels have `engagement.day`."""
        return all(
            all(map(is_day, frozenset(chain.from_iterable(_at_level(self.groupings[name], levels.index(_DAY))))))
            for name, levels in self.levels.items()
            if _DAY in levels
        )

    def count_values(self) -> int:
        """Return how many values its groupings hold."""
        return sum(_count(self.groupings[name], len(levels)) for name, levels in self.levels.items())


def _at_level(grouping: Any, level: int) -> list[Any]:
    """Return the dicts, or structs, of a level of a grouping."""
    found = [grouping]
    for _ in range(level):
        if not found:
            break
        values = dict.values if isinstance(found[0], dict) else astuple
        found = list(chain.from_iterable(map(values, found)))
    return found


def _is_of(grouping: Any, level: int, tweet_ids: tuple[str, ...]) -> bool:
    by_tweet = _at_level(grouping, level)
    return bool(by_tweet) and all(has_exactly(each, 0, tweet_ids) for each in by_tweet)


def _count(grouping: Any, depth: int) -> int:
    innermost = _at_level(grouping, depth - 1)
    if innermost and not isinstance(innermost[0], dict):
        return len(innermost) * len(innermost[0].__struct_fields__)
    return sum(map(len, innermost))


class StructDecoder:
    """Decodes the whole answers to one query. Built once a query.

    Metrics are the fields of structs at every level; with `only_innermost` only where they are the innermost level, and
    keys of dicts elsewhere.
    """

    def __init__(self, query: Query, *, only_innermost: bool = False) -> None:
        self._shapes: list[_Shape] = []
        if fake_zeros_in(query) is not None or (query.span is not None and any(at.hour for at in query.span)):
            return  # zeros, or hours, are to be taken out of every answer
        by_hour = {name: levels_with_days(group_by) for name, group_by in query.groupings.items()}
        every = [query.groupings] if by_hour == query.groupings else [by_hour, query.groupings]
        self._shapes = [_Shape(query, levels, only_innermost=only_innermost) for levels in every]

    def decode(self, body: bytes) -> WholeAnswer | None:
        """Return what a body holds; None when it is no whole answer, whatever the reason."""
        for shape in self._shapes:
            whole = shape.decode(body)
            if whole is not None:
                return whole
        return None


class _Shape:
    """One nesting that answers may have."""

    def __init__(self, query: Query, levels: Mapping[str, tuple[str, ...]], *, only_innermost: bool) -> None:
        self._levels = levels
        self._are_days_open = query.span is None
        days = str if query.span is None else Literal[days_of(*query.span)]
        names = {f"metric_{at}": metric for at, metric in enumerate(query.engagement_types)}

        leaf = Annotated[int, msgspec.Meta(ge=MIN_VALUE, le=MAX_VALUE)]

        def nest(level: str, inner: Any) -> Any:
            if level == _TYPE and only_innermost and inner is not leaf:
                return _TypedDict("Types", dict.fromkeys(query.engagement_types, inner))
            if level == _TYPE:
                return msgspec.defstruct("Types", [(name, inner) for name in names], rename=names, gc=False)
            if level == "tweet.id":
                return dict[str, inner]
            key = days if level == _DAY else HOURS if level == "engagement.hour" else str
            return Annotated[dict[key, inner], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]

        self._fields = {name: f"grouping_{at}" for at, name in enumerate(levels)}
        kinds: list[tuple[str, Any]] = []
        for name, field in self._fields.items():
            kind: Any = leaf
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
        unavailable = frozenset(map(str, raw.unavailable_tweet_ids or ()))
        whole = WholeAnswer(self._levels, groupings, unavailable, raw.start, raw.end)
        return None if self._are_days_open and not whole.has_only_days() else whole
