"""The decisions of recovery, as values: what `admit` and `decide` return, and the engine executes."""

from __future__ import annotations

from dataclasses import dataclass

from engagement_async._core.answer import Answer
from engagement_async._core.outcomes import Failure
from engagement_async._core.request import Request
from engagement_async.errors import EngagementError

__all__ = [
    "Accept",
    "Admission",
    "AwaitOwner",
    "Decision",
    "Fail",
    "GiveUp",
    "HoldAll",
    "Postpone",
    "Probe",
    "Renew",
    "Requeue",
    "Resign",
    "RetryIn",
    "Send",
    "Stop",
    "Wait",
]


@dataclass(frozen=True, slots=True)
class Accept:
    """These answers settle their IDs; `follow_up` are the requests that are still needed. A probe settles nothing."""

    answers: tuple[Answer, ...]
    follow_up: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryIn:
    """The same request again, after that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HoldAll:
    """The API refused for the rate: hold the whole contract for that many seconds, then send the same request."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Resign:
    """Sign with a clock that is so many seconds off this machine's, and send the same request."""

    clock_offset_s: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask the credential store for this owner's credentials again. If they changed, send the same request."""

    owner: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """These requests take the place of the one that was sent."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Fail:
    """These IDs failed; `rest` are the requests for the others."""

    tweet_ids: tuple[str, ...]
    failure: Failure
    rest: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Going on would only spend the contract: the run ends with this error."""

    error: EngagementError


Decision = Accept | RetryIn | HoldAll | Resign | Renew | Requeue | Fail | Stop


@dataclass(frozen=True, slots=True)
class Send:
    """The request may be sent."""


@dataclass(frozen=True, slots=True)
class AwaitOwner:
    """Put the request aside until one of the same owner's has an outcome: are its credentials taken, is it answered?"""


@dataclass(frozen=True, slots=True)
class Probe:
    """This probe goes first; then the request asks again to be admitted."""

    request: Request


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after that many seconds (`inf`: when the state has changed)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Postpone:
    """Ask again after that many seconds, without a worker: the API does not answer its owner, while it answers others."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The outage outlasted the timeout."""

    failure: Failure


Admission = Send | Probe | Wait | GiveUp | AwaitOwner | Postpone
