"""Answers in the order of the input: what makes an export a pure function of the journal. Pure.

The order in which an answer's JSON names its keys means nothing, and may change from one asking to the next. Here Tweets
are put in input order, engagement types in the query's, days and hours in time's; rows are then sorted by Tweet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from io import BytesIO

import orjson

from engagement_async._core import groupings
from engagement_async._core.answer import Answer
from engagement_async._core.groupings import Grouping, actual_levels, hour_at
from engagement_async._core.query import Query
from engagement_async._export.files import write_csv
from engagement_async.errors import JobError

__all__ = ["RowText", "Shape", "columns_of"]

_Keys = tuple[str, ...]
_KNOWN = 10_000
"""Orders and texts of cells that are remembered."""


class Shape:
    """Orders one grouping of a query, answer by answer."""

    def __init__(self, query: Query, name: str) -> None:
        self._name = name
        self._group_by = query.groupings[name]
        self._seen_levels: _Keys | None = None
        self._rank = {metric: rank for rank, metric in enumerate(query.engagement_types)}
        self._known: dict[_Keys, _Keys] = {}
        self.is_by_tweet = "tweet.id" in self._group_by

    @property
    def levels(self) -> _Keys:
        """The grouping's levels as they were answered; until then as they would be: hours under days."""
        return self._seen_levels or actual_levels(self._group_by, {})

    @property
    def levels_by_tweet(self) -> _Keys:
        """The same with `tweet.id` outermost."""
        return ("tweet.id", *(level for level in self.levels if level != "tweet.id"))

    def ordered(self, answer: Answer) -> Grouping:
        """The answer's grouping in order, without Tweets that failed: what is known of those is not whole."""
        tweet_ids, failed = answer.tweet_ids, answer.failed_tweet_ids
        if failed:
            tweet_ids = tuple(i for i in tweet_ids if i not in failed)
        return self.order(answer.groupings.get(self._name, {}), tweet_ids)

    def by_tweet(self, answer: Answer) -> Grouping:
        """The same with `tweet.id` as the outermost level, and Tweets in input order."""
        grouping = self.ordered(answer)
        at = self.levels.index("tweet.id")
        if not at:
            return grouping
        lifted = _lifted(grouping, at)
        return {tweet_id: lifted[tweet_id] for tweet_id in answer.tweet_ids if tweet_id in lifted}

    def order(self, grouping: Grouping, tweet_ids: _Keys = ()) -> Grouping:
        """A grouping of this shape in order, with these Tweets alone if it is by Tweet."""
        if not grouping:
            return grouping
        levels = actual_levels(self._group_by, grouping)
        if self._seen_levels is None:
            self._seen_levels = levels
        elif levels != self._seen_levels:
            raise JobError(f"{self._name}: the API gave hours now with days, now without: ask for both in one grouping")
        return self._order(grouping, 0, levels, tweet_ids)

    def _order(self, grouping: Grouping, level: int, levels: _Keys, tweet_ids: _Keys) -> Grouping:
        keys = tuple(grouping)
        if levels[level] == "tweet.id":
            order = keys if keys == tweet_ids else tuple(i for i in tweet_ids if i in grouping)
            if level == len(levels) - 2:
                # The usual grouping, and most of the time: all Tweets have the same metrics, and in order.
                kinds = set(map(tuple, grouping.values()))
                if all(kind == (self._known.get(kind) or self._sorted(kind, levels[-1])) for kind in kinds):
                    return grouping if order == keys else {key: grouping[key] for key in order}
        else:
            order = self._known.get(keys) or self._sorted(keys, levels[level])
        if level < len(levels) - 1:
            return {key: self._order(grouping[key], level + 1, levels, tweet_ids) for key in order}
        return grouping if order == keys else {key: grouping[key] for key in order}

    def _sorted(self, keys: _Keys, kind: str) -> _Keys:
        if kind == "engagement.type":
            order = tuple(sorted(keys, key=lambda metric: (self._rank.get(metric, len(self._rank)), metric)))
        else:
            order = tuple(sorted(keys))
        if len(self._known) < _KNOWN:
            self._known[keys] = order  # types, days and hours never look alike
        return order


def _lifted(grouping: Grouping, depth: int) -> Grouping:
    if not depth:
        return grouping
    lifted: Grouping = {}
    for key, inner in grouping.items():
        for tweet_id, values in _lifted(inner, depth - 1).items():
            lifted.setdefault(tweet_id, {})[key] = values
    return lifted


def columns_of(levels: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table with these levels, `value` last: as `EngagementResult.columns` has them."""
    return (*groupings.key_columns(tuple(levels)), "value")


_LEVELS_OF = {
    "tweet_id": ("tweet.id",),
    "engagement_type": ("engagement.type",),
    "engagement_day": ("engagement.day",),
    "engagement_hour": ("engagement.day", "engagement.hour"),
    "engagement_hour_of_day": ("engagement.hour",),
}
_TEXTS: dict[str, Callable[..., str]] = {
    "tweet_id": str,
    "engagement_type": str,
    "engagement_day": lambda day: date.fromisoformat(day).isoformat(),
    "engagement_hour": lambda day, hour: hour_at(day, hour).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "engagement_hour_of_day": lambda hour: str(int(hour)),
}


class RowText:
    """Rows as lines of JSONL or CSV: the bytes of `write_jsonl` and `write_csv`, at a fraction of their cost. What the
    rows of one path have in common becomes text once; a row then costs its last key and its number."""

    def __init__(self, kind: str, columns: Sequence[str]) -> None:
        self._is_json = kind == "jsonl"
        self._columns = columns[:-1]
        self.header = b"" if self._is_json else (",".join(columns) + "\n").encode()
        self._known: dict[_Keys, str] = {}
        self._leaves: dict[tuple[_Keys, _Keys, _Keys], list[str]] = {}

    def lines(self, grouping: Grouping, levels: _Keys) -> bytes:
        """All rows of a grouping, in its order."""
        places = [tuple(levels.index(level) for level in _LEVELS_OF[column]) for column in self._columns]
        out: list[str] = []
        self._gather(grouping, (), len(levels) - 1, places, out)
        return "".join(out).encode()

    def _gather(
        self, grouping: Grouping, path: _Keys, depth: int, places: list[tuple[int, ...]], out: list[str]
    ) -> None:
        if len(path) < depth:
            for key, inner in grouping.items():
                self._gather(inner, (*path, key), depth, places, out)
            return
        slot = next(index for index, place in enumerate(places) if depth in place)
        cells = [
            "" if index == slot else self._cell((self._columns[index], *(path[at] for at in place)))
            for index, place in enumerate(places)
        ]
        before = ("{" if self._is_json else "") + "".join(f"{cell}," for cell in cells[:slot])
        after = "".join(f",{cell}" for cell in cells[slot + 1 :]) + (',"value":' if self._is_json else ",")
        end = "}\n" if self._is_json else "\n"
        at_leaf = places[slot].index(depth)
        head = (self._columns[slot], *(path[at] for at in places[slot][:at_leaf]))
        tail = tuple(path[at] for at in places[slot][at_leaf + 1 :])
        keys = tuple(grouping)
        leaves = self._leaves.get((head, keys, tail))
        if leaves is None:
            leaves = [self._cell((*head, key, *tail)) for key in keys]
            if head[0] != "tweet_id" and len(self._leaves) < _KNOWN:
                self._leaves[head, keys, tail] = leaves
        out += [f"{before}{leaf}{after}{value}{end}" for leaf, value in zip(leaves, grouping.values(), strict=True)]

    def _cell(self, place: _Keys) -> str:
        column, *keys = place
        known = self._known.get(place)
        if known is not None:
            return known
        text = _TEXTS[column](*keys)
        if self._is_json:
            text = f'"{column}":{text if column == "engagement_hour_of_day" else orjson.dumps(text).decode()}'
        elif column != "tweet_id":
            text = _csv_cell(text)
        if column != "tweet_id" and len(self._known) < _KNOWN:
            self._known[place] = text
        return text


def _csv_cell(text: str) -> str:
    """One cell, by the rules of `write_csv`: quoted where it must be, and no formula."""
    file = BytesIO()
    write_csv(file, [{"cell": text, "value": 0}], ["cell", "value"])
    return file.getvalue().decode().removeprefix("cell,value\n").removesuffix(",0\n")
