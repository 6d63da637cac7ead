"""Failures are strings with a kind, and join; outcomes of a batch are an answer without its values."""

from __future__ import annotations

import copy
import pickle
from itertools import permutations

from engagement_async import Answer, Failure, FailureKind
from engagement_async._core.outcomes import BatchOutcomes, join_failures


def test_a_failure_is_its_message_and_carries_its_kind_through_copies() -> None:
    failure = Failure("the API failed", kind=FailureKind.SERVER)

    for same in (failure, copy.deepcopy(failure), pickle.loads(pickle.dumps(failure))):
        assert same == "the API failed"
        assert same.kind is FailureKind.SERVER


def test_failures_of_several_parts_join_worst_first() -> None:
    outage = Failure("gone", kind=FailureKind.OUTAGE)
    server = Failure("ill", kind=FailureKind.SERVER)
    refused = Failure("no", kind=FailureKind.REFUSED)

    for order in permutations([outage, server, refused, outage]):
        joined = join_failures(order)
        assert joined == "no; ill; gone"
        assert isinstance(joined, Failure)
        assert joined.kind is FailureKind.REFUSED
    assert join_failures([outage, outage]) is outage
    assert join_failures(["of an old journal"]) == "of an old journal"


def test_ids_without_any_value_are_unsupported_in_every_metric() -> None:
    outcomes = BatchOutcomes.of(Answer(0, ("1", "2"), unsupported_tweet_ids={"a": ("1", "2"), "b": ("2",)}))

    assert outcomes.without_any_value(["a", "b"]) == {"2"}
    assert outcomes.without_any_value(["a", "c"]) == set()
    assert BatchOutcomes.of(Answer(0, ("1",))).without_any_value(["a"]) == set()
