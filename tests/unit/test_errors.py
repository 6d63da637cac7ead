"""The errors as values: the tree is held by test_house.py; here is what an error carries."""

from __future__ import annotations

import copy
import pickle

import pytest

from engagement_async import errors

OF_THE_API = [
    each
    for each in (getattr(errors, name) for name in errors.__all__)
    if issubclass(each, errors.APIError) and each is not errors.APIError
]


def test_every_error_is_caught_by_the_base() -> None:
    assert all(issubclass(getattr(errors, name), errors.EngagementError) for name in errors.__all__)


def test_wrong_use_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="no metric"):
        raise errors.UsageError("no metric")


@pytest.mark.parametrize("kind", OF_THE_API, ids=lambda kind: kind.__name__)
def test_an_error_of_the_api_carries_its_evidence_wherever_it_goes(kind: type[errors.APIError]) -> None:
    error = kind("refused", status=403, texts=("Forbidden.",))
    error.retry_after_s = 1.5

    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is kind
        assert (str(same), same.status, same.texts, same.retry_after_s) == ("refused", 403, ("Forbidden.",), 1.5)


def test_an_error_without_an_answer_has_no_evidence() -> None:
    error = errors.NotSentError("no address")

    assert (error.status, error.texts, error.retry_after_s) == (None, (), None)
