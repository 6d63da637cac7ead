"""What an error means: wait, hold the contract, narrow the request, or stop. Pure policy: the engine runs it, with tenacity.

Nothing here sleeps, reads a clock or draws a number by itself; instants and draws are passed in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from engagement_async._core.answer import Answer
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.refusals import RefusedIdsError
from engagement_async.errors import AttemptError, DisconnectedError

__all__ = [
    "ATTEMPTS",
    "PUT_OFF_BEFORE_SPLIT",
    "Narrowed",
    "Outage",
    "Suspicion",
    "backoff_s",
    "clock_error_s",
    "halves",
    "hold_s",
    "missing_answer",
    "narrow",
]

ATTEMPTS = 5
"""Attempts in a row at one request; then it goes to the back of the queue."""
PUT_OFF_BEFORE_SPLIT = 2
"""So often may a request go to the back of the queue, while others are answered, before it is halved."""
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 20.0
CLOCK_TOLERANCE_S = 30.0
"""OAuth servers take timestamps within minutes; an error of the clock below this is not why they refuse."""


def backoff_s(faults: int, error: BaseException | None, draw: float) -> float:
    """Seconds to wait after that many faults of one request: `draw * min(20, 0.5 * 2 ** (faults - 1))`.

    `draw` is uniform in [0, 1): full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    The first disconnect is retried at once: it is how a keep-alive connection that the server had closed looks.
    """
    if faults == 1 and isinstance(error, DisconnectedError):
        return 0.0
    return draw * min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(faults - 1, 10))


def hold_s(said: RateHeaders, limits: Iterable[RateLimit], draw: float) -> float:
    """Seconds for which a 429 holds the whole contract: the longer of `Retry-After` and reset, and a positive jitter.

    Where the server says neither, or nonsense, one window is waited.
    """
    only_second = said.second_remaining == 0 and (said.minute_remaining or 0) > 0
    reset_s = said.second_reset_s if only_second else said.minute_reset_s
    told = [seconds for seconds in (said.retry_after_s, reset_s) if seconds is not None]
    wait_s = max(told) if told else max(limit.period for limit in limits)
    return wait_s + 0.1 + 0.9 * draw


def clock_error_s(said: RateHeaders, now: float) -> float | None:
    """How far the server's clock is ahead of `now` (epoch seconds), when that is enough to make a signature invalid."""
    if said.date is None:
        return None
    error_s = said.date.timestamp() - now
    return error_s if abs(error_s) > CLOCK_TOLERANCE_S else None


class Narrowed(NamedTuple):
    """What is left of a refused request: the outcomes of IDs that are taken out, and the IDs to ask next, by request."""

    out: Answer | None
    rest: tuple[tuple[str, ...], ...]


def narrow(number: int, tweet_ids: tuple[str, ...], error: RefusedIdsError) -> Narrowed:
    """Takes out the IDs that the refusal names, or halves the request until the bad IDs stand alone.

    One bad ID of 250 costs at most 16 more requests.
    """
    named = error.named or (tweet_ids if len(tweet_ids) == 1 else ())
    if named:
        left = tuple(i for i in tweet_ids if i not in frozenset(named))
        failure = Failure(str(error), kind=FailureKind.REFUSED)
        out = Answer(number, named, failed_tweet_ids=dict.fromkeys(named, failure))
        return Narrowed(out, (left,) if left else ())
    return Narrowed(None, halves(tweet_ids))


def halves(tweet_ids: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The two halves of a request of two IDs or more."""
    middle = len(tweet_ids) // 2
    return tweet_ids[:middle], tweet_ids[middle:]


def missing_answer(number: int, tweet_ids: tuple[str, ...]) -> Answer:
    """The outcomes of IDs that two answers left out."""
    failure = Failure("missing: the API's answers leave this Tweet out", kind=FailureKind.MISSING)
    return Answer(number, tweet_ids, failed_tweet_ids=dict.fromkeys(tweet_ids, failure))


class Suspicion:
    """Whether it is the request that is refused, and not some of its IDs.

    While nothing was answered yet, three equal refusals raise the doubt; single IDs are then asked, one after the other,
    and three of those refused alike settle it. Any answer clears the request for good.
    """

    EQUAL = 3

    def __init__(self) -> None:
        self._cleared = False
        self._batches: Counter[str] = Counter()
        self._singles: Counter[str] = Counter()

    @property
    def in_doubt(self) -> bool:
        return not self._cleared and any(count >= self.EQUAL for count in self._batches.values())

    def clear(self) -> None:
        """Something was answered."""
        self._cleared = True

    def refuse(self, error: RefusedIdsError, ids: int) -> bool:
        """Whether the run must stop, after one more refusal of a request of that many IDs."""
        if self._cleared or error.named:
            return False
        said = str(error)
        (self._singles if ids == 1 else self._batches)[said] += 1
        return self._batches[said] >= self.EQUAL and self._singles[said] >= self.EQUAL


@dataclass(slots=True)
class Outage:
    """A circuit breaker with a retry budget: a total outage must not be paid for with the contract.

    Every fault takes from the budget and every answer gives back (as in AWS SDKs' retry quota). When it is used up, or
    `FAULTS_IN_A_ROW` came with no answer between, the circuit opens: one request at a time probes, ever more seldom, and
    the others wait. An answer closes it. After `outage_timeout_s` without one, everything left is given up.
    """

    outage_timeout_s: float
    budget: int = 50
    in_a_row: int = 0
    failing_since: float = math.inf
    opened_at: float = math.inf
    probe_at: float = math.inf
    probes: int = 0
    is_probing: bool = False
    last_error: AttemptError | None = None

    BUDGET = 50
    FAULTS_IN_A_ROW = 10

    @property
    def is_open(self) -> bool:
        return self.opened_at < math.inf

    def is_over_deadline(self, now: float, began_at: float = -math.inf) -> bool:
        """Whether there was no answer for so long that a call which began at that instant gives up what is left of it."""
        return now - max(self.opened_at, began_at) > self.outage_timeout_s

    def admit(self, now: float) -> float:
        """0 to go ahead; else how many seconds to wait, `inf` until another request's outcome is known."""
        if not self.is_open:
            return 0.0
        if self.is_probing:
            return math.inf
        if now >= self.probe_at:
            self.is_probing = True
            return 0.0
        return self.probe_at - now

    def answered(self) -> None:
        """The API answered, be it with a refusal: it is there."""
        self.in_a_row = 0
        self.budget = min(self.BUDGET, max(self.budget + 1, self.BUDGET // 5 if self.is_open else 0))
        self.opened_at = self.probe_at = math.inf
        self.probes = 0
        self.is_probing = False

    def fault(self, error: AttemptError, now: float, draw: float, *, was_probe: bool) -> None:
        """An attempt failed. `draw` is uniform in [0, 1)."""
        self.last_error = error
        if not self.in_a_row:
            self.failing_since = now
        self.in_a_row += 1
        self.budget = max(0, self.budget - 1)
        if was_probe:
            self.is_probing = False
            self.probes += 1
            self.probe_at = now + self._probe_delay_s(draw)
        elif self.is_open:
            return
        elif self.in_a_row >= self.FAULTS_IN_A_ROW or not self.budget:
            self.opened_at = self.failing_since
            self.probe_at = now + self._probe_delay_s(draw)

    def release(self) -> None:
        """The probe was cancelled: another may go."""
        self.is_probing = False

    def _probe_delay_s(self, draw: float) -> float:
        return (0.5 + 0.5 * draw) * min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self.probes, 10))
