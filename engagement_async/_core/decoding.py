"""JSON becomes typed values: decoders for exactly the groupings of one query, and checks of what types cannot say. Pure.

A schema has three decoders. The exact one takes an answer with every engagement type of the query: strings become integers
of 64 bits while they are parsed, other types are skipped, and days are those of the query's span. The strict one takes
answers in which types are left out. What both refuse is decoded leniently, and cleaned leaf by leaf.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, cast

import msgspec

from engagement_async._core.groupings import (
    Grouping,
    clip,
    has_only_days,
    hour_at,
    hour_of_day,
    is_day,
    levels_with_days,
)
from engagement_async._core.query import UNSUPPORTED_KEYS, Query
from engagement_async.errors import InvalidAnswerError

__all__ = [
    "HOURS",
    "MAX_VALUE",
    "MIN_VALUE",
    "Decoded",
    "ResponseDecoder",
    "Schema",
    "check_depth",
    "days_of",
    "has_exactly",
]

MIN_VALUE, MAX_VALUE = -(2**63), 2**63 - 1
"""What fits into 64 bits, as every table format wants it."""

HOURS: Any = Literal[tuple([f"{hour:02}" for hour in range(24)] + [str(hour) for hour in range(10)])]
"""The keys that hours have. Others would be in no table; a day among them would be taken for a nesting."""

_ID_LISTS = ("unavailable_tweet_ids", *UNSUPPORTED_KEYS)
_ABSENT = msgspec.Raw()
_TypedDict = cast("Any", TypedDict)  # made from data
_TIME = ("engagement.day", "engagement.hour")
_NOT_NESTING = bytes(set(range(256)) - set(b'[]{}"'))
_STRING = re.compile(rb'"[^"]*+"')  # possessive: backtracking would cost memory by the byte


def check_depth(body: bytes, most: int) -> None:
    """Raise `InvalidAnswerError` for JSON that is nested in more levels than that."""
    if b"\\" in body:  # backslashes pair up from the left, and stand in strings alone
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Without everything that neither nests nor ends a string, most strings are "" and gone in one step.
    bare = _STRING.sub(b"", body.translate(None, _NOT_NESTING).replace(b'""', b""))
    depth = 0
    for byte in bare:
        if byte in b"[{":
            depth += 1
            if depth > most:
                raise InvalidAnswerError(f"the answer is nested in more than {most} levels")
        elif byte in b"]}":
            depth -= 1


@dataclass(slots=True)
class Decoded:
    """A decoded body. Its groupings hold no engagement types and times other than the query's."""

    schema: Schema
    groupings: dict[str, Grouping]
    has_all_types: bool
    """Whether every dict of engagement types has all of the query: each Tweet that is there has each metric."""
    start: str | None
    end: str | None
    errors: msgspec.Raw
    unavailable: list[str | int] | None
    unsupported: dict[str, list[str | int]]
    """The lists of IDs by their key, as in `UNSUPPORTED_KEYS`."""
    ids_with_null: Set[str] = frozenset()
    """IDs with a null among their values."""
    ids_out_of_range: Set[str] = frozenset()
    """IDs with a value that does not fit into 64 bits."""
    bad_sum: str = ""
    """What is wrong with a value that belongs to no single ID."""


class Schema:
    """The nesting of answers to a query, with the decoders for it."""

    def __init__(self, query: Query, levels: Mapping[str, tuple[str, ...]], *, checks_times: bool) -> None:
        self.levels = levels
        self._checks_times = checks_times
        self.level_of_ids = {name: by.index("tweet.id") for name, by in levels.items() if "tweet.id" in by}
        self.with_types = frozenset(name for name, by in levels.items() if "engagement.type" in by)
        self.is_by_tweet = len(self.level_of_ids) == len(levels)
        """Whether every grouping is by Tweet: there are no sums."""
        self._span = query.span
        self._metrics = query.engagement_types
        self._fields = {name: f"grouping_{index}" for index, name in enumerate(levels)}
        # A day is either in the span or not; only where bounds lie within a day must hours be looked at, too.
        self._has_partial_days = self._span is not None and any(at.hour for at in self._span)
        self._exact = self._strict_decoder(has_all_types=True)

    @cached_property
    def _strict(self) -> msgspec.json.Decoder[Any]:
        return self._strict_decoder(has_all_types=False)

    @cached_property
    def _lenient(self) -> msgspec.json.Decoder[Any]:
        return self._decoder(int | None, lambda level, inner: dict[str, inner], forbid_unknown_fields=False)  # type: ignore[valid-type]

    def _strict_decoder(self, *, has_all_types: bool) -> msgspec.json.Decoder[Any]:
        days: Any = str if self._span is None else Literal[days_of(*self._span)]

        def nest(level: str, inner: Any) -> Any:
            if level == "engagement.type":
                # Costs no more than a dict[str, ...], and skips engagement types that are not the query's.
                return _TypedDict("Types", dict.fromkeys(self._metrics, inner), total=has_all_types)
            if level == "tweet.id":
                return dict[str, inner]
            hours: Any = HOURS if self._checks_times else str
            key = days if level == "engagement.day" else hours if level == "engagement.hour" else str
            return Annotated[dict[key, inner], msgspec.Meta(min_length=1)]  # type: ignore[valid-type]

        leaf = Annotated[int, msgspec.Meta(ge=MIN_VALUE, le=MAX_VALUE)]
        return self._decoder(leaf, nest, forbid_unknown_fields=True)

    def _decoder(
        self, leaf: Any, nest: Callable[[str, Any], Any], *, forbid_unknown_fields: bool
    ) -> msgspec.json.Decoder[Any]:
        fields: list[tuple[str, Any, Any]] = [(key, list[str | int] | None, None) for key in _ID_LISTS]
        fields += [("errors", msgspec.Raw, _ABSENT), ("start", str | None, None), ("end", str | None, None)]
        for name, field_name in self._fields.items():
            kind: Any = leaf
            for level in reversed(self.levels[name]):
                kind = nest(level, kind)
            fields.append((field_name, kind | None, None))
        renamed = {field_name: name for name, field_name in self._fields.items()}
        answer = msgspec.defstruct(
            "ApiAnswer", fields, rename=renamed, gc=False, forbid_unknown_fields=forbid_unknown_fields
        )
        return msgspec.json.Decoder(answer, strict=False)

    def decode_exactly(self, body: bytes) -> Decoded | None:
        """Return an answer that has all engagement types; None when it is not one, whatever the reason."""
        return self._decode(self._exact, body, has_all_types=not self._has_partial_days)

    def decode_strictly(self, body: bytes) -> Decoded | None:
        """Return an answer that may leave engagement types out; None when it is not one, whatever the reason."""
        return self._decode(self._strict, body, has_all_types=False)

    def _decode(self, decoder: msgspec.json.Decoder[Any], body: bytes, *, has_all_types: bool) -> Decoded | None:
        try:
            raw = decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if memoryview(raw.errors).nbytes:
            return None
        decoded = self._decoded(raw, has_all_types=has_all_types)
        if self._checks_times and self._span is None and not has_only_days(decoded.groupings, self.levels):
            return None
        if self._span is not None and self._has_partial_days:
            self._clip_hours(decoded, *self._span)
        return decoded

    def decode_leniently(self, body: bytes) -> Decoded:
        """Return any answer of this nesting, cleaned. Raise msgspec's errors when it is none."""
        decoded = self._decoded(self._lenient.decode(body), has_all_types=False)
        self._clean(decoded)
        return decoded

    def _decoded(self, raw: Any, *, has_all_types: bool) -> Decoded:
        groupings = {
            name: grouping
            for name, field_name in self._fields.items()
            if (grouping := getattr(raw, field_name)) is not None
        }
        unsupported = {key: ids for key in UNSUPPORTED_KEYS if (ids := getattr(raw, key))}
        return Decoded(
            self, groupings, has_all_types, raw.start, raw.end, raw.errors, raw.unavailable_tweet_ids, unsupported
        )

    def has_exactly(self, groupings: Mapping[str, Grouping], tweet_ids: tuple[str, ...]) -> bool:
        """Return whether all groupings are there, those by Tweet with exactly these IDs."""
        if len(groupings) < len(self.levels):
            return False
        return all(has_exactly(groupings[name], level, tweet_ids) for name, level in self.level_of_ids.items())

    def _clip_hours(self, decoded: Decoded, first: datetime, last: datetime) -> None:
        """Take the hours outside of the span out of its first and last day."""
        if any(_has_hours_above_days(levels) for levels in self.levels.values()):
            self._clean(decoded)
            return
        hours: dict[str, set[int]] = {}
        for day, outside in ((first, range(first.hour)), (last, range(last.hour, 24))):
            hours.setdefault(f"{day:%Y-%m-%d}", set()).update(outside)
        for name, grouping in decoded.groupings.items():
            if set(_TIME) <= set(self.levels[name]):
                clip(grouping, self.levels[name], hours)

    def _clean(self, decoded: Decoded) -> None:
        cleaner = _Cleaner(self._metrics, self._span, checks_times=self._checks_times)
        for name, grouping in decoded.groupings.items():
            cleaner.clean(grouping, self.levels[name])
        decoded.ids_with_null = cleaner.ids_with_null
        decoded.ids_out_of_range = cleaner.ids_out_of_range
        decoded.bad_sum = cleaner.bad_sum


class ResponseDecoder:
    """Decodes the answers to one query, in every nesting that the API may give it.

    With `checks_times`, keys that are no days or hours are an error at once, else where a table is made of them.
    """

    def __init__(self, query: Query, *, json_depth: int, checks_times: bool = False) -> None:
        self._json_depth = json_depth
        by_hour = {name: levels_with_days(group_by) for name, group_by in query.groupings.items()}
        self._schemas = [Schema(query, query.groupings, checks_times=checks_times)]
        if by_hour != query.groupings:
            # Hours without days are documented as {"2016-02-10": {"17": ..}} and seen as bare {"17": ..}.
            self._schemas.insert(0, Schema(query, by_hour, checks_times=checks_times))

    def decode(self, body: bytes) -> Decoded:
        """Return the decoded body. Raise `InvalidAnswerError` when it is no answer to the query."""
        for decode in (Schema.decode_exactly, Schema.decode_strictly):
            for schema in self._schemas:
                decoded = decode(schema, body)
                if decoded is not None:
                    return decoded
        # It holds more than the query's groupings, or something is wrong with it. Types bound the depth of the groupings;
        # the depth of whatever else there is must be checked before it is parsed.
        check_depth(body, self._json_depth)
        problem = ""
        for schema in self._schemas:
            try:
                return schema.decode_leniently(body)
            except msgspec.ValidationError as error:
                problem = str(error)
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise InvalidAnswerError("the answer is no JSON") from None
            except RecursionError:
                raise InvalidAnswerError("the answer is nested too deep") from None
        raise InvalidAnswerError(f"the answer has a wrong shape: {problem}")


class _Place(NamedTuple):
    """Where in a grouping a value stands, as far as it is known."""

    tweet_id: str | None = None
    day: str | None = None
    hour: str | None = None


class _Cleaner:
    """Remove what is no value of the query from groupings: other engagement types and times, nulls, integers that fit into
    no table, and the dicts that are empty then.
    """

    def __init__(self, metrics: tuple[str, ...], span: tuple[datetime, datetime] | None, *, checks_times: bool) -> None:
        self._metrics = frozenset(metrics)
        self._span = span
        self._checks_times = checks_times or span is not None
        self.ids_with_null: set[str] = set()
        self.ids_out_of_range: set[str] = set()
        self.bad_sum = ""

    def clean(self, grouping: Grouping, levels: tuple[str, ...]) -> None:
        """Clean one grouping in place. Its outermost dict stays, even when it is empty."""
        self._clean(grouping, levels, _Place())

    def _clean(self, grouping: Grouping, levels: tuple[str, ...], place: _Place) -> None:
        level, below = levels[0], levels[1:]
        unwanted: set[str] = set()
        if level == "engagement.type":
            unwanted |= grouping.keys() - self._metrics
        elif level in _TIME and self._checks_times:
            _check_times(level, grouping)
        if level in _TIME and self._span is not None:
            unwanted.update(key for key in grouping if not self._is_in_span(_at(place, level, key), *self._span))
        if below:
            for key, inner in grouping.items():
                if key not in unwanted:
                    self._clean(inner, below, _at(place, level, key))
            unwanted.update(key for key, inner in grouping.items() if not inner)
        elif not _are_good(grouping.values()):
            for key, value in grouping.items():
                if key not in unwanted and not _are_good((value,)):
                    unwanted.add(key)
                    self._note(value, _at(place, level, key).tweet_id)
        for key in unwanted:
            del grouping[key]

    def _is_in_span(self, place: _Place, first: datetime, last: datetime) -> bool:
        if place.day is None:
            return True
        if place.hour is not None:
            return first <= hour_at(place.day, place.hour) < last
        day = date.fromisoformat(place.day)
        return first.date() <= day < (last + timedelta(days=1, microseconds=-1)).date()

    def _note(self, value: int | None, tweet_id: str | None) -> None:
        if tweet_id is None:
            self.bad_sum = "a null" if value is None else "an integer beyond 64 bits"
        else:
            (self.ids_with_null if value is None else self.ids_out_of_range).add(tweet_id)


def _check_times(level: str, keys: Iterable[str]) -> None:
    """Raise `InvalidAnswerError` for keys that are no days, or no hours."""
    for key in keys:
        if level == "engagement.hour":
            hour_of_day(key)
        elif not is_day(key):
            raise InvalidAnswerError(f"the API gave {key[:40]!r} for a day")


def _at(place: _Place, level: str, key: str) -> _Place:
    if level == "engagement.type":
        return place
    if level == "tweet.id":
        return place._replace(tweet_id=key)
    return place._replace(day=key) if level == "engagement.day" else place._replace(hour=key)


def _are_good(values: Collection[Any]) -> bool:
    return not values or (None not in values and min(values) >= MIN_VALUE and max(values) <= MAX_VALUE)


def has_exactly(grouping: Grouping, level: int, tweet_ids: tuple[str, ...]) -> bool:
    """Return whether a grouping with `tweet.id` at this level has exactly these IDs, wherever it has some."""
    if level:
        return bool(grouping) and all(has_exactly(inner, level - 1, tweet_ids) for inner in grouping.values())
    return tuple(grouping) == tweet_ids or grouping.keys() == frozenset(tweet_ids)


def _has_hours_above_days(levels: tuple[str, ...]) -> bool:
    return set(_TIME) <= set(levels) and levels.index("engagement.hour") < levels.index("engagement.day")


def days_of(first: datetime, last: datetime) -> tuple[str, ...]:
    """Return the days of a span, as the API writes them."""
    count = (last - timedelta(microseconds=1)).toordinal() - first.toordinal() + 1
    return tuple(date.fromordinal(first.toordinal() + n).isoformat() for n in range(count))
