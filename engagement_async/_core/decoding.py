"""JSON becomes typed values: decoders for exactly the groupings of one query, and checks of what types cannot say. Pure.

Two decoders a schema. The strict one takes an ordinary answer alone, and costs no more than a plain one: string leaves
become integers of 64 bits, engagement types are those of the query, days are those of its span, no day is empty. What it
refuses is decoded by the lenient one, and cleaned leaf by leaf.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

from engagement_async._core.groupings import Grouping, clip, levels_with_days
from engagement_async._core.query import UNSUPPORTED_KEYS, Query
from engagement_async.errors import InvalidAnswerError

__all__ = ["MAX_VALUE", "MIN_VALUE", "Decoded", "ResponseDecoder", "Schema", "check_depth"]

MIN_VALUE, MAX_VALUE = -(2**63), 2**63 - 1
"""What fits into 64 bits, as every table format wants it."""

_ID_LISTS = ("unavailable_tweet_ids", *UNSUPPORTED_KEYS)
_ABSENT = msgspec.Raw()
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
    """A decoded body. Its groupings are free of engagement types and times that were not asked for."""

    schema: Schema
    groupings: dict[str, Grouping]
    is_strict: bool
    """Whether it holds nothing but ordinary values."""
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
    """The nesting of answers to a query, with a decoder for it."""

    def __init__(self, query: Query, levels: Mapping[str, tuple[str, ...]]) -> None:
        self.levels = levels
        self.level_of_ids = {name: by.index("tweet.id") for name, by in levels.items() if "tweet.id" in by}
        self.with_types = frozenset(name for name, by in levels.items() if "engagement.type" in by)
        self.is_by_tweet = len(self.level_of_ids) == len(levels)
        """Whether every grouping is by Tweet: there are no sums."""
        self._span = query.span
        self._metrics = query.engagement_types
        self._untimed = {name: _without_innermost_time(by) for name, by in levels.items()}
        self._fields = {name: f"grouping_{index}" for index, name in enumerate(levels)}
        days = None if self._span is None else _days(*self._span)
        leaf = Annotated[int, msgspec.Meta(ge=MIN_VALUE, le=MAX_VALUE)]
        keys: dict[str, Any] = {"engagement.type": Literal[self._metrics]}
        if days:
            keys["engagement.day"] = Literal[days]
        self._strict = self._decoder(leaf, keys)
        # A day is either in the span or not; only where bounds lie within a day must hours be looked at, too.
        self._has_partial_days = self._span is not None and any(at.hour for at in self._span)

    @cached_property
    def _lenient(self) -> msgspec.json.Decoder[Any]:
        return self._decoder(int | None, None)

    def _decoder(self, leaf: Any, keys: Mapping[str, Any] | None) -> msgspec.json.Decoder[Any]:
        fields: list[tuple[str, Any, Any]] = [(key, list[str | int] | None, None) for key in _ID_LISTS]
        fields += [("errors", msgspec.Raw, _ABSENT), ("start", str | None, None), ("end", str | None, None)]
        for name, field_name in self._fields.items():
            kind: Any = leaf
            for level in reversed(self.levels[name]):
                kind = dict[str if keys is None else keys.get(level, str), kind]  # type: ignore[misc]
                if keys is not None and level in _TIME:
                    kind = Annotated[kind, msgspec.Meta(min_length=1)]
            fields.append((field_name, kind | None, None))
        renamed = {field_name: name for name, field_name in self._fields.items()}
        answer = msgspec.defstruct(
            "ApiAnswer", fields, rename=renamed, gc=False, forbid_unknown_fields=keys is not None
        )
        return msgspec.json.Decoder(answer, strict=False)

    def decode_strictly(self, body: bytes) -> Decoded | None:
        """Return an ordinary answer; None when it is not one, whatever the reason."""
        try:
            raw = self._strict.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if memoryview(raw.errors).nbytes:
            return None
        decoded = self._decoded(raw, is_strict=True)
        if self._span is not None and self._has_partial_days:
            self._clip_hours(decoded, *self._span)
        return decoded

    def decode_leniently(self, body: bytes) -> Decoded:
        """Return any answer of this nesting, cleaned. Raise msgspec's errors when it is none."""
        decoded = self._decoded(self._lenient.decode(body), is_strict=False)
        self._clean(decoded)
        return decoded

    def _decoded(self, raw: Any, *, is_strict: bool) -> Decoded:
        groupings = {
            name: grouping
            for name, field_name in self._fields.items()
            if (grouping := getattr(raw, field_name)) is not None
        }
        unsupported = {key: ids for key in UNSUPPORTED_KEYS if (ids := getattr(raw, key))}
        return Decoded(
            self, groupings, is_strict, raw.start, raw.end, raw.errors, raw.unavailable_tweet_ids, unsupported
        )

    def is_complete(self, groupings: Mapping[str, Grouping], tweet_ids: tuple[str, ...]) -> bool:
        """Return whether strictly decoded groupings are all there, each with exactly these IDs and every metric of each."""
        if len(groupings) < len(self.levels):
            return False
        return all(
            _is_complete(grouping, self._untimed[name], tweet_ids, len(self._metrics))
            for name, grouping in groupings.items()
        )

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
        cleaner = _Cleaner(self._metrics, self._span)
        for name, grouping in decoded.groupings.items():
            cleaner.clean(grouping, self.levels[name])
        decoded.ids_with_null = cleaner.ids_with_null
        decoded.ids_out_of_range = cleaner.ids_out_of_range
        decoded.bad_sum = cleaner.bad_sum


class ResponseDecoder:
    """Decodes the answers to one query, in every nesting that the API may give it."""

    def __init__(self, query: Query, *, json_depth: int) -> None:
        self._json_depth = json_depth
        by_hour = {name: levels_with_days(group_by) for name, group_by in query.groupings.items()}
        self._schemas = [Schema(query, query.groupings)]
        if by_hour != query.groupings:
            # Hours without days are documented as {"2016-02-10": {"17": ..}} and seen as bare {"17": ..}.
            self._schemas.insert(0, Schema(query, by_hour))

    def decode(self, body: bytes) -> Decoded:
        """Return the decoded body. Raise `InvalidAnswerError` when it is no answer to the query."""
        for schema in self._schemas:
            decoded = schema.decode_strictly(body)
            if decoded is not None:
                return decoded
        # There is more in it than was asked for, or something is wrong with it. Types bound the depth of what was asked
        # for; whatever else there is must be looked at before it is parsed.
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


class _Cleaner:
    """Takes out of groupings what is no value of the query: engagement types and times that were not asked for, nulls,
    integers that fit into no table, and the dicts that are empty then."""

    def __init__(self, metrics: tuple[str, ...], span: tuple[datetime, datetime] | None) -> None:
        self._metrics = frozenset(metrics)
        self._span = span
        self.ids_with_null: set[str] = set()
        self.ids_out_of_range: set[str] = set()
        self.bad_sum = ""

    def clean(self, grouping: Grouping, levels: tuple[str, ...]) -> None:
        """Clean one grouping in place. Its outermost dict stays, even when it is empty."""
        self._clean(grouping, levels, 0, {})

    def _clean(self, grouping: Grouping, levels: tuple[str, ...], at: int, path: dict[str, str]) -> None:
        level = levels[at]
        unwanted = []
        for key, value in grouping.items():
            here = {**path, level: key}
            if not self._is_asked(level, here):
                unwanted.append(key)
            elif isinstance(value, dict):
                self._clean(value, levels, at + 1, here)
                if not value:
                    unwanted.append(key)
            elif value is None or not MIN_VALUE <= value <= MAX_VALUE:
                unwanted.append(key)
                self._note(value, here.get("tweet.id"))
        for key in unwanted:
            del grouping[key]

    def _is_asked(self, level: str, path: dict[str, str]) -> bool:
        if level == "engagement.type":
            return path[level] in self._metrics
        if level not in _TIME or self._span is None or "engagement.day" not in path:
            return True
        first, last = self._span
        try:
            day = datetime.fromisoformat(path["engagement.day"]).replace(tzinfo=first.tzinfo)
            if "engagement.hour" not in path:
                return first.date() <= day.date() <= (last - timedelta(microseconds=1)).date()
            return first <= day.replace(hour=int(path["engagement.hour"])) < last
        except ValueError:
            raise InvalidAnswerError(f"the answer has {path['engagement.day'][:40]!r} for a day") from None

    def _note(self, value: int | None, tweet_id: str | None) -> None:
        if tweet_id is None:
            self.bad_sum = "a null" if value is None else "an integer beyond 64 bits"
        else:
            (self.ids_with_null if value is None else self.ids_out_of_range).add(tweet_id)


def _has_hours_above_days(levels: tuple[str, ...]) -> bool:
    return set(_TIME) <= set(levels) and levels.index("engagement.hour") < levels.index("engagement.day")


def _without_innermost_time(levels: tuple[str, ...]) -> tuple[str, ...]:
    while levels and levels[-1] in _TIME:
        levels = levels[:-1]
    return levels


def _is_complete(grouping: Grouping, levels: tuple[str, ...], tweet_ids: tuple[str, ...], metrics: int) -> bool:
    """Return whether all IDs and metrics are there, down to the last of these levels. Metrics are known by their number:
    the decoder takes no others."""
    if not levels:
        return True
    if levels[0] == "tweet.id":
        if tuple(grouping) != tweet_ids and grouping.keys() != frozenset(tweet_ids):
            return False
        if levels[1:] == ("engagement.type",):
            return min(map(len, grouping.values())) == metrics
    elif levels[0] == "engagement.type" and len(grouping) != metrics:
        return False
    return len(levels) == 1 or all(_is_complete(inner, levels[1:], tweet_ids, metrics) for inner in grouping.values())


def _days(first: datetime, last: datetime) -> tuple[str, ...]:
    """The days of a span, as the API writes them."""
    count = (last - timedelta(microseconds=1)).toordinal() - first.toordinal() + 1
    return tuple(date.fromordinal(first.toordinal() + n).isoformat() for n in range(count))
