"""Reports of a series: gaps, what a pull came to, and the status of a store; each in words too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engagement_async._core.html import facts_html
from engagement_async._core.words import count
from engagement_async.series.spans import Span

__all__ = ["Gap", "PullReport", "SeriesStatus", "gap_text", "series_facts"]

_SHOWN = 10
"""Gaps and failed IDs that a notebook shows."""


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

    def _repr_html_(self) -> str:
        """Return the report as a table, for notebooks."""
        counts = {name: getattr(self, name) for name in ("answered", "unavailable", "forbidden", "corrections")}
        facts: list[tuple[str, object]] = [("endpoint", self.endpoint)]
        if self.starts_at is not None:
            facts.append(("whole hours", f"{_text(self.starts_at)} to {_text(self.ends_at)} UTC"))
        facts += [("requests", self.requests), *((name, number) for name, number in counts.items() if number)]
        failed = list(self.failed_tweet_ids.items())
        facts += [("failed", len(failed))] if failed else []
        facts += [("", f"{tweet_id}: {reason}") for tweet_id, reason in failed[:_SHOWN]]
        return facts_html("PullReport", facts)


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

    def _repr_html_(self) -> str:
        """Return the status as a table with the newest gaps, for notebooks."""
        facts = [
            *series_facts(self),
            ("gaps", f"{len(self.gaps):,}, of {count(self.gap_hours, 'hour')} over all Tweets"),
        ]
        facts += [("", gap_text(gap)) for gap in self.gaps[-_SHOWN:]]
        if len(self.gaps) > _SHOWN:
            facts.append(("", f"and {len(self.gaps) - _SHOWN:,} older ones"))
        return facts_html("SeriesStatus", facts)


def series_facts(status: SeriesStatus) -> list[tuple[str, str]]:
    """Return the status in words, gaps aside: names and values."""
    facts = [("metrics", f"{endpoint}: {', '.join(metrics)}") for endpoint, metrics in status.metrics.items()]
    tweets = ", ".join(f"{number:,} {state}" for state, number in status.tweets.items() if number)
    facts.append(("Tweets", tweets or "none"))
    if status.starts_at is not None:
        facts.append(("series", f"{_text(status.starts_at)} to {_text(status.ends_at)} UTC"))
    partial = f", {status.partial_hours:,} of them partial" if status.partial_hours else ""
    facts.append(("hours", f"{count(status.hours, 'row')}{partial}"))
    if status.totals:
        facts.append(("totals", count(status.totals, "row")))
    if status.corrections:
        facts.append(("corrections", f"{count(status.corrections, 'value')} that the API lowered: table corrections"))
    if status.left_out:
        left_out = count(status.left_out, "metric")
        facts.append(("left out", f"{left_out} of Tweets that the API gave no values of: table left_out"))
    facts.append(("pulls", f"{status.pulls:,}, the last one at {_text(status.last_pull_at)} UTC"))
    return facts


def gap_text(gap: Gap) -> str:
    """Return a gap in words."""
    hours, tweets = count(gap.hours, "hour"), count(len(gap.tweets), "Tweet")
    return f"{_text(gap.starts_at)} to {_text(gap.ends_at)} UTC: {hours} of {tweets}"


def _text(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M}"
