"""What the API answers to a request that keeps every rule. Pure: (request, world, instant) -> `ApiReply`.

Ownership, the window and what stands beside the data are decided here; how values are nested is in table.py, how an
answer is encoded in encoding.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .interpretation import Interpretation, ProblemStatus
from .metrics import life
from .request_rules import DOCUMENTED, MAX_SPAN_HOURS, Refusal, Request
from .snowflake import HOUR_S
from .table import Table, instant
from .world import World, is_over_90_days, is_over_1800_days

__all__ = ["NO_SUCH_PAGE", "ApiReply", "reply_to"]

_OWNER_METRICS_OF_TOTALS = ("impressions", "engagements")


@dataclass(frozen=True, slots=True)
class ApiReply:
    """A status and a JSON object whose leaves are integers still."""

    status: int
    body: dict[str, Any]
    groupings: tuple[str, ...] = ()
    """The keys of `body` that hold data."""


NO_SUCH_PAGE = ApiReply(404, {"errors": [{"message": "Sorry, that page does not exist", "code": 34}]})
"""The answer to any other path. The one documented error of this shape is for a wrong host or page."""


def reply_to(
    request: Request,
    world: World,
    interpretation: Interpretation,
    now: float,
    *,
    app_only: bool,
    user_id: str | None = None,
) -> ApiReply:
    """Answer a checked request at `now` (epoch seconds).

    `app_only`: sent without a user's token, so ownership does not matter. `user_id`: whose token it is; None stands for
    all owners together. Raise `Refusal` for Tweets that may not be asked about.
    """
    tweet_ids = sorted(set(request.tweet_ids))
    if not world.rejected.isdisjoint(tweet_ids):
        raise Refusal(400, "The request could not be processed.")
    gone = [tweet_id for tweet_id in tweet_ids if world.is_unavailable(tweet_id, now)]
    present = [tweet_id for tweet_id in tweet_ids if tweet_id not in set(gone)] if gone else tweet_ids
    if not app_only:
        _refuse_forbidden(present, world, user_id, interpretation)
    if gone and not interpretation.lists_unavailable:
        raise Refusal(400, DOCUMENTED["unavailable_unlisted"])

    body: dict[str, Any] = {}
    errors: list[str] = []
    start, end = _window(request, interpretation, int(now // HOUR_S))
    if request.endpoint.has_window:
        end_s = end * HOUR_S
        body["start"] = instant(start * HOUR_S)
        body["end"] = instant(min(end_s, now) if interpretation.end == "now" else end_s)
    if gone:
        body["unavailable_tweet_ids"] = gone
        errors.append(DOCUMENTED["unavailable"].format(count=len(gone)))
    old = _over_90_days(request, present, now)
    if old:
        body["unsupported_for_impressions_engagements_tweet_ids"] = old
        errors.append(DOCUMENTED["old"].format(before=instant(now - 90 * 86_400)))
    very_old = _over_1800_days(request, present, now)
    if very_old:
        body["unsupported_for_video_views_tweet_ids"] = very_old

    table = Table(
        metrics=sorted(request.engagement_types),
        lives=[(tweet_id, life(world.seed, int(tweet_id))) for tweet_id in present],
        metrics_without_value=dict.fromkeys(old, _OWNER_METRICS_OF_TOTALS),
        over_1800_days=frozenset(very_old),
        start=start,
        end=end,
        hour=int(now // HOUR_S),
        is_history=request.endpoint.takes_bounds,
    )
    nested = {name: table.nest(group_by, interpretation.hours) for name, group_by in request.groupings.items()}
    groupings = {name: grouping for name, grouping in nested.items() if grouping}
    if errors:
        body["errors"] = errors
    statuses = [
        _status(gone, interpretation.unavailable, groupings),
        _status(old, interpretation.unsupported, groupings),
    ]
    return ApiReply(max(statuses), body | groupings, tuple(groupings))


def _status(ids: Sequence[str], status: ProblemStatus, groupings: Mapping[str, Any]) -> int:
    if ids and (status == "400" or (status == "400-when-none-left" and not groupings)):
        return 400
    return 200


def _refuse_forbidden(
    tweet_ids: Iterable[str], world: World, user_id: str | None, interpretation: Interpretation
) -> None:
    authors: dict[str, list[str]] = {}
    for tweet_id in tweet_ids:
        if (author := world.author_of_forbidden(tweet_id, user_id)) is not None:
            authors.setdefault(author, []).append(tweet_id)
    if not authors:
        return
    if interpretation.forbidden == "authors":
        texts = [DOCUMENTED["author"].format(author=a, ids=", ".join(ids)) for a, ids in sorted(authors.items())]
    else:
        forbidden = sorted(tweet_id for ids in authors.values() for tweet_id in ids)
        texts = [DOCUMENTED["tweets"].format(ids=",".join(forbidden))]
    raise Refusal(403, *texts)


def _over_90_days(request: Request, tweet_ids: Sequence[str], now: float) -> list[str]:
    """Return the Tweets without impressions and engagements. The rule is documented for totals alone."""
    if request.endpoint.has_window or not set(_OWNER_METRICS_OF_TOTALS).intersection(request.engagement_types):
        return []
    return [tweet_id for tweet_id in tweet_ids if is_over_90_days(tweet_id, now)]


def _over_1800_days(request: Request, tweet_ids: Sequence[str], now: float) -> list[str]:
    if "video_views" not in request.engagement_types:
        return []
    return [tweet_id for tweet_id in tweet_ids if is_over_1800_days(tweet_id, now)]


def _window(request: Request, interpretation: Interpretation, hour: int) -> tuple[int, int]:
    """Return the first hour and the one after the last.

    The current hour counts as a whole one, so the totals of a young Tweet are the sum of its hours.
    """
    if not request.endpoint.has_window:
        return 0, hour + 1
    if request.start is not None and request.end is not None:
        return request.start, request.end
    if request.endpoint.takes_bounds:
        return hour + 1 - MAX_SPAN_HOURS, hour + 1
    end = hour + 1 if interpretation.includes_current_hour else hour
    return end - interpretation.window_hours, end
