"""What a request may say. Pure: bytes in, a checked `Request` out, or a `Refusal`.

Each documented rule of the body is here, with the text and status that answer a breach. Texts that documentation or
recorded answers show are in `DOCUMENTED`; where those are silent the text is the emulator's own, and names the rule.
Nothing is shared with the client's checks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import orjson

from engagement_async._core.endpoints import ENDPOINTS, Endpoint

from .interpretation import Interpretation, Leniency

__all__ = [
    "DOCUMENTED",
    "FORM",
    "MAX_SPAN_HOURS",
    "Refusal",
    "Request",
    "check_request",
    "content_type_of",
    "hour_of",
    "public_metrics",
]

DOCUMENTED: Mapping[str, str] = MappingProxyType(
    {
        "token": "Your account could not be authenticated. Reason: Access token not found",
        "scheme": "Your account could not be authenticated. Reason: Unknown Authorization Type",
        "unavailable": "{count} Tweet ID(s) are unavailable",
        "unavailable_unlisted": "Tweet ID(s) are unavailable",
        "old": "Impressions & engagements for tweets older than 90 days ({before}) are not supported",
        "tweets": "Forbidden to access tweets: {ids}",
        "author": "Forbidden to access tweets for author id {author}: {ids}",
        "application": "your application id is not authorized.",
        "metrics": "Forbidden to access metrics: {metrics}",
        "group_by": (
            "One or more of the groupBys you have specified are not supported: ({values}). "
            "Please adjust your request and try again."
        ),
        "gzip": (
            "This request requires gzip compression. "
            "Retry the request after setting 'Accept-Encoding' header in the request to 'gzip'."
        ),
    }
)
MAX_SPAN_HOURS = 28 * 24
FORM = "application/x-www-form-urlencoded"
_FIRST_HOUR = int(datetime(2014, 9, 1, tzinfo=UTC).timestamp()) // 3600
_TWEET_ID = re.compile(r"[1-9][0-9]{0,18}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?")
_ORDERS_OF_FOUR = (
    ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
    ("engagement.type", "tweet.id", "engagement.day", "engagement.hour"),
)
_RESERVED = {"start", "end", "errors", "unavailable_tweet_ids"}
# The 28hr page's own curl example names no content type, so curl sends the form's: that one passes, others do not.
_CONTENT_TYPES = ("application/json", FORM)


class Refusal(Exception):  # noqa: N818  it is an answer, not an accident
    """A request that the API refuses: the status, the texts of `errors`, and whose token it was, if that is known."""

    def __init__(self, status: int, *texts: str, owner: str | None = None) -> None:
        super().__init__(status, *texts)
        self.status = status
        self.texts = texts
        self.owner = owner


@dataclass(frozen=True, slots=True)
class Request:
    """A request that keeps every rule. `start` and `end`: hours since 1970, widened, `end` exclusive."""

    endpoint: Endpoint
    tweet_ids: tuple[str, ...]
    engagement_types: tuple[str, ...]
    groupings: dict[str, tuple[str, ...]]
    start: int | None = None
    end: int | None = None


def public_metrics(endpoint: Endpoint, interpretation: Interpretation) -> tuple[str, ...]:
    """Return the metrics that app-only credentials may ask of an endpoint; none: the endpoint is closed to them."""
    if endpoint.takes_bounds and Leniency.BEARER_HISTORICAL in interpretation.accepts:
        return tuple(metric for metric in ENDPOINTS["totals"].public_metrics if metric in endpoint.metrics)
    return endpoint.public_metrics


def content_type_of(header: str | None) -> str:
    """Return a Content-Type without its parameters, in lower case."""
    return (header or "").partition(";")[0].strip().lower()


def check_request(
    endpoint: Endpoint,
    body: bytes,
    content_type: str | None,
    *,
    app_only: bool,
    now: float,
    interpretation: Interpretation,
) -> Request:
    """Check a request against every rule at `now` (epoch seconds). `app_only`: sent without a user's token.

    Raise `Refusal` with the first breach.
    """
    kind = content_type_of(content_type)
    if kind not in _CONTENT_TYPES:
        raise Refusal(400, f"Content-Type must be application/json, not {kind or 'absent'}.")
    query = _parse(body)
    allowed = {"tweet_ids", "engagement_types", "groupings"} | ({"start", "end"} if endpoint.takes_bounds else set())
    if unknown := sorted(query.keys() - allowed):
        raise Refusal(400, f"Unknown fields in the request: {', '.join(unknown)}.")
    if missing := sorted({"tweet_ids", "engagement_types", "groupings"} - query.keys()):
        raise Refusal(400, f"Missing fields in the request: {', '.join(missing)}.")
    accepts = interpretation.accepts
    ids = _check_tweet_ids(endpoint, query["tweet_ids"], accepts)
    types = _check_engagement_types(endpoint, query["engagement_types"], accepts)
    groupings = _check_groupings(endpoint, query["groupings"], accepts)
    start, end = _check_bounds(query.get("start"), query.get("end"), now, interpretation)
    if app_only:
        public = public_metrics(endpoint, interpretation)
        if owned := [metric for metric in types if metric not in public]:
            raise Refusal(403, DOCUMENTED["metrics"].format(metrics=", ".join(owned)))
    return Request(endpoint, ids, types, groupings, start, end)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        query = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "The request body is not valid JSON.") from None
    if not isinstance(query, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    return query


def _check_tweet_ids(endpoint: Endpoint, ids: Any, accepts: frozenset[Leniency]) -> tuple[str, ...]:
    if isinstance(ids, list) and Leniency.NUMBER_IDS in accepts:
        ids = [str(tweet_id) if type(tweet_id) is int else tweet_id for tweet_id in ids]
    if not isinstance(ids, list) or not all(isinstance(tweet_id, str) for tweet_id in ids):
        raise Refusal(400, "tweet_ids must be an array of strings.")
    if not 1 <= len(ids) <= endpoint.ids_per_request:
        raise Refusal(400, f"tweet_ids must hold 1 to {endpoint.ids_per_request} Tweet IDs, not {len(ids)}.")
    if Leniency.PADDED_IDS in accepts:
        ids = [tweet_id.strip() for tweet_id in ids]
    for tweet_id in ids:
        if not _TWEET_ID.fullmatch(tweet_id) or int(tweet_id) >= 1 << 63:
            raise Refusal(400, f"Not a Tweet ID: {tweet_id[:40]!r}.")
    return tuple(ids)


def _check_engagement_types(endpoint: Endpoint, types: Any, accepts: frozenset[Leniency]) -> tuple[str, ...]:
    if not isinstance(types, list) or not types or not all(isinstance(metric, str) for metric in types):
        raise Refusal(400, "engagement_types must be an array of one or more strings.")
    allowed = set(endpoint.metrics)
    if Leniency.MEDIA_CLICKS in accepts and "media_engagements" in allowed:
        allowed.add("media_clicks")
    if unknown := [metric for metric in types if metric not in allowed]:
        raise Refusal(400, f"Engagement types not supported on {endpoint.path}: {', '.join(unknown)}.")
    distinct = tuple(dict.fromkeys(types))
    if len(distinct) < len(types) and Leniency.REPEATED_METRICS not in accepts:
        raise Refusal(400, "An engagement type is given twice.")
    return distinct


def _check_groupings(endpoint: Endpoint, groupings: Any, accepts: frozenset[Leniency]) -> dict[str, tuple[str, ...]]:
    most = 10 if Leniency.TEN_GROUPINGS in accepts else 3
    if not isinstance(groupings, dict) or not 1 <= len(groupings) <= most:
        raise Refusal(400, f"groupings must be an object of 1 to {most} named groupings.")
    checked: dict[str, tuple[str, ...]] = {}
    for name, grouping in groupings.items():
        if not name or name in _RESERVED or name.startswith("unsupported_for_"):
            raise Refusal(400, f"Not a name for a grouping: {name!r}.")
        if not isinstance(grouping, dict) or grouping.keys() != {"group_by"}:
            raise Refusal(400, f"The grouping {name!r} must be an object with group_by alone.")
        checked[name] = _check_group_by(endpoint, name, grouping["group_by"], accepts)
    if sum(len(values) == 4 for values in checked.values()) > 1:
        raise Refusal(400, "Only one grouping with 4 group_by items is allowed per request.")
    return checked


def _check_group_by(endpoint: Endpoint, name: str, values: Any, accepts: frozenset[Leniency]) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise Refusal(400, f"group_by of {name!r} must be an array of one or more strings.")
    if Leniency.CAPITAL_TWEET_ID in accepts:
        values = ["tweet.id" if value == "Tweet.id" else value for value in values]
    if unknown := [value for value in values if value not in endpoint.group_by]:
        raise Refusal(400, DOCUMENTED["group_by"].format(values=", ".join(unknown)))
    if len(set(values)) < len(values):
        raise Refusal(400, f"group_by of {name!r} has a value twice.")
    if len(values) == 4 and tuple(values) not in _ORDERS_OF_FOUR:
        raise Refusal(400, f"group_by of {name!r} has 4 items in an order that is not supported.")
    return tuple(values)


def _check_bounds(
    start: Any, end: Any, now: float, interpretation: Interpretation
) -> tuple[int, int] | tuple[None, None]:
    if start is None and end is None:
        return None, None
    starts_at = None if start is None else _seconds_of(start)
    ends_at = None if end is None else _seconds_of(end)
    if ends_at is None and Leniency.START_ALONE in interpretation.accepts:
        ends_at = math.ceil(now)
    if starts_at is None or ends_at is None:
        raise Refusal(400, "start and end must be given together.")
    first, last = starts_at // 3600, _hour_after(ends_at)
    if first < _FIRST_HOUR:
        raise Refusal(400, "start must not be before 2014-09-01.")
    days = interpretation.history_days
    if days is not None and starts_at < now - days * 86_400:
        raise Refusal(400, f"start must not be more than {days} days ago.")
    if last <= first:
        raise Refusal(400, "end must be after start.")
    if ends_at > math.ceil(now) and interpretation.future_end == "refused":
        raise Refusal(400, "end must not be in the future.")
    is_unwidened = Leniency.UNWIDENED_SPAN in interpretation.accepts
    if (ends_at - starts_at if is_unwidened else (last - first) * 3600) > MAX_SPAN_HOURS * 3600:
        raise Refusal(400, "start and end must not be more than 4 weeks apart.")
    return first, last


def hour_of(instant: Any, *, up: bool = False) -> int:
    """Return an instant of the API as hours since 1970: widened down, or `up`. Raise `Refusal` when it is malformed."""
    seconds = _seconds_of(instant)
    return _hour_after(seconds) if up else seconds // 3600


def _hour_after(seconds: int) -> int:
    return -(-seconds // 3600)


def _seconds_of(instant: Any) -> int:
    if isinstance(instant, str) and _INSTANT.fullmatch(instant):
        try:
            return int(datetime.fromisoformat(instant).replace(tzinfo=UTC).timestamp())
        except ValueError:
            pass
    raise Refusal(400, f"Not an instant (2015-08-01 or 2015-07-01T12:24:00Z): {str(instant)[:40]!r}.")
