"""Sorted runs give each ID once and in order, whatever chunks it comes in, in few bytes."""

from __future__ import annotations

import sys
import tracemalloc
from array import array
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core import sorted_runs
from engagement_async._core.batches import MAX_TWEET_ID
from engagement_async._core.sorted_runs import SortedRuns, has_numpy

IDS = st.integers(1, MAX_TWEET_ID) | st.integers(1, 40) | st.integers(MAX_TWEET_ID - 20, MAX_TWEET_ID)


@given(
    st.lists(st.lists(IDS, max_size=80), max_size=20),
    st.lists(IDS, max_size=30, unique=True),
    st.booleans(),
    st.integers(1, 100),
    st.integers(1, 100),
    st.integers(1, 200),
)
def test_each_id_is_given_once_and_in_order(
    chunks: list[list[int]], first: list[int], as_text: bool, chunk_min: int, few_max: int, merged_min: int
) -> None:
    convert: Any = str if as_text else int
    with mock.patch.multiple(sorted_runs, CHUNK_MIN=chunk_min, _FEW_MAX=few_max, _MERGED_MIN=merged_min):
        known: SortedRuns[Any] = SortedRuns(list(map(convert, first)))
        actual = [list(map(int, known.add_new(list(map(convert, chunk))))) for chunk in chunks]

    seen = dict.fromkeys(first)
    for chunk, new in zip(chunks, actual, strict=True):
        assert new == [i for i in dict.fromkeys(chunk) if i not in seen]
        seen.update(dict.fromkeys(chunk))


def test_an_array_of_the_caller_is_let_go() -> None:
    known: SortedRuns[int] = SortedRuns()
    ids = array("q", range(1, 3_000))

    assert list(known.add_new(ids)) == list(range(1, 3_000))
    ids.append(1)  # a buffer that somebody holds cannot grow
    assert list(known.add_new(ids)) == []


@pytest.mark.parametrize("chunk", [5_000, 20_000, 300_000])
def test_it_takes_at_most_16_bytes_an_id_at_any_time(chunk: int) -> None:
    count = 3_000_000
    drawn = np.array([Random(1).randrange(MAX_TWEET_ID)]) + np.arange(count) * 7_919_777 % 2**40
    chunks = [array("q", drawn[at : at + chunk].tobytes()) for at in range(0, count, chunk)]
    tracemalloc.start()
    try:
        known: SortedRuns[int] = SortedRuns()
        before = tracemalloc.get_traced_memory()[0]
        assert sum(len(known.add_new(each)) for each in chunks) == count
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert now - before <= 8.5 * count
    assert peak - before <= 16 * count


def test_numpy_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_numpy()
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert not has_numpy()
