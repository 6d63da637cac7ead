"""What one batch was answered: its groupings, its time windows, when that was, and the outcome of each of its IDs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, NamedTuple

from engagement_async._core.groupings import Grouping

__all__ = ["Answer", "Observation", "ReceivedAnswer", "Window", "merge_observations"]


class Window(NamedTuple):
    """The time that an answer covers: aware UTC datetimes; `start` is inclusive, `end` exclusive."""

    start: datetime
    end: datetime


class Observation(NamedTuple):
    """When the IDs of one batch had their outcomes: see `Answer.observed_at`."""

    tweet_ids: tuple[str, ...]
    first_at: datetime | None
    later: dict[str, datetime]

    @property
    def last_at(self) -> datetime | None:
        """When the last of its responses was received (aware, UTC); None when there was none."""
        return max(self.later.values(), default=self.first_at)


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
    observed_at: datetime | None = None
    """When the response with these outcomes was received, or the first one of several: aware, UTC, by this machine's clock.
    None when there was no response."""
    observed_later: dict[str, datetime] = field(default_factory=dict)
    """The IDs whose outcome came with a later response, as after a retry, each with its instant."""

    @property
    def start(self) -> datetime | None:
        """The earliest start of the windows (aware, UTC); None without windows."""
        return min((window.start for window in self.windows), default=None)

    @property
    def end(self) -> datetime | None:
        """The latest end of the windows (aware, UTC; exclusive); None without windows."""
        return max((window.end for window in self.windows), default=None)

    @property
    def observation(self) -> Observation:
        """When its IDs had their outcomes."""
        return Observation(self.tweet_ids, self.observed_at, self.observed_later)

    def observed_at_of(self, tweet_id: str) -> datetime | None:
        """Return when the response with that ID's outcome was received (aware, UTC); None for one that failed.

        Args:
            tweet_id: One of `tweet_ids`.
        """
        return None if tweet_id in self.failed_tweet_ids else self.observed_later.get(tweet_id, self.observed_at)


class ReceivedAnswer(Answer):
    """An answer that keeps the one response that it was read from. Its groupings are made of that when they are wanted.

    Answers that are made of it, by `replace` say, keep no response.
    """

    __slots__ = ("_made", "_read", "response", "values")

    def __init__(self, *args: Any, **values: Any) -> None:
        self.response: bytes | None = None
        """The body as it came, whole and checked: gzip."""
        self.values: int | None = None
        """How many values its groupings hold, where that is known without them: then they are all that the response has."""
        self._read: Callable[[], dict[str, Grouping]] | None = None
        super().__init__(*args, **values)

    @classmethod
    def of(cls, answer: Answer, response: bytes) -> ReceivedAnswer:
        """Return an answer that was read from this response, so that it keeps it."""
        received = cls(*(getattr(answer, each.name) for each in fields(answer)))
        received.response = response
        return received

    def keep(self, response: bytes, values: int, read: Callable[[], dict[str, Grouping]]) -> ReceivedAnswer:
        """Keep the response, of which all values are in the groupings, and make these by `read` when they are wanted."""
        self.response, self.values, self._read = response, values, read
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Answer):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in fields(self) if each.compare)

    __hash__ = None  # type: ignore[assignment]  # as those of other answers

    @property
    def groupings(self) -> dict[str, Grouping]:
        """As those of any answer."""
        if self._read is not None:
            self._made, self._read = self._read(), None  # not by the setter: they are the response's
        return self._made

    @groupings.setter
    def groupings(self, groupings: dict[str, Grouping]) -> None:
        self._made, self._read, self.values = groupings, None, None


def merge_observations(
    answers: Iterable[Answer], tweet_ids: Iterable[str]
) -> tuple[datetime | None, dict[str, datetime]]:
    """Return `observed_at` and `observed_later` of one answer to these IDs that is made of several.

    An ID that stands in several, as when a long span was split, has the last of their instants.
    """
    latest: dict[str, datetime] = {}
    for answer in answers:
        if answer.observed_at is None:
            continue
        for i in answer.tweet_ids:
            at = answer.observed_later.get(i, answer.observed_at)
            if i not in latest or latest[i] < at:
                latest[i] = at
    found = {i: latest[i] for i in tweet_ids if i in latest}
    first = min(found.values(), default=None)
    return first, {i: at for i, at in found.items() if at != first}
