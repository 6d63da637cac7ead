"""The table of IDs without all their values: the state of each, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from engagement_async._core.answer import Answer
from engagement_async._core.outcomes import is_outage
from engagement_async._core.result import EngagementResult
from engagement_async._export.rows import Row

__all__ = ["outcome_columns", "outcome_row", "outcome_rows"]

_COLUMNS = ("tweet_id", "state", "detail")


def outcome_columns(*, has_observed_at: bool, has_owner: bool = False) -> tuple[str, ...]:
    """Return the columns, all of them text."""
    columns = ("owner", *_COLUMNS) if has_owner else _COLUMNS
    return (*columns, "observed_at") if has_observed_at else columns


def outcome_row(
    tweet_id: str, state: str, detail: str = "", observed_at: datetime | None = None, *, owner: str | None = None
) -> Row:
    """Return the row of one ID."""
    at = "" if observed_at is None else observed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = {"tweet_id": tweet_id, "state": state, "detail": detail, "observed_at": at}
    return row if owner is None else {"owner": owner, **row}


def outcome_rows(
    answered: Answer | EngagementResult, engagement_types: Sequence[str], *, outage_is: str = "failed"
) -> Iterator[Row]:
    """Yield every ID that has not all its values, in input order.

    `outage_is` is the state of IDs that failed because the API answered nobody.
    """
    unavailable = frozenset(answered.unavailable_tweet_ids)
    forbidden = frozenset(answered.forbidden_tweet_ids)
    unsupported = frozenset.intersection(
        *(frozenset(answered.unsupported_tweet_ids.get(metric, ())) for metric in engagement_types)
    )
    lacking: dict[str, dict[str, None]] = {}
    for metric in engagement_types:
        for lists in (answered.unsupported_tweet_ids, answered.missing_metrics):
            for tweet_id in lists.get(metric, ()):
                lacking.setdefault(tweet_id, {})[metric] = None
    for tweet_id in answered.tweet_ids:
        owner = answered.owner if isinstance(answered, Answer) else answered.tweet_owners.get(tweet_id)
        failure = answered.failed_tweet_ids.get(tweet_id)
        if failure is not None:
            is_pending = is_outage(failure) and outage_is != "failed"
            state, detail = (outage_is, "") if is_pending else ("failed", failure)
            yield outcome_row(tweet_id, state, detail, owner=owner)
        elif tweet_id in forbidden:
            yield outcome_row(tweet_id, "forbidden", "", _observed_at(answered, tweet_id), owner=owner)
        elif tweet_id in unavailable:
            yield outcome_row(tweet_id, "unavailable", "", _observed_at(answered, tweet_id), owner=owner)
        elif tweet_id in lacking:
            state = "unsupported" if tweet_id in unsupported else "answered"
            detail = f"no {', '.join(lacking[tweet_id])}"
            yield outcome_row(tweet_id, state, detail, _observed_at(answered, tweet_id), owner=owner)


def _observed_at(answered: Answer | EngagementResult, tweet_id: str) -> datetime | None:
    return answered.observed_at_of(tweet_id) if isinstance(answered, Answer) else answered.observed_at.get(tweet_id)
