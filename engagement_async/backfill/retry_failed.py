"""Failed IDs in as few requests as hold them, and answers with the values that a later request brought. Pure.

Failed IDs of many batches are asked together, so that few requests are paid for; each ID's values go back to its own
batch. Sums over Tweets cannot be taken apart. Where a grouping asks for them, each batch is requested by itself, so that its
answer holds its own sums and no others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from typing import NamedTuple

from engagement_async._core.answer import Answer
from engagement_async._core.groupings import without_ids
from engagement_async._core.merging import merge_parts
from engagement_async._core.query import Query
from engagement_async._core.sharing import can_share
from engagement_async.backfill.codec import pending_ids

__all__ = ["RetryBatch", "failed_ids", "pack_failed", "patch"]


class RetryBatch(NamedTuple):
    """One request for IDs that failed before."""

    tweet_ids: tuple[str, ...]
    origins: tuple[tuple[int, frozenset[str]], ...]
    """The batches that they came from, and which of them."""


def failed_ids(answer: Answer) -> tuple[str, ...]:
    """Return the IDs that failed, without those that are merely pending."""
    pending = frozenset(pending_ids(answer))
    return tuple(i for i in answer.failed_tweet_ids if i not in pending)


def pack_failed(answers: Iterable[Answer], query: Query) -> Iterator[RetryBatch]:
    """Yield the failed IDs of these answers, in as few requests as hold them; none is of two answers if there are sums."""
    size = query.endpoint.ids_per_request
    has_sums = not can_share(query)
    ids: list[str] = []
    origins: list[tuple[int, frozenset[str]]] = []
    for answer in answers:
        failed = failed_ids(answer)
        while failed:
            taken, failed = failed[: size - len(ids)], failed[size - len(ids) :]
            ids += taken
            origins.append((answer.batch_number, frozenset(taken)))
            if len(ids) == size or has_sums:
                yield RetryBatch(tuple(ids), tuple(origins))
                ids, origins = [], []
    if ids:
        yield RetryBatch(tuple(ids), tuple(origins))


def patch(old: Answer, new: Answer, ids: Set[str], query: Query) -> Answer:
    """Return `old` with what `new` has of these IDs in the place of what it had, and with `new`'s sums."""
    others = frozenset(old.tweet_ids).difference(ids)
    parts = [_select(old, others, query), _select(new, ids, query)]
    return merge_parts(old.batch_number, old.tweet_ids, parts, query)


def _select(answer: Answer, ids: Set[str], query: Query) -> Answer:
    """Return what an answer has of some of its IDs, and all of its sums."""
    unwanted = frozenset(answer.tweet_ids).difference(ids)
    if not unwanted:
        return answer
    groupings = {
        name: without_ids(grouping, query.groupings[name], unwanted)
        if "tweet.id" in query.groupings[name]
        else grouping
        for name, grouping in answer.groupings.items()
    }
    return replace(
        answer,
        tweet_ids=_only(answer.tweet_ids, ids),
        groupings=groupings,
        unavailable_tweet_ids=_only(answer.unavailable_tweet_ids, ids),
        forbidden_tweet_ids=_only(answer.forbidden_tweet_ids, ids),
        unsupported_tweet_ids=_only_by_metric(answer.unsupported_tweet_ids, ids),
        failed_tweet_ids={i: failure for i, failure in answer.failed_tweet_ids.items() if i in ids},
        missing_metrics=_only_by_metric(answer.missing_metrics, ids),
    )


def _only(tweet_ids: Iterable[str], ids: Collection[str]) -> tuple[str, ...]:
    return tuple(i for i in tweet_ids if i in ids)


def _only_by_metric(by_metric: Mapping[str, tuple[str, ...]], ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    return {metric: kept for metric, listed in by_metric.items() if (kept := _only(listed, ids))}
