"""IDs with owners become batches of one owner each, lazily: a request is signed with its owner's token."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Mapping
from itertools import islice, repeat
from typing import Generic, TypeVar

from engagement_async._core.batches import DEDUP_AT_ONCE_MAX, ITERABLE_TWICE, Batch, check_tweet_ids, length_of
from engagement_async._core.stepped_batches import STEP_IDS, SteppedBatches
from engagement_async._core.unique_ids import OwnersOfIds
from engagement_async.errors import UsageError

__all__ = [
    "Claims",
    "OwnedIds",
    "Tweets",
    "TweetsByOwner",
    "check_pair",
    "checked_weights",
    "chunk_by_owner",
    "have_owners",
    "pairs_of",
    "take_turns",
]

_Id = TypeVar("_Id", str, int)
_EVEN: Mapping[str, int] = {}

OwnedIds = Mapping[str, Iterable[str | int]] | Iterable[tuple[str, str | int]] | AsyncIterable[tuple[str, str | int]]
"""What callers may give: a mapping of owners to IDs, or any iterable or async iterable of pairs `(owner, tweet_id)`."""

_READ_AT_ONCE = 250
"""Pairs that are read and checked together: one by one would cost four times as much."""


class TweetsByOwner:
    """Tweet IDs with their owners, and how the owners share the contract.

    Clients with a credential store take it, or its `source` alone, as `tweet_ids`.

    >>> TweetsByOwner({"agency": ids, "shop": others}, weights={"agency": 3})

    Args:
        source: A mapping of owners to IDs, or any iterable or async iterable of pairs `(owner, tweet_id)`, in any order.
            Owners are names of your choice: what the credential store knows them by.
        weights: How many requests an owner may send at each turn, from 1 on; 1 for those that are not named. Turns are taken
            where all IDs are at hand: of a mapping, or of a list of pairs.
        first_owner: Whether a Tweet that is given for two owners belongs to the first one, instead of being an error.

    Raises:
        UsageError: `source` is of another kind, or a weight is no whole number from 1 on.
    """

    def __init__(
        self, source: OwnedIds, *, weights: Mapping[str, int] | None = None, first_owner: bool = False
    ) -> None:
        if isinstance(source, (str, bytes)) or not isinstance(source, (Iterable, AsyncIterable)):
            raise UsageError(_NOT_OWNED.format(type(source).__name__))
        self.source = source
        self.weights = checked_weights(weights or {})
        self.first_owner = first_owner


_Tweet = str | int | tuple[str, str | int]

Tweets = Iterable[_Tweet] | AsyncIterable[_Tweet] | Mapping[str, Iterable[str | int]] | TweetsByOwner
"""What calls take: IDs for clients with one owner's credentials, IDs with owners for those with a credential store."""

_NOT_OWNED = (
    "tweet_ids is a {}: with a credential store, give a mapping of owners to IDs, as {{'owner': ids}}, or an iterable of "
    "pairs (owner, tweet_id)"
)


def chunk_by_owner(given: OwnedIds | TweetsByOwner, size: int) -> Iterator[Batch] | AsyncIterator[Batch]:
    """Return distinct IDs in batches of at most `size`, each of one owner; of an async source, an async iterator.

    Where all IDs are at hand, owners take turns, so that an owner with many Tweets holds nobody up. Of other sources a batch
    is made as soon as an owner's IDs fill it, and what is left at the end: at most `size` IDs an owner are held.

    Raise `UsageError` for a value that is no Tweet ID, or an ID that was given for another owner before: at once if the
    source has a size, else when its batch is made.
    """
    tweets = given if isinstance(given, TweetsByOwner) else TweetsByOwner(given)
    source = tweets.source
    batcher = _Batcher(size, first_owner=tweets.first_owner)
    if isinstance(source, AsyncIterable):
        return _chunk_async(source, batcher)
    if not isinstance(source, Mapping):
        known = length_of(source)
        if known is None or known > DEDUP_AT_ONCE_MAX:
            return _chunk_pairs(iter(source), batcher)
        return SteppedBatches.of(_pairs_in_steps(source, batcher, size, tweets.weights), known)
    for owner, ids in source.items():
        check_ids_of(owner, ids)
    lists = [ids for ids in source.values() if isinstance(ids, ITERABLE_TWICE)]
    if len(lists) == len(source) and (count := sum(map(len, lists))) <= DEDUP_AT_ONCE_MAX:
        return SteppedBatches.of(_lists_in_steps(source, batcher, size, tweets.weights), count)
    return take_turns(
        {owner: batcher.distinct(owner, iter(ids)) for owner, ids in source.items()}, size, tweets.weights
    )


def checked_weights(weights: Mapping[str, int]) -> dict[str, int]:
    """Return weights of owners. Raise `UsageError` for one that is no whole number from 1 on."""
    for owner, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
            raise UsageError(f"the weight of owner {owner!r} is {weight!r}: give a whole number from 1 on")
    return dict(weights)


def _check_text(owner: str) -> None:
    try:
        owner.encode()
    except UnicodeEncodeError:
        raise UsageError(f"an owner is {owner!r}, which is no Unicode text: decode it as what it is") from None


def check_pair(pair: object, position: int) -> None:
    """Raise `UsageError` for what is no pair of an owner and an ID."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UsageError(
            f"tweet_ids[{position}] is a {type(pair).__name__}: with a credential store, give pairs (owner, tweet_id), or a "
            "mapping of owners to IDs; in a table, a column `owner`"
        )


def pairs_of(
    source: Mapping[str, Iterable[str | int]] | Iterable[tuple[str, str | int]],
) -> Iterable[tuple[str, str | int]]:
    """Return pairs of owners and IDs, also of a mapping."""
    if not isinstance(source, Mapping):
        return source
    for owner, ids in source.items():
        check_ids_of(owner, ids)
    return ((owner, tweet_id) for owner, ids in source.items() for tweet_id in ids)


def check_ids_of(owner: str, ids: object) -> None:
    """Raise `UsageError` if what a mapping has for an owner are no IDs."""
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise UsageError(f"the IDs of owner {owner!r} are a {type(ids).__name__}: give a list, or another iterable")


class Claims(Generic[_Id]):
    """Whose each ID is: distinct IDs, each of the first owner that it came with.

    `first_owner` says whether it is no error that an ID comes with another owner later.
    """

    def __init__(self, *, first_owner: bool) -> None:
        self._first_owner = first_owner
        self._numbers: dict[str, int] = {}
        self._known: OwnersOfIds[_Id] = OwnersOfIds()
        self.names: list[str] = []
        """The owners, by number."""

    def number_of(self, owner: str) -> int:
        """Return the number of an owner, a new one if need be. Raise `UsageError` for what is no name."""
        number = self._numbers.get(owner)
        if number is None:
            if not isinstance(owner, str) or not owner.strip():
                raise UsageError(
                    f"an owner is {owner!r}: give a name that is not empty, as the credential store knows it"
                )
            if not owner.isascii():
                _check_text(owner)
            number = self._numbers[owner] = len(self.names)
            self.names.append(owner)
        return number

    def new(self, tweet_ids: Iterable[_Id], owners: Iterable[int]) -> list[tuple[_Id, int]]:
        """Return those IDs that were not there before, each with the number of its owner.

        Raise `UsageError` for one that came with another owner before.
        """
        new, taken = self._known.claim(tweet_ids, owners)
        if taken and not self._first_owner:
            tweet_id, (first, other) = next(iter(taken.items()))
            raise UsageError(
                f"Tweet {tweet_id} is given for two owners, {self.names[first]!r} and {self.names[other]!r}: take one "
                "out, or let the first one have it (first_owner=True, --first-owner)"
            )
        return new


def have_owners(given: object) -> bool:
    """Return whether these IDs come with owners. The keys of a mapping to anything but lists are IDs themselves."""
    if isinstance(given, Mapping):
        first = next(iter(given.values()), None)
        return isinstance(first, Iterable) and not isinstance(first, (str, bytes))
    return isinstance(given, TweetsByOwner)


class _Batcher:
    """Gathers each owner's distinct IDs until they fill a request."""

    def __init__(self, size: int, *, first_owner: bool) -> None:
        self._size = size
        self._claims: Claims[str] = Claims(first_owner=first_owner)
        self._names = self._claims.names
        self._gathered: list[list[str]] = []
        """By the number of the owner."""
        self._count = 0
        self._number = 0

    def add(self, pairs: list[tuple[str, str | int]]) -> None:
        """Take in the next pairs of the source. Raise `UsageError` for the first that is none."""
        for offset, pair in enumerate(pairs):
            check_pair(pair, self._count + offset)
        owners = [self._number_of(owner) for owner, _ in pairs]
        for tweet_id, number in self._new([tweet_id for _, tweet_id in pairs], owners):
            self._gathered[number].append(tweet_id)

    def add_of(self, owner: str, given: list[str | int]) -> None:
        """Take in IDs of one owner."""
        self._gathered[self._number_of(owner)].extend(self.distinct(owner, iter(given)))

    def distinct(self, owner: str, ids: Iterator[str | int]) -> Iterator[str]:
        """Yield the distinct IDs of one owner."""
        number = self._number_of(owner)
        while given := list(islice(ids, _READ_AT_ONCE)):
            for tweet_id, _ in self._new(given, repeat(number)):
                yield tweet_id

    def full(self) -> Iterator[Batch]:
        """Yield the batches that are full."""
        for owner, ids in zip(self._names, self._gathered, strict=True):
            while len(ids) >= self._size:
                yield self._batch(owner, ids[: self._size])
                del ids[: self._size]

    def rest(self) -> Iterator[Batch]:
        """Yield what is left, in the order in which the owners came."""
        yield from self.full()
        for owner, ids in zip(self._names, self._gathered, strict=True):
            if ids:
                yield self._batch(owner, ids)

    def gathered(self) -> dict[str, Iterator[str]]:
        """Return all IDs by owner."""
        return dict(zip(self._names, map(iter, self._gathered), strict=True))

    def _batch(self, owner: str, ids: list[str]) -> Batch:
        batch = Batch(self._number, tuple(ids), owner)
        self._number += 1
        return batch

    def _number_of(self, owner: str) -> int:
        number = self._claims.number_of(owner)
        if number == len(self._gathered):
            self._gathered.append([])
        return number

    def _new(self, given: list[str | int], owners: Iterable[int]) -> list[tuple[str, int]]:
        ids = check_tweet_ids(given, position=self._count)
        self._count += len(given)
        return self._claims.new(ids, owners)


def _chunk_pairs(pairs: Iterator[tuple[str, str | int]], batcher: _Batcher) -> Iterator[Batch]:
    while given := list(islice(pairs, _READ_AT_ONCE)):
        batcher.add(given)
        yield from batcher.full()
    yield from batcher.rest()


def _pairs_in_steps(
    pairs: Iterable[tuple[str, str | int]], batcher: _Batcher, size: int, weights: Mapping[str, int]
) -> Generator[None, None, Iterator[Batch]]:
    """Check all pairs, some in each step, and return batches of the owners in turns."""
    rest = iter(pairs)
    while given := list(islice(rest, STEP_IDS)):
        batcher.add(given)
        yield
    return take_turns(batcher.gathered(), size, weights)


def _lists_in_steps(
    source: Mapping[str, Iterable[str | int]], batcher: _Batcher, size: int, weights: Mapping[str, int]
) -> Generator[None, None, Iterator[Batch]]:
    """Check the IDs of all owners, some in each step, and return batches of the owners in turns."""
    room = STEP_IDS
    for owner, ids in source.items():
        rest = iter(ids)
        batcher.add_of(owner, [])  # one without IDs has its turn too
        while given := list(islice(rest, room)):
            batcher.add_of(owner, given)
            room -= len(given)
            if not room:
                yield
                room = STEP_IDS
    return take_turns(batcher.gathered(), size, weights)


async def _chunk_async(pairs: AsyncIterable[tuple[str, str | int]], batcher: _Batcher) -> AsyncIterator[Batch]:
    given: list[tuple[str, str | int]] = []
    try:
        async for pair in pairs:
            given.append(pair)
            if len(given) == _READ_AT_ONCE:
                batcher.add(given)
                given = []
                for batch in batcher.full():
                    yield batch
        batcher.add(given)
        for batch in batcher.rest():
            yield batch
    finally:
        if isinstance(pairs, AsyncGenerator):  # a generator that is left to the garbage collector closes too late
            await pairs.aclose()


def take_turns(sources: Mapping[str, Iterator[str]], size: int, weights: Mapping[str, int] = _EVEN) -> Iterator[Batch]:
    """Yield batches of the owners' distinct IDs in turns, `weights` of them at each turn."""
    turns = deque(sources.items())
    number = 0
    while turns:
        owner, ids = turns.popleft()
        for _ in range(weights.get(owner, 1)):
            batch = tuple(islice(ids, size))
            if batch:
                yield Batch(number, batch, owner)
                number += 1
            if len(batch) < size:
                break
        else:
            turns.append((owner, ids))
