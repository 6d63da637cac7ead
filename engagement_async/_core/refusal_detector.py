"""Whether refusals are about the request, or about some of its Tweets."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable

from engagement_async._core.batches import OwnedTweet
from engagement_async.errors import APIError

__all__ = ["RefusalDetector", "same_refusal"]

_VARYING = re.compile(
    r"[\w.:+/=-]*\d[\w.:+/=-]*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|"
    r"(?=[\w+/=-]*[A-Z])(?=[\w+/=-]*[a-z])[\w+/=-]{16,}"
)
"""Numbers, times, durations, and the identifiers of requests, in whatever alphabet."""


def same_refusal(error: APIError) -> str:
    """Return what two refusals for the same reason have in common: status and texts without what varies."""
    return f"{error.status} {_VARYING.sub('#', '; '.join(error.texts))}"


class RefusalDetector:
    """Finds out whether it is the request that is refused, and not some of its Tweets.

    Refusals that name no Tweet, all alike and with no answer between, raise the suspicion: of `BATCHES` batches, or of
    `PARTS` parts of one. Witnesses are then sent one by one: single Tweets from places far apart. One that is answered
    clears the request; `WITNESSES` refused alike convict it.
    """

    BATCHES = 3
    PARTS = 5
    WITNESSES = 3

    def __init__(self) -> None:
        self.is_asking = False
        self._refusal = ""
        self._alike: Counter[int] = Counter()
        """Refusals like the last one, by batch."""
        self._patience = 1
        self._witnesses: deque[OwnedTweet] | None = None
        self._convicted_by = 0

    @property
    def is_suspecting(self) -> bool:
        return self._witnesses is not None

    def record_answer(self) -> None:
        """Clear the request: something was answered."""
        if self.is_suspecting:
            self._patience *= 2  # the Tweets are to blame: suspect the request less readily
        if self._alike:
            self._alike.clear()
        self._convicted_by = 0
        self._witnesses = None
        self.is_asking = False

    def record_refusal(self, error: APIError, batch_number: int, witnesses: Iterable[OwnedTweet]) -> None:
        """Count a refusal of a request; `witnesses` are the Tweets to ask should it raise the suspicion."""
        refusal = same_refusal(error)
        if refusal != self._refusal:
            self._alike.clear()
            self._refusal = refusal
        self._alike[batch_number] += 1
        is_alike = len(self._alike) >= self.BATCHES * self._patience
        if self._witnesses is None and (is_alike or self._alike[batch_number] >= self.PARTS * self._patience):
            distinct = deque(dict.fromkeys(witnesses))
            if len(distinct) >= self.WITNESSES:  # with fewer Tweets, to bisect costs no more
                self._witnesses = distinct

    def convicts(self, error: APIError) -> bool:
        """Count a refusal of a witness; return whether the request is to blame."""
        self.is_asking = False
        if same_refusal(error) == self._refusal:
            self._convicted_by += 1
        return self._convicted_by >= self.WITNESSES

    def next_witness(self) -> OwnedTweet | None:
        """Return the Tweet to ask next; with none left nothing can be proved, and the suspicion ends."""
        if self._witnesses:
            self.is_asking = True
            return self._witnesses.popleft()
        self._witnesses = None
        self._patience *= 2
        return None
