"""The merger: folds Answers into one. The order in which they come never matters.

Leaves under `tweet.id` are disjoint between batches, and leaves that sum over Tweets are added; both are one rule: where
two answers have the same key path, their integers are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from engagement_async._core.groupings import Grouping, only_keys
from engagement_async._core.parsing import Answer, Window
from engagement_async._core.query import Query
from engagement_async._core.result import BatchOutcomes, EngagementResult

__all__ = ["Merger", "fold", "unite"]


def fold(into: Grouping, part: Grouping, disjoint_at: int | None = None) -> None:
    """Add `part` into `into`, key path by key path. `part` is left as it is, and may be shared by others.

    `disjoint_at` is the level of `tweet.id`: what lies below it is taken over as it is, not copied.
    """
    if disjoint_at == 0 and into.keys().isdisjoint(part):
        into.update(part)
        return
    deeper = None if disjoint_at is None else disjoint_at - 1
    for key, value in part.items():
        held = into.get(key)
        if isinstance(value, dict):
            if held is None:
                into[key] = held = {}
            elif disjoint_at is not None and disjoint_at <= 0:
                into[key] = held = _copied(held)  # it was taken over from another answer
            fold(held, value, deeper)
        else:
            into[key] = value if held is None else held + value


def _copied(grouping: Grouping) -> Grouping:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in grouping.items()}


def levels_of_tweets(query: Query) -> dict[str, int | None]:
    """At which level of each grouping `tweet.id` stands, if it does. Hours may lie one level deeper than asked for."""
    return {name: by.index("tweet.id") if "tweet.id" in by else None for name, by in query.groupings.items()}


def unite(number: int, tweet_ids: tuple[str, ...], answers: list[Answer], query: Query) -> Answer:
    """The answers that were got for the parts of one batch, as one.

    A Tweet may stand in several, as when a long span was split. Its places in the outcomes are then joined: failed in one
    part is failed, and so on down: forbidden, unavailable, answered.
    """
    if len(answers) == 1 and answers[0].tweet_ids == tweet_ids:
        return answers[0]
    groupings: dict[str, Grouping] = {}
    levels = levels_of_tweets(query)
    failed: dict[str, str] = {}
    unsupported: dict[str, set[str]] = {}
    forbidden: set[str] = set()
    unavailable: set[str] = set()
    windows: dict[Window, None] = {}
    notes: dict[str, None] = {}
    for answer in answers:
        for name, grouping in answer.groupings.items():
            fold(groupings.setdefault(name, {}), grouping)
        failed.update(answer.failed_tweet_ids)
        forbidden.update(answer.forbidden_tweet_ids)
        unavailable.update(answer.unavailable_tweet_ids)
        for metric, ids in answer.unsupported_tweet_ids.items():
            unsupported.setdefault(metric, set()).update(ids)
        windows.update(dict.fromkeys(answer.windows))
        notes.update(dict.fromkeys(answer.notes))
    forbidden -= failed.keys()
    unavailable -= failed.keys() | forbidden
    out = unavailable | forbidden | failed.keys()
    if out:
        # What other parts had of them would look whole. Sums over Tweets keep it: nobody could take it out of those.
        for name, level in levels.items():
            if level is not None and name in groupings:
                groupings[name] = only_keys(groupings[name], level, lambda i: i not in out)
    return Answer(
        number,
        tweet_ids,
        groupings,
        windows=tuple(windows),
        unavailable_tweet_ids=tuple(i for i in tweet_ids if i in unavailable),
        forbidden_tweet_ids=tuple(i for i in tweet_ids if i in forbidden),
        unsupported_tweet_ids={
            metric: kept
            for metric, ids in unsupported.items()
            if (kept := tuple(i for i in tweet_ids if i in ids - out))
        },
        failed_tweet_ids={i: failed[i] for i in tweet_ids if i in failed},
        notes=tuple(notes),
    )


class Merger:
    """Gathers the answers to one query, in any order, into an `EngagementResult`.

    >>> merger = Merger(query)
    >>> async with client.stream(query, tweet_ids) as answers:
    ...     async for answer in answers:
    ...         merger.add(answer)
    >>> merger.result()
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._levels = levels_of_tweets(query)
        self._groupings: dict[str, Grouping] = {name: {} for name in query.groupings}
        self._windows: Counter[Window] = Counter()
        self._notes: dict[str, None] = {}
        self._outcomes: dict[int, BatchOutcomes] = {}
        self._early: dict[int, Answer] = {}
        self._next = 0

    def add(self, answer: Answer) -> None:
        """Take in the answer to one batch. Each batch is taken once: a second answer to it is a `ValueError`."""
        if answer.number in self._outcomes:
            raise ValueError(f"batch {answer.number} was added before: its values would count twice")
        self._outcomes[answer.number] = BatchOutcomes.of(answer)
        for window in answer.windows:
            self._windows[window] += 1
        self._notes.update(dict.fromkeys(answer.notes))
        if all(level is None for level in self._levels.values()):
            self._fold(answer)  # sums: nothing to keep in order, so nothing to wait with
            return
        # Tweets stand in input order in the result, so that the same answers give the same bytes.
        self._early[answer.number] = answer
        while (early := self._early.pop(self._next, None)) is not None:
            self._fold(early)
            self._next += 1

    def _fold(self, answer: Answer) -> None:
        for name, grouping in answer.groupings.items():
            fold(self._groupings[name], grouping, self._levels[name])

    def result(self) -> EngagementResult:
        """All that was added so far, in input order, however the answers came."""
        for number in sorted(self._early):
            self._fold(self._early.pop(number))
            self._next = number + 1
        outcomes = [self._outcomes[number] for number in sorted(self._outcomes)]
        return EngagementResult(
            query=self._query,
            groupings=self._groupings,
            windows=tuple(sorted(self._windows)),
            unavailable_tweet_ids=_chained(outcomes.unavailable for outcomes in outcomes),
            forbidden_tweet_ids=_chained(outcomes.forbidden for outcomes in outcomes),
            unsupported_tweet_ids=_by_metric(outcomes),
            failed_tweet_ids={i: reason for outcomes in outcomes for i, reason in outcomes.failed.items()},
            tweet_ids=_chained(outcomes.tweet_ids for outcomes in outcomes),
            notes=tuple(self._notes),
        )


def _chained(parts: Iterable[tuple[str, ...]]) -> list[str]:
    return [i for part in parts for i in part]


def _by_metric(batches: list[BatchOutcomes]) -> dict[str, list[str]]:
    merged: dict[str, Any] = {}
    for outcomes in batches:
        for metric, ids in outcomes.unsupported.items():
            merged.setdefault(metric, []).extend(ids)
    return {metric: merged[metric] for metric in sorted(merged)}
