"""What a series says of itself: gaps, what a pull came to, and the status of a store. Values alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engagement_async.series.spans import Span

__all__ = ["Gap", "PullReport", "SeriesStatus"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Hours that no answer held whole, of some Tweets. The same for all of these."""

    starts_at: datetime
    """The first hour (aware, UTC)."""
    ends_at: datetime
    """The end of the last one (aware, UTC; exclusive)."""
    tweets: tuple[tuple[str, str], ...]
    """Whose hours they are: `(owner, tweet_id)`, with an empty owner where there is one alone."""

    @property
    def hours(self) -> int:
        """How many hours of each Tweet are missing."""
        return Span(self.starts_at, self.ends_at).hours


@dataclass(frozen=True, slots=True)
class PullReport:
    """What one pull, or one span of a fill, came to."""

    endpoint: str
    """The name of the endpoint."""
    starts_at: datetime | None
    """The first hour that is now whole (aware, UTC); None for totals, and when nothing was answered."""
    ends_at: datetime | None
    """The end of the last one (aware, UTC; exclusive)."""
    requests: int
    """Requests sent, retries included."""
    answered: int
    """Tweets with values."""
    unavailable: int
    """Tweets that are deleted, protected, or otherwise gone."""
    forbidden: int
    """Tweets of other owners."""
    corrections: int
    """Hours that the API lowered since they were seen before: table `corrections`."""
    failed_tweet_ids: Mapping[str, str] = field(default_factory=dict)
    """ID to the reason, a `Failure` with its kind: their hours are gaps."""


@dataclass(frozen=True, slots=True)
class SeriesStatus:
    """How far a series is."""

    metrics: Mapping[str, tuple[str, ...]]
    """The metrics of each endpoint that was pulled."""
    tweets: Mapping[str, int]
    """How many Tweets there are in each state, by the last answer about them."""
    hours: int
    """Rows of the table `hours`: one for each Tweet, metric and hour."""
    partial_hours: int
    """Those of them that the edge of a window cuts, and no later pull completed yet."""
    totals: int
    """Rows of the table `totals`."""
    corrections: int
    """Hours that the API lowered after they were seen."""
    left_out: int
    """Metrics that the API left out of the last answer about a Tweet: neither values nor zeros."""
    pulls: int
    """Pulls and fills so far."""
    last_pull_at: datetime | None
    """When the last pull began (aware, UTC)."""
    starts_at: datetime | None
    """The first hour of the series (aware, UTC)."""
    ends_at: datetime | None
    """The end of the last hour that is whole (aware, UTC; exclusive)."""
    gaps: tuple[Gap, ...]
    """Hours between pulls that no answer held whole, by time. Tweets that are gone or forbidden are not among them."""

    @property
    def gap_hours(self) -> int:
        """How many hours are missing, over all Tweets."""
        return sum(gap.hours * len(gap.tweets) for gap in self.gaps)
