"""Where Tweet IDs ended, and why: counts of outcomes, kinds of failure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["Failure", "FailureKind", "Outcomes"]


class FailureKind(StrEnum):
    """Why an ID failed, for programs to act on."""

    MISSING = "missing"
    """Two answers left the Tweet out."""
    REFUSED = "refused"
    """The API refused the Tweet with a 400 or 403 that says nothing else of it."""
    SERVER = "server"
    """The API fails at this Tweet (5xx, cut or invalid answers) while it answers for others."""
    OUTAGE = "outage"
    """The API answered nobody until the outage timeout. The Tweet itself may be fine: a job leaves it pending."""
    CREDENTIALS = "credentials"
    """The credentials of the Tweet's owner are refused or unknown."""
    UNREPRESENTABLE = "unrepresentable"
    """The answer holds a value that does not fit into a signed 64-bit integer."""


class Failure(str):
    """Why an ID failed: a message for people, with its `kind` for programs.

    >>> failure = Failure("the API failed: HTTP 500", kind=FailureKind.SERVER)
    >>> failure.kind is FailureKind.SERVER
    True
    """

    __slots__ = ("kind",)
    kind: FailureKind

    def __new__(cls, message: str, *, kind: FailureKind) -> Failure:
        self = super().__new__(cls, message)
        self.kind = kind
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (str(self), self.kind)


def _rebuild(message: str, kind: FailureKind) -> Failure:
    return Failure(message, kind=kind)


class Outcomes(NamedTuple):
    """How many IDs ended where."""

    answered: int = 0
    unavailable: int = 0
    unsupported: int = 0
    """Without a value of any metric that was asked."""
    forbidden: int = 0
    failed: int = 0

    def __add__(self, other: tuple[int, ...]) -> Outcomes:  # type: ignore[override]
        return Outcomes(*(mine + its for mine, its in zip(self, other, strict=True)))

    def __sub__(self, other: tuple[int, ...]) -> Outcomes:
        return Outcomes(*(mine - its for mine, its in zip(self, other, strict=True)))
