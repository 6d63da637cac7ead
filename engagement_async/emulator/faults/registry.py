"""The one table of faults: what each is called, what it does, and what a good client does then."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from aiohttp import web

from .exchange import Exchange

__all__ = ["FAULTS", "Fault", "FaultKind", "Inject", "Reaction", "Requires", "inject", "register"]

Inject = Callable[[Exchange], Awaitable[web.StreamResponse]]


class FaultKind(enum.Enum):
    """What a fault breaks. The value is the name in help and documentation."""

    TRANSPORT = "connection"
    TIMING = "time"
    BODY = "body"
    CONTENT = "JSON"
    IDS = "Tweet IDs"
    VALUES = "values"
    STATUS = "status and headers"
    RATE = "rate limit"


class Reaction(enum.Enum):
    """What a good client does when it meets a fault. The value is the word of the documentation."""

    RETRY = "retry"
    """It sends the request again."""
    ACCEPT = "accept"
    """It takes the answer: there is nothing wrong with it."""
    HOLD = "hold"
    """It sends nothing until the rate limit allows more, then the request again."""
    BISECT = "bisect"
    """It sends the IDs again in halves, to find the one that was refused."""
    STOP = "stop"
    """It ends with an error: no other request would fare better."""


class Requires(enum.Enum):
    """What must be true of a request for a fault to make sense."""

    NOTHING = enum.auto()
    DATA = enum.auto()
    """Its answer has data."""
    REUSED_CONNECTION = enum.auto()
    """Its connection served a request before."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong.

    `description`: its one line. `expected`: what a good client does then. `requires`: when it can be injected.
    `is_drawn`: whether `random_faults` draws it by default; what is slow or large or changes the data is not.
    """

    name: str
    kind: FaultKind
    description: str
    expected: Reaction
    requires: Requires
    inject: Inject = field(repr=False)
    is_drawn: bool = True

    def fits(self, *, reused: bool, data: bool) -> bool:
        """Tell whether it can be injected. `reused`: into a reused connection; `data`: into an answer with data."""
        match self.requires:
            case Requires.REUSED_CONNECTION:
                return reused
            case Requires.DATA:
                return data
            case Requires.NOTHING:
                return True


_TABLE: dict[str, Fault] = {}
FAULTS: Mapping[str, Fault] = MappingProxyType(_TABLE)
"""Every fault by name."""


class Register(Protocol):
    """Decorator that puts a function into the table as a fault."""

    def __call__(
        self,
        name: str,
        description: str,
        expected: Reaction = ...,
        requires: Requires = ...,
        *,
        is_drawn: bool = ...,
    ) -> Callable[[Inject], Inject]: ...


def register(kind: FaultKind) -> Register:
    """Return a decorator for the faults of one kind. Its defaults: a good client retries, any request will do."""

    def fault(
        name: str,
        description: str,
        expected: Reaction = Reaction.RETRY,
        requires: Requires = Requires.NOTHING,
        *,
        is_drawn: bool = True,
    ) -> Callable[[Inject], Inject]:
        def add(inject: Inject) -> Inject:
            is_mild = expected in (Reaction.RETRY, Reaction.ACCEPT)
            _TABLE[name] = Fault(name, kind, description, expected, requires, inject, is_drawn and is_mild)
            return inject

        return add

    return fault


async def inject(fault: Fault, exchange: Exchange) -> web.StreamResponse:
    """Let the fault happen. The response that comes back is what aiohttp still has to send, if anything."""
    with contextlib.suppress(ConnectionError, web.HTTPException, web.RequestPayloadError):
        await exchange.request.read()  # unread bytes would turn a close into a reset
    return await fault.inject(exchange)
