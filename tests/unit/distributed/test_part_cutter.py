"""IDs become parts: each distinct one once, in whole requests of one owner, whatever their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import UsageError
from engagement_async.distributed.part_cutter import Part, PartCutter

IDS = st.lists(st.integers(1, 60), max_size=120).map(lambda numbers: [str(number) for number in numbers])


def cut(cutter: PartCutter, *tables: list[str], owner: dict[str, str] | None = None) -> list[Part]:
    parts: list[Part] = []
    for ids in tables:
        parts += cutter.add(ids, None if owner is None else [owner[i] for i in ids])
    return [*parts, *cutter.rest()]


@given(st.lists(IDS, max_size=4), IDS, st.integers(1, 30), st.integers(1, 10))
def test_each_distinct_id_is_in_one_part(
    tables: list[list[str]], finished: list[str], ids_per_part: int, ids_per_request: int
) -> None:
    cutter = PartCutter(ids_per_part=ids_per_part, ids_per_request=ids_per_request, has_owners=False)
    cutter.know(finished, [None] * len(finished))

    parts = cut(cutter, *tables)

    size = max(ids_per_part // ids_per_request, 1) * ids_per_request
    expected = [i for i in dict.fromkeys(i for ids in tables for i in ids) if i not in finished]
    assert [i for part in parts for i in part.tweet_ids] == expected
    assert [part.number for part in parts] == [*range(len(parts))]
    assert all(len(part.tweet_ids) == size for part in parts[:-1])
    assert all(part.owners is None for part in parts)


@given(st.lists(IDS, max_size=4), st.integers(1, 4), st.integers(1, 30), st.integers(1, 10))
def test_requests_are_of_one_owner_each(
    tables: list[list[str]], owners: int, ids_per_part: int, ids_per_request: int
) -> None:
    owner = {str(number): f"owner{number % owners}" for number in range(1, 61)}
    cutter = PartCutter(ids_per_part=ids_per_part, ids_per_request=ids_per_request, has_owners=True)
    cutter.know(["1", "2"], [owner["1"], owner["2"]])

    parts = cut(cutter, *tables, owner=owner)

    ids = [i for part in parts for i in part.tweet_ids]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {i for table in tables for i in table} - {"1", "2"}
    assert all(part.owners == [owner[i] for i in part.tweet_ids] for part in parts)
    requests = sum(
        -(-(part.owners or []).count(name) // ids_per_request) for part in parts for name in set(owner.values())
    )
    fewest = sum(-(-[owner[i] for i in ids].count(name) // ids_per_request) for name in set(owner.values()))
    assert requests == fewest


def test_an_id_of_two_owners_is_an_error() -> None:
    cutter = PartCutter(ids_per_part=10, ids_per_request=10, has_owners=True)
    cutter.know(["1"], ["acme"])

    with pytest.raises(UsageError, match="Tweet 1 is given for two owners, 'acme' and 'globex'"):
        list(cutter.add(["1"], ["globex"]))


def test_owners_are_there_for_all_or_for_none() -> None:
    cutter = PartCutter(ids_per_part=10, ids_per_request=10, has_owners=True)

    with pytest.raises(UsageError, match="no owner"):
        list(cutter.add(["1"], None))
    with pytest.raises(UsageError, match="finished parts have no owners"):
        cutter.know(["1"], [None])
