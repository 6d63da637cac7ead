"""In which order the batches of many owners are asked, and who is listed first."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.outcomes import Outcomes
from engagement_async.backfill.owners import BatchOwners, OwnerStatus, in_turns, smallest_first, worst_first


def test_owners_take_turns() -> None:
    owners = BatchOwners("aaaabbca")

    assert owners.names == ["a", "b", "c"]
    assert list(in_turns(range(8), owners)) == [0, 4, 6, 1, 5, 2, 3, 7]
    assert list(in_turns([2, 3, 5, 7], owners)) == [2, 5, 3, 7]
    assert list(in_turns(range(8), owners, last={"a": 0})) == [4, 6, 5, 0, 1, 2, 3, 7]
    assert list(in_turns(range(8), owners, last={"a": 1, "b": 1, "nobody": 5})) == [6, 0, 4, 1, 5, 2, 3, 7]
    assert list(in_turns(range(8), owners, last={"a": 4, "b": 2})) == [6, 4, 0, 5, 1, 2, 3, 7]
    assert list(smallest_first(range(8), owners)) == [6, 4, 5, 0, 1, 2, 3, 7]


def test_owners_with_a_weight_have_more_batches_at_each_turn() -> None:
    owners = BatchOwners("aaaaabbbbcc")
    ordered = [owners.names[owners.numbers[number]] for number in in_turns(range(11), owners, weights={"a": 3, "x": 9})]

    assert "".join(ordered) == "aaabcaabcbb"
    last = in_turns(range(11), owners, weights={"a": 3, "b": 2}, last={"a": 1, "b": 1})
    assert "".join(owners.names[owners.numbers[number]] for number in last) == "ccaaabbaabb"


@given(st.text("abcdef", max_size=60), st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 5)))
def test_whatever_the_weights_every_batch_is_there_once(text: str, weights: dict[str, int]) -> None:
    owners = BatchOwners(text)
    ordered = list(in_turns(range(len(text)), owners, weights=weights, last={"a": 3, "b": 1}))

    assert sorted(ordered) == list(range(len(text)))
    assert all(ordered.index(one) < ordered.index(other) for one, other in pairs_of_owners(text))


def pairs_of_owners(text: str) -> list[tuple[int, int]]:
    """Return the numbers of each owner's batches that follow one another: they keep their order."""
    places = [[n for n, each in enumerate(text) if each == owner] for owner in set(text)]
    return [pair for numbers in places for pair in pairwise(numbers)]


@given(st.text("abcdef", max_size=60))
def test_every_batch_is_there_once_and_nobody_is_two_ahead(text: str) -> None:
    owners = BatchOwners(text)
    ordered = list(in_turns(range(len(text)), owners))

    assert sorted(ordered) == list(range(len(text)))
    assert sorted(smallest_first(range(len(text)), owners)) == list(range(len(text)))
    for end in range(len(ordered)):
        asked = [text[number] for number in ordered[:end]]
        left = [text[number] for number in ordered[end:]]
        assert all(asked.count(one) <= asked.count(other) + 1 for one in set(asked) for other in set(left))


def test_the_worst_owner_comes_first() -> None:
    owners = {
        "good": OwnerStatus(5, Outcomes(answered=5), None),
        "pending": OwnerStatus(5, Outcomes(), None),
        "forbidden": OwnerStatus(5, Outcomes(forbidden=5), None),
        "failed": OwnerStatus(5, Outcomes(failed=5), None),
        "refused": OwnerStatus(5, Outcomes(failed=1), "owner refused: the credentials were refused"),
    }

    assert list(worst_first(owners)) == ["refused", "failed", "forbidden", "pending", "good"]
    assert owners["pending"].pending == 5
