"""What the API answers to a request that keeps every rule. Pure: (request, world, instant) -> `Reply`.

What belongs here: which Tweets exist and whose they are, the window, the nesting of groupings, and what stands beside
the data. How it goes over the wire is app.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

from .metrics import HOUR_S, born_at_ms, life, mix
from .request_rules import DOCUMENTED, MAX_SPAN_HOURS, Refusal, Request

__all__ = ["NoneLeft", "Readings", "Reply", "World", "reply_to"]

NoneLeft = Literal["200", "400-when-none-left", "400"]

_OLD_MS = 90 * 24 * HOUR_S * 1000
_ANCIENT_MS = 1800 * 24 * HOUR_S * 1000
_OWN_WINDOW_METRICS = ("impressions", "engagements")
_TIMES = ("engagement.day", "engagement.hour")


@dataclass(frozen=True, slots=True)
class Readings:
    """How the emulator reads what the documentation leaves open. A client must understand every one of them.

    `hours`: `engagement.hour` without `engagement.day` as `{"2016-02-10": {"17": ...}}` ("dated") or `{"17": ...}`
    ("bare").
    `window_hours`: hour buckets of a 28 hour answer: 29 as in the reference example, or 28 as in the prose.
    `unavailable`, `unsupported`: the status beside such Tweets: 200, 400 when no data is left, or always 400.
    `forbidden`: one text with all IDs ("ids"), or one text an author ("authors").
    `integers_every`: each so many-th leaf is a bare integer, as one leaf of a documented example is; 0 is never.
    """

    hours: Literal["dated", "bare"] = "dated"
    window_hours: Literal[28, 29] = 29
    unavailable: NoneLeft = "200"
    unsupported: NoneLeft = "200"
    forbidden: Literal["ids", "authors"] = "ids"
    integers_every: int = 0


@dataclass
class World:
    """Which Tweets there are. What kind one is, is a pure function of its ID and the seed, or named here.

    `unavailable`: IDs that are gone, besides `unavailable_fraction` of all and those of the future. `forbidden`: ID to
    author of Tweets that are not the token's user's, besides `forbidden_fraction` of all. `rejected`: IDs that make any
    request with them fail with a 400 that does not name them.
    """

    seed: int = 0
    unavailable: set[str] = field(default_factory=set)
    unavailable_fraction: float = 0.01
    forbidden: dict[str, str] = field(default_factory=dict)
    forbidden_fraction: float = 0.0
    rejected: set[str] = field(default_factory=set)

    def _draw(self, tweet_id: str, salt: int) -> float:
        return mix(mix(int(tweet_id) ^ salt) ^ self.seed) / 2**64

    def is_unavailable(self, tweet_id: str, now: float) -> bool:
        """Whether the Tweet was deleted, or was never made: its ID is of the future."""
        if tweet_id in self.unavailable or born_at_ms(int(tweet_id)) > now * 1000:
            return True
        return self.unavailable_fraction > 0 and self._draw(tweet_id, 0xDEAD) < self.unavailable_fraction

    def author_of_forbidden(self, tweet_id: str) -> str | None:
        """The author of a Tweet that is not the user's own, None for the user's."""
        if (author := self.forbidden.get(tweet_id)) is not None:
            return author
        if self.forbidden_fraction > 0 and self._draw(tweet_id, 0xA1E4) < self.forbidden_fraction:
            return str(18_435_372 + mix(int(tweet_id)) % 3)
        return None


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a JSON object whose leaves are integers still."""

    status: int
    body: dict[str, Any]
    groupings: tuple[str, ...] = ()


def is_old(tweet_id: str, now: float) -> bool:
    """Older than 90 days: no impressions and engagements on totals."""
    return now * 1000 - born_at_ms(int(tweet_id)) > _OLD_MS


def is_ancient(tweet_id: str, now: float) -> bool:
    """Older than 1800 days: `video_views` is a fake zero."""
    return now * 1000 - born_at_ms(int(tweet_id)) > _ANCIENT_MS


def reply_to(request: Request, world: World, readings: Readings, now: float, *, app_only: bool) -> Reply:
    """Answer a checked request at `now` (epoch seconds). Raises `Refusal` for Tweets that may not be asked."""
    tweet_ids = sorted(set(request.tweet_ids))
    if not world.rejected.isdisjoint(tweet_ids):
        raise Refusal(400, "The request could not be processed.")
    gone = [tweet_id for tweet_id in tweet_ids if world.is_unavailable(tweet_id, now)]
    present = [tweet_id for tweet_id in tweet_ids if tweet_id not in set(gone)] if gone else tweet_ids
    if not app_only:
        _refuse_foreign(present, world, readings)

    body: dict[str, Any] = {}
    errors: list[str] = []
    hour = int(now // HOUR_S)
    start, end = _window(request, readings, hour)
    if request.endpoint.has_window:
        body["start"], body["end"] = _instant(start), _instant(end)
    if gone:
        body["unavailable_tweet_ids"] = gone
        errors.append(DOCUMENTED["unavailable"].format(count=len(gone)))

    blind: dict[str, tuple[str, ...]] = {}  # Tweet to the metrics that have no value for it
    old = _old_ones(request, present, now)
    if old:
        body["unsupported_for_impressions_engagements_tweet_ids"] = old
        errors.append(DOCUMENTED["old"])
        blind = dict.fromkeys(old, _OWN_WINDOW_METRICS)
    ancient = []
    if "video_views" in request.engagement_types:
        ancient = [tweet_id for tweet_id in present if is_ancient(tweet_id, now)]
    if ancient:
        body["unsupported_for_video_views_tweet_ids"] = ancient

    table = _Table(request, world.seed, present, blind, frozenset(ancient), start, end, hour)
    groupings = {name: table.nest(group_by, readings) for name, group_by in request.groupings.items()}
    groupings = {name: nested for name, nested in groupings.items() if nested}
    if errors:
        body["errors"] = errors
    status = _status(gone, readings.unavailable, groupings) or _status(old, readings.unsupported, groupings) or 200
    return Reply(status, body | groupings, tuple(groupings))


def _status(ids: list[str], reading: NoneLeft, groupings: Mapping[str, Any]) -> int | None:
    if ids and (reading == "400" or (reading == "400-when-none-left" and not groupings)):
        return 400
    return None


def _refuse_foreign(tweet_ids: Iterable[str], world: World, readings: Readings) -> None:
    authors: dict[str, list[str]] = {}
    for tweet_id in tweet_ids:
        if (author := world.author_of_forbidden(tweet_id)) is not None:
            authors.setdefault(author, []).append(tweet_id)
    if not authors:
        return
    if readings.forbidden == "authors":
        texts = [DOCUMENTED["author"].format(author=a, ids=", ".join(ids)) for a, ids in sorted(authors.items())]
    else:
        texts = [
            DOCUMENTED["tweets"].format(ids=",".join(sorted(tweet_id for ids in authors.values() for tweet_id in ids)))
        ]
    raise Refusal(403, *texts)


def _old_ones(request: Request, tweet_ids: Sequence[str], now: float) -> list[str]:
    """The rule of 90 days is documented for totals alone."""
    if request.endpoint.has_window or not set(_OWN_WINDOW_METRICS).intersection(request.engagement_types):
        return []
    return [tweet_id for tweet_id in tweet_ids if is_old(tweet_id, now)]


def _window(request: Request, readings: Readings, hour: int) -> tuple[int, int]:
    """First hour and the one after the last. The current hour counts as a whole one, so totals are the sum of all
    hours."""
    if not request.endpoint.has_window:
        return 0, hour + 1
    if request.start is not None and request.end is not None:
        return request.start, request.end
    hours = MAX_SPAN_HOURS if request.endpoint.takes_bounds else readings.window_hours
    return hour + 1 - hours, hour + 1


def _instant(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Table:
    """The counts of one request, and their nesting in the order of a grouping's `group_by`."""

    def __init__(
        self,
        request: Request,
        seed: int,
        tweet_ids: Sequence[str],
        blind: Mapping[str, tuple[str, ...]],
        ancient: frozenset[str],
        start: int,
        end: int,
        hour: int,
    ) -> None:
        self._metrics = sorted(request.engagement_types)
        self._lives = [(tweet_id, life(seed, int(tweet_id))) for tweet_id in tweet_ids]
        self._blind = blind
        self._ancient = ancient
        self._start, self._end, self._hour = start, end, hour

    def nest(self, group_by: Sequence[str], readings: Readings) -> dict[str, Any]:
        """One grouping; leaves are integers. Empty when no Tweet has anything to show."""
        levels = list(group_by)
        if "engagement.hour" in levels and "engagement.day" not in levels and readings.hours == "dated":
            levels.insert(levels.index("engagement.hour"), "engagement.day")
        times = [level for level in levels if level in _TIMES]
        cells, edges = self._cells(times)
        sums = self._sums("tweet.id" in levels, "engagement.type" in levels, edges)
        nested: dict[str, Any] = {}
        if levels[len(levels) - len(times) :] == times and len(set(cells)) == len(cells):
            # The usual orders end in the time, so the innermost level is made of whole runs of cells.
            outer = [level for level in levels if level not in _TIMES]
            runs = [(path, [cell[-1] for cell in run if cell]) for path, run in groupby(cells, key=lambda c: c[:-1])]
            for keys, values in sums:
                path = [keys[level] for level in outer]
                if not times:
                    _descend(nested, path[:-1])[path[-1]] = values[0]
                    continue
                rest = iter(values)
                for times_path, run in runs:
                    # The run comes first in zip, so that no more is taken from `rest` than it needs.
                    _descend(nested, (*path, *times_path)).update(zip(run, rest, strict=False))
            return nested
        for keys, values in sums:
            for cell, value in zip(cells, values, strict=True):
                cell_keys = keys | dict(zip(times, cell, strict=True))
                *path, last = [cell_keys[level] for level in levels]
                level = _descend(nested, path)
                level[last] = level.get(last, 0) + value
        return nested

    def _cells(self, times: Sequence[str]) -> tuple[list[tuple[str, ...]], list[int]]:
        """The keys of each cell of time in the order of `times`, and the hours between which the cells lie."""
        if not times:
            return [()], [self._start, self._end]
        if "engagement.hour" in times:
            starts = list(range(self._start, self._end))
        else:
            starts = [max(day * 24, self._start) for day in range(self._start // 24, (self._end - 1) // 24 + 1)]
        days = {day: _instant(day * 24)[:10] for day in range(self._start // 24, (self._end - 1) // 24 + 1)}
        keys = [{"engagement.day": days[hour // 24], "engagement.hour": f"{hour % 24:02d}"} for hour in starts]
        return [tuple(key[level] for level in times) for key in keys], [*starts, self._end]

    def _sums(self, by_tweet: bool, by_type: bool, edges: Sequence[int]) -> Iterable[tuple[dict[str, str], list[int]]]:
        """Keys and one value a cell, summed over what the grouping does not name. Hours to come are zeros."""
        known = [min(edge, self._hour + 1) for edge in edges]
        found: dict[tuple[str, str], list[int]] = {}
        for tweet_id, one in self._lives:
            shares = one.shares(known)
            blind = self._blind.get(tweet_id, ())
            for metric in self._metrics:
                if metric in blind:
                    continue
                if metric == "video_views" and tweet_id in self._ancient:
                    values = [0] * (len(edges) - 1)
                else:
                    values = one.values(metric, shares)
                key = (tweet_id if by_tweet else "", metric if by_type else "")
                if (before := found.get(key)) is not None:
                    values = [left + right for left, right in zip(before, values, strict=True)]
                found[key] = values
        for (tweet_id, metric), values in found.items():
            yield {"tweet.id": tweet_id, "engagement.type": metric}, values


def _descend(nested: dict[str, Any], path: Iterable[str]) -> dict[str, Any]:
    for key in path:
        nested = nested.setdefault(key, {})
    return nested
