"""Which IDs a job has already: quick while they are few, small when they are many."""

from __future__ import annotations

from collections.abc import Iterable

from engagement_async._core.unique_ids import IdSet

__all__ = ["KnownIds"]

_FEW = 200_000
"""A set of so many takes some 18 MB, and a sixth of the time; beyond it, an `IdSet` takes at most 16 bytes an ID."""


class KnownIds:
    """Distinct IDs, added alone."""

    def __init__(self) -> None:
        self._few: set[int] | None = set()
        self._many = IdSet()

    def add_new(self, tweet_ids: Iterable[int]) -> Iterable[int]:
        """Takes all in; returns those that were not there, each once, in their order."""
        few = self._few
        if few is None:
            return self._many.add_new(tweet_ids)
        new = dict.fromkeys(tweet_ids)
        if not few.isdisjoint(new):
            new = {tweet_id: None for tweet_id in new if tweet_id not in few}
        few.update(new)
        if len(few) > _FEW:
            self._many.add_new(few)
            self._few = None
        return new
