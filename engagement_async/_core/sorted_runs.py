"""Distinct Tweet IDs of large chunks: sorted runs of 64-bit integers, 8 bytes an ID, searched and merged by numpy. Pure.

numpy is optional (extra `[speed]`): `UniqueIds` takes an `IdSet` where it is missing, which gives the same answers at a
fifth of the speed.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterable
from itertools import compress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]

__all__ = ["CHUNK_MIN", "SortedRuns", "has_numpy", "to_integers"]

_Id = TypeVar("_Id", str, int)

CHUNK_MIN = 1_000
"""IDs that are worth a run of their own; fewer are gathered first."""
_FEW_MAX = 20_000
"""IDs that are gathered, in a `set`."""
_MERGED_MIN = 2**20
"""Runs are merged up to this length, or to a quarter of all IDs: so merging takes little memory, and there are few runs."""


def has_numpy() -> bool:
    """Return whether numpy can be imported."""
    try:
        import numpy  # noqa: F401 - that is the question
    except ImportError:
        return False
    return True


def to_integers(tweet_ids: Collection[str]) -> array[int]:
    """Return IDs as integers: by numpy if somebody has imported it, which is twice as quick and not worth an import."""
    if "numpy" not in sys.modules or len(tweet_ids) < CHUNK_MIN:
        return array("q", list(map(int, tweet_ids)))
    integers = array("q")
    integers.frombytes(_numbers(tweet_ids).tobytes())
    return integers


class SortedRuns(Generic[_Id]):
    """A set of positive 64-bit integers that only grows. Needs numpy."""

    def __init__(self, first: Collection[_Id] = ()) -> None:
        self._runs: list[Numbers] = []
        self._count = 0
        self._few: set[_Id] = set()
        self._add_run(_sorted(first))

    def add_new(self, tweet_ids: Collection[_Id]) -> Collection[_Id]:
        """Add all IDs; return those that were not there before, each once, in their order."""
        import numpy as np

        if len(tweet_ids) < CHUNK_MIN:
            return self._add_few(tweet_ids)
        self._flush()
        numbers = _numbers(tweet_ids)
        ordered = np.sort(numbers)
        is_new = self._is_new(ordered)
        is_new[1:] &= ordered[1:] != ordered[:-1]
        if is_new.all():
            self._add_run(ordered)
            return tweet_ids
        self._add_run(ordered[is_new])
        return self._first_of_each(tweet_ids, numbers, ordered[is_new])

    def _first_of_each(self, tweet_ids: Collection[_Id], numbers: Numbers, new: Numbers) -> list[_Id]:
        """Return the first of the IDs that is each of these new ones."""
        import numpy as np

        order = numbers.argsort(kind="stable")
        first = order[np.searchsorted(numbers, new, sorter=order)]  # the leftmost of equal ones, and so the first
        chosen = np.zeros(len(numbers), bool)
        chosen[first] = True
        return list(compress(tweet_ids, chosen.tolist()))

    def _add_few(self, tweet_ids: Iterable[_Id]) -> list[_Id]:
        unseen = [i for i in dict.fromkeys(tweet_ids) if i not in self._few]
        if not unseen:
            return unseen
        new = list(compress(unseen, self._is_new(_numbers(unseen)).tolist()))
        self._few.update(new)
        if len(self._few) >= _FEW_MAX:
            self._flush()
        return new

    def _flush(self) -> None:
        if self._few:
            self._add_run(_sorted(self._few))
            self._few.clear()

    def _is_new(self, numbers: Numbers) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return of each number whether it is in no run. Sorted ones are found much sooner."""
        import numpy as np

        is_new = np.ones(len(numbers), bool)
        for run in self._runs:
            is_new &= run.take(run.searchsorted(numbers), mode="clip") != numbers
        return is_new

    def _add_run(self, numbers: Numbers) -> None:
        """Add a run of sorted numbers, all others, and merge it with those before that are not much longer."""
        import numpy as np

        if not len(numbers):
            return
        self._count += len(numbers)
        most = max(_MERGED_MIN, self._count // 4)
        runs = self._runs
        while runs and len(runs[-1]) <= 4 * len(numbers) and len(runs[-1]) + len(numbers) <= most:
            numbers = np.concatenate((runs.pop(), numbers))
            numbers.sort(kind="stable")  # merges what is in order
        runs.append(numbers)


def _sorted(tweet_ids: Collection[int] | Collection[str]) -> Numbers:
    import numpy as np

    return np.sort(_numbers(tweet_ids))


def _numbers(tweet_ids: Collection[int] | Collection[str]) -> Numbers:
    """Return the IDs as an array."""
    import numpy as np

    if isinstance(tweet_ids, array):
        return np.frombuffer(tweet_ids, np.int64)
    if isinstance(next(iter(tweet_ids), None), str):
        numbers = np.fromstring(",".join(tweet_ids), np.int64, sep=",")  # type: ignore[arg-type]  # half the time of `int`
        if len(numbers) == len(tweet_ids):
            return numbers
    return np.fromiter(map(int, tweet_ids), np.int64, len(tweet_ids))
