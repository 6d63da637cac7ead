from __future__ import annotations

import copy
import pickle

from engagement_async import Failure, FailureKind


def test_a_failure_is_its_message_and_carries_its_kind_through_copies() -> None:
    failure = Failure("the API failed", kind=FailureKind.SERVER)

    for same in (failure, copy.deepcopy(failure), pickle.loads(pickle.dumps(failure))):
        assert same == "the API failed"
        assert same.kind is FailureKind.SERVER
