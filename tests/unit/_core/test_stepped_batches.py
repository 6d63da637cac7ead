"""All IDs are checked before the first batch, a bounded number in each step."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from engagement_async import UsageError
from engagement_async._core.batches import Batch, chunk
from engagement_async._core.owned_batches import chunk_by_owner
from engagement_async._core.stepped_batches import STEP_IDS, SteppedBatches

IDS = [str(10**18 + n) for n in range(3 * STEP_IDS + 7)]


class Watched:
    """A collection that counts what was read of it."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.read = 0

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        for value in self.values:
            self.read += 1
            yield value


@pytest.mark.parametrize("owned", [False, True])
def test_a_step_reads_a_bounded_number_of_ids(owned: bool) -> None:
    ids = Watched([("ann", i) for i in IDS] if owned else IDS)
    batches: Any = chunk_by_owner(ids, 250) if owned else chunk(ids, 250)

    assert (ids.read, batches.is_prepared) == (0, False)
    reads = [ids.read for _ in batches.prepare()]

    assert reads == [STEP_IDS, 2 * STEP_IDS, 3 * STEP_IDS, len(IDS)]
    assert batches.is_prepared
    assert [i for batch in batches for i in batch.tweet_ids] == IDS


def test_owners_with_few_ids_share_a_step() -> None:
    owned = {f"owner {n}": IDS[n * 10 : n * 10 + 10] for n in range(STEP_IDS // 4)}
    batches = chunk_by_owner(owned, 250)

    assert isinstance(batches, SteppedBatches)
    assert len(list(batches.prepare())) == 10 * len(owned) // STEP_IDS
    assert [batch.owner for batch in batches] == list(owned)


@pytest.mark.parametrize("kind", [list, tuple, dict.fromkeys, np.array, Watched], ids=lambda kind: kind.__name__)
def test_who_does_not_prepare_has_the_same_batches(kind: Any) -> None:
    twice = [*IDS, *reversed(IDS)] if kind is not dict.fromkeys else IDS
    batches = list(chunk(kind(twice), 250))  # type: ignore[arg-type]

    assert batches == [Batch(n, tuple(IDS[at : at + 250])) for n, at in enumerate(range(0, len(IDS), 250))]


@pytest.mark.parametrize("count", [STEP_IDS, STEP_IDS + 1])
def test_few_ids_are_checked_at_once(count: int) -> None:
    given: Iterable[Any] = [*IDS[: count - 1], "no ID"]
    if count <= STEP_IDS:
        with pytest.raises(UsageError, match=rf"tweet_ids\[{count - 1}\]"):
            chunk(given, 250)
        return
    batches: Any = chunk(given, 250)
    for _ in range(2):  # nobody takes it for an empty source
        with pytest.raises(UsageError, match=rf"tweet_ids\[{count - 1}\]"):
            next(batches)
        assert not batches.is_prepared


def test_a_place_is_right_beyond_what_is_made_distinct_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_async._core.batches.DEDUP_AT_ONCE_MAX", STEP_IDS)
    source = Watched([*IDS[:STEP_IDS], *IDS[: STEP_IDS + 5], "no ID", *IDS])

    with pytest.raises(UsageError, match=rf"tweet_ids\[{2 * STEP_IDS + 5}\]"):
        list(chunk(source, 250))  # type: ignore[arg-type]


def test_what_is_made_of_them_takes_the_same_steps() -> None:
    ids = Watched(IDS)
    batches: Any = chunk(ids, 250)
    numbers = batches.then(lambda given: (batch.number for batch in given))

    assert ids.read == 0
    assert [ids.read for _ in numbers.prepare()] == [STEP_IDS, 2 * STEP_IDS, 3 * STEP_IDS, len(IDS)]
    assert list(numbers) == list(range(13))


def test_what_is_prepared_in_part_goes_on() -> None:
    def steps() -> Generator[None, None, Iterator[int]]:
        for _ in range(3):
            yield
        return iter([1, 2])

    batches = SteppedBatches(steps())
    next(batches.prepare())

    assert not batches.is_prepared
    assert list(batches) == [1, 2]
    assert list(batches.prepare()) == []
