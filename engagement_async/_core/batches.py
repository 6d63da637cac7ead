"""The chunker: IDs of any iterable, sync or async, become checked, distinct batches, lazily.

A batch is made when it is asked for and not before, so the source is never read further ahead than the workers need.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from engagement_async._core.unique_ids import UniqueIds
from engagement_async.errors import UsageError

__all__ = ["MAX_TWEET_ID", "Batch", "SpanBatch", "TweetIds", "check_tweet_ids", "chunk"]

TweetIds = Iterable[str | int] | AsyncIterable[str | int]
"""What callers may give: any iterable or async iterable of `str` or `int`."""

MAX_TWEET_ID = 2**63 - 1
"""IDs are positive signed 64 bit integers."""

_WELL = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
# Judges a whole slice, joined by commas, in one match that never goes back. IDs from 9 * 10^18 on take the slow path, where
# their size is looked at: no Tweet's timestamp reaches them before the year 2078.
_USUAL = r"(?:[1-8][0-9]{0,18}+|9[0-9]{0,17}+)"
_ALL_WELL = re.compile(rf"(?:{_USUAL},)*+{_USUAL}", re.ASCII)
_SMALL = 1_000_000
"""Lists and sets of up to so many IDs lose their duplicates at once; of larger and other sources every ID is remembered."""
_SET_MAX = 500_000
"""IDs in a `set` before an `IdSet` takes over: ten million IDs must not take a gigabyte."""


class Batch(NamedTuple):
    """The IDs of one request: distinct, in input order. `number` counts from 0."""

    number: int
    tweet_ids: tuple[str, ...]


class SpanBatch(NamedTuple):
    """A batch that is asked in one span of its query alone. Its answer bears the number, whatever that counts."""

    number: int
    tweet_ids: tuple[str, ...]
    span: int
    """Which of `Query.parts()`."""


def check_tweet_ids(given: list[str | int], *, position: int = 0) -> list[str]:
    """The same IDs as strings; `UsageError` for the first that is none. `position` is that of the first in the input."""
    try:
        joined = ",".join(given)  # type: ignore[arg-type]
    except TypeError:
        pass  # not all are strings
    else:
        if _ALL_WELL.fullmatch(joined) and joined.count(",") == len(given) - 1:
            return given  # type: ignore[return-value]
    return [_checked(value, position + offset) for offset, value in enumerate(given)]


def _checked(value: object, position: int) -> str:
    where = f"tweet_ids[{position}]"
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UsageError(f"{where} is a {type(value).__name__}, {_clipped(value)}: give Tweet IDs as str (or int)")
    text = value if isinstance(value, str) else str(value) if -MAX_TWEET_ID <= value <= MAX_TWEET_ID else "too large"
    if not _WELL.fullmatch(text) or int(text) > MAX_TWEET_ID:
        raise UsageError(
            f"{where} is {_clipped(value)}, which is no Tweet ID: digits alone, no leading zero, at most {MAX_TWEET_ID}"
        )
    return text


def _clipped(value: object) -> str:
    if isinstance(value, int) and not -MAX_TWEET_ID <= value <= MAX_TWEET_ID:
        return "a larger number"  # its repr may be longer than Python wants to print
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


class _Distinct:
    """Gathers IDs until a batch is full. Holds every ID seen, so that none is asked twice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: UniqueIds[str] = UniqueIds(_SET_MAX)
        self._gathered: list[str] = []
        self._taken = 0
        self._number = 0

    @property
    def wanted(self) -> int:
        return self._size - len(self._gathered)

    def add(self, given: list[str | int]) -> None:
        ids = check_tweet_ids(given, position=self._taken)
        self._taken += len(given)
        self._gathered += self._seen.add_new(ids)

    def batch(self) -> Batch | None:
        """What was gathered, if anything."""
        if not self._gathered:
            return None
        batch = Batch(self._number, tuple(self._gathered))
        self._number += 1
        self._gathered = []
        return batch


def _slices(ids: list[str], size: int) -> Iterator[Batch]:
    for number, at in enumerate(range(0, len(ids), size)):
        yield Batch(number, tuple(ids[at : at + size]))


def _chunk_sync(ids: Iterable[str | int], size: int) -> Iterator[Batch]:
    distinct = _Distinct(size)
    source = iter(ids)
    while given := list(islice(source, distinct.wanted)):
        distinct.add(given)
        if not distinct.wanted and (batch := distinct.batch()):
            yield batch
    if batch := distinct.batch():
        yield batch


async def _chunk_async(ids: AsyncIterable[str | int], size: int) -> AsyncIterator[Batch]:
    distinct = _Distinct(size)
    try:
        async for value in ids:
            distinct.add([value])
            if not distinct.wanted and (batch := distinct.batch()):
                yield batch
        if batch := distinct.batch():
            yield batch
    finally:
        if isinstance(ids, AsyncGenerator):  # a generator that is left to the garbage collector closes too late
            await ids.aclose()


def chunk(ids: TweetIds, size: int) -> Iterator[Batch] | AsyncIterator[Batch]:
    """Distinct IDs in batches of `size`, the last one shorter. A sync source gives an iterator, an async one an async.

    Raises `UsageError` for a value that is no Tweet ID: of a list or set at once, of other sources when it is reached;
    the batches before it have been given out by then.
    """
    if isinstance(ids, (str, bytes)):
        raise UsageError("tweet_ids is one string: give a list of IDs, as [tweet_id]")
    if isinstance(ids, AsyncIterable):
        return _chunk_async(ids, size)
    if isinstance(ids, Iterable):
        if isinstance(ids, Collection):
            _check_all(ids)
            if len(ids) <= _SMALL:
                return _slices(list(dict.fromkeys(map(str, ids))), size)
        return _chunk_sync(ids, size)
    raise UsageError(f"tweet_ids is a {type(ids).__name__}: give an iterable or async iterable of str or int")


def _check_all(tweet_ids: Collection[str | int]) -> None:
    """Finds a bad ID before anything is paid for."""
    rest = iter(tweet_ids)
    position = 0
    while given := list(islice(rest, 10_000)):
        check_tweet_ids(given, position=position)
        position += len(given)
