"""One request on its way to an answer, and what an attempt at it came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

from engagement_async._core.accounting import Gaps
from engagement_async._core.batches import OwnedTweet
from engagement_async._core.parsing import ParsedResponse, ResponseParser
from engagement_async._core.rate_headers import RateHeaders
from engagement_async.errors import EngagementError

__all__ = ["Outcome", "Purpose", "Request", "split_in_half"]


class Purpose(Enum):
    """What a request is sent for."""

    DATA = auto()
    """Its answer is wanted."""
    LIFE_SIGN = auto()
    """A probe of an open circuit: any answer will do, and its values are dropped."""
    WITNESS = auto()
    """A single Tweet that finds out whether refusals are about the request or its Tweets; its values are dropped."""


@dataclass(slots=True)
class Request:
    """One request, until its IDs have an outcome. `batch` belongs to the engine: what the answers are collected in."""

    tweet_ids: tuple[str, ...]
    parser: ResponseParser
    batch_number: int
    batch: object = None
    owner: str | None = None
    """Whose credentials sign it, where a credential store signs for several owners."""
    purpose: Purpose = Purpose.DATA
    is_probe: bool = False
    """Whether everybody else waits for its outcome, because the circuit is open."""
    is_owner_probe: bool = False
    """Whether it is the circuit of its owner that it probes: then the others of this owner wait."""
    is_second_look: bool = False
    """Whether the last answer left out these IDs."""
    is_suspect: bool = False
    """Whether it is part of a request that was split because it kept failing while others were answered."""
    looks_for: Gaps | None = None
    """What an answer left out, if these IDs are sent again for that."""
    attempts: int = 0
    """How often it was sent."""
    failures: int = 0
    """Failed attempts that count: none from before the last outage."""
    doubtful_since: float = math.inf
    """The first of these failures, or the split that made this request."""
    failed_at: float = math.inf
    """The last of them."""
    outages_seen: int = 0
    access_refused_at: float = math.inf
    """The last time that it was refused for the account's sake."""
    contradictions: int = 0
    """How often others were answered between two such refusals."""
    was_resigned: bool = False
    renewals: int = 0
    """How often the owner's credentials had been renewed when it was last sent."""
    signer: object = None
    """The engine's: what it was last signed with, where a credential store signs."""

    def part(self, tweet_ids: tuple[str, ...]) -> Request:
        """Return a fresh request for some of these IDs."""
        return Request(
            tweet_ids,
            self.parser,
            self.batch_number,
            self.batch,
            self.owner,
            is_second_look=self.is_second_look,
            looks_for=self.looks_for,
            contradictions=self.contradictions,
        )

    def suspect_part(self, tweet_ids: tuple[str, ...], now: float) -> Request:
        """Return a request for some of these IDs, one of which the API may fail at."""
        return replace(self.part(tweet_ids), is_suspect=True, doubtful_since=now, outages_seen=self.outages_seen)

    def probe(self, tweet: OwnedTweet, purpose: Purpose, *, is_owner_probe: bool = False) -> Request:
        """Return the request of one Tweet that finds something out."""
        return Request(
            (tweet.tweet_id,),
            self.parser,
            self.batch_number,
            owner=tweet.owner,
            purpose=purpose,
            is_probe=purpose is Purpose.LIFE_SIGN and not is_owner_probe,
            is_owner_probe=is_owner_probe,
        )


_NO_HEADERS = RateHeaders()


class Outcome(NamedTuple):
    """What one attempt came to: a parsed response or an error, with what its headers and its signature say."""

    result: ParsedResponse | EngagementError
    headers: RateHeaders = _NO_HEADERS
    signed_at: float = 0.0
    """The timestamp of the signature, in epoch seconds."""
    received_at: float = 0.0
    """This machine's wall clock when the outcome was known, in epoch seconds."""
    arrived_at: float = math.inf
    """The instant at which an answer came: before it is parsed, it may wait for the consumer of those before it."""


def split_in_half(tweet_ids: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the two halves of two IDs or more."""
    middle = len(tweet_ids) // 2
    return tweet_ids[:middle], tweet_ids[middle:]
