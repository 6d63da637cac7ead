"""What observers call the same."""

from __future__ import annotations

import asyncio

import pytest

from engagement_async import TOTALS, Query, ServerError
from engagement_async._core.decisions import Accept, Decision, Fail, HoldAll, Renew, Requeue, Resign, RetryIn, Stop
from engagement_async._core.events import Retries, error_type, is_sent_again
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.request import Request
from engagement_async.errors import BodyError, RateLimitedError


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (None, 200, None),
        (None, None, None),
        (ServerError("HTTP 503", status=503), 503, "503"),
        (None, 403, "403"),  # an error of HTTP, though its body was read as an answer
        (RateLimitedError("in the text", status=200), 200, "RateLimitedError"),
        (BodyError("cut"), 200, "BodyError"),
        (BodyError("cut"), None, "BodyError"),
        (asyncio.CancelledError(), None, "CancelledError"),
    ],
)
def test_an_error_has_a_type_of_few(error: BaseException | None, status: int | None, expected: str | None) -> None:
    assert error_type(error, status) == expected


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (RetryIn(1.0), True),
        (HoldAll(1.0), True),
        (Resign(1.0), True),
        (Renew("owner"), True),
        (Accept(()), False),
        (Requeue(()), False),
        (Fail(("1",), Failure("refused", kind=FailureKind.REFUSED)), False),
        (Stop(BodyError("cut")), False),
    ],
)
def test_a_retry_is_the_same_request_again(decision: Decision, expected: bool) -> None:
    assert is_sent_again(decision) is expected


def test_a_retry_counts_once_it_is_sent() -> None:
    parser = ResponseParser(Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id"]}))
    request, other = Request(("1",), parser, 0), Request(("1",), parser, 0)
    retries = Retries()
    assert retries.send(request) is None

    retries.decide(request, RetryIn(1.0), "503")
    assert retries.send(other) is None
    assert retries.send(request) == "503"
    assert retries.send(request) is None  # the same once more, for another reason than that

    retries.decide(request, Fail(("1",), Failure("refused", kind=FailureKind.REFUSED)), "400")
    assert retries.send(request) is None
