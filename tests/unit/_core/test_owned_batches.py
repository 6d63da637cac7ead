from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import Batch, TweetsByOwner, UsageError
from engagement_async._core.owned_batches import chunk_by_owner, have_owners

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 60)))
SIZE = 3


def chunks(given: Any, size: int = SIZE) -> list[Batch]:
    batches = chunk_by_owner(given, size)
    assert isinstance(batches, Iterator)
    return list(batches)


async def async_chunks(given: Any, size: int = SIZE) -> list[Batch]:
    batches = chunk_by_owner(given, size)
    assert isinstance(batches, AsyncIterator)
    return [batch async for batch in batches]


def first_owners(pairs: list[tuple[str, int]]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for owner, tweet_id in pairs:
        owners.setdefault(str(tweet_id), owner)
    return owners


def check(batches: list[Batch], pairs: list[tuple[str, int]], size: int = SIZE) -> None:
    """Every ID once, under its first owner, in as few batches as can be."""
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(0 < len(batch.tweet_ids) <= size for batch in batches)
    asked = [(i, batch.owner) for batch in batches for i in batch.tweet_ids]
    owners = first_owners(pairs)
    assert len(asked) == len(owners)
    assert dict(asked) == owners
    counts = Counter(owners.values())
    assert Counter(batch.owner for batch in batches) == {owner: -(-n // size) for owner, n in counts.items()}
    for owner in counts:
        in_batches = [i for i, its in asked if its == owner]
        assert in_batches == [i for i, its in owners.items() if its == owner]


@given(PAIRS)
def test_every_id_is_in_one_batch_of_its_first_owner(pairs: list[tuple[str, int]]) -> None:
    check(chunks(TweetsByOwner(pairs, first_owner=True)), pairs)
    check(chunks(TweetsByOwner(iter(pairs), first_owner=True)), pairs)
    by_owner: dict[str, list[int]] = {}
    for owner, tweet_id in pairs:
        by_owner.setdefault(owner, []).append(tweet_id)
    in_order = [(owner, i) for owner, ids in by_owner.items() for i in ids]
    check(chunks(TweetsByOwner(by_owner, first_owner=True)), in_order)


@given(PAIRS)
async def test_an_async_source_gives_the_batches_of_a_sync_one(pairs: list[tuple[str, int]]) -> None:
    async def source() -> AsyncIterator[tuple[str, int]]:
        for pair in pairs:
            yield pair

    batches = await async_chunks(TweetsByOwner(source(), first_owner=True))
    assert batches == chunks(TweetsByOwner(iter(pairs), first_owner=True))


@given(PAIRS)
def test_an_id_of_two_owners_is_an_error_that_names_both(pairs: list[tuple[str, int]]) -> None:
    clashes = {(i, first, owner) for owner, i in pairs if (first := first_owners(pairs)[str(i)]) != owner}
    for source in (pairs, iter(pairs)):
        if not clashes:
            chunks(source)
            continue
        with pytest.raises(UsageError, match="is given for two owners") as caught:
            chunks(source)
        assert any(f"Tweet {i} " in str(caught.value) and f"{first!r} and {owner!r}" in str(caught.value)
                   for i, first, owner in clashes)  # fmt: skip


def test_owners_take_turns_and_the_small_ones_end_early() -> None:
    batches = chunks({"big": range(1, 3_001), **{f"small{n}": [10_000 + n] for n in range(5)}}, 25)

    assert [batch.owner for batch in batches[:6]] == ["big", *(f"small{n}" for n in range(5))]
    assert {batch.owner for batch in batches[6:]} == {"big"}


def test_an_owner_of_more_weight_has_more_of_each_turn() -> None:
    tweets = TweetsByOwner({"big": range(1, 301), "small": range(1_000, 1_100)}, weights={"big": 3})

    assert [batch.owner for batch in chunks(tweets, 25)[:8]] == ["big", "big", "big", "small"] * 2


def test_a_source_without_a_size_is_read_no_further_than_needed() -> None:
    read = 0

    def source() -> Iterator[tuple[str, int]]:
        nonlocal read
        for read in range(1, 10**9):
            yield "ab"[read % 2], read

    batches = chunk_by_owner(source(), 25)
    assert isinstance(batches, Iterator)
    assert [batch.owner for batch in islice(batches, 4)] == ["b", "b", "b", "b"]
    assert read <= 250


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("abc", "tweet_ids is a str"),
        (5, "tweet_ids is a int"),
        (["1", "2"], "give pairs"),
        ([("a", "1", "2")], "give pairs"),
        ([(None, "1")], "an owner is None"),
        ([(" ", "1")], "an owner is ' '"),
        ([("a", "x")], "no Tweet ID"),
        ({"a": "123"}, "the IDs of owner 'a' are a str"),
        ({"a": 5}, "the IDs of owner 'a' are a int"),
        ({"a": ["0"]}, "no Tweet ID"),
        ({1: ["5"]}, "an owner is 1"),
    ],
)
def test_what_is_no_owned_tweet_is_an_error(source: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chunks(source)


@pytest.mark.parametrize("weight", [0, -1, 1.5, True, "2"])
def test_a_weight_is_a_whole_number_from_1_on(weight: Any) -> None:
    with pytest.raises(UsageError, match="the weight of owner 'a'"):
        TweetsByOwner({"a": [1]}, weights={"a": weight})


@pytest.mark.parametrize(
    ("given", "do"),
    [
        ({"acme": ["1"]}, True),
        ({"acme": iter(["1"])}, True),
        (TweetsByOwner([("acme", "1")]), True),
        ({}, False),
        (dict.fromkeys(["1", "2"]), False),
        ({"1": "a note"}, False),
        (["1"], False),
    ],
)
def test_ids_with_owners_are_told_from_ids(given: Any, do: bool) -> None:
    assert have_owners(given) is do


def test_an_owner_is_text_that_can_be_written() -> None:
    with pytest.raises(UsageError, match="no Unicode text"):
        list(chunk_by_owner([("\udcff", "1")], 25))  # type: ignore[arg-type]
    batches = list(chunk_by_owner([("Größe", "1")], 25))  # type: ignore[arg-type]
    assert [batch.owner for batch in batches] == ["Größe"]
