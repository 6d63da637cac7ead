"""The Tweet IDs that were seen: quick while they are few, 8 to 14 bytes each when they are many. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from typing import Generic, TypeVar

from engagement_async._core.sorted_runs import CHUNK_MIN, SortedRuns, has_numpy

__all__ = ["IdSet", "OwnersOfIds", "SteadySet", "UniqueIds"]

_Id = TypeVar("_Id", str, int)

SET_MAX = 200_000
"""IDs kept in a `set` (18 MB, a sixth of the time) before those that follow go to an `IdSet`."""

_SHARDS = 1021
"""A prime: the last bits of IDs are a machine's and a counter's, so powers of two would fill few tables."""
_FIRST_SIZE = 9


class UniqueIds(Generic[_Id]):
    """Remembers distinct IDs, be they `str` or `int`.

    The first ones are in a `set`. More of them are in sorted runs if they come in large chunks and numpy is there, else in
    an `IdSet`: both are exact.
    """

    def __init__(self, set_max: int = SET_MAX) -> None:
        self._set_max = set_max
        self._first: set[_Id] = set()
        self._more: IdSet[_Id] | SortedRuns[_Id] | None = None

    def add_new(self, tweet_ids: Collection[_Id]) -> Collection[_Id]:
        """Add all IDs; return those that were not there before, each once, in their order."""
        if self._more is not None or len(self._first) + len(tweet_ids) > self._set_max:
            return self._add_more(tweet_ids)
        return _add_new(self._first, tweet_ids)

    def _add_more(self, tweet_ids: Collection[_Id]) -> Collection[_Id]:
        if self._more is None:
            if len(tweet_ids) >= CHUNK_MIN and has_numpy():
                self._more = SortedRuns(self._first)
                self._first = set()
            else:
                self._more = IdSet()
        return self._more.add_new([i for i in tweet_ids if i not in self._first] if self._first else tweet_ids)


def _add_new(known: set[_Id], tweet_ids: Collection[_Id]) -> Collection[_Id]:
    before = len(known)
    if known.isdisjoint(tweet_ids):
        known.update(tweet_ids)
        return tweet_ids if len(known) == before + len(tweet_ids) else dict.fromkeys(tweet_ids)
    new = {i: None for i in tweet_ids if i not in known}
    known.update(new)
    return new


class SteadySet(Generic[_Id]):
    """Remembers distinct IDs and their order, in sets of a bounded size: a set of a million takes 20 ms to grow at once."""

    def __init__(self, set_max: int = 300_000) -> None:
        self.in_order: list[_Id] = []
        """All IDs, each once, in the order in which they were added first."""
        self._set_max = set_max
        self._full: list[set[_Id]] = []
        self._last: set[_Id] = set()
        self._last_begins = 0
        """Where in `in_order` the IDs of the last set begin."""
        self._has_repeats = False

    def add(self, tweet_ids: Collection[_Id]) -> None:
        """Add the IDs that are not there yet."""
        if len(self._last) + len(tweet_ids) > self._set_max:
            self._full.append(self._last)
            self._last, self._last_begins = set(), len(self.in_order)
        for known in self._full:
            if not known.isdisjoint(tweet_ids):
                tweet_ids = [i for i in tweet_ids if i not in known]
        self.in_order += self._add_to_last(tweet_ids)

    def _add_to_last(self, tweet_ids: Collection[_Id]) -> Collection[_Id]:
        if self._has_repeats:
            return _add_new(self._last, tweet_ids)
        before = len(self._last)
        self._last.update(tweet_ids)  # without a look for them first: most inputs repeat nothing
        if len(self._last) == before + len(tweet_ids):
            return tweet_ids
        self._has_repeats = True
        known = set(tweet_ids).intersection(self.in_order[self._last_begins :])  # their set holds the new ones already
        return [i for i in dict.fromkeys(tweet_ids) if i not in known]

    def clear(self) -> Iterator[None]:
        """Forget all IDs but their order, those of one set after the other."""
        self._last, self._last_begins = set(), len(self.in_order)
        while self._full:
            self._full.pop()
            yield


class IdSet(Generic[_Id]):
    """A set of positive 64-bit integers that only grows: open addressing with linear probing, in many small tables.

    A table grows by a third when three quarters of it are taken, one at a time: so 10.7 to 14.2 bytes an ID.
    """

    def __init__(self) -> None:
        self._tables = [array("q", bytes(8 * _FIRST_SIZE)) for _ in range(_SHARDS)]
        self._free_slots = [_FIRST_SIZE * 3 // 4] * _SHARDS

    def add_new(self, tweet_ids: Iterable[_Id]) -> list[_Id]:
        """Add all IDs; return those that were not there before, each once, in their order."""
        tables, free_slots = self._tables, self._free_slots
        new: list[_Id] = []
        append = new.append
        for tweet_id in tweet_ids:
            number = int(tweet_id)
            shard = number % _SHARDS
            table = tables[shard]
            size = len(table)
            at = number % size
            while held := table[at]:
                if held == number:
                    break
                at = at + 1 if at + 1 < size else 0
            else:
                table[at] = number
                append(tweet_id)
                free_slots[shard] -= 1
                if not free_slots[shard]:
                    self._grow(shard)
        return new

    def _grow(self, shard: int) -> None:
        old = self._tables[shard]
        size = len(old) * 4 // 3 | 1
        if size % _SHARDS == 0:  # else the place in the table would follow from the table
            size += 2
        table = array("q", bytes(8 * size))
        used = 0
        for tweet_id in old:
            if tweet_id:
                at = tweet_id % size
                while table[at]:
                    at = at + 1 if at + 1 < size else 0
                table[at] = tweet_id
                used += 1
        self._tables[shard] = table
        self._free_slots[shard] = size * 3 // 4 - used


class OwnersOfIds(Generic[_Id]):
    """Remembers to which owner, a number from 0, each ID belongs: in a `dict` first, then at 16 to 21 bytes an ID."""

    def __init__(self, dict_max: int = SET_MAX) -> None:
        self._dict_max = dict_max
        self._first: dict[_Id, int] = {}
        self._tables = [array("q", bytes(8 * _FIRST_SIZE)) for _ in range(_SHARDS)]
        self._owners = [array("i", bytes(4 * _FIRST_SIZE)) for _ in range(_SHARDS)]
        self._used = [0] * _SHARDS

    def claim(
        self, tweet_ids: Iterable[_Id], owners: Iterable[int]
    ) -> tuple[list[tuple[_Id, int]], dict[_Id, tuple[int, int]]]:
        """Add the IDs that nobody has, each for the owner at its place.

        Return those with their owners, each once, in their order; and of the others that another owner has, that one and
        the one that was given.
        """
        new: list[tuple[_Id, int]] = []
        taken: dict[_Id, tuple[int, int]] = {}
        first, dict_max, tables = self._first, self._dict_max, self._tables
        for tweet_id, owner in zip(tweet_ids, owners, strict=False):
            held = first.get(tweet_id)
            if held is None and len(first) < dict_max:
                first[tweet_id] = owner
                new.append((tweet_id, owner))
                continue
            if held is None:
                number = int(tweet_id)
                shard = number % _SHARDS
                table = tables[shard]
                size = len(table)
                at = number % size
                while (known := table[at]) and known != number:
                    at = at + 1 if at + 1 < size else 0
                if not known:
                    table[at] = number
                    self._owners[shard][at] = owner
                    new.append((tweet_id, owner))
                    self._used[shard] += 1
                    if self._used[shard] > size * 3 // 4:
                        self._grow(shard)
                    continue
                held = self._owners[shard][at]
            if held != owner:
                taken.setdefault(tweet_id, (held, owner))
        return new, taken

    def _grow(self, shard: int) -> None:
        old, old_owners = self._tables[shard], self._owners[shard]
        size = len(old) * 4 // 3 | 1
        if size % _SHARDS == 0:  # else the place in the table would follow from the table
            size += 2
        table, owners = array("q", bytes(8 * size)), array("i", bytes(4 * size))
        for number, owner in zip(old, old_owners, strict=True):
            if number:
                at = _slot(table, number)
                table[at], owners[at] = number, owner
        self._tables[shard], self._owners[shard] = table, owners


def _slot(table: array[int], number: int) -> int:
    """Return where in a table with open addressing an ID is, or would be."""
    size = len(table)
    at = number % size
    while (held := table[at]) and held != number:
        at = at + 1 if at + 1 < size else 0
    return at
