"""Answers become one. The order in which they come never matters.

Leaves under `tweet.id` are disjoint between batches, and leaves that sum over Tweets are added; both are one rule: where
two answers have the same key path, their integers are added. What is taken over whole is shared with the answer that it
came from, and copied when something is to be added to it, so each answer is walked once, whatever its nesting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any, TypeVar

from engagement_async._core.accounting import in_input_order
from engagement_async._core.answer import Answer, Window, merge_observations
from engagement_async._core.groupings import Grouping, actual_levels, keys_at, split_by_levels, values_at, without_ids
from engagement_async._core.outcomes import BatchOutcomes, join_failures, owner_results
from engagement_async._core.query import OWNER, Query
from engagement_async._core.result import EngagementResult
from engagement_async._core.sharing import can_share

__all__ = ["Merger", "merge_into", "merge_parts", "split_off_tainted_sums"]

P = TypeVar("P")

_HOUR = timedelta(hours=1)


def merge_into(into: Grouping, part: Grouping) -> None:
    """Add `part` to `into`, key path by key path. Nothing of `part` is shared afterwards."""
    for key, value in part.items():
        if isinstance(value, dict):
            merge_into(into.setdefault(key, {}), value)
        else:
            into[key] = into[key] + value if key in into else value


class _Accumulator:
    """A grouping that grows. Dicts of what is added are shared until they must change, and are copied then, once."""

    def __init__(self, grouping: Grouping | None = None) -> None:
        self.grouping: Grouping = {} if grouping is None else grouping
        self._owned: set[int] = set()
        """The dicts that are shared with nobody, by `id`. They live as long as the grouping that they are in."""

    def add(self, part: Grouping) -> None:
        """Add another grouping. It is left as it is."""
        self.grouping = self._own(self.grouping)
        self._add(self.grouping, part)

    def share(self) -> Grouping:
        """Return the grouping as it is now: what is added later does not change it."""
        self._owned.clear()
        return self.grouping

    def _own(self, grouping: Grouping) -> Grouping:
        if id(grouping) not in self._owned:
            grouping = grouping.copy()
            self._owned.add(id(grouping))
        return grouping

    def _add(self, into: Grouping, part: Grouping) -> None:
        if into.keys().isdisjoint(part):
            into.update(part)
            return
        for key, value in part.items():
            held = into.get(key)
            if held is None:
                into[key] = value
            elif isinstance(value, dict):
                held = into[key] = self._own(held)
                self._add(held, value)
            else:
                into[key] = held + value


def split_off_tainted_sums(
    parts: Sequence[tuple[Answer, P]], query: Query
) -> tuple[list[tuple[Answer, P]], list[tuple[P, tuple[str, ...]]]]:
    """Return the answers to the parts of one batch that can be merged, and the IDs to request again, by part.

    A part is what its answer was got with, as the parser of a span: it comes back as it is. An answer whose sums hold a
    Tweet that is out in another part (it failed, or is unavailable or forbidden, for one span of time, and was answered
    for another) keeps the outcomes of IDs without values alone. Its other IDs are to be requested again without that Tweet.
    """
    answers = [answer for answer, _ in parts]
    tainted = _tainted_sums(answers, query)
    with_values = _ids_with_values(answers, query) if tainted else []
    kept = [
        (_without_values(answer, with_values[index]), part) if index in tainted else (answer, part)
        for index, (answer, part) in enumerate(parts)
    ]
    return kept, [(parts[index][1], ids) for index, ids in tainted.items() if ids]


def _tainted_sums(answers: Sequence[Answer], query: Query) -> dict[int, tuple[str, ...]]:
    """Return the answers, by their index, whose sums hold a Tweet that is out in another, each with its other IDs."""
    if can_share(query):
        return {}
    out = {i for answer in answers for i in _ids_out(answer)}
    tainted: dict[int, tuple[str, ...]] = {}
    for index, with_values in enumerate(_ids_with_values(answers, query)) if out else ():
        if not out.isdisjoint(with_values):
            tainted[index] = in_input_order(answers[index].tweet_ids, with_values - out)
    return tainted


def _without_values(answer: Answer, with_values: Set[str]) -> Answer:
    ids = tuple(i for i in answer.tweet_ids if i not in with_values)
    return replace(answer, tweet_ids=ids, groupings={}, windows=(), missing_metrics={})


def _ids_out(answer: Answer) -> Set[str]:
    return {*answer.failed_tweet_ids, *answer.forbidden_tweet_ids, *answer.unavailable_tweet_ids}


def _ids_with_values(answers: Sequence[Answer], query: Query) -> list[Set[str]]:
    """Return the IDs of which each of the answers to parts of one batch has a value."""
    by_tweet = {name: group_by for name, group_by in query.groupings.items() if "tweet.id" in group_by}
    if by_tweet:
        return [
            {
                i
                for name, grouping in answer.groupings.items()
                if name in by_tweet
                for i in keys_at(grouping, actual_levels(by_tweet[name], grouping).index("tweet.id"))
            }
            for answer in answers
        ]
    # Sums do not show it. IDs that are listed without being in the answer were requested again without that metric.
    left_out: dict[str, set[str]] = {}
    for answer in answers:
        own = frozenset(answer.tweet_ids)
        for metric, ids in answer.unsupported_tweet_ids.items():
            left_out.setdefault(metric, set()).update(i for i in ids if i not in own)
    with_values: list[Set[str]] = []
    for answer in answers:
        unsupported = [
            left_out.get(metric, set()).union(answer.unsupported_tweet_ids.get(metric, ()))
            for metric in query.engagement_types
        ]
        valueless = _ids_out(answer) | set.intersection(*unsupported)
        with_values.append({i for i in answer.tweet_ids if i not in valueless} if answer.groupings else frozenset())
    return with_values


def merge_parts(batch_number: int, tweet_ids: tuple[str, ...], answers: Sequence[Answer], query: Query) -> Answer:
    """Return the answers to the parts of one batch as one.

    A Tweet may stand in several, as when a long span was split. If parts disagree on it, the worst outcome wins: failed,
    forbidden, unavailable, answered. It then keeps no value of the other parts. Sums that hold such a Tweet are left out,
    and `missing_metrics` lists all metrics; see `split_off_tainted_sums` for how to get them.
    """
    if len(answers) == 1 and answers[0].tweet_ids == tweet_ids:
        return answers[0]
    observed_at, observed_later = merge_observations(answers, tweet_ids)
    position = {tweet_id: at for at, tweet_id in enumerate(tweet_ids)}
    answers = sorted(answers, key=lambda answer: _arrival_order(answer, position))
    failures: dict[str, list[str]] = {}
    for answer in answers:
        for i, reason in answer.failed_tweet_ids.items():
            failures.setdefault(i, []).append(reason)
    forbidden = {i for answer in answers for i in answer.forbidden_tweet_ids} - failures.keys()
    unavailable = {i for answer in answers for i in answer.unavailable_tweet_ids} - failures.keys() - forbidden
    out = failures.keys() | forbidden | unavailable
    missing_metrics = _by_metric((answer.missing_metrics for answer in answers), out)
    values_of = _ids_with_values(answers, query)
    with_values = set().union(*values_of) - out
    tainted = _tainted_sums(answers, query)
    answers = [
        _without_values(answer, values_of[index]) if tainted.get(index) == () else answer
        for index, answer in enumerate(answers)
    ]
    groupings = _merge_groupings(answers, query, out, position)
    if any(tainted.values()):
        groupings = {name: grouping for name, grouping in groupings.items() if "tweet.id" in query.groupings[name]}
        missing_metrics = {metric: set(with_values) for metric in query.engagement_types}
    unsupported = _by_metric((answer.unsupported_tweet_ids for answer in answers), out)
    in_part = _unsupported_in_part(unsupported, groupings, with_values, query)
    for metric, ids in _counted_in_part(unsupported, answers, values_of, query).items():
        in_part.setdefault(metric, set()).update(ids & with_values)
    for metric, ids in in_part.items():
        unsupported[metric] -= ids
        missing_metrics.setdefault(metric, set()).update(ids)
    return Answer(
        batch_number,
        tweet_ids,
        groupings,
        windows=tuple(sorted({window for answer in answers for window in answer.windows})),
        unavailable_tweet_ids=in_input_order(tweet_ids, unavailable),
        forbidden_tweet_ids=in_input_order(tweet_ids, forbidden),
        unsupported_tweet_ids=_in_order(unsupported, tweet_ids, query),
        failed_tweet_ids={i: join_failures(failures[i]) for i in tweet_ids if i in failures},
        missing_metrics=_in_order(missing_metrics, tweet_ids, query),
        notes=tuple(dict.fromkeys(note for answer in answers for note in answer.notes)),
        observed_at=observed_at,
        observed_later=observed_later,
    )


def _arrival_order(answer: Answer, position: Mapping[str, int]) -> tuple[float, int]:
    """Return a key by which answers have an order of their own: by time, then by the first of their IDs."""
    start = answer.start
    return (
        0.0 if start is None else start.timestamp(),
        min((position.get(i, 0) for i in answer.tweet_ids), default=-1),
    )


def _merge_groupings(
    answers: Iterable[Answer], query: Query, out: Set[str], position: Mapping[str, int]
) -> dict[str, Grouping]:
    """Merge groupings with Tweets in input order and engagement types in the query's."""
    merged: dict[str, _Accumulator] = {}
    for answer in answers:
        for name, grouping in answer.groupings.items():
            group_by = query.groupings[name]
            if out and "tweet.id" in group_by:
                grouping = without_ids(grouping, group_by, out)
            merged.setdefault(name, _Accumulator()).add(grouping)
    rank = {metric: at for at, metric in enumerate(query.engagement_types)}
    ordered: dict[str, Grouping] = {}
    for name in query.groupings:
        if name in merged:
            grouping = merged[name].share()
            if "tweet.id" in query.groupings[name]:
                shapes = split_by_levels(query.groupings[name], grouping)
                if len(shapes) == 1:
                    grouping = _sorted_tweets(grouping, shapes[0][0], position, rank)
            else:
                grouping = _sorted_sum(grouping, rank)
            ordered[name] = grouping
    return ordered


def _sorted_tweets(
    grouping: Grouping, levels: tuple[str, ...], position: Mapping[str, int], rank: Mapping[str, int]
) -> Grouping:
    """Sort the levels down to `tweet.id`."""
    orders: dict[str, Callable[[str], Any]] = {
        "tweet.id": lambda key: position.get(key, len(position)),
        "engagement.type": lambda key: rank.get(key, len(rank)),
    }
    order = sorted(grouping, key=orders.get(levels[0]))
    if levels[0] == "tweet.id":
        return grouping if order == list(grouping) else {key: grouping[key] for key in order}
    return {key: _sorted_tweets(grouping[key], levels[1:], position, rank) for key in order}


def _sorted_sum(grouping: Grouping, rank: Mapping[str, int]) -> Grouping:
    """Sort every level of a sum: engagement types in the query's order, days and hours in time's."""
    order = sorted(grouping, key=lambda key: (rank.get(key, -1), key))
    return {key: _sorted_sum(value, rank) if isinstance(value := grouping[key], dict) else value for key in order}


def _unsupported_in_part(
    unsupported: Mapping[str, Set[str]], groupings: Mapping[str, Grouping], with_values: Set[str], query: Query
) -> dict[str, set[str]]:
    """Return the IDs that have a value of a metric in one part of the span, and are unsupported for it in another."""
    typed = [
        shape
        for name, grouping in groupings.items()
        if unsupported and {"tweet.id", "engagement.type"} <= set(query.groupings[name])
        for shape in split_by_levels(query.groupings[name], grouping)
    ]
    in_part: dict[str, set[str]] = {}
    for metric, ids in unsupported.items():
        for i in ids & with_values:
            keys = {"tweet.id": i, "engagement.type": metric}
            has_value = any(next(values_at(grouping, levels, keys), None) is not None for levels, grouping in typed)
            # Where metrics are not shown apart: values must be of some metric, and all are unsupported in some part.
            if has_value or all(i in unsupported.get(other, ()) for other in query.engagement_types):
                in_part.setdefault(metric, set()).add(i)
    return in_part


def _counted_in_part(
    unsupported: Mapping[str, Set[str]], answers: Sequence[Answer], values_of: Sequence[Set[str]], query: Query
) -> dict[str, set[str]]:
    """Return the IDs that are unsupported for a metric in a part from before the API counted it, and not in a later part.

    Groupings need not show it: they may be without engagement types, or sums.
    """
    endpoint = query.endpoint
    counted: dict[str, set[str]] = {}
    if endpoint.counted_since is None or unsupported.keys().isdisjoint(endpoint.uncounted_metrics):
        return counted
    since = datetime.combine(endpoint.counted_since, time(), tzinfo=UTC)
    for answer, with_values in zip(answers, values_of, strict=True):
        if answer.end is not None and answer.end > since:
            for metric in unsupported.keys() & endpoint.uncounted_metrics:
                ids = with_values - frozenset(answer.unsupported_tweet_ids.get(metric, ()))
                counted.setdefault(metric, set()).update(unsupported[metric] & ids)
    return counted


def _by_metric(parts: Iterable[Mapping[str, Iterable[str]]], out: Set[str]) -> dict[str, set[str]]:
    merged: dict[str, set[str]] = {}
    for part in parts:
        for metric, ids in part.items():
            merged.setdefault(metric, set()).update(i for i in ids if i not in out)
    return merged


def _in_order(
    by_metric: Mapping[str, Set[str]], tweet_ids: tuple[str, ...], query: Query
) -> dict[str, tuple[str, ...]]:
    return {
        metric: ids
        for metric in query.engagement_types
        if (ids := in_input_order(tweet_ids, by_metric.get(metric, ())))
    }


class Merger:
    """Gathers the answers to one query, in any order, into an `EngagementResult`.

    Args:
        query: What the answers are answers to.
        notes: Texts for the result's `notes`, before those of the answers.

    >>> merger = Merger(query)
    >>> async with client.stream(query, tweet_ids) as answers:
    ...     async for answer in answers:
    ...         merger.add(answer)
    >>> merger.result()
    """

    def __init__(self, query: Query, *, notes: Iterable[str] = ()) -> None:
        self._query = query
        self._accumulators = {name: _Accumulator() for name in query.groupings}
        self._is_sum_only = not any("tweet.id" in group_by for group_by in query.groupings.values())
        self._windows: set[Window] = set()
        self._notes = dict.fromkeys(notes)
        self._outcomes: dict[int, BatchOutcomes] = {}
        self._by_owner = frozenset(name for name, group_by in query.groupings.items() if group_by[0] == OWNER)
        self._out_of_order: dict[int, Answer] = {}
        self._next = 0

    def add(self, answer: Answer) -> None:
        """Add the answer to one batch.

        Args:
            answer: It is left as it is; what it holds is shared, not copied.

        Raises:
            ValueError: This batch was added before: its values would count twice.
        """
        number = answer.batch_number
        if number in self._outcomes:
            raise ValueError(f"batch {number} was added before: its values would count twice")
        self._outcomes[number] = BatchOutcomes.of(answer)
        self._windows.update(answer.windows)
        self._notes.update(dict.fromkeys(answer.notes))
        if self._is_sum_only:
            self._accumulate(self._accumulators, answer)  # nothing to keep in order, so nothing to wait with
            return
        # Tweets stand in input order in the result, so that the same answers give the same bytes.
        self._out_of_order[number] = answer
        while (next_answer := self._out_of_order.pop(self._next, None)) is not None:
            self._accumulate(self._accumulators, next_answer)
            self._next += 1

    def result(self) -> EngagementResult:
        """Return all that was added so far, in input order, however the answers came. A later `add` does not change it."""
        accumulators = {name: _Accumulator(each.share()) for name, each in self._accumulators.items()}
        for number in sorted(self._out_of_order):
            self._accumulate(accumulators, self._out_of_order[number])
        rank = {metric: at for at, metric in enumerate(self._query.engagement_types)}
        groupings = {
            name: each.grouping if "tweet.id" in self._query.groupings[name] else _sorted_sum(each.grouping, rank)
            for name, each in accumulators.items()
        }
        batches = [self._outcomes[number] for number in sorted(self._outcomes)]
        return EngagementResult(
            query=self._query,
            groupings=groupings,
            start=min((window.start for window in self._windows), default=None),
            end=max((window.end for window in self._windows), default=None),
            windows=tuple(sorted({_in_full_hours(window) for window in self._windows})),
            unavailable_tweet_ids=_flatten(batch.unavailable for batch in batches),
            forbidden_tweet_ids=_flatten(batch.forbidden for batch in batches),
            unsupported_tweet_ids=_lists_by_metric(batch.unsupported for batch in batches),
            failed_tweet_ids={i: reason for batch in batches for i, reason in batch.failed.items()},
            missing_metrics=_lists_by_metric(batch.missing_metrics for batch in batches),
            tweet_ids=_flatten(batch.tweet_ids for batch in batches),
            notes=tuple(self._notes),
            tweet_owners={i: batch.owner for batch in batches if batch.owner is not None for i in batch.tweet_ids},
            owners=owner_results(batches, self._query.engagement_types),
            observations=tuple(batch.observation for batch in batches),
        )

    def _accumulate(self, accumulators: Mapping[str, _Accumulator], answer: Answer) -> None:
        for name, grouping in answer.groupings.items():
            accumulators[name].add({answer.owner or "": grouping} if name in self._by_owner else grouping)


def _in_full_hours(window: Window) -> Window:
    """Widen a window to full hours: the API was seen to tell the second of the request as the end."""
    start = window.start.replace(minute=0, second=0, microsecond=0)
    end = window.end.replace(minute=0, second=0, microsecond=0)
    return Window(start, end if end == window.end else end + _HOUR)


def _flatten(parts: Iterable[tuple[str, ...]]) -> list[str]:
    return [i for part in parts for i in part]


def _lists_by_metric(parts: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for part in parts:
        for metric, ids in part.items():
            merged.setdefault(metric, []).extend(ids)
    return {metric: merged[metric] for metric in sorted(merged)}
