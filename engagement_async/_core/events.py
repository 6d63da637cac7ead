"""The events of a call that observers get, as values: from its beginning to its end, in the order in which it happens.

An observer is called once for each call, with a `CallBegan`, and returns what takes its other events, or None. Events are
made only where somebody listens. They hold requests and answers as the engine has them: what leaves the process is the
observer's choice, and no ID or secret should be.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from engagement_async._core.call_state import EndpointState
from engagement_async._core.decisions import Decision, HoldAll, Renew, Resign, RetryIn
from engagement_async._core.endpoints import Endpoint
from engagement_async._core.outcomes import Outcomes
from engagement_async._core.parsing import ParsedResponse
from engagement_async._core.request import Request
from engagement_async.errors import EngagementError

__all__ = [
    "CallBegan",
    "CircuitChanged",
    "Decided",
    "Ended",
    "Event",
    "HandedOut",
    "Observe",
    "Observer",
    "Received",
    "Retries",
    "Sent",
    "Waited",
    "error_type",
    "is_sent_again",
]


class CallBegan(NamedTuple):
    """A call begins."""

    endpoint: Endpoint
    scheme: str
    address: str
    """The host of the API."""
    port: int
    path: str
    """Of the endpoint, below which nothing of a request is."""
    state: EndpointState
    """What the client knows of the endpoint: the circuit breaker is in it."""
    shares_requests: bool = False
    """Whether the requests that serve it are those of another call, which began for several of them."""


class Waited(NamedTuple):
    """A request waited for a token of the contract, whether it got one or was cancelled."""

    seconds: float


class Sent(NamedTuple):
    """An attempt begins: the request has its token. `Received` follows, in the same task."""

    request: Request


class Received(NamedTuple):
    """An attempt has its response, whose body is not parsed yet, or ended without one."""

    request: Request
    seconds: float
    """Since `Sent`."""
    status: int | None
    error: BaseException | None
    """Why there is no response; a cancellation too."""


class Decided(NamedTuple):
    """It was decided what an attempt means. Does not follow a `Received` after which the call was cancelled."""

    request: Request
    result: ParsedResponse | EngagementError
    decision: Decision


class CircuitChanged(NamedTuple):
    """The circuit breaker of the endpoint opened or closed, because of this call."""

    is_open: bool


class HandedOut(NamedTuple):
    """An answer was handed to the caller: so many IDs have their outcome."""

    outcomes: Outcomes


class Ended(NamedTuple):
    """The call came to its end; `error` is what it raised."""

    error: BaseException | None


Event = Waited | Sent | Received | Decided | CircuitChanged | HandedOut | Ended
Observe = Callable[[Event], None]
"""Takes the events of one call, in the event loop: it must not wait."""
Observer = Callable[[CallBegan], Observe | None]
"""Returns what takes the events of a call, or None for a call that it does not watch."""


def error_type(error: BaseException | None, status: int | None) -> str | None:
    """Return what went wrong with an attempt, in one of few words: the HTTP status, else the class of the error.

    None for a success. As OpenTelemetry defines it: https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/
    """
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        return str(status)
    return None if error is None else type(error).__qualname__


def is_sent_again(decision: Decision) -> bool:
    """Return whether the very same request is to be sent once more. The parts of one that was split are others."""
    return isinstance(decision, RetryIn | HoldAll | Resign | Renew)


class Retries:
    """Counts retries when they are sent. A retry that was decided on and never sent is none: there was no other token for
    its owner, or the run ended.
    """

    def __init__(self) -> None:
        # By identity, and with the request itself, so that no other one gets its place in memory.
        self._due: dict[int, tuple[Request, str]] = {}

    def decide(self, request: Request, decision: Decision, why: str) -> None:
        """Note what was decided after an attempt that failed with an error of this type."""
        if is_sent_again(decision):
            self._due[id(request)] = request, why

    def send(self, request: Request) -> str | None:
        """Return the type of the error after which this request is sent again; None if that is no retry."""
        due = self._due.pop(id(request), None)
        return None if due is None else due[1]
