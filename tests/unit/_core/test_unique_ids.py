"""Distinct IDs come back once, in input order, and are remembered in few bytes."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.batches import MAX_TWEET_ID
from engagement_async._core.unique_ids import IdSet, UniqueIds

IDS = st.integers(1, MAX_TWEET_ID) | st.integers(1, 50).map(lambda i: i * 1021) | st.integers(1, 200)


@given(st.lists(st.lists(IDS, max_size=60), max_size=20), st.integers(0, 100), st.booleans())
def test_each_id_is_given_once_and_in_order(chunks: list[list[int]], set_max: int, as_text: bool) -> None:
    known: UniqueIds[int] | UniqueIds[str] = UniqueIds(set_max)
    convert = str if as_text else int
    actual = [list(map(int, known.add_new(list(map(convert, chunk))))) for chunk in chunks]  # type: ignore[arg-type]

    seen: dict[int, None] = {}
    expected = []
    for chunk in chunks:
        expected.append([i for i in dict.fromkeys(chunk) if i not in seen])
        seen.update(dict.fromkeys(chunk))
    assert actual == expected


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
