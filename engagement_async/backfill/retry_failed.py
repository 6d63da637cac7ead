"""What a second asking of failed IDs changes in the answers that they failed in. Pure.

Failed IDs of many batches are asked together, so that few requests are paid for; each ID's values go back to its own
batch. Sums over Tweets cannot be taken apart: the first batch takes them in, and the sum over all batches is exact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from engagement_async._core.answer import Answer
from engagement_async._core.batches import Batch
from engagement_async._core.groupings import Grouping, actual_levels
from engagement_async._core.merging import merge_into
from engagement_async._core.query import Query

__all__ = ["Again", "pack_failed", "patched", "retries_whole_batches", "without_ids"]


class Again(NamedTuple):
    """One request for IDs that failed before."""

    batch: Batch
    homes: tuple[tuple[int, frozenset[str]], ...]
    """The batches that they came from, and which of them."""


def retries_whole_batches(query: Query) -> bool:
    """Whether failed IDs must be asked with their whole batch: when a sum may already hold a part of their span."""
    return len(query.spans()) > 1 and any("tweet.id" not in group_by for group_by in query.groupings.values())


def pack_failed(answers: Iterable[Answer], query: Query) -> Iterator[Again]:
    """The failed IDs of these answers, in as few requests as hold them."""
    size = query.endpoint.ids_per_request
    ids: list[str] = []
    homes: list[tuple[int, frozenset[str]]] = []
    number = 0
    for answer in answers:
        if retries_whole_batches(query):
            yield Again(Batch(number, answer.tweet_ids), ((answer.batch_number, frozenset(answer.tweet_ids)),))
            number += 1
            continue
        failed = list(answer.failed_tweet_ids)
        while failed:
            taken, failed = failed[: size - len(ids)], failed[size - len(ids) :]
            ids += taken
            homes.append((answer.batch_number, frozenset(taken)))
            if len(ids) == size:
                yield Again(Batch(number, tuple(ids)), tuple(homes))
                ids, homes = [], []
                number += 1
    if ids:
        yield Again(Batch(number, tuple(ids)), tuple(homes))


def patched(old: Answer, new: Answer, ids: frozenset[str], query: Query, *, with_sums: bool) -> Answer:
    """`old`, with what `new` says of these IDs in the place of what it said. `with_sums`: and with `new`'s sums."""
    is_whole = len(ids) == len(old.tweet_ids)
    groupings: dict[str, Grouping] = {}
    for name, group_by in query.groupings.items():
        mine, its = old.groupings.get(name, {}), new.groupings.get(name, {})
        if "tweet.id" in group_by:
            merged = _chosen(mine, _depth(group_by, mine), ids, keep=False)
            merge_into(merged, _chosen(its, _depth(group_by, its), ids, keep=True))
        else:
            merged = {}
            if not (is_whole and retries_whole_batches(query)):
                merge_into(merged, mine)
            if with_sums:
                merge_into(merged, its)
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
        old.batch_number,
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


def without_ids(grouping: Grouping, group_by: tuple[str, ...], ids: Collection[str]) -> Grouping:
    """A grouping by Tweet without these IDs."""
    return _chosen(grouping, _depth(group_by, grouping), ids, keep=False)


def _depth(group_by: tuple[str, ...], grouping: Grouping) -> int:
    return actual_levels(group_by, grouping).index("tweet.id")


def _chosen(grouping: Grouping, depth: int, ids: Collection[str], *, keep: bool) -> Grouping:
    """The grouping with these IDs alone, or without them; emptied levels go too."""
    if depth == 0:
        return {key: value for key, value in grouping.items() if (key in ids) is keep}
    chosen = {key: _chosen(inner, depth - 1, ids, keep=keep) for key, inner in grouping.items()}
    return {key: inner for key, inner in chosen.items() if inner}


def _replaced(answer: Answer, ids: frozenset[str], old: Collection[str], new: Collection[str]) -> tuple[str, ...]:
    kept = frozenset(old).difference(ids).union(ids.intersection(new))
    return tuple(i for i in answer.tweet_ids if i in kept) if kept else ()
