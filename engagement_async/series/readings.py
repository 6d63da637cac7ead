"""What an answer says of a series: which hours of which Tweets are whole, and which the edge of its window cuts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from engagement_async._core.answer import Answer
from engagement_async.series.spans import HOUR, Span, hour_after, hour_of

__all__ = ["Reading", "TweetState", "WindowReading", "read_window", "readings_of"]


class TweetState(StrEnum):
    """Where a Tweet of a series stands, by the last answer about it."""

    ANSWERED = "answered"
    UNAVAILABLE = "unavailable"
    """Deleted, protected, or otherwise gone. It is requested again with the others, as it may come back."""
    FORBIDDEN = "forbidden"
    """Owned by somebody else. It is requested again only when it is given."""
    FAILED = "failed"
    """Not answered the last time: its hours since then are a gap."""


class WindowReading(NamedTuple):
    """What the window of an answer holds. Without `whole` hours, `whole_from` is `whole_to`."""

    starts_at: datetime
    ends_at: datetime
    whole_from: datetime
    """The first hour that is whole."""
    whole_to: datetime
    """The end of the last one that is whole."""
    edge: datetime | None
    """The first hour of a 28 hour window that begins at a full hour. The API's pages call it partial, its answers do not:
    it counts as whole, but replaces no value that was seen within a window."""


class Reading(NamedTuple):
    """What one answer says of one Tweet."""

    owner: str
    """Empty where there is one owner alone."""
    tweet_id: str
    state: TweetState
    detail: str | None
    """Why it failed."""
    observed_at: datetime | None
    window: WindowReading | None
    """None for totals, and for a Tweet without values."""


def read_window(answer: Answer, span: Span | None = None) -> WindowReading | None:
    """Return what the window of an answer to 28hr holds, or with a `span` that of an answer to historical.

    An answer may have several windows, as when a full hour passed between two requests of its batch. Which Tweet was
    answered for which one is not known: whole is what all of them hold.
    """
    if not answer.windows:
        return None
    latest_start = max(window.start for window in answer.windows)
    earliest_end = min(window.end for window in answer.windows)
    starts_at = min(window.start for window in answer.windows)
    ends_at = max(window.end for window in answer.windows)
    whole_from = hour_after(latest_start)
    edge: datetime | None = None
    if span is not None:
        whole_from, whole_to = max(whole_from, span.starts_at), min(hour_of(earliest_end), span.ends_at)
    else:
        # The last hour is the one that is running, whatever the answer calls its end.
        whole_to = hour_after(earliest_end) - HOUR
        edge = whole_from if whole_from == latest_start else None
    return WindowReading(starts_at, ends_at, whole_from, max(whole_from, whole_to), edge)


def readings_of(answer: Answer, window: WindowReading | None) -> Iterator[Reading]:
    """Yield what an answer says of each of its Tweets."""
    unavailable, forbidden = frozenset(answer.unavailable_tweet_ids), frozenset(answer.forbidden_tweet_ids)
    for tweet_id in answer.tweet_ids:
        owner, at = answer.owner or "", answer.observed_at_of(tweet_id)
        if tweet_id in answer.failed_tweet_ids:
            yield Reading(owner, tweet_id, TweetState.FAILED, str(answer.failed_tweet_ids[tweet_id]), at, None)
        elif tweet_id in unavailable:
            yield Reading(owner, tweet_id, TweetState.UNAVAILABLE, None, at, None)
        elif tweet_id in forbidden:
            yield Reading(owner, tweet_id, TweetState.FORBIDDEN, None, at, None)
        else:
            yield Reading(owner, tweet_id, TweetState.ANSWERED, None, at, window)
