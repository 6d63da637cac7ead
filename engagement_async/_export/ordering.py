"""Answers in the order of the input: what makes an export a pure function of the journal. Pure.

The order in which an answer's JSON names its keys means nothing, and may change from one request to the next. Here Tweets
are put in input order, engagement types in the query's, days and hours in time's; rows are then sorted by Tweet.
"""

from __future__ import annotations

from itertools import chain

from engagement_async._core.answer import Answer
from engagement_async._core.groupings import Grouping, actual_levels
from engagement_async._core.query import Query
from engagement_async.errors import JobError

__all__ = ["TableOrder"]

_Keys = tuple[str, ...]
_REMEMBERED = 10_000
"""Orders of keys that are kept to be used again."""


class TableOrder:
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
        """Return the same with `tweet.id` outermost."""
        return ("tweet.id", *(level for level in self.levels if level != "tweet.id"))

    def ordered(self, answer: Answer) -> Grouping:
        """Return the answer's grouping in order, without Tweets that failed: what is known of those is not whole."""
        tweet_ids, failed = answer.tweet_ids, answer.failed_tweet_ids
        if failed:
            tweet_ids = tuple(i for i in tweet_ids if i not in failed)
        return self.order(answer.groupings.get(self._name, {}), tweet_ids)

    def by_tweet(self, answer: Answer) -> Grouping:
        """Return the same with `tweet.id` as the outermost level, and Tweets in input order."""
        grouping = self.ordered(answer)
        at = self.levels.index("tweet.id")
        if not at:
            return grouping
        lifted = _lifted(grouping, at)
        return {tweet_id: lifted[tweet_id] for tweet_id in answer.tweet_ids if tweet_id in lifted}

    def order(self, grouping: Grouping, tweet_ids: _Keys = ()) -> Grouping:
        """Return a grouping of this shape in order, with these Tweets alone if it is by Tweet."""
        if not grouping:
            return grouping
        levels = actual_levels(self._group_by, grouping)
        if self._seen_levels is None:
            self._seen_levels = levels
        elif levels != self._seen_levels:
            raise JobError(f"{self._name}: the API gave hours now with days, now without: ask for both in one grouping")
        return (
            grouping if self._is_ordered(grouping, levels, tweet_ids) else self._order(grouping, 0, levels, tweet_ids)
        )

    def _is_ordered(self, grouping: Grouping, levels: _Keys, tweet_ids: _Keys) -> bool:
        """Return whether the keys of all dicts are in order: as most are, and quicker than to put them in order."""
        dicts = [grouping]
        for level in levels:
            for keys in set(map(tuple, dicts)):
                if level == "tweet.id":
                    if keys != tweet_ids and keys != tuple(filter(frozenset(keys).__contains__, tweet_ids)):
                        return False
                elif keys != (self._known.get(keys) or self._sorted(keys, level)):
                    return False
            if level != levels[-1]:
                dicts = list(chain.from_iterable(map(dict.values, dicts)))
        return True

    def _order(self, grouping: Grouping, level: int, levels: _Keys, tweet_ids: _Keys) -> Grouping:
        keys = tuple(grouping)
        if levels[level] == "tweet.id":
            order = keys if keys == tweet_ids else tuple(i for i in tweet_ids if i in grouping)
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
        if len(self._known) < _REMEMBERED:
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
