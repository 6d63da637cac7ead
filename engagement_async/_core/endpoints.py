"""The three endpoints as data: path, IDs a request, metrics, group_by values. Data, no branches.

Sources: the API reference pages "POST /insights/engagement/totals" and "POST /insights/engagement/28hr", and the
metric availability table of the Engagement API's overview.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

__all__ = ["ENDPOINTS", "HISTORICAL", "LAST_28_HOURS", "TOTALS", "Endpoint", "GroupBy", "Metric"]

Metric = Literal[
    "impressions",
    "engagements",
    "favorites",
    "retweets",
    "quote_tweets",
    "replies",
    "video_views",
    "media_views",
    "media_engagements",
    "url_clicks",
    "hashtag_clicks",
    "detail_expands",
    "permalink_clicks",
    "app_install_attempts",
    "app_opens",
    "email_tweet",
    "user_follows",
    "user_profile_clicks",
]
"""A metric of any endpoint. Parameters are `Metric | str`: editors complete the names, and a `list[str]` is taken too."""

GroupBy = Literal["tweet.id", "engagement.type", "engagement.day", "engagement.hour"]
"""A value of `group_by`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What one endpoint accepts, and what its answers hold."""

    name: str
    """The short name: the last part of the path, and the word of the command line."""
    path: str
    ids_per_request: int
    metrics: tuple[str, ...]
    """`engagement_types` that it knows."""
    public_metrics: tuple[str, ...]
    """Those of them that an app-only Bearer token may ask."""
    group_by: tuple[str, ...]
    has_window: bool
    """Whether its answers carry `start` and `end`."""
    takes_bounds: bool
    """Whether its requests may carry `start` and `end`."""
    uncounted_metrics: tuple[str, ...] = ()
    """Metrics of which its answers show zero, whatever happened, for the time before `counted_since`."""
    counted_since: date | None = None


_PUBLIC: tuple[Metric, ...] = ("favorites", "retweets", "quote_tweets", "replies", "video_views")
_OWNER: tuple[Metric, ...] = (
    "impressions",
    "engagements",
    "favorites",
    "retweets",
    "replies",
    "video_views",
    "media_views",
    "media_engagements",
    "url_clicks",
    "hashtag_clicks",
    "detail_expands",
    "permalink_clicks",
    "app_install_attempts",
    "app_opens",
    "email_tweet",
    "user_follows",
    "user_profile_clicks",
)
_TIMELESS: tuple[GroupBy, ...] = ("tweet.id", "engagement.type")
_TIMED: tuple[GroupBy, ...] = (*_TIMELESS, "engagement.day", "engagement.hour")

TOTALS = Endpoint(
    name="totals",
    path="/insights/engagement/totals",
    ids_per_request=250,
    metrics=("impressions", "engagements", *_PUBLIC),
    public_metrics=_PUBLIC,
    group_by=_TIMELESS,
    has_window=False,
    takes_bounds=False,
)
LAST_28_HOURS = Endpoint(
    name="28hr",
    path="/insights/engagement/28hr",
    ids_per_request=25,
    metrics=_OWNER,
    public_metrics=(),
    group_by=_TIMED,
    has_window=True,
    takes_bounds=False,
)
HISTORICAL = Endpoint(
    name="historical",
    path="/insights/engagement/historical",
    ids_per_request=25,
    metrics=_OWNER,
    public_metrics=(),
    group_by=_TIMED,
    has_window=True,
    takes_bounds=True,
    uncounted_metrics=("favorites", "replies", "retweets"),
    counted_since=date(2015, 9, 15),
)
ENDPOINTS = {endpoint.name: endpoint for endpoint in (TOTALS, LAST_28_HOURS, HISTORICAL)}
