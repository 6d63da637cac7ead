"""Spans of full hours: their union, what is missing of them, and the fewest requests that cover what is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

__all__ = ["HISTORY_BEGINS_AT", "HOUR", "LONGEST_SPAN", "Span", "cover", "hour_after", "hour_of", "missing", "union"]

HOUR = timedelta(hours=1)
LONGEST_SPAN = timedelta(weeks=4)
"""Of one request to historical."""
HISTORY_BEGINS_AT = datetime(2014, 9, 1, tzinfo=UTC)
"""The first hour that historical has."""


class Span(NamedTuple):
    """A time: aware UTC datetimes; `starts_at` is inclusive, `ends_at` exclusive."""

    starts_at: datetime
    ends_at: datetime

    @property
    def hours(self) -> int:
        """How many full hours it has."""
        return (self.ends_at - self.starts_at) // HOUR


def hour_of(at: datetime) -> datetime:
    """Return the beginning of the hour that an instant is in."""
    return at.replace(minute=0, second=0, microsecond=0)


def hour_after(at: datetime) -> datetime:
    """Return the first full hour that is not before an instant."""
    hour = hour_of(at)
    return hour if hour == at else hour + HOUR


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same time as spans that neither overlap nor meet, in order."""
    merged: list[Span] = []
    for span in sorted(span for span in spans if span.starts_at < span.ends_at):
        if merged and span.starts_at <= merged[-1].ends_at:
            merged[-1] = Span(merged[-1].starts_at, max(merged[-1].ends_at, span.ends_at))
        else:
            merged.append(span)
    return merged


def missing(wanted: Span, covered: Iterable[Span]) -> list[Span]:
    """Return the parts of `wanted` that no span covers, in order."""
    gaps: list[Span] = []
    at = wanted.starts_at
    for span in union(covered):
        if span.starts_at >= wanted.ends_at:
            break
        if span.starts_at > at:
            gaps.append(Span(at, span.starts_at))
        at = max(at, span.ends_at)
    if at < wanted.ends_at:
        gaps.append(Span(at, wanted.ends_at))
    return gaps


def cover(gaps: Iterable[Span], longest: timedelta = LONGEST_SPAN) -> list[Span]:
    """Return the fewest spans of at most `longest` that hold every hour of the gaps.

    What lies between two gaps is in a span too where that saves a request: a request costs the same whatever its length.
    """
    spans: list[Span] = []
    for gap in union(gaps):
        at = gap.starts_at
        if spans and at < spans[-1].starts_at + longest:
            reach = min(gap.ends_at, spans[-1].starts_at + longest)
            spans[-1] = Span(spans[-1].starts_at, reach)
            at = reach
        while at < gap.ends_at:
            spans.append(Span(at, min(gap.ends_at, at + longest)))
            at = spans[-1].ends_at
    return spans
