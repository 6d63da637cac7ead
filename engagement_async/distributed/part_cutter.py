"""IDs of any order and number become parts of whole requests, each distinct ID once, those that are finished left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from engagement_async._core.owned_batches import Claims
from engagement_async._core.unique_ids import UniqueIds
from engagement_async.errors import UsageError

__all__ = ["Part", "PartCutter"]


class Part(NamedTuple):
    """The IDs of one part, and the owner of each, if they have owners."""

    number: int
    tweet_ids: list[str]
    owners: list[str] | None


class PartCutter:
    """Cuts what it is given into parts of about `ids_per_part`, in whole requests of `ids_per_request` IDs of one owner.

    It remembers every ID: 12 to 21 bytes each.
    """

    def __init__(self, *, ids_per_part: int, ids_per_request: int, has_owners: bool) -> None:
        self._ids_per_request = ids_per_request
        self._ids_per_part = max(ids_per_part // ids_per_request, 1) * ids_per_request
        self._seen: UniqueIds[str] = UniqueIds()
        self._claims: Claims[str] | None = Claims(first_owner=False) if has_owners else None
        self._of_owners: dict[int, list[str]] = {}
        """What fills no request yet, by the number of the owner."""
        self._ids: list[str] = []
        self._owners: list[str] = []
        self._number = 0

    def know(self, tweet_ids: list[str], owners: Sequence[str | None]) -> None:
        """Leave these IDs out from now on: they are finished."""
        if self._claims is None:
            self._seen.add_new(tweet_ids)
        elif None in owners:
            raise UsageError("the finished parts have no owners, and these IDs have: name another folder")
        else:
            self._new(tweet_ids, [owner for owner in owners if owner is not None])

    def add(self, tweet_ids: list[str], owners: Sequence[str] | None) -> Iterator[Part]:
        """Take in IDs, and yield the parts that they fill. Raise `UsageError` for an ID that another owner has."""
        for tweet_id, owner in self._new(tweet_ids, owners):
            gathered = self._of_owners.setdefault(owner, [])
            gathered.append(tweet_id)
            if len(gathered) == self._ids_per_request:
                self._put(owner, gathered)
                if len(self._ids) >= self._ids_per_part:
                    yield self._part()

    def rest(self) -> Iterator[Part]:
        """Yield what is left, when there are no more IDs."""
        for owner, gathered in list(self._of_owners.items()):
            self._put(owner, gathered)
            if len(self._ids) >= self._ids_per_part:
                yield self._part()
        if self._ids:
            yield self._part()

    def _new(self, tweet_ids: list[str], owners: Sequence[str] | None) -> Iterator[tuple[str, int]]:
        if self._claims is None:
            return zip(self._seen.add_new(tweet_ids), repeat(0))
        if owners is None:
            raise UsageError("some of the IDs have no owner: each needs one")
        return iter(self._claims.new(tweet_ids, [self._claims.number_of(owner) for owner in owners]))

    def _put(self, owner: int, gathered: list[str]) -> None:
        self._ids += gathered
        if self._claims is not None:
            self._owners += [self._claims.names[owner]] * len(gathered)
        del self._of_owners[owner]

    def _part(self) -> Part:
        part = Part(self._number, self._ids, self._owners if self._claims is not None else None)
        self._number += 1
        self._ids, self._owners = [], []
        return part
