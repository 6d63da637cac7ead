"""A query, checked against its endpoint before a request is made, and the bodies of its requests.

Every rule here is documented by the API reference; a breach raises `UsageError`, which names the rule, the value and
the fix. Pure: no clock, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import orjson

from engagement_async._core.endpoints import Endpoint, GroupBy, Metric
from engagement_async._core.spelling import did_you_mean
from engagement_async.errors import UsageError

__all__ = ["OWNER", "RESERVED_KEYS", "UNSUPPORTED_KEYS", "Bound", "FakeZeros", "Query", "fake_zeros_in"]

Bound = str | date | datetime
"""A bound in time: `2015-08-01`, `2015-07-01T12:24:00Z`, a `date`, or an aware `datetime`."""

UNSUPPORTED_KEYS: Mapping[str, tuple[str, ...]] = {
    "unsupported_for_impressions_engagements_tweet_ids": ("impressions", "engagements"),
    "unsupported_for_video_views_tweet_ids": ("video_views",),
}
"""Keys of an answer that list Tweets without a value, with the metrics that each speaks of."""

RESERVED_KEYS = frozenset({"start", "end", "errors", "unavailable_tweet_ids", *UNSUPPORTED_KEYS})
"""Top-level keys of an answer that are not groupings."""

OWNER = "owner"
"""A level of our own: with it as the outermost one, a grouping is kept apart by the owners of the Tweets."""
MAX_GROUPINGS = 3
FULL_ORDERS = (
    ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
    ("engagement.type", "tweet.id", "engagement.day", "engagement.hour"),
)
HISTORY_BEGINS_AT = datetime(2014, 9, 1, tzinfo=UTC)
HISTORY_ENDS_AT = datetime(9999, 1, 1, tzinfo=UTC)
LONGEST_SPAN = timedelta(weeks=4)
HOUR = timedelta(hours=1)

_NOT_IN_NAMES = frozenset('"\\')
_BOUND = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}Z)?", re.ASCII)


class Query:
    """Engagement types and groupings of one endpoint, and for historical a span of time. Immutable, hashable.

    `groupings` maps a name of your choice to its `group_by` list, whose order is the nesting order of the answer::

        Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]})

    Of Tweets of many owners, a `group_by` may begin with `owner`, which the API does not know: sums are then by owner.

    `start` and `end` (historical alone; both, or neither for the last four weeks) are UTC. The span takes in `start`
    and leaves out `end`; the API widens bounds within an hour to the hour. Spans over four weeks are allowed here:
    `spans` splits them.

    Args:
        endpoint: `TOTALS`, `LAST_28_HOURS` or `HISTORICAL`.
        engagement_types: Names of metrics that the endpoint has, at least one.
        groupings: One to three names of your choice, each with its `group_by` list.
        start: The beginning of the span, inclusive.
        end: The end of the span, exclusive.

    Raises:
        UsageError: A documented rule of the API is broken. States the rule, the value and the fix.
    """

    __slots__ = ("_head", "_tail", "end", "endpoint", "engagement_types", "groupings", "start")

    endpoint: Endpoint
    engagement_types: tuple[str, ...]
    groupings: dict[str, tuple[str, ...]]
    start: str | None
    end: str | None

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        engagement_types: Iterable[Metric | str],
        groupings: Mapping[str, Sequence[GroupBy | str]],
        start: Bound | None = None,
        end: Bound | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.engagement_types = _checked_types(endpoint, engagement_types)
        self.groupings = _checked_groupings(endpoint, groupings)
        self.start, self.end = _checked_span(endpoint, start, end)
        body: dict[str, object] = {
            "engagement_types": self.engagement_types,
            "groupings": {name: {"group_by": _api_levels(group_by)} for name, group_by in self.groupings.items()},
        }
        if self.start is not None:
            body |= {"start": self.start, "end": self.end}
        self._head = b'{"tweet_ids":["'
        self._tail = b'"],' + orjson.dumps(body)[1:]

    def __repr__(self) -> str:
        span = f", start={self.start!r}, end={self.end!r}" if self.start is not None else ""
        return (
            f"Query({self.endpoint.name}, engagement_types={list(self.engagement_types)}, "
            f"groupings={ {name: list(group_by) for name, group_by in self.groupings.items()} }{span})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Query):
            return NotImplemented
        mine, others = ((query.endpoint, query._tail, query.groupings) for query in (self, other))
        return mine == others

    def __hash__(self) -> int:
        return hash((self.endpoint.name, self._tail))

    def body(self, tweet_ids: Iterable[str]) -> bytes:
        """Return the JSON body of one request for these `tweet_ids`, which are checked before."""
        # Checked IDs are digits: joining them is JSON already, at a tenth of the cost of an encoder.
        return self._head + '","'.join(tweet_ids).encode("ascii") + self._tail

    @property
    def is_by_owner(self) -> bool:
        """Whether a grouping has `owner` as its outermost level."""
        return any(group_by[0] == OWNER for group_by in self.groupings.values())

    def without_owners(self) -> Query:
        """Return the query as the API knows it: of one owner's Tweets, without the level `owner`."""
        if not self.is_by_owner:
            return self
        groupings = {name: _api_levels(group_by) for name, group_by in self.groupings.items()}
        return Query(
            self.endpoint, engagement_types=self.engagement_types, groupings=groupings, start=self.start, end=self.end
        )

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The full hours that hold `start` (inclusive) and `end` (exclusive), in UTC; None without bounds."""
        return None if self.start is None or self.end is None else _widened(self.start, self.end)

    def spans(self) -> tuple[Query, ...]:
        """Return this query as queries of at most four weeks each: they meet on full hours, and never overlap."""
        if self.start is None or self.end is None:
            return (self,)
        first, last = _widened(self.start, self.end)
        if last - first <= LONGEST_SPAN:
            return (self,)
        return tuple(self._over(start, end) for start, end in _split(first, last))

    def clipped_to(self, now: datetime) -> Query:
        """Return this query with an `end` of at most the full hour that `now` is in: the API supports no later one.

        Raise `UsageError` when nothing of the span is left. `now` is an aware datetime.
        """
        span = self.span
        if span is None:
            return self
        latest = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if span[1] <= latest:
            return self
        if span[0] >= latest:
            raise UsageError(
                f"the span from {self.start} to {self.end} has no full hour before now ({latest:%Y-%m-%dT%H:%M:%SZ}): "
                "the API has no values of the future. Let it start earlier"
            )
        return Query(
            self.endpoint,
            engagement_types=self.engagement_types,
            groupings=self.groupings,
            start=self.start,
            end=latest,
        )

    def without(self, metrics: Iterable[str]) -> Query | None:
        """Return the same query without these `metrics`; None when none is left."""
        left = [metric for metric in self.engagement_types if metric not in frozenset(metrics)]
        if not left:
            return None
        return Query(self.endpoint, engagement_types=left, groupings=self.groupings, start=self.start, end=self.end)

    def _over(self, start: datetime, end: datetime) -> Query:
        return Query(
            self.endpoint, engagement_types=self.engagement_types, groupings=self.groupings, start=start, end=end
        )


class FakeZeros(NamedTuple):
    """Zeros in answers to a query that are no values: the API did not count these metrics yet."""

    metrics: tuple[str, ...]
    until: datetime
    covers_span: bool
    """Whether the whole span of the query lies before `until`."""


def fake_zeros_in(query: Query) -> FakeZeros | None:
    """Return which metrics of the query the API did not count in its span, or in a part of it; None when it did."""
    endpoint, span = query.endpoint, query.span
    if endpoint.counted_since is None or span is None:
        return None
    until = datetime.combine(endpoint.counted_since, time(), tzinfo=UTC)
    metrics = tuple(metric for metric in query.engagement_types if metric in endpoint.uncounted_metrics)
    return FakeZeros(metrics, until, span[1] <= until) if metrics and span[0] < until else None


_METRICS_ALSO_CALLED = {
    "likes": "favorites",
    "reposts": "retweets",
    "quotes": "quote_tweets",
    "views": "impressions",
    "clicks": "url_clicks",
    "link_clicks": "url_clicks",
    "media_clicks": "media_engagements",
    "follows": "user_follows",
    "profile_clicks": "user_profile_clicks",
}
"""Words of X's pages and of other tools."""
_GROUP_BY_ALSO_CALLED = {
    "tweet": "tweet.id",
    "tweet_id": "tweet.id",
    "id": "tweet.id",
    "type": "engagement.type",
    "metric": "engagement.type",
    "day": "engagement.day",
    "hour": "engagement.hour",
}


def _checked_types(endpoint: Endpoint, types: Iterable[str]) -> tuple[str, ...]:
    if isinstance(types, str):
        raise UsageError(f"engagement_types takes a list of metrics, not one string: write [{types!r}]")
    if not isinstance(types, Iterable):
        raise UsageError(f"engagement_types takes a list of metrics, not {types!r}")
    checked = tuple(types)
    if not checked:
        raise UsageError(f"engagement_types is empty: name at least one of {_listed(endpoint.metrics)}")
    for metric in checked:
        if metric not in endpoint.metrics:
            hint = did_you_mean(metric, endpoint.metrics, also_called=_METRICS_ALSO_CALLED)
            raise UsageError(
                f"{endpoint.name} has no metric {metric!r}{hint}: take engagement_types from {_listed(endpoint.metrics)}"
            )
    _refuse_twice("engagement_types", checked)
    return checked


def _checked_groupings(endpoint: Endpoint, groupings: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    if not isinstance(groupings, Mapping):
        raise UsageError('groupings takes a dict of name to group_by list, as {"by_tweet": ["tweet.id"]}')
    if not 1 <= len(groupings) <= MAX_GROUPINGS:
        raise UsageError(f"a request has 1 to {MAX_GROUPINGS} groupings, not {len(groupings)}: ask the rest separately")
    checked = {name: _checked_group_by(endpoint, name, group_by) for name, group_by in groupings.items()}
    full = [name for name, group_by in checked.items() if len(_api_levels(group_by)) == len(FULL_ORDERS[0])]
    if len(full) > 1:
        raise UsageError(f"only one grouping may have four items, not {_listed(full)}: ask the others separately")
    return checked


def _checked_group_by(endpoint: Endpoint, name: str, group_by: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(name, str) or not name:
        raise UsageError(f"a grouping's name is a non-empty string, not {name!r}")
    if not name.isprintable() or not _NOT_IN_NAMES.isdisjoint(name):
        raise UsageError(f"the grouping name {name!r} has quotes, backslashes or control characters: leave them out")
    if name in RESERVED_KEYS:
        raise UsageError(f"the grouping name {name!r} is a key of the API's own answers: choose another")
    if isinstance(group_by, (str, Mapping)) or not isinstance(group_by, Sequence):
        raise UsageError(f'grouping {name!r} takes a list of values, as ["tweet.id", "engagement.type"]')
    given = tuple(group_by)
    checked = _api_levels(given)
    if not checked:
        raise UsageError(f"grouping {name!r} is empty: group by at least one of {_listed(endpoint.group_by)}")
    for value in checked:
        if value == OWNER:
            raise UsageError(f"grouping {name!r} has {OWNER!r} inside: it is the outermost level, so put it first")
        if value not in endpoint.group_by:
            hint = did_you_mean(value, endpoint.group_by, also_called=_GROUP_BY_ALSO_CALLED)
            raise UsageError(
                f"{endpoint.name} cannot group by {value!r} (grouping {name!r}){hint}: take {_listed(endpoint.group_by)}"
            )
    _refuse_twice(f"grouping {name!r}", checked)
    if len(checked) == len(FULL_ORDERS[0]) and checked not in FULL_ORDERS:
        orders = " or ".join(", ".join(order) for order in FULL_ORDERS)
        raise UsageError(f"grouping {name!r} has four items, which are allowed in two orders alone: {orders}")
    return given


def _api_levels(group_by: tuple[str, ...]) -> tuple[str, ...]:
    return group_by[1:] if group_by[:1] == (OWNER,) else group_by


def _checked_span(endpoint: Endpoint, start: Bound | None, end: Bound | None) -> tuple[str | None, str | None]:
    if start is None and end is None:
        return None, None
    if not endpoint.takes_bounds:
        raise UsageError(f"{endpoint.name} takes no start and end: ask historical for a span of time")
    if start is None or end is None:
        raise UsageError("start and end go together: give both, or neither for the last four weeks")
    texts = _bound_text("start", start), _bound_text("end", end)
    first, last = (_instant(text) for text in texts)
    if first < HISTORY_BEGINS_AT:
        raise UsageError(f"start {texts[0]} is before 2014-09-01, where the API's history begins: start there or later")
    if last >= HISTORY_ENDS_AT:
        raise UsageError(f"end {texts[1]} is at the end of the calendar: end earlier")
    if last <= first:
        raise UsageError(f"end {texts[1]} is not after start {texts[0]}: a date means its first hour (UTC)")
    return texts


def _bound_text(name: str, bound: Bound) -> str:
    """Return the bound as the API writes it."""
    forms = "write 2015-08-01 or 2015-07-01T12:24:00Z (UTC), or give an aware datetime"
    if isinstance(bound, datetime):
        if bound.tzinfo is None:
            raise UsageError(f"{name} {bound.isoformat()} has no time zone: give an aware datetime, as tzinfo=UTC")
        try:
            in_utc = bound.astimezone(UTC)
        except OverflowError:
            raise UsageError(f"{name} {bound.isoformat()} is at the end of the calendar: take another") from None
        if name == "end" and in_utc.microsecond:
            in_utc += timedelta(seconds=1)  # so that cutting to seconds never cuts the last hour off
        return in_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(bound, date):
        return bound.isoformat()
    if not isinstance(bound, str) or not _BOUND.fullmatch(bound):
        raise UsageError(f"{name} {bound!r} is no bound in time: {forms}")
    try:
        _instant(bound)
    except ValueError:
        raise UsageError(f"{name} {bound!r} is no day or time of the calendar: {forms}") from None
    return bound


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _widened(start: str, end: str) -> tuple[datetime, datetime]:
    """Return the hours that hold the span: 12:24 becomes 12:00, an end at 08:37 becomes 09:00."""
    first = _instant(start).replace(minute=0, second=0)
    last = _instant(end)
    down = last.replace(minute=0, second=0)
    return first, down if down == last else down + HOUR


def _split(first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the fewest spans, cut at midnight where that costs no more of them: no day is then in two."""
    while first < last:
        cut = min(first + LONGEST_SPAN, last)
        midnight = cut.replace(hour=0)
        if first < midnight < cut < last and _count(midnight, last) == _count(cut, last):
            cut = midnight
        yield first, cut
        first = cut


def _count(first: datetime, last: datetime) -> int:
    return -((first - last) // LONGEST_SPAN)


def _refuse_twice(what: str, values: tuple[str, ...]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise UsageError(f"{what} names {_listed(twice)} twice: once is enough")


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values)
