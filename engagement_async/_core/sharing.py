"""What one caller has of an answer to a batch that several callers share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engagement_async._core.answer import Answer, merge_observations
from engagement_async._core.groupings import Grouping, actual_levels
from engagement_async._core.query import Query

__all__ = ["can_share", "restrict"]


def can_share(query: Query) -> bool:
    """Return whether an answer to this query can be taken apart by Tweet: a sum over Tweets cannot."""
    return all("tweet.id" in group_by for group_by in query.groupings.values())


def restrict(answer: Answer, tweet_ids: Iterable[str], query: Query) -> Answer:
    """Return what an answer says of some of its IDs, as if they alone had been asked for. Nothing of it is shared."""
    of_batch = frozenset(answer.tweet_ids)
    ids = tuple(i for i in tweet_ids if i in of_batch)
    mine = frozenset(ids)
    observed_at, observed_later = (
        merge_observations([answer], ids) if answer.observed_later else (answer.observed_at, {})
    )
    groupings = {}
    for name, grouping in answer.groupings.items():
        levels = actual_levels(query.groupings[name], grouping)
        groupings[name] = _only_ids(grouping, levels.index("tweet.id"), ids)
    return Answer(
        answer.batch_number,
        ids,
        groupings,
        windows=answer.windows,
        unavailable_tweet_ids=tuple(i for i in answer.unavailable_tweet_ids if i in mine),
        forbidden_tweet_ids=tuple(i for i in answer.forbidden_tweet_ids if i in mine),
        unsupported_tweet_ids=_only(answer.unsupported_tweet_ids, mine),
        failed_tweet_ids={i: reason for i, reason in answer.failed_tweet_ids.items() if i in mine},
        missing_metrics=_only(answer.missing_metrics, mine),
        notes=answer.notes,
        observed_at=observed_at,
        observed_later=observed_later,
    )


def _only_ids(grouping: Grouping, level: int, tweet_ids: Iterable[str]) -> Grouping:
    """Return a copy with these IDs alone, which stand at this level; dicts that are left empty are left out."""
    if not level:
        return {i: _copied(grouping[i]) for i in tweet_ids if i in grouping}
    kept = {key: _only_ids(inner, level - 1, tweet_ids) for key, inner in grouping.items()}
    return {key: inner for key, inner in kept.items() if inner}


def _copied(value: Grouping | int) -> Grouping | int:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _only(by_metric: Mapping[str, tuple[str, ...]], mine: frozenset[str]) -> dict[str, tuple[str, ...]]:
    kept = {metric: tuple(i for i in ids if i in mine) for metric, ids in by_metric.items()}
    return {metric: ids for metric, ids in kept.items() if ids}
