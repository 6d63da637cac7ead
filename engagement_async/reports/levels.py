"""What the levels of a nested grouping are, seen by its keys: a saved JSON result does not say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from engagement_async._core.decoding import MAX_VALUE, MIN_VALUE
from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.groupings import Grouping
from engagement_async.errors import UsageError

__all__ = ["NOT_GROUPINGS", "count_of", "groupings_of", "instant_of", "is_id", "levels_of"]

NOT_GROUPINGS: Final = frozenset({"start", "end", "unavailable_tweet_ids"})
"""Keys of a saved result that are no groupings, beside those that end as `unsupported_..._tweet_ids`."""
_METRICS: Final = frozenset(metric for endpoint in ENDPOINTS.values() for metric in endpoint.metrics)
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_HOUR: Final = re.compile(r"[01]?\d|2[0-3]", re.ASCII)
_TWEET: Final = re.compile(r"\d{1,19}", re.ASCII)


def groupings_of(document: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], Grouping]]:
    """Return the groupings of a saved result by name, each with its levels and integers for leaves.

    Raise `UsageError` for a document that is no such result.
    """
    found = {}
    for name, value in document.items():
        if name in NOT_GROUPINGS or name.endswith("_tweet_ids"):
            continue
        if not isinstance(value, dict):
            raise UsageError(f"{name!r} is no grouping of a result: it holds no object")
        found[name] = (levels_of(value), _with_integers(value))
    if not found and not NOT_GROUPINGS & document.keys():
        raise UsageError("the JSON object is no result: it has neither groupings nor IDs")
    return found


def levels_of(grouping: Grouping) -> tuple[str, ...]:
    """Return the levels of a grouping. Raise `UsageError` where its keys are none that the API has."""
    levels: list[str] = []
    inner: list[Any] = [grouping]
    while any(isinstance(value, dict) for value in inner):
        if not all(isinstance(value, dict) for value in inner):
            raise UsageError("a grouping of the result is not equally deep everywhere")
        keys = {key for value in inner for key in value}
        if not keys:
            break
        levels.append(_level_of(keys, levels))
        inner = [value for outer in inner for value in outer.values()]
    return tuple(levels)


def _level_of(keys: Iterable[str], outer: Iterable[str]) -> str:
    kinds = (
        ("engagement.type", lambda key: key in _METRICS),
        ("engagement.day", _DAY.fullmatch),
        ("engagement.hour", _HOUR.fullmatch),
        ("tweet.id", _TWEET.fullmatch),
        ("owner", lambda _: True),
    )
    for level, is_one in kinds:
        if level not in outer and all(map(is_one, keys)):
            return level
    raise UsageError("a grouping of the result has levels that the API does not have")


def is_id(text: object) -> bool:
    """Whether that is the ID of a Tweet."""
    return isinstance(text, str) and _TWEET.fullmatch(text) is not None


def count_of(value: Any) -> int:
    """Return a value as the integer that it is. Raise `ValueError` or `TypeError` for what no answer of the API holds."""
    try:
        found = int(value)
    except OverflowError:  # an infinite float of Parquet
        raise ValueError(value) from None
    if not MIN_VALUE <= found <= MAX_VALUE:
        raise ValueError(value)
    return found


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_integers(inner) for key, inner in value.items()}
    try:
        return count_of(value)
    except (TypeError, ValueError):
        raise UsageError(f"a value of the result is no number of engagements: {value!r:.60}") from None


def instant_of(value: Any, what: str) -> datetime:
    """Return a time of a saved result, in UTC if it has no zone. Raise `UsageError` for one that no engagement can have."""
    at = value
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
    if isinstance(at, date) and not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    if not isinstance(at, datetime) or not 1970 <= at.year < 2100:  # the hours between are counted one by one
        raise UsageError(f"{what} is no time of an engagement: {value!r:.60}")
    return at if at.tzinfo else at.replace(tzinfo=UTC)
