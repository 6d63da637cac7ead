"""The owners of a job's Tweets: in which order their batches are requested, and what became of each. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from engagement_async._core.outcomes import Outcomes, worst_first_key

__all__ = ["BatchOwners", "OwnerStatus", "in_turns", "smallest_first", "worst_first"]

_EVEN: Mapping[str, int] = {}


class OwnerStatus(NamedTuple):
    """What became of the Tweets of one owner so far."""

    ids: int
    """Distinct IDs of this owner."""
    outcomes: Outcomes
    """Those that are done, by outcome."""
    error: str | None
    """Why the credentials of this owner were of no use the last time; None if they were taken, or not needed yet."""
    requests: int = 0
    """Requests that were signed for this owner in all runs; see `JobStatus.owner_requests_are_exact`."""

    @property
    def pending(self) -> int:
        """IDs that have no outcome yet."""
        return self.ids - sum(self.outcomes)


class BatchOwners:
    """The owner of each batch, by number."""

    def __init__(self, owners: Iterable[str]) -> None:
        numbers: dict[str, int] = {}
        self.numbers = array("i", (numbers.setdefault(owner, len(numbers)) for owner in owners))
        """The number of the owner of each batch."""
        self.names = list(numbers)
        """The owners, by number."""


def in_turns(
    batches: Iterable[int],
    owners: BatchOwners,
    *,
    weights: Mapping[str, int] = _EVEN,
    last: Mapping[str, int] = _EVEN,
) -> array[int]:
    """Return these batches in the order in which they are asked: one of each owner, then the next of each.

    Owners with a weight have as many at each turn. The owners in `last` come after all others, by their number there.
    """
    of_owners = [weights.get(name, 1) for name in owners.names]
    ranks = [last.get(name, -1) for name in owners.names]
    numbers = list(batches)
    first = [batch for batch in numbers if ranks[owners.numbers[batch]] < 0]
    others = [batch for batch in numbers if ranks[owners.numbers[batch]] >= 0]
    others.sort(key=lambda batch: ranks[owners.numbers[batch]])
    return _in_turns(first, owners, of_owners) + _in_turns(others, owners, of_owners)


def _in_turns(batches: Iterable[int], owners: BatchOwners, weights: Sequence[int]) -> array[int]:
    given: Counter[int] = Counter()
    by_turn: list[array[int]] = []
    for batch in batches:
        owner = owners.numbers[batch]
        turn = given[owner] // weights[owner]
        given[owner] += 1
        if turn == len(by_turn):
            by_turn.append(array("q"))
        by_turn[turn].append(batch)
    ordered = array("q")
    for each in by_turn:
        ordered += each
    return ordered


def smallest_first(batches: Iterable[int], owners: BatchOwners) -> array[int]:
    """Return these batches owner by owner, those with few of them first."""
    of_owners: dict[int, array[int]] = {}
    for batch in batches:
        of_owners.setdefault(owners.numbers[batch], array("q")).append(batch)
    ordered = array("q")
    for each in sorted(of_owners.values(), key=len):
        ordered += each
    return ordered


def worst_first(owners: Mapping[str, OwnerStatus]) -> dict[str, OwnerStatus]:
    """Return the owners in another order: see `worst_first_key`. Those that are alike come by the requests spent on them."""

    def key(item: tuple[str, OwnerStatus]) -> tuple[object, ...]:
        its = item[1]
        return *worst_first_key(its.error, its.outcomes, pending=its.pending), -its.requests

    return dict(sorted(owners.items(), key=key))
