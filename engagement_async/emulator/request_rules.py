"""What the documentation lets a request say. Pure: bytes in, a checked `Request` or a `Refusal` out.

What belongs here: each documented rule of the body, and the text and status that its breach is answered with. Texts
that the documentation or people's records show are in `DOCUMENTED`; where they are silent the text is ours and names
the rule. Nothing is shared with the client's own checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import orjson

from engagement_async._core.endpoints import Endpoint

__all__ = ["DOCUMENTED", "MAX_SPAN_HOURS", "Refusal", "Request", "check_request", "hour_of"]

DOCUMENTED: Mapping[str, str] = MappingProxyType(
    {
        "token": "Your account could not be authenticated. Reason: Access token not found",
        "unavailable": "{count} Tweet ID(s) are unavailable",
        "old": "Impressions & engagements for tweets older than 90 days (TIME_PERIOD) are not supported",
        "tweets": "Forbidden to access tweets: {ids}",
        "author": "Forbidden to access tweets for author id {author}: {ids}",
        "application": "your application id is not authorized.",
        "metrics": "Forbidden to access metrics: {metrics}",
        "group_by": (
            "One or more of the groupBys you have specified are not supported: ({values}). "
            "Please adjust your request and try again."
        ),
        # The record of this one ends after the first sentence.
        "gzip": "This request requires gzip compression. Send the header Accept-Encoding: gzip and try again.",
    }
)
MAX_SPAN_HOURS = 28 * 24
_FIRST_HOUR = int(datetime(2014, 9, 1, tzinfo=UTC).timestamp()) // 3600
_TWEET_ID = re.compile(r"[1-9][0-9]{0,18}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?")
_ORDERS_OF_FOUR = (
    ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
    ("engagement.type", "tweet.id", "engagement.day", "engagement.hour"),
)
_RESERVED = {"start", "end", "errors", "unavailable_tweet_ids"}
_JSON_TYPES = ("application/json", "application/x-www-form-urlencoded")


class Refusal(Exception):  # noqa: N818  it is an answer, not an accident
    """A request that the API refuses: the status and the texts of `errors`."""

    def __init__(self, status: int, *texts: str) -> None:
        super().__init__(status, *texts)
        self.status = status
        self.texts = texts


@dataclass(frozen=True, slots=True)
class Request:
    """A request that keeps every rule. `start` and `end`: hours since 1970, widened, `end` exclusive."""

    endpoint: Endpoint
    tweet_ids: tuple[str, ...]
    engagement_types: tuple[str, ...]
    groupings: dict[str, tuple[str, ...]]
    start: int | None = None
    end: int | None = None


def check_request(endpoint: Endpoint, body: bytes, content_type: str | None, *, app_only: bool) -> Request:
    """Check a request against every rule of the documentation; `app_only` is a Bearer token's.

    Raises `Refusal` with the first breach.
    """
    # The 28hr page's own curl example names no content type, so curl sends the form's: that one passes, others do not.
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise Refusal(400, f"Content-Type must be application/json, not {kind or 'absent'}.")
    try:
        query = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "The request body is not valid JSON.") from None
    if not isinstance(query, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    known = {"tweet_ids", "engagement_types", "groupings"} | ({"start", "end"} if endpoint.takes_bounds else set())
    if unknown := sorted(query.keys() - known):
        raise Refusal(400, f"Unknown fields in the request: {', '.join(unknown)}.")
    if missing := sorted({"tweet_ids", "engagement_types", "groupings"} - query.keys()):
        raise Refusal(400, f"Missing fields in the request: {', '.join(missing)}.")
    ids = _check_tweet_ids(endpoint, query["tweet_ids"])
    types = _check_engagement_types(endpoint, query["engagement_types"])
    groupings = _check_groupings(endpoint, query["groupings"])
    start, end = _check_bounds(query.get("start"), query.get("end"))
    if app_only and (owned := [metric for metric in types if metric not in endpoint.public_metrics]):
        raise Refusal(403, DOCUMENTED["metrics"].format(metrics=", ".join(owned)))
    return Request(endpoint, ids, types, groupings, start, end)


def _check_tweet_ids(endpoint: Endpoint, ids: Any) -> tuple[str, ...]:
    if not isinstance(ids, list) or not all(isinstance(tweet_id, str) for tweet_id in ids):
        raise Refusal(400, "tweet_ids must be an array of strings.")
    if not 1 <= len(ids) <= endpoint.ids_per_request:
        raise Refusal(400, f"tweet_ids must hold 1 to {endpoint.ids_per_request} Tweet IDs, not {len(ids)}.")
    for tweet_id in ids:
        if not _TWEET_ID.fullmatch(tweet_id) or int(tweet_id) >= 1 << 63:
            raise Refusal(400, f"Not a Tweet ID: {tweet_id[:40]!r}.")
    return tuple(ids)


def _check_engagement_types(endpoint: Endpoint, types: Any) -> tuple[str, ...]:
    if not isinstance(types, list) or not types or not all(isinstance(metric, str) for metric in types):
        raise Refusal(400, "engagement_types must be an array of one or more strings.")
    if unknown := [metric for metric in types if metric not in endpoint.metrics]:
        raise Refusal(400, f"Engagement types not supported on {endpoint.path}: {', '.join(unknown)}.")
    if len(set(types)) < len(types):
        raise Refusal(400, "An engagement type is given twice.")
    return tuple(types)


def _check_groupings(endpoint: Endpoint, groupings: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(groupings, dict) or not 1 <= len(groupings) <= 3:
        raise Refusal(400, "groupings must be an object of 1 to 3 named groupings.")
    checked: dict[str, tuple[str, ...]] = {}
    for name, grouping in groupings.items():
        if not name or name in _RESERVED or name.startswith("unsupported_for_"):
            raise Refusal(400, f"Not a name for a grouping: {name!r}.")
        if not isinstance(grouping, dict) or grouping.keys() != {"group_by"}:
            raise Refusal(400, f"The grouping {name!r} must be an object with group_by alone.")
        values = grouping["group_by"]
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise Refusal(400, f"group_by of {name!r} must be an array of one or more strings.")
        if unknown := [value for value in values if value not in endpoint.group_by]:
            raise Refusal(400, DOCUMENTED["group_by"].format(values=", ".join(unknown)))
        if len(set(values)) < len(values):
            raise Refusal(400, f"group_by of {name!r} has a value twice.")
        if len(values) == 4 and tuple(values) not in _ORDERS_OF_FOUR:
            raise Refusal(400, f"group_by of {name!r} has 4 items in an order that is not supported.")
        checked[name] = tuple(values)
    if sum(len(values) == 4 for values in checked.values()) > 1:
        raise Refusal(400, "Only one grouping with 4 group_by items is allowed per request.")
    return checked


def _check_bounds(start: Any, end: Any) -> tuple[int | None, int | None]:
    if start is None and end is None:
        return None, None
    if start is None or end is None:
        raise Refusal(400, "start and end must be given together.")
    first, last = hour_of(start), hour_of(end, up=True)
    if first < _FIRST_HOUR:
        raise Refusal(400, "start must not be before 2014-09-01.")
    if last <= first:
        raise Refusal(400, "end must be after start.")
    if last - first > MAX_SPAN_HOURS:
        raise Refusal(400, "start and end must not be more than 4 weeks apart.")
    return first, last


def hour_of(instant: Any, *, up: bool = False) -> int:
    """An instant of the API as hours since 1970: widened down, or `up`. Raises `Refusal` when it is malformed."""
    if isinstance(instant, str) and _INSTANT.fullmatch(instant):
        try:
            seconds = int(datetime.fromisoformat(instant).replace(tzinfo=UTC).timestamp())
        except ValueError:
            pass
        else:
            return -(-seconds // 3600) if up else seconds // 3600
    raise Refusal(400, f"Not an instant (2015-08-01 or 2015-07-01T12:24:00Z): {str(instant)[:40]!r}.")
