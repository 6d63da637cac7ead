"""IDs of any iterable, sync or async, become checked, distinct batches, lazily.

A batch is made on demand, so the source is never read further ahead than the workers need.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sized
from itertools import chain, islice
from typing import NamedTuple

from engagement_async._core.stepped_batches import STEP_IDS, SteppedBatches
from engagement_async._core.unique_ids import SteadySet, UniqueIds
from engagement_async.errors import UsageError

__all__ = [
    "COMMON_ID",
    "DEDUP_AT_ONCE_MAX",
    "ITERABLE_TWICE",
    "MAX_TWEET_ID",
    "AnsweredTweets",
    "Batch",
    "OwnedTweet",
    "SpanBatch",
    "TweetIds",
    "check_container",
    "check_tweet_ids",
    "chunk",
    "length_of",
]

TweetIds = Iterable[str | int] | AsyncIterable[str | int]
"""What callers may give: any iterable or async iterable of `str` or integers."""

MAX_TWEET_ID = 2**63 - 1
"""IDs are positive signed 64 bit integers."""

_TWEET_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
COMMON_ID = r"(?:[1-8][0-9]{0,18}+|9[0-9]{0,17}+)"
"""Pattern of IDs below 9 * 10^18; larger ones take slow paths, where their size is looked at. No Tweet's timestamp reaches
them before the year 2078."""
_TWEET_IDS = re.compile(rf"(?:{COMMON_ID},)*+{COMMON_ID}", re.ASCII)
"""Judges a whole slice, joined by commas, in one match that never goes back."""
DEDUP_AT_ONCE_MAX = 1_000_000
"""Sources of a known size lose their duplicates at once up to this many IDs; of others every ID is remembered."""
SET_MAX = 500_000
"""IDs kept in a `set`: ten million must not take a gigabyte."""
ITERABLE_TWICE = (list, tuple, set, frozenset, dict, range)
"""Collections that can be read as often as one likes. Others may end for good, as a progress bar around a generator does."""


_GOLDEN_RATIO = (math.sqrt(5.0) - 1.0) / 2.0
"""Its multiples modulo 1 are spread evenly, however many there are."""


class OwnedTweet(NamedTuple):
    """One Tweet, and its owner where a credential store signs for several."""

    tweet_id: str
    owner: str | None = None


class AnsweredTweets(NamedTuple):
    """Tweets that the API answered for in one answer."""

    tweet_ids: tuple[str, ...]
    owner: str | None = None

    def pick(self, number: int) -> OwnedTweet:
        """Return another of them for each number, far from those before: the API may fail at some of them since."""
        return OwnedTweet(self.tweet_ids[int(number * _GOLDEN_RATIO % 1.0 * len(self.tweet_ids))], self.owner)


class Batch(NamedTuple):
    """The IDs of one request."""

    number: int
    """The batch's place in the input, from 0."""
    tweet_ids: tuple[str, ...]
    """Distinct IDs, in input order."""
    owner: str | None = None
    """Whose Tweets they are, where a credential store signs for several owners."""


class SpanBatch(NamedTuple):
    """A batch that is asked for one span of its query alone. Its answers bear the number, whatever that counts.

    There may be several, of disjoint IDs: while it is being found out which Tweet the API fails at, what is settled is
    delivered, so that a durable job can commit it.
    """

    number: int
    tweet_ids: tuple[str, ...]
    span: int
    """Which of `Query.spans()`."""
    owner: str | None = None


def check_tweet_ids(given: list[str | int], *, position: int = 0) -> list[str]:
    """Return the same IDs as plain strings. `position` is that of the first in the input.

    Raise `UsageError` for the first that is no Tweet ID.
    """
    try:
        joined = ",".join(given)  # type: ignore[arg-type]
    except TypeError:
        pass  # not all are strings
    else:
        if (
            _TWEET_IDS.fullmatch(joined)
            and joined.count(",") == len(given) - 1
            and list(map(type, given)).count(str) == len(given)  # a str Enum hashes by its name
        ):
            return given  # type: ignore[return-value]
    return [_checked(value, position + offset) for offset, value in enumerate(given)]


_BOOLEANS = frozenset({"bool", "bool_"})
"""The names of Python's and numpy's types: `operator.index` takes Python's for an integer, and that of numpy 1."""


def _checked(value: object, position: int) -> str:
    where = f"tweet_ids[{position}]"
    if isinstance(value, str):
        text = str.__str__(value)
    else:
        try:
            if type(value).__name__ in _BOOLEANS:
                raise TypeError
            number = operator.index(value)  # type: ignore[arg-type]  # exact integers of any kind, as numpy's
        except TypeError:
            if hasattr(value, "as_py"):  # an Arrow scalar
                return _checked(value.as_py(), position)
            raise UsageError(f"{where} is {_kind(value)}, {_clipped(value)}: {_fix(value)}") from None
        text = str(number) if 0 <= number <= MAX_TWEET_ID else "out of range"
    if not _TWEET_ID.fullmatch(text) or int(text) > MAX_TWEET_ID:
        raise UsageError(
            f"{where} is {_clipped(value)}, which is no Tweet ID: digits alone, no leading zero, at most {MAX_TWEET_ID}"
        )
    return text


def _clipped(value: object) -> str:
    if isinstance(value, int) and not -MAX_TWEET_ID <= value <= MAX_TWEET_ID:
        return "a larger number"  # its repr may be longer than Python wants to print
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _kind(value: object) -> str:
    """Return `an int64`, `a float`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' or name.startswith(('nd', 'NA')) else 'a'} {name}"


def _fix(value: object) -> str:
    """Return what the caller does about a value that is no ID."""
    name = type(value).__name__
    is_float = "float" in name.lower() or isinstance(value, (float, complex))
    if value is None or name in ("NAType", "NaTType") or (is_float and str(value) == "nan"):
        return (
            "a value is missing. Drop it, as column.dropna() does; pandas makes floats of a column with a gap, so read it "
            "with dtype={'tweet_id': str}"
        )
    if is_float:
        return "a float loses an ID's last digits. Give str or int; pandas reads them with dtype={'tweet_id': str}"
    if isinstance(value, (tuple, list)):
        return (
            "give Tweet IDs as str (or int). Pairs (owner, tweet_id) are for clients with the credentials of many owners: a "
            "CredentialFile, or a mapping of owners to their credentials"
        )
    return "give Tweet IDs as str (or int)"


def length_of(ids: object) -> int | None:
    """Return how many elements there are, if that is known: a progress bar around a generator may have a size or none."""
    try:
        return len(ids) if isinstance(ids, Sized) else None
    except TypeError:
        return None


def check_container(ids: object) -> None:
    """Raise `UsageError` for what holds IDs, and does not yield them one by one when it is iterated over."""
    if isinstance(ids, (str, bytes)):
        raise UsageError("tweet_ids is one string: give a list of IDs, as [tweet_id]")
    is_lazy = hasattr(ids, "collect") and hasattr(ids, "collect_schema")
    if is_lazy or hasattr(ids, "columns"):  # a DataFrame, a Table, a RecordBatch
        fix = "df.collect()['tweet_id']" if is_lazy else "df['tweet_id']"
        raise UsageError(f"tweet_ids is {_kind(ids)}: give one column of it, as {fix}")
    shape = getattr(ids, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        fix = "one column of it, as array[:, 0]" if shape else "a list of IDs, as [tweet_id]"
        raise UsageError(f"tweet_ids is {_kind(ids)} of {len(shape)} dimensions: give {fix}")


class _Batcher:
    """Gathers IDs until a batch is full. Holds every ID seen, so that none is requested twice."""

    def __init__(self, size: int, position: int = 0) -> None:
        self._size = size
        self._seen: UniqueIds[str] = UniqueIds(SET_MAX)
        self._gathered: list[str] = []
        self._count = position
        self._number = 0

    @property
    def missing(self) -> int:
        """How many more distinct IDs make a full batch."""
        return self._size - len(self._gathered)

    def add(self, given: list[str | int]) -> None:
        """Take in the next IDs of the source. Raise `UsageError` for one that is no Tweet ID."""
        ids = check_tweet_ids(given, position=self._count)
        self._count += len(given)
        self._gathered += self._seen.add_new(ids)

    def batch(self) -> Batch | None:
        """Return what was gathered, if anything."""
        if not self._gathered:
            return None
        batch = Batch(self._number, tuple(self._gathered))
        self._number += 1
        self._gathered = []
        return batch


def _slices(ids: list[str], size: int) -> Iterator[Batch]:
    for number, at in enumerate(range(0, len(ids), size)):
        yield Batch(number, tuple(ids[at : at + size]))


def _chunk_sync(ids: Iterable[str | int], size: int, *, position: int = 0) -> Iterator[Batch]:
    batcher = _Batcher(size, position)
    source = iter(ids)
    while given := list(islice(source, batcher.missing)):
        batcher.add(given)
        if not batcher.missing and (batch := batcher.batch()):
            yield batch
    if batch := batcher.batch():
        yield batch


async def _chunk_async(ids: AsyncIterable[str | int], size: int) -> AsyncIterator[Batch]:
    batcher = _Batcher(size)
    given: list[str | int] = []
    missing = size
    try:
        async for value in ids:
            given.append(value)
            if len(given) == missing:  # checked together: one by one would cost four times as much
                batcher.add(given)
                given = []
                if not batcher.missing and (batch := batcher.batch()):
                    yield batch
                missing = batcher.missing
        batcher.add(given)
        if batch := batcher.batch():
            yield batch
    finally:
        if isinstance(ids, AsyncGenerator):  # a generator that is left to the garbage collector closes too late
            await ids.aclose()


def chunk(ids: TweetIds, size: int) -> Iterator[Batch] | AsyncIterator[Batch]:
    """Return distinct IDs in batches of `size`, the last one shorter; of an async source, an async iterator.

    Raise `UsageError` for a value that is no Tweet ID: if the source has a size before the first batch is given out, and at
    once if it is small; else when its batch is made, and the batches before it have been given out by then.
    """
    check_container(ids)
    if isinstance(ids, AsyncIterable):
        return _chunk_async(ids, size)
    if not isinstance(ids, Iterable):
        raise UsageError(f"tweet_ids is {_kind(ids)}: give an iterable or async iterable of str or int")
    count = length_of(ids)
    if count is None:
        return _chunk_sync(ids, size)
    return SteppedBatches.of(_distinct_in_steps(ids, size), count)


def _distinct_in_steps(ids: Iterable[str | int], size: int) -> Generator[None, None, Iterator[Batch]]:
    """Check all IDs that are at hand, some in each step, and return their distinct batches."""
    if isinstance(ids, ITERABLE_TWICE) and len(ids) > DEDUP_AT_ONCE_MAX:
        for _ in _checked_pieces(ids):  # a bad ID is an error before anything is paid for
            yield
        return _chunk_sync(ids, size)
    source = iter(ids)  # read once: its size is a hint, and there may be no second reading
    known: SteadySet[str] = SteadySet()
    distinct = known.in_order
    read = 0
    for checked in _checked_pieces(source):
        known.add(checked)
        read += len(checked)
        if read > DEDUP_AT_ONCE_MAX:
            return _chunk_sync(chain(distinct, source), size, position=read - len(distinct))
        yield
    yield from known.clear()
    return _slices(distinct, size)


def _checked_pieces(tweet_ids: Iterable[str | int]) -> Iterator[list[str]]:
    """Yield all of the IDs, checked and in pieces."""
    rest = iter(tweet_ids)
    position = 0
    while given := list(islice(rest, STEP_IDS)):
        yield check_tweet_ids(given, position=position)
        position += len(given)
