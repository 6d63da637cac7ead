"""IDs of any iterable become checked, distinct, full batches, lazily."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import UsageError
from engagement_async._core.batches import MAX_TWEET_ID, AnsweredTweets, Batch, check_tweet_ids, chunk, length_of

tweet_ids = st.integers(1, MAX_TWEET_ID)
mixed = st.lists(st.one_of(tweet_ids, tweet_ids.map(str), st.integers(1, 30), st.integers(1, 30).map(str)))


def batches_of(ids: Any, size: int) -> list[Batch]:
    async def gather() -> list[Batch]:
        source = chunk(ids, size)
        if isinstance(source, AsyncIterator):
            return [batch async for batch in source]
        return list(source)

    return asyncio.run(gather())


@given(mixed, st.integers(1, 30), st.booleans())
def test_every_distinct_id_is_in_one_batch_in_input_order(ids: list[int | str], size: int, is_async: bool) -> None:
    async def later() -> AsyncIterator[int | str]:
        for tweet_id in ids:
            yield tweet_id

    batches = batches_of(later() if is_async else iter(ids), size)

    assert [i for batch in batches for i in batch.tweet_ids] == list(dict.fromkeys(str(i) for i in ids))
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(len(batch.tweet_ids) == size for batch in batches[:-1])
    assert all(0 < len(batch.tweet_ids) <= size for batch in batches)


def test_many_ids_are_still_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From half a million IDs on they are remembered in another way: here from a hundred on."""
    monkeypatch.setattr("engagement_async._core.batches.DEDUP_AT_ONCE_MAX", 100)
    monkeypatch.setattr("engagement_async._core.batches.SET_MAX", 100)
    source = [*range(1, 2_000), *range(1_000, 3_000), *map(str, range(1, 500)), 5_000]

    for ids in (iter(source), source):
        batches = batches_of(ids, 30)

        assert [i for batch in batches for i in batch.tweet_ids] == [*map(str, range(1, 3_000)), "5000"]


def test_it_takes_no_more_than_it_was_asked_for() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield 10**18 + taken

    source = chunk(endless(), 250)
    assert isinstance(source, Iterator)
    next(source)

    assert taken == 250


@given(st.text(alphabet="0123456789 ,.eE+-_\n٣²", max_size=22))
def test_only_digits_without_a_leading_zero_are_ids(text: str) -> None:
    well = text.isascii() and text.isdigit() and not text.startswith("0") and int(text) <= MAX_TWEET_ID

    for given_ids in ([text], ["123", text], [text, "123"]):
        if well:
            assert check_tweet_ids(list(given_ids)) == given_ids
        else:
            with pytest.raises(UsageError, match="no Tweet ID"):
                check_tweet_ids(list(given_ids))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (1.7e18, r"tweet_ids\[1\] is a float"),
        (True, r"tweet_ids\[1\] is a bool"),
        (None, "is a NoneType"),
        (b"12", "is a bytes"),
        (0, "no Tweet ID"),
        (-5, "no Tweet ID"),
        (2**63, "no Tweet ID"),
        pytest.param(10**5000, "no Tweet ID", id="huge"),
        (str(2**63), "no Tweet ID"),
        ("", "no Tweet ID"),
        ("007", "no Tweet ID"),
        ("1,2", "no Tweet ID"),
        ("12\n", "no Tweet ID"),
    ],
)
def test_what_is_no_id_is_told_by_its_place(bad: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        batches_of(["1", bad], 250)


@pytest.mark.parametrize(
    ("ids", "told"), [("123", "one string"), (b"123", "one string"), (123, "is an int"), (None, "NoneType")]
)
def test_what_is_no_list_of_ids_is_refused(ids: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        batches_of(ids, 250)


A, B = 2124551806699486865, 2124551806699486867
TEXTS = [str(A), str(B)]
FIX_FLOAT = r"a float loses an ID's last digits.*dtype=\{'tweet_id': str\}"
FIX_MISSING = r"a value is missing. Drop it, as column.dropna\(\)"


@pytest.mark.parametrize(
    "column",
    [
        *(np.array([A, B]), np.array([A, B], "uint64"), np.array(TEXTS), np.array([A, str(B)], object)),
        *([np.int64(A), np.uint64(B)], pd.Series([A, B]), pd.Series([A, B]).to_numpy(), pd.Index([A, B])),
        *(pd.array([A, B], "Int64"), pd.Series([A, B], dtype="Int64"), pd.Series(TEXTS, dtype="string")),
        *(pd.Series([A, B], dtype="int64[pyarrow]"), pd.Series([A, B]).astype("category")),
        *(pl.Series([A, B]), pl.Series([A, B], dtype=pl.UInt64), pl.Series(TEXTS)),
        *(pa.array([A, B]), pa.array([A, B], pa.uint64()), pa.array(TEXTS), pa.array(TEXTS, pa.string_view())),
        *(pa.chunked_array([[A], [B]]), pa.array(TEXTS).dictionary_encode(), [pa.scalar(A), pa.scalar(str(B))]),
    ],
    ids=lambda column: f"{type(column).__module__}.{type(column).__name__}",
)
def test_columns_of_other_libraries(column: Any) -> None:
    assert [batch.tweet_ids for batch in batches_of(column, 250)] == [tuple(TEXTS)]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (np.array([1.5]), rf"tweet_ids\[0\] is a float64, .*: {FIX_FLOAT}"),
        (pd.Series([A, None]), rf"is a float, .*: {FIX_FLOAT}"),
        (pa.array([1.5]), rf"is a float, .*: {FIX_FLOAT}"),
        (pd.array([A, None], "Int64"), rf"tweet_ids\[1\] is an NAType, <NA>: {FIX_MISSING}"),
        (pl.Series([A, None]), rf"is a NoneType, None: {FIX_MISSING}"),
        (pa.array([A, None]), rf"is a NoneType, None: {FIX_MISSING}"),
        ([float("nan")], rf"is a float, nan: {FIX_MISSING}"),
        (pd.DataFrame({"a": [A]}), r"is a DataFrame: give one column of it, as df\['tweet_id'\]"),
        (pl.DataFrame({"a": [A]}), "is a DataFrame: give one column of it"),
        (pl.DataFrame({"a": [A]}).lazy(), r"is a LazyFrame: give one column of it, as df.collect\(\)\['tweet_id'\]"),
        (pa.table({"a": [A]}), "is a Table: give one column of it"),
        (pa.RecordBatch.from_pydict({"a": [A]}), "is a RecordBatch: give one column of it"),
        (np.array([[A, B]]), r"is an ndarray of 2 dimensions: give one column of it, as array\[:, 0\]"),
        (np.array(A), r"is an ndarray of 0 dimensions: give a list of IDs"),
        (np.array([True]), r"is a bool_?, .*: give Tweet IDs as str \(or int\)"),
        ([("acme", A)], r"is a tuple, .*Pairs \(owner, tweet_id\) are for .* many owners: a CredentialFile"),
    ],
    ids=str,
)
def test_columns_that_hold_no_ids_say_how_to_mend_it(column: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        batches_of(column, 250)


class OneShot:
    """Sized, and read once: as a progress bar around a generator is."""

    def __init__(self, ids: Iterator[Any], size: int) -> None:
        self._ids = ids
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return self._ids

    def __contains__(self, value: object) -> bool:
        return False


@pytest.mark.parametrize("claimed", [0, 1, 500, 10**7])
def test_a_sized_source_that_can_be_read_once_loses_no_id(claimed: int) -> None:
    batches = batches_of(OneShot(iter(range(1, 501)), claimed), 250)

    assert [i for batch in batches for i in batch.tweet_ids] == [str(i) for i in range(1, 501)]


def test_a_sized_source_that_is_longer_than_it_says_is_read_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_async._core.batches.DEDUP_AT_ONCE_MAX", 100)
    endless = chunk(OneShot((i // 2 for i in count(2)), 3), 30)
    assert isinstance(endless, Iterator)

    found = [i for _ in range(10) for i in next(endless).tweet_ids]

    assert found == [str(i) for i in range(1, 301)]


class Known(str, Enum):  # noqa: UP042 - a StrEnum is its value; this one is not
    FIRST = "123"
    AGAIN = "124"


class Text(str):
    """What numpy's strings are."""

    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


@pytest.mark.parametrize("make", [list, iter, lambda ids: OneShot(iter(ids), 2)], ids=["list", "iterator", "sized"])
def test_kinds_of_strings_become_plain_strings_and_duplicates(make: Any) -> None:
    batches = batches_of(make([Known.FIRST, Known.AGAIN, "123", Text("124"), Text("125")]), 250)

    assert batches == [Batch(0, ("123", "124", "125"))]
    assert {type(i) for i in batches[0].tweet_ids} == {str}


class Integer:
    """An exact integer that is no `int`, as numpy's are."""

    def __index__(self) -> int:
        return 77


def test_exact_integers_of_any_kind_are_ids() -> None:
    assert batches_of([Integer(), 78], 250) == [Batch(0, ("77", "78"))]


def test_an_async_source_is_checked_by_the_batch() -> None:
    async def later() -> AsyncIterator[object]:
        for value in [*range(1, 251), "251", None]:
            yield value

    async def first_two() -> list[Batch]:
        found = []
        async for batch in chunk(later(), 250):  # type: ignore[union-attr, arg-type]
            found.append(batch)  # noqa: PERF401
        return found

    with pytest.raises(UsageError, match=r"tweet_ids\[251\] is a NoneType"):
        asyncio.run(first_two())


class BarWithoutTotal:
    """As a progress bar around a generator: it has `__len__`, and no length."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        raise TypeError("'NoneType' object cannot be interpreted as an integer")

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)


def test_a_source_whose_length_is_not_known_is_read_as_it_comes() -> None:
    ids = [str(i) for i in range(1, 6)]

    assert [batch.tweet_ids for batch in chunk(BarWithoutTotal(ids), 3)] == [("1", "2", "3"), ("4", "5")]  # type: ignore[union-attr]
    assert length_of(BarWithoutTotal(ids)) is None


@given(st.integers(1, 250))
def test_picks_of_answered_tweets_are_spread_over_all_of_them(count: int) -> None:
    tweets = AnsweredTweets(tuple(map(str, range(count))), "acme")

    picked = [int(tweets.pick(number).tweet_id) for number in range(3 * count)]

    assert picked[0] == 0
    assert tweets.pick(3).owner == "acme"
    assert set(picked) == set(range(count))
    if count >= 5:
        assert {at * 5 // count for at in picked[:10]} == {0, 1, 2, 3, 4}, "the first ones are far apart"
