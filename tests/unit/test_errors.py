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

    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is kind
        assert (str(same), same.status, same.texts) == ("refused", 403, ("Forbidden.",))


def test_an_error_without_an_answer_has_no_evidence() -> None:
    error = errors.ServerError("no body")

    assert (error.status, error.texts) == (None, ())


def test_what_the_api_never_said_is_no_error_of_the_api() -> None:
    assert not issubclass(errors.NotSentError, errors.APIError)
    assert not issubclass(errors.AttemptTimeoutError, errors.APIError)
