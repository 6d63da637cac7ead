"""What observers call the same."""

from __future__ import annotations

import asyncio

import pytest

from engagement_async import ServerError
from engagement_async._core.decisions import Accept, Decision, Fail, HoldAll, Renew, Requeue, Resign, RetryIn, Stop
from engagement_async._core.events import error_type, is_sent_again
from engagement_async._core.outcomes import Failure, FailureKind
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
