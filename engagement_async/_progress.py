"""How far a run is, and what it waits for: the one module that says so for clients, jobs and series."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["WaitReason"]


class WaitReason(StrEnum):
    """What a client waits for."""

    CONTRACT = "contract"
    """The next token of the rate limit."""
    RATE_LIMITED = "rate_limited"
    """The end of a pause that the API demanded with a 429."""
    OUTAGE = "outage"
    """An API that does not answer: single probes ask until it does."""

    @property
    def text(self) -> str:
        """What is waited for, in words for a progress line: "waiting 3 s for ..."."""
        return _TEXTS[self]


_TEXTS = {
    WaitReason.CONTRACT: "the contract",
    WaitReason.RATE_LIMITED: "the API's rate limit",
    WaitReason.OUTAGE: "the API to answer again",
}
