"""EngagementResult, what a call returns, and its faces: API-shaped JSON, tidy rows, an Arrow table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from engagement_async.answers import Answer, Grouping, Window, leaf_dicts
from engagement_async.errors import AnswerError, UsageError
from engagement_async.query import UNSUPPORTED_KEYS, Query

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Account", "EngagementResult", "answered_levels", "answered_shapes", "day_at", "hour_at"]

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Account(NamedTuple):
    """Where the IDs of one batch ended up: an `Answer` without its values."""

    tweet_ids: tuple[str, ...]
    unavailable: tuple[str, ...]
    forbidden: tuple[str, ...]
    unsupported: dict[str, tuple[str, ...]]
    failed: dict[str, str]

    @classmethod
    def of(cls, answer: Answer) -> Account:
        return cls(
            answer.tweet_ids,
            answer.unavailable_tweet_ids,
            answer.forbidden_tweet_ids,
            answer.unsupported_tweet_ids,
            answer.failed_tweet_ids,
        )


@dataclass(eq=False, repr=False)
class EngagementResult:
    """One grouped result for all IDs, and the account of every one of them.

    `groupings[name]` is nested in the order of its `group_by`, with `int` leaves. The lists of IDs are in input order.
    """

    query: Query
    groupings: dict[str, Grouping]
    windows: tuple[Window, ...]
    """The distinct windows that the batches answered for, by `start`. More than one: the batches differ in time, as in a
    28 hour run that crosses a full hour, or the span was asked for in parts."""
    unavailable_tweet_ids: list[str]
    forbidden_tweet_ids: list[str]
    unsupported_tweet_ids: dict[str, list[str]]
    """Metric to the IDs for which the API has no value of it."""
    failed_tweet_ids: dict[str, str]
    """ID to the reason."""
    tweet_ids: list[str]
    """All distinct IDs that were given."""
    notes: tuple[str, ...] = field(default=())
    """Texts of the API's `errors` that stood beside data."""

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {state}" for state, count in self.account.items() if count)
        return f"<EngagementResult {self.query.endpoint.name}: {told or 'no IDs'}>"

    @property
    def start(self) -> datetime | None:
        """The beginning of the union of all windows (aware, UTC); None for totals."""
        return min((window.start for window in self.windows), default=None)

    @property
    def end(self) -> datetime | None:
        """The end of the union of all windows (aware, UTC), left out itself; None for totals."""
        return max((window.end for window in self.windows), default=None)

    @cached_property
    def _wholly_unsupported(self) -> frozenset[str]:
        lists = [frozenset(self.unsupported_tweet_ids.get(metric, ())) for metric in self.query.engagement_types]
        return frozenset.intersection(*lists)

    @cached_property
    def answered_tweet_ids(self) -> list[str]:
        """IDs with at least one value."""
        out = self._wholly_unsupported.union(
            self.unavailable_tweet_ids, self.forbidden_tweet_ids, self.failed_tweet_ids
        )
        return [i for i in self.tweet_ids if i not in out] if out else list(self.tweet_ids)

    @cached_property
    def account(self) -> dict[str, int]:
        """How many IDs ended where; the numbers add up to the distinct IDs given.

        `unsupported` counts IDs without a value of any metric asked.
        """
        return {
            "answered": len(self.answered_tweet_ids),
            "unavailable": len(self.unavailable_tweet_ids),
            "unsupported": len(self._wholly_unsupported),
            "forbidden": len(self.forbidden_tweet_ids),
            "failed": len(self.failed_tweet_ids),
        }

    def to_response(self) -> dict[str, Any]:
        """The result as the API itself would write it: leaves are strings, lists of IDs are there when not empty."""
        response: dict[str, Any] = {}
        if self.start is not None and self.end is not None:
            response["start"] = _api_time(self.start)
            response["end"] = _api_time(self.end)
        if self.unavailable_tweet_ids:
            response["unavailable_tweet_ids"] = list(self.unavailable_tweet_ids)
        for key, metrics in UNSUPPORTED_KEYS.items():
            ids = dict.fromkeys(i for metric in metrics for i in self.unsupported_tweet_ids.get(metric, ()))
            if ids:
                response[key] = list(ids)
        for name, grouping in self.groupings.items():
            response[name] = _stringified(grouping)
        return response

    def columns(self, grouping: str) -> tuple[str, ...]:
        """The names of `rows`' keys, in order: a data engineer's names for the API's `group_by` values."""
        columns = dict.fromkeys(name for levels, _ in self._shapes(grouping) for name in _columns(levels))
        return (*columns, "value")

    def rows(self, grouping: str) -> Iterator[dict[str, Any]]:
        """Tidy rows, one a value, lazily: `tweet_id`, `engagement_type`, `engagement_day` (a date) or `engagement_hour`
        (an aware UTC datetime; it takes the day in), `value` (int), as the grouping has them.

        Hours that the API gave without days are `engagement_hour_of_day` (0 to 23).
        """
        return (row for levels, part in self._shapes(grouping) for row in _rows(levels, part))

    def to_arrow(self, grouping: str) -> pa.Table:
        """The rows as a `pyarrow.Table` (extra `[arrow]`): `tweet_id` string, `engagement_type` dictionary,
        `engagement_day` date32 or `engagement_hour` timestamp in UTC, `value` int64."""
        shapes = self._shapes(grouping)
        from engagement_async.tables import concatenated, grouping_table

        return concatenated([grouping_table(part, levels) for levels, part in shapes])

    def _shapes(self, name: str) -> list[tuple[tuple[str, ...], Grouping]]:
        if name not in self.groupings:
            raise UsageError(f"no grouping {name!r} in this result: it has {', '.join(self.groupings)}")
        return answered_shapes(self.query.groupings[name], self.groupings[name])


def answered_shapes(group_by: tuple[str, ...], grouping: Grouping) -> list[tuple[tuple[str, ...], Grouping]]:
    """The grouping with its levels as they were answered: `engagement.day` is put in where the API nested hours under days
    that were not asked for. Should it have done so for some batches alone, those are a part of their own."""
    if "engagement.hour" not in group_by or "engagement.day" in group_by:
        return [(group_by, grouping)]
    at = group_by.index("engagement.hour")
    with_days = (*group_by[:at], "engagement.day", *group_by[at:])
    are_days = {_DAY.fullmatch(key) is not None for _, inner in leaf_dicts(grouping, at, ()) for key in inner}
    if are_days == {True, False}:
        bare, nested = (_only(grouping, at, days=days) for days in (False, True))
        return [(group_by, bare), (with_days, nested)]
    return [(group_by, grouping)] if are_days == {False} else [(with_days, grouping)]


def answered_levels(group_by: tuple[str, ...], grouping: Grouping) -> tuple[str, ...]:
    """The levels of a grouping that has one shape throughout, as one answer's has."""
    return answered_shapes(group_by, grouping)[0][0]


def _only(grouping: Grouping, depth: int, *, days: bool) -> Grouping:
    if depth:
        return {key: _only(inner, depth - 1, days=days) for key, inner in grouping.items()}
    return {key: value for key, value in grouping.items() if (_DAY.fullmatch(key) is not None) == days}


def _rows(levels: tuple[str, ...], grouping: Grouping) -> Iterator[dict[str, Any]]:
    columns = _columns(levels)
    readers = [_reader(levels, column) for column in columns]
    for path, leaves in leaf_dicts(grouping, len(levels) - 1, ()):
        for key, value in leaves.items():
            keys = (*path, key)
            row: dict[str, Any] = {column: read(keys) for column, read in zip(columns, readers, strict=True)}
            row["value"] = value
            yield row


def _columns(levels: tuple[str, ...]) -> tuple[str, ...]:
    names = {"tweet.id": "tweet_id", "engagement.type": "engagement_type", "engagement.day": "engagement_day"}
    if "engagement.hour" in levels:
        names["engagement.hour"] = "engagement_hour" if "engagement.day" in levels else "engagement_hour_of_day"
    return tuple(names[level] for level in levels if not (level == "engagement.day" and "engagement.hour" in levels))


def _reader(levels: tuple[str, ...], column: str) -> Callable[[tuple[str, ...]], Any]:
    """What makes one column's value of a leaf's keys."""
    at = {level: index for index, level in enumerate(levels)}
    if column == "engagement_hour":
        day, hour = at["engagement.day"], at["engagement.hour"]
        return lambda keys: hour_at(keys[day], keys[hour])
    if column == "engagement_hour_of_day":
        hour = at["engagement.hour"]
        return lambda keys: hour_at("1970-01-01", keys[hour]).hour
    if column == "engagement_day":
        day = at["engagement.day"]
        return lambda keys: day_at(keys[day])
    return itemgetter(at["tweet.id" if column == "tweet_id" else "engagement.type"])


@lru_cache(maxsize=4096)
def hour_at(day: str, hour: str) -> datetime:
    """`2016-02-10` and `17` as an aware UTC datetime. `AnswerError` when the API gave something else."""
    try:
        return datetime.fromisoformat(day).replace(hour=int(hour), tzinfo=UTC)
    except ValueError:
        raise AnswerError(f"the API gave {day!r} and {hour!r} for a day and an hour") from None


@lru_cache(maxsize=4096)
def day_at(day: str) -> date:
    """`2016-02-10` as a date. `AnswerError` when the API gave something else."""
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise AnswerError(f"the API gave {day!r} for a day") from None


def _api_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stringified(grouping: Grouping) -> Grouping:
    return {k: _stringified(v) if isinstance(v, dict) else str(v) for k, v in grouping.items()}
