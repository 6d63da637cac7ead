"""A second request for failed IDs, and what it changes in the answers that they failed in. Pure.

Failed IDs of many batches are asked together, so that few requests are paid for; each ID's values go back to its own
batch. Sums over Tweets cannot be taken apart: the first batch takes them in, and the sum over all batches is exact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from engagement_async._core.groupings import Grouping, answered_levels, only_keys
from engagement_async._core.merging import fold
from engagement_async._core.parsing import Answer
from engagement_async._core.query import Query
from engagement_async.backfill.codec import pending_ids

__all__ = ["RetryBatch", "failed_ids", "pack_failed", "patch", "retries_whole_batches"]


class RetryBatch(NamedTuple):
    """One request for IDs that failed before."""

    tweet_ids: tuple[str, ...]
    origins: tuple[tuple[int, frozenset[str]], ...]
    """The batches that they came from, and which of them."""


def retries_whole_batches(query: Query) -> bool:
    """Whether failed IDs must be asked with their whole batch: when a sum may already hold a part of their span."""
    return len(query.parts()) > 1 and any("tweet.id" not in group_by for group_by in query.groupings.values())


def failed_ids(answer: Answer) -> tuple[str, ...]:
    """Return the IDs that failed, without those that are merely pending."""
    pending = frozenset(pending_ids(answer))
    return tuple(i for i in answer.failed_tweet_ids if i not in pending)


def pack_failed(answers: Iterable[Answer], query: Query) -> Iterator[RetryBatch]:
    """Yield the failed IDs of these answers, in as few requests as hold them."""
    size = query.endpoint.ids_per_request
    ids: list[str] = []
    origins: list[tuple[int, frozenset[str]]] = []
    for answer in answers:
        failed = failed_ids(answer)
        while failed:
            taken, failed = failed[: size - len(ids)], failed[size - len(ids) :]
            ids += taken
            origins.append((answer.number, frozenset(taken)))
            if len(ids) == size:
                yield RetryBatch(tuple(ids), tuple(origins))
                ids, origins = [], []
    if ids:
        yield RetryBatch(tuple(ids), tuple(origins))


def patch(old: Answer, new: Answer, ids: frozenset[str], query: Query, *, with_sums: bool) -> Answer:
    """Return `old` with what `new` has of these IDs in the place of what it had, and with `new`'s sums if `with_sums`."""
    is_whole = len(ids) == len(old.tweet_ids)
    groupings: dict[str, Grouping] = {}
    for name, group_by in query.groupings.items():
        before, after = old.groupings.get(name, {}), new.groupings.get(name, {})
        if "tweet.id" in group_by:
            merged = only_keys(before, _level(group_by, before), lambda i: i not in ids)
            fold(merged, only_keys(after, _level(group_by, after), ids.__contains__))
        else:
            merged = {}
            if not (is_whole and retries_whole_batches(query)):
                fold(merged, before)
            if with_sums:
                fold(merged, after)
        if merged or name in old.groupings or name in new.groupings:
            groupings[name] = merged
    metrics = dict.fromkeys((*old.unsupported_tweet_ids, *new.unsupported_tweet_ids))
    unsupported = {
        metric: ordered
        for metric in metrics
        if (
            ordered := _replaced(
                old, ids, old.unsupported_tweet_ids.get(metric, ()), new.unsupported_tweet_ids.get(metric, ())
            )
        )
    }
    failed = {**old.failed_tweet_ids, **new.failed_tweet_ids}
    return Answer(
        old.number,
        old.tweet_ids,
        groupings,
        windows=tuple(dict.fromkeys((*old.windows, *new.windows))),
        unavailable_tweet_ids=_replaced(old, ids, old.unavailable_tweet_ids, new.unavailable_tweet_ids),
        forbidden_tweet_ids=_replaced(old, ids, old.forbidden_tweet_ids, new.forbidden_tweet_ids),
        unsupported_tweet_ids=unsupported,
        failed_tweet_ids={
            i: failed[i] for i in _replaced(old, ids, tuple(old.failed_tweet_ids), tuple(new.failed_tweet_ids))
        },
        notes=tuple(dict.fromkeys((*old.notes, *new.notes))),
    )


def _level(group_by: tuple[str, ...], grouping: Grouping) -> int:
    return answered_levels(group_by, grouping).index("tweet.id")


def _replaced(answer: Answer, ids: frozenset[str], old: Collection[str], new: Collection[str]) -> tuple[str, ...]:
    listed = frozenset(old).difference(ids).union(ids.intersection(new))
    return tuple(i for i in answer.tweet_ids if i in listed) if listed else ()
