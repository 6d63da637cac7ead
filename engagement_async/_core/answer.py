"""What one batch was answered: its groupings, its time windows, and the outcome of each of its IDs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from engagement_async._core.groupings import Grouping

__all__ = ["Answer", "Window"]


class Window(NamedTuple):
    """The time that an answer covers: aware UTC datetimes; `start` is inclusive, `end` exclusive."""

    start: datetime
    end: datetime


@dataclass(slots=True)
class Answer:
    """The values and outcomes of the IDs of one batch. Every ID of `tweet_ids` has exactly one outcome.

    An ID is answered unless it is unavailable, forbidden, failed, or unsupported in every metric of the query.
    """

    batch_number: int
    """The batch's place in the input, from 0."""
    tweet_ids: tuple[str, ...]
    """All IDs of the batch, in input order."""
    groupings: dict[str, Grouping] = field(default_factory=dict)
    """Grouping name to nested dicts in the order of its `group_by`, with `int` leaves."""
    windows: tuple[Window, ...] = ()
    """The distinct times that the responses cover, as the API states them. None for totals; several for a split span."""
    unavailable_tweet_ids: tuple[str, ...] = ()
    """Deleted, protected, or otherwise gone."""
    forbidden_tweet_ids: tuple[str, ...] = ()
    """Owned by somebody else."""
    unsupported_tweet_ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Metric to the IDs for which the API has no value of it."""
    failed_tweet_ids: dict[str, str] = field(default_factory=dict)
    """ID to the reason, a `Failure` with its kind."""
    missing_metrics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Metric to the answered IDs whose values of it are in no place of the API's answers, or only for a part of the span.

    No failure: some readings of the API leave zeros out."""
    owner: str | None = None
    """Whose Tweets they are, where a credential store signs for several owners."""
    requests: int = 0
    """How many requests were sent for it, retries included."""
    notes: tuple[str, ...] = ()
    """Messages from the API's `errors` array that accompanied data and are not already reflected in the outcomes."""

    @property
    def start(self) -> datetime | None:
        """The earliest start of the windows (aware, UTC); None without windows."""
        return min((window.start for window in self.windows), default=None)

    @property
    def end(self) -> datetime | None:
        """The latest end of the windows (aware, UTC; exclusive); None without windows."""
        return max((window.end for window in self.windows), default=None)
