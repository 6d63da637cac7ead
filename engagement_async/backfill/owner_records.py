"""What a run tells the journal of owners: the requests that were spent on each, and whose credentials are of no use. Pure.

A small document an owner, so that a commit writes those alone that changed. Journals of before have none, and older readers
pass over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

from engagement_async._core.answer import Answer
from engagement_async._core.outcomes import is_about_credentials
from engagement_async.backfill.codec import NOT_ASKED
from engagement_async.errors import UsageError

__all__ = [
    "PREFIX",
    "FailedCredentials",
    "OwnerRecord",
    "OwnerRecords",
    "check_failed_credentials",
    "read_owner_records",
]

FailedCredentials = Literal["failed", "pending"]
"""What the Tweets of owners become whose credentials are of no use."""
PREFIX = "owner "
"""What the names of these documents begin with."""


class OwnerRecord(NamedTuple):
    """What the journal knows of one owner beside its batches."""

    requests: int = 0
    """Requests that were signed for this owner, in all runs."""
    error: str | None = None
    """Why its credentials were of no use the last time, if its Tweets were left pending then."""


def check_failed_credentials(value: object) -> None:
    """Raise `UsageError` for what is no `FailedCredentials`."""
    if value not in get_args(FailedCredentials):
        raise UsageError(f"failed_credentials is {value!r}: give 'failed' or 'pending'")


def read_owner_records(documents: Iterable[Mapping[str, Any]]) -> dict[str, OwnerRecord]:
    """Return the records of such documents, by owner."""
    return {value["owner"]: OwnerRecord(value["requests"], value["error"]) for value in documents}


class OwnerRecords:
    """The records as of the last commit, and what changed since: `changed`, then `acknowledge` once it is committed."""

    def __init__(self, failed_credentials: FailedCredentials = "failed") -> None:
        self._leaves_pending = failed_credentials == "pending"
        self._records: dict[str, OwnerRecord] = {}
        self._written: dict[str, OwnerRecord] = {}
        self._changed: set[str] = set()
        self.refused: set[str] = set()
        """Owners whose credentials were of no use in this run, and whose Tweets are pending for that."""

    def load(self, known: Mapping[str, OwnerRecord]) -> None:
        """Begin with what the journal has."""
        self._records = dict(known)
        self._written = dict(known)

    def count(self, requests: Mapping[str, int]) -> None:
        """Add requests to what was spent on owners."""
        for owner, number in requests.items():
            record = self._records.get(owner, OwnerRecord())
            self._set(owner, record._replace(requests=record.requests + number))

    def take(self, answer: Answer) -> Answer:
        """Return an answer as the journal is to have it: IDs that failed for their owner's sake may be pending there."""
        owner = answer.owner
        if owner is None:
            return answer
        record = self._records.get(owner, OwnerRecord())
        refused = {i: failure for i, failure in answer.failed_tweet_ids.items() if is_about_credentials(failure)}
        if refused and self._leaves_pending:
            self.refused.add(owner)
            self._set(owner, record._replace(error=str(next(iter(refused.values())))))
            return replace(answer, failed_tweet_ids={**answer.failed_tweet_ids, **dict.fromkeys(refused, NOT_ASKED)})
        if (
            record.error is not None
            and owner not in self.refused
            and len(answer.failed_tweet_ids) < len(answer.tweet_ids)
        ):
            self._set(owner, record._replace(error=None))
        return answer

    def changed(self) -> dict[str, Any]:
        """Return the documents that the journal does not have yet, by name."""
        return {
            PREFIX + owner: {"owner": owner, **self._records[owner]._asdict()}
            for owner in self._changed
            if self._records[owner] != self._written.get(owner)
        }

    def acknowledge(self, documents: Mapping[str, Any]) -> None:
        """Note that the journal has these documents now."""
        self._written |= read_owner_records(documents.values())
        self._changed = {owner for owner in self._changed if self._records[owner] != self._written.get(owner)}

    def _set(self, owner: str, record: OwnerRecord) -> None:
        self._records[owner] = record
        self._changed.add(owner)
