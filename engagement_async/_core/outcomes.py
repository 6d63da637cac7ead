"""Where a Tweet ID ended, and why: the kinds of failure, and the outcomes of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from engagement_async._core.answer import Answer, Observation

__all__ = [
    "BatchOutcomes",
    "Failure",
    "FailureKind",
    "Outcomes",
    "OwnerResult",
    "count_outcomes",
    "is_about_credentials",
    "is_outage",
    "is_outage_of_all",
    "join_failures",
    "owner_results",
    "worst_first_key",
]


class FailureKind(StrEnum):
    """Why an ID failed, for programs to act on."""

    MISSING = "missing"
    """Two answers left the Tweet out."""
    REFUSED = "refused"
    """The API refused the Tweet with a 400 or 403 that says nothing else of it."""
    SERVER = "server"
    """The API fails at this Tweet (5xx, cut or invalid answers) while it answers for others."""
    OUTAGE = "outage"
    """The API answered nobody, or not this owner, until the outage timeout. The Tweet itself may be fine: a job leaves it
    pending.
    """
    TIMEOUT = "timeout"
    """The time of the call (`timeout`) was over before the Tweet was answered. The Tweet itself may be fine."""
    CREDENTIALS = "credentials"
    """The credentials of the Tweet's owner are refused or unknown."""
    UNREPRESENTABLE = "unrepresentable"
    """The answer holds a value that does not fit into a signed 64-bit integer."""


class Failure(str):
    """Why an ID failed: a `message` for people, with its `kind` for programs.

    Of an outage `owner` is whom alone the API did not answer; None if it answered nobody.

    >>> failure = Failure("the API failed: HTTP 500", kind=FailureKind.SERVER)
    >>> failure.kind is FailureKind.SERVER
    True
    """

    __slots__ = ("kind", "owner")
    kind: FailureKind
    owner: str | None

    def __new__(cls, message: str, *, kind: FailureKind, owner: str | None = None) -> Failure:
        self = super().__new__(cls, message)
        self.kind = kind
        self.owner = owner
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (str(self), self.kind, self.owner)


def _rebuild(message: str, kind: FailureKind, owner: str | None = None) -> Failure:
    return Failure(message, kind=kind, owner=owner)


def is_outage(failure: str) -> bool:
    """Return whether the ID failed because the API did not answer: it may be sent again as if it never was."""
    return isinstance(failure, Failure) and failure.kind is FailureKind.OUTAGE


def is_outage_of_all(failure: str) -> bool:
    """Return whether the ID failed because the API answered nobody, and not only one owner."""
    return isinstance(failure, Failure) and failure.kind is FailureKind.OUTAGE and failure.owner is None


_WORST_FIRST = (
    FailureKind.REFUSED,
    FailureKind.UNREPRESENTABLE,
    FailureKind.CREDENTIALS,
    FailureKind.MISSING,
    FailureKind.SERVER,
    FailureKind.TIMEOUT,
    FailureKind.OUTAGE,
)
"""The API's own word on a Tweet first, what may pass last: an outage alone leaves an ID pending in a job."""


def join_failures(failures: Iterable[str]) -> str:
    """Return the failures of one ID in several parts of its batch as one: worst first, of the worst one's kind."""
    distinct = sorted(dict.fromkeys(failures), key=_severity)
    if len(distinct) == 1:
        return distinct[0]
    text = "; ".join(distinct)
    worst = distinct[0]
    return Failure(text, kind=worst.kind, owner=worst.owner) if isinstance(worst, Failure) else text


def _severity(failure: str) -> int:
    return _WORST_FIRST.index(failure.kind) if isinstance(failure, Failure) else len(_WORST_FIRST)


class BatchOutcomes(NamedTuple):
    """Where the IDs of one batch ended up: an `Answer` without its values."""

    tweet_ids: tuple[str, ...]
    unavailable: tuple[str, ...]
    forbidden: tuple[str, ...]
    unsupported: dict[str, tuple[str, ...]]
    failed: dict[str, str]
    missing_metrics: dict[str, tuple[str, ...]]
    observation: Observation
    owner: str | None = None
    requests: int = 0

    @classmethod
    def of(cls, answer: Answer) -> BatchOutcomes:
        """Return the outcomes of an answer."""
        return cls(
            answer.tweet_ids,
            answer.unavailable_tweet_ids,
            answer.forbidden_tweet_ids,
            answer.unsupported_tweet_ids,
            answer.failed_tweet_ids,
            answer.missing_metrics,
            answer.observation,
            answer.owner,
            answer.requests,
        )

    def without_any_value(self, engagement_types: Iterable[str]) -> frozenset[str]:
        """Return the IDs that are unsupported in every one of these metrics."""
        if not self.unsupported:
            return frozenset()
        return frozenset.intersection(*(frozenset(self.unsupported.get(metric, ())) for metric in engagement_types))


class Outcomes(NamedTuple):
    """The number of IDs by outcome."""

    answered: int = 0
    """IDs with at least one value."""
    unavailable: int = 0
    """IDs of Tweets that are deleted, protected, or otherwise gone."""
    unsupported: int = 0
    """IDs for which the API has no value of any requested metric."""
    forbidden: int = 0
    """IDs of Tweets that belong to another user."""
    failed: int = 0
    """IDs that failed, each with a reason."""

    def __add__(self, other: tuple[int, ...]) -> Outcomes:  # type: ignore[override]
        return Outcomes(*(mine + its for mine, its in zip(self, other, strict=True)))

    def __sub__(self, other: tuple[int, ...]) -> Outcomes:
        return Outcomes(*(mine - its for mine, its in zip(self, other, strict=True)))


def count_outcomes(answer: Answer, engagement_types: Iterable[str]) -> Outcomes:
    """Count where the IDs of one answer ended; the counts add up to its IDs."""
    return _counts(BatchOutcomes.of(answer), engagement_types)


def _counts(batch: BatchOutcomes, engagement_types: Iterable[str]) -> Outcomes:
    others = (*batch.unavailable, *batch.forbidden, *batch.failed)
    unsupported = len(batch.without_any_value(engagement_types).difference(others))
    unavailable, forbidden, failed = len(batch.unavailable), len(batch.forbidden), len(batch.failed)
    answered = len(batch.tweet_ids) - unavailable - forbidden - failed - unsupported
    return Outcomes(answered, unavailable, unsupported, forbidden, failed)


class OwnerResult(NamedTuple):
    """What one owner of several came to."""

    outcomes: Outcomes
    """The number of this owner's IDs by outcome."""
    requests: int
    """How many requests were sent for them, retries included."""
    error: str | None
    """Why the credentials of this owner were of no use, a `Failure`; None if they were taken."""


def worst_first_key(error: str | None, outcomes: Outcomes, *, pending: int = 0) -> tuple[bool, int, int, int, int]:
    """Return what sorts owners, the worst first: unusable credentials, then failed, forbidden, pending and gone Tweets."""
    gone = outcomes.unavailable + outcomes.unsupported
    return error is None, -outcomes.failed, -outcomes.forbidden, -pending, -gone


def owner_results(batches: Iterable[BatchOutcomes], engagement_types: Iterable[str]) -> dict[str, OwnerResult]:
    """Return what each owner came to, in the order in which they were first requested. Their numbers add up to the whole."""
    types = tuple(engagement_types)
    results: dict[str, OwnerResult] = {}
    for batch in batches:
        if batch.owner is None:
            continue
        before = results.get(batch.owner) or OwnerResult(Outcomes(), 0, None)
        error = before.error or next(filter(is_about_credentials, batch.failed.values()), None)
        results[batch.owner] = OwnerResult(
            before.outcomes + _counts(batch, types), before.requests + batch.requests, error
        )
    return results


def is_about_credentials(failure: str) -> bool:
    """Return whether the ID failed because the credentials of its owner were of no use."""
    return isinstance(failure, Failure) and failure.kind is FailureKind.CREDENTIALS
