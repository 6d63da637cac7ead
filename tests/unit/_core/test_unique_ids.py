"""Distinct IDs come back once, in input order, and are remembered in few bytes."""

from __future__ import annotations

import tracemalloc
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core import sorted_runs, unique_ids
from engagement_async._core.batches import MAX_TWEET_ID
from engagement_async._core.unique_ids import IdSet, OwnersOfIds, SteadySet, UniqueIds

IDS = st.integers(1, MAX_TWEET_ID) | st.integers(1, 50).map(lambda i: i * 1021) | st.integers(1, 200)


@given(
    st.lists(st.lists(IDS, max_size=60), max_size=20),
    st.integers(0, 100),
    st.booleans(),
    st.integers(1, 80),
    st.booleans(),
)
def test_each_id_is_given_once_and_in_order(
    chunks: list[list[int]], set_max: int, as_text: bool, chunk_min: int, has_numpy: bool
) -> None:
    known: UniqueIds[int] | UniqueIds[str] = UniqueIds(set_max)
    convert = str if as_text else int
    with (
        mock.patch.object(unique_ids, "CHUNK_MIN", chunk_min),
        mock.patch.object(sorted_runs, "CHUNK_MIN", chunk_min),
        mock.patch.object(unique_ids, "has_numpy", return_value=has_numpy),
    ):
        actual = [list(map(int, known.add_new(list(map(convert, chunk))))) for chunk in chunks]  # type: ignore[arg-type]

    seen: dict[int, None] = {}
    expected = []
    for chunk in chunks:
        expected.append([i for i in dict.fromkeys(chunk) if i not in seen])
        seen.update(dict.fromkeys(chunk))
    assert actual == expected


@given(st.lists(st.lists(IDS, max_size=60), max_size=20), st.integers(0, 100))
def test_a_steady_set_holds_each_id_once_and_in_order(chunks: list[list[int]], set_max: int) -> None:
    known: SteadySet[int] = SteadySet(set_max)
    expected: dict[int, None] = {}
    for chunk in chunks:
        known.add(chunk)
        expected.update(dict.fromkeys(chunk))
        assert known.in_order == list(expected)

    list(known.clear())
    assert known.in_order == list(expected)


def test_it_takes_at_most_16_bytes_an_id() -> None:
    count = 300_000
    tracemalloc.start()
    try:
        known: IdSet[int] = IdSet()
        before = tracemalloc.get_traced_memory()[0]
        assert len(known.add_new((i * 7919) << 22 | i & 0xFFF for i in range(1, count + 1))) == count
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown <= 16 * count


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 3)), max_size=400), st.integers(0, 50))
def test_an_id_belongs_to_its_first_owner_in_the_dict_and_beyond_it(
    claims: list[tuple[int, int]], dict_max: int
) -> None:
    owners = OwnersOfIds(dict_max)
    known: dict[str, int] = {}
    for number, owner in claims:
        tweet_id = str(MAX_TWEET_ID // 90 * number)
        held = known.get(tweet_id)

        assert owners.claim([tweet_id], [owner]) == (
            [(tweet_id, owner)] if held is None else [],
            {tweet_id: (held, owner)} if held not in (None, owner) else {},
        )
        known.setdefault(tweet_id, owner)


def test_owners_take_at_most_22_bytes_an_id() -> None:
    count = 300_000
    owners = OwnersOfIds(0)
    tracemalloc.start()
    owners.claim((str(10**18 + 977 * n) for n in range(count)), (n % 1_000 for n in range(count)))[0].clear()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert taken <= 22 * count
    again, others = owners.claim([str(10**18), str(10**18 + 977)], [0, 5])
    assert (again, others) == ([], {str(10**18 + 977): (1, 5)})
