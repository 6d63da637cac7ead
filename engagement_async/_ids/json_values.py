"""Which Tweets a JSON value names: a Tweet of any version of the API, a page of them, an activity, or a notice. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import orjson

from engagement_async._ids.columns import is_known_name, rank
from engagement_async._ids.report import Intake
from engagement_async._ids.values import STRONG_DIGITS, find_id, is_strong

__all__ = ["Fraction", "JsonIds", "agrees", "owner_in", "stands_alone"]

_WITHIN = ("tweet", "data", "statuses", "tweets", "results", "posts", "status", "post", "like", "activity", "items")
"""Keys of what holds Tweets: X's archive, pages and streams of the second version, searches of the first, Gnip's."""
_WITHIN_KEYS = frozenset(_WITHIN)
_NOTICES = frozenset(
    {
        *("delete", "scrub_geo", "limit", "status_withheld", "user_withheld", "disconnect", "warning", "info"),
        *("event", "friends", "friends_str", "control", "sitestream"),
    }
)
"""Keys of what comes between Tweets in a stream or at its end, and is none."""
_EMPTY_PAGE = frozenset({"meta", "errors", "includes", "search_metadata", "next", "requestParameters", "__twarc"})
"""Keys of a page on which there is no Tweet."""
_USER = frozenset({"username", "screen_name"})
_OF_TWEETS = frozenset({"text", "full_text", "content", "rawContent", "tweet", "conversation_id", "entities", "lang"})
_LISTED = 80


class Fraction(str):
    """A number with a fraction or an exponent, as it was written."""

    __slots__ = ()


class JsonIds:
    """Finds the IDs of values, one after the other, and remembers the key that the first had them under."""

    def __init__(self, intake: Intake, id_column: str | None, owner_column: str | None = None) -> None:
        self._intake = intake
        self._id_column = id_column
        self._owner_column = owner_column
        self.owner = ""
        """Whose what was found last is: of its object, or else of one around it. Empty if that is not known."""
        self._is_strong = False
        self.key: str | None = None

    def _quick(self, value: dict[str, Any]) -> str | None:
        """Return the ID of an object that is like those before, or None where a closer look is needed."""
        held: Any = None if self.key is None else value.get(self.key)
        if type(held) is int:
            held = str(held)
        is_alike = type(held) is str and len(held) >= STRONG_DIGITS and stands_alone(value, self.key)
        return held if is_alike else None

    def of(self, value: object, line: int) -> Iterator[str]:
        """Yield what may be IDs out of a value; what certainly holds none is rejected or counted as a notice."""
        match value:
            case str():
                yield value
            case bool() | None:
                self._intake.reject(line, _shown(value), "holds no ID: a string or an integer")
            case int():
                yield str(value)
            case float():
                self._intake.reject(line, repr(value), "is a float: its last digits are lost; write IDs as strings")
            case list():
                self._intake.report.notices += not value  # a page without Tweets
                for item in value:
                    yield from self.of(item, line)
            case dict():
                before = self.owner
                if self._owner_column is not None:
                    self.owner = owner_in(value, self._owner_column) or before
                found = self._quick(value)
                if found is not None:
                    yield found
                else:
                    yield from self._of_object(value, line)
                self.owner = before

    def _of_object(self, value: dict[str, Any], line: int) -> Iterator[str]:
        is_named = self._id_column is not None
        key = self._named(value, self._id_column) if self._id_column is not None else self._best(value)
        inner = next((value[name] for name in _WITHIN if isinstance(value.get(name), (dict, list))), None)
        if key is not None and (is_named or inner is None or self._strong(value[key])):
            other = self._other_id(value, key, None if is_named else inner)
            if not is_named and not _USER.isdisjoint(value) and _OF_TWEETS.isdisjoint(value):
                self._intake.reject(line, _shown(value), "is a user, and no Tweet; if it is one, name its --id-column")
            elif other is not None:
                reason = f"names two Tweets, the other is {other}: give one a line"
                self._intake.reject(line, f"{key}: {value[key]}", reason)
            else:
                yield from self._taken(key, value[key], line)
        elif inner is not None:
            yield from self.of(inner, line)
        elif not _NOTICES.isdisjoint(value) or (value and _EMPTY_PAGE.issuperset(value)):
            self._intake.report.notices += 1
        else:
            yield from self._of_stranger(value, line)

    def _other_id(self, value: dict[str, Any], key: str, inner: object) -> object:
        """Return the ID that an object holds beside that of `key`, or None."""
        if not agrees(value, key):
            return value["id"]
        if isinstance(inner, dict):
            within = self._best(inner)
            if within is not None and self._strong(inner[within]) and str(inner[within]) != str(value[key]):
                return inner[within]
        return None

    def _taken(self, key: str, held: object, line: int) -> Iterator[str]:
        is_strong_one = self._strong(held)
        if self.key is None:
            self.key, self._is_strong = key, is_strong_one
            self._intake.use_column(key)
        elif key != self.key and self._id_column is None and self._is_strong and not is_strong_one:
            self._intake.reject(
                line, f"{key}: {held}", f"has no key {self.key!r}, and its {key!r} is too small for a Tweet ID"
            )
            return
        yield from self.of(held, line)

    def _of_stranger(self, value: Mapping[str, object], line: int) -> Iterator[str]:
        """Yield the only value of an object without a known key; refuse the file if nothing was taken yet."""
        keys = list(value)
        is_alone = len(keys) == 1 and isinstance(value[keys[0]], (str, int))
        if self._id_column is None and is_alone and self.key in (None, *keys):
            yield from self._taken(keys[0], value[keys[0]], line)
            return
        if self.key is None and self._id_column is None and keys:
            listed = ", ".join(repr(key[:40]) for key in keys[:20])
            raise self._intake.refused(f"which key holds the IDs? Name it with --id-column: {listed}", line)
        wanted = self._id_column or self.key
        reason = f"has no key {wanted!r}" if wanted else "has no key of an ID"
        self._intake.reject(line, _shown(value), reason)

    def _best(self, value: Mapping[str, object]) -> str | None:
        """Return the key of the ID: the best name, of those that hold an ID rather than a row number or a float."""
        best: tuple[bool, int, str] | None = None
        for key in value:
            place = rank(key)
            if place is None or isinstance(value[key], (dict, bool)):
                continue
            is_strong_one = self._strong(value[key])
            if (is_strong_one or is_known_name(key)) and (best is None or (not is_strong_one, place, key) < best):
                best = (not is_strong_one, place, key)
        return best[2] if best else None

    @staticmethod
    def _named(value: Mapping[str, object], id_column: str) -> str | None:
        if id_column in value:
            return id_column
        folded = id_column.replace("_", "").replace(" ", "").casefold()
        return next((key for key in value if key.replace("_", "").replace(" ", "").casefold() == folded), None)

    @staticmethod
    def _strong(held: object) -> bool:
        if isinstance(held, list):
            return bool(held) and all(isinstance(item, (str, int)) and JsonIds._strong(item) for item in held)
        found = find_id(str(held)) if isinstance(held, (str, int)) else None
        return found is not None and is_strong(found)


def owner_in(value: Mapping[str, Any], column: str) -> str:
    """Return what an object has under a key, or under a path of keys as `user.screen_name`; nothing if it is no name."""
    held: object = value.get(column)
    if held is None and "." in column:
        held = value
        for key in column.split("."):
            held = held.get(key) if isinstance(held, dict) else None
    return str(held) if isinstance(held, (str, int)) and not isinstance(held, bool) else ""


def stands_alone(value: Mapping[str, Any], key: str | None) -> bool:
    """Return whether an object names no other Tweet than that of `key`."""
    return _WITHIN_KEYS.isdisjoint(value) and ("id" not in value or agrees(value, key))


def agrees(value: Mapping[str, Any], key: str | None) -> bool:
    """Return whether an object names one Tweet: `id`, if it is a number too, may only be a rounded `id_str`."""
    if key != "id_str":
        return True
    number, text = value.get("id"), value["id_str"]
    if type(number) is not int or type(text) is not str or str(number) == text:
        return True
    found = find_id(text)
    return found is None or not is_strong(str(number)) or number in _rounded(int(found))


def _rounded(number: int) -> tuple[int, int]:
    """Return what becomes of an integer in a float: its exact value, and as many digits as JavaScript writes."""
    return int(float(number)), int(Decimal(repr(float(number))))


def _shown(value: object) -> str:
    try:
        return orjson.dumps(value, default=str).decode()[: _LISTED + 1]
    except TypeError:  # an integer of over 64 bits
        return repr(value)[: _LISTED + 1]
