"""What recovery remembers: of an endpoint, for all calls to it, and of one call."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from engagement_async._core.batches import AnsweredTweets, OwnedTweet
from engagement_async._core.breaker import CircuitBreaker
from engagement_async._core.outcomes import Failure
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.refusal_detector import RefusalDetector
from engagement_async._core.request import Purpose, Request
from engagement_async._core.suspensions import Suspensions
from engagement_async.errors import AuthError, EngagementError

__all__ = ["CallState", "EndpointState", "FailureRate", "OwnerState", "OwnersState"]


class FailureRate:
    """How often an attempt fails that would be answered in the end: an average over about the last hundred requests."""

    DECAY = 0.98

    def __init__(self) -> None:
        self._failures, self._answers = 0.5, 2.0

    def record(self, failures: int) -> None:
        """Count a request that was answered after that many failures."""
        self._failures = self._failures * self.DECAY + failures
        self._answers = self._answers * self.DECAY + 1.0

    def attempts_until(self, improbable: float, *, at_least: float, most: int) -> int:
        """Return how many failures in a row are that improbable for a request that nothing is wrong with."""
        rate = max(at_least, self._failures / (self._failures + self._answers))
        return min(most, math.ceil(math.log(improbable) / math.log(rate)))


class RateLimitState:
    """The 429s of one endpoint since its last other answer."""

    def __init__(self) -> None:
        self.since = math.inf
        self.holds = 0
        self.until = -math.inf


class EndpointState:
    """What all calls to one endpoint, with the same credentials, know of it."""

    KNOWN = 8
    CONFIRMED = 3

    def __init__(self, request_s: float = 60.0) -> None:
        self.suspensions = Suspensions.of_requests(request_s)
        self.breaker = CircuitBreaker(self.suspensions)
        self.failure_rate = FailureRate()
        self.limited = RateLimitState()
        self.access_refusals = 0
        """Probes in a row that were refused for the account's sake."""
        self.answered: deque[AnsweredTweets] = deque(maxlen=self.KNOWN)
        """The Tweets of the last answers: what probes ask for."""
        self._unanswered: dict[str, AnsweredTweets] = {}
        """By owner that is not answered, or not yet: Tweets to probe with."""
        self._probes = 0
        self._second_looks_in_vain = 0
        self.gaps: dict[str, set[str]] = {}
        """Metrics that second looks did not find either, and of whom: some Tweets, until it is known what that means."""
        self._incomplete_refuted = False

    @property
    def leaves_out_metrics(self) -> bool:
        """Whether second looks have shown that the API leaves metrics out for good, as it may for those that are zero."""
        return not self._incomplete_refuted and self._second_looks_in_vain >= self.CONFIRMED

    def look(self, now: float) -> None:
        """Note that the clock is looked at. A call that begins does so: the time before is not time that it waited."""
        self.breaker.look(now)

    def record_rate_limit(self, now: float) -> None:
        """Count a 429."""
        self.look(now)
        self.limited.since = min(self.limited.since, now)
        if now >= self.limited.until:  # what was in flight when the hold began is no refusal of its own
            self.limited.holds += 1

    def hold_until(self, at: float) -> None:
        """Note that nothing is sent before that instant."""
        self.limited.until = self.suspensions.held_until = max(self.limited.until, at)

    def record_answer(self, at: float) -> None:
        """Count an answer to a request, which came at this instant."""
        self.access_refusals = 0
        self.record_response(at)

    def record_response(self, at: float) -> None:
        """Count a response that is no refusal for the rate, be it one of the credentials: the API is there."""
        self.breaker.record_answer(at)
        if self.limited.holds and at >= self.limited.since:
            self.limited = RateLimitState()
            self.suspensions.held_until = math.inf

    def record_second_look(self, still_missing: Mapping[str, Collection[str]], found: int) -> None:
        """Count what a second request for left out metrics came to.

        One Tweet that always lacks some says nothing of the others, in however many time ranges it is requested.

        Args:
            still_missing: Metrics that it left out, too, and of which IDs.
            found: How many values it did have.
        """
        if found > sum(map(len, still_missing.values())):
            self._incomplete_refuted = True
            self.gaps = {}
        elif still_missing and not (self._incomplete_refuted or self.leaves_out_metrics):
            known = set().union(*self.gaps.values())
            self._second_looks_in_vain += any(not known.issuperset(ids) for ids in still_missing.values())
            for metric, ids in still_missing.items():
                self.gaps.setdefault(metric, set()).update(ids)

    def note_answered(self, tweets: AnsweredTweets) -> None:
        """Remember Tweets that were answered, for probes."""
        self.answered.append(tweets)
        if tweets.owner is not None:
            self._unanswered.pop(tweets.owner, None)

    def note_unanswered(self, owner: str, tweet_ids: tuple[str, ...]) -> None:
        """Remember Tweets of an owner that was not answered yet, or not any more."""
        self._unanswered.pop(owner, None)
        self._unanswered[owner] = AnsweredTweets(tweet_ids, owner)
        if len(self._unanswered) > self.KNOWN:
            del self._unanswered[next(iter(self._unanswered))]

    def forget_owner(self, owner: str) -> None:
        """Probe with no Tweet of this owner any more: its credentials are of no use."""
        self.answered = deque((tweets for tweets in self.answered if tweets.owner != owner), maxlen=self.KNOWN)
        self._unanswered.pop(owner, None)

    def life_sign(self, request: Request) -> Request:
        """Return a probe for a Tweet that is not suspected: one that was answered before, else one of the request's.

        With several owners, those are asked for in turn that were not answered: the API may be up for some of them.
        """
        number, self._probes = self._probes, self._probes + 1
        owners = {tweets.owner for tweets in self.answered}
        groups = [*reversed(self.answered), *(its for owner, its in self._unanswered.items() if owner not in owners)]
        if self.answered or len(groups) > 1:
            turn, index = divmod(number, len(groups))
            tweet = groups[index].pick(turn)
        else:
            tweet = OwnedTweet(request.tweet_ids[-1 - number % len(request.tweet_ids)], request.owner)
        return request.probe(tweet, Purpose.LIFE_SIGN)


@dataclass(slots=True)
class OwnerState:
    """What a call knows of one owner's credentials.

    Until a request was answered, at most `UNPROVEN` are in flight, and after a refusal one: the next tells enough.
    """

    UNPROVEN = 2

    in_flight: int = 0
    is_proven: bool = False
    is_doubted: bool = False
    """Whether the last outcome that says something of the credentials was a refusal."""
    refusals: int = 0
    """Requests that were refused for the account's sake since the last answer."""
    refusal: AuthError | None = None
    """The first 401 since the last answer, after which the credential store was asked again."""
    renewals: int = 0
    """How often it was asked again."""
    failure: Failure | None = None
    """Why no request is sent for this owner any more."""
    is_questioned: bool = False
    """Whether a probe is to tell if a refusal is about the account or about some Tweets."""
    patience: int = 1
    """Refusals since the last answer before such a probe: twice as many each time that it was some Tweets."""
    breaker: CircuitBreaker | None = None
    """Its circuit, once a request failed."""
    postponed_until: float = -math.inf
    """When the request is due that is to probe next, while the circuit is open."""
    last_answer_at: float = -math.inf
    answered: AnsweredTweets | None = None
    """The Tweets of the last answer that had values: what probes ask for."""
    has_several: bool = False
    """Whether several of its Tweets were requested. With one alone, a bad Tweet cannot be told from a bad owner."""
    _first: str = ""
    _probes: int = 0

    @property
    def may_send(self) -> bool:
        """Whether another request may be sent before those in flight are answered."""
        return self.is_proven or self.in_flight < (1 if self.is_doubted else self.UNPROVEN)

    @property
    def was_answered(self) -> bool:
        """Whether the API took these credentials in this call."""
        return self.last_answer_at > -math.inf

    @property
    def is_out(self) -> bool:
        """Whether the API does not answer this owner, while it answers others."""
        return self.breaker is not None and self.breaker.is_open

    def note(self, tweet_ids: tuple[str, ...]) -> None:
        """Note Tweets that were requested."""
        self._first = self._first or tweet_ids[0]
        self.has_several = self.has_several or len(tweet_ids) > 1 or self._first != tweet_ids[0]

    def record_answer(self, at: float, answered: AnsweredTweets | None) -> None:
        """Count an answer that came at this instant, and which of its Tweets had values."""
        self.is_proven, self.is_doubted, self.refusals, self.refusal = True, False, 0, None
        self.last_answer_at = max(self.last_answer_at, at)
        self.answered = answered or self.answered
        if self.is_questioned:
            self.is_questioned = False
            self.patience = min(64, 2 * self.patience)
        if self.breaker is not None:
            self.breaker.record_answer(at)

    def life_sign(self, request: Request) -> Request:
        """Return a probe for one of this owner's Tweets: one that was answered, else one of the request's."""
        number, self._probes = self._probes, self._probes + 1
        tweet = (self.answered or AnsweredTweets(request.tweet_ids, request.owner)).pick(number)
        return request.probe(tweet, Purpose.LIFE_SIGN, is_owner_probe=True)


class OwnersState:
    """The owners that a call has met."""

    ALIKE = 20

    def __init__(self) -> None:
        self._owners: dict[str, OwnerState] = {}
        self.were_answered_before = False
        """Whether an earlier call for the same work was answered: then owners that are left may all fail alone."""
        self.refused_before: Collection[str] = frozenset()
        """Owners whose credentials an earlier call found to be of no use: that they still are tells nothing of others."""
        self._requests: Counter[str] = Counter()
        self._is_any_proven = False
        self._failed = 0
        self._failed_anew = 0
        self._error: EngagementError | None = None

    def of(self, owner: str) -> OwnerState:
        """Return the state of one owner."""
        state = self._owners.get(owner)
        if state is None:
            state = self._owners[owner] = OwnerState()
        return state

    def record_answer(self, owner: str, at: float, answered: AnsweredTweets | None) -> None:
        """Note that the API took this owner's credentials: see `OwnerState.record_answer`."""
        self._is_any_proven = True
        self.of(owner).record_answer(at, answered)

    def record_refusal(self, owner: str) -> OwnerState:
        """Note that the API, or the credential store, refused this owner; return what is known of it."""
        state = self.of(owner)
        state.is_proven, state.is_doubted = False, True
        return state

    def fail(self, owner: str, failure: Failure, error: EngagementError) -> bool:
        """Send nothing more for this owner; return whether so many failed, and nobody was answered, that all will."""
        state = self.of(owner)
        if state.failure is None:
            state.failure = failure
            self._failed += 1
            self._failed_anew += owner not in self.refused_before
            self._error = error
        return not self._is_any_proven and self._failed_anew >= self.ALIKE

    def count_request(self, owner: str | None, count: int = 1) -> None:
        """Count a request that was signed for an owner; with a `count` of -1, take back one that was never sent."""
        if owner is not None:
            self._requests[owner] += count

    def take_requests(self) -> Counter[str]:
        """Return how many requests were signed for each owner since the last call: retries and probes included."""
        taken, self._requests = self._requests, Counter()
        return taken

    def has_failed(self, owner: str | None) -> bool:
        """Return whether nothing more is sent for this owner."""
        state = None if owner is None else self._owners.get(owner)
        return state is not None and state.failure is not None

    @property
    def open_circuits(self) -> list[CircuitBreaker]:
        """The circuits of owners that the API does not answer, while it answers others."""
        return [state.breaker for state in self._owners.values() if state.breaker is not None and state.breaker.is_open]

    @property
    def common_error(self) -> EngagementError | None:
        """The error with which every owner failed; None if there are no owners, or one has not failed."""
        return self._error if self._failed == len(self._owners) and not self.were_answered_before else None


@dataclass(slots=True)
class CallState:
    """What the requests of one call have in common."""

    endpoint: EndpointState
    limits: tuple[RateLimit, ...]
    began_at: float
    outage_timeout_s: float
    refusals: RefusalDetector = field(default_factory=RefusalDetector)
    owners: OwnersState = field(default_factory=OwnersState)

    def begin(self, now: float) -> None:
        """Wait for the API from this instant on."""
        self.began_at = now
        self.endpoint.look(now)

    @property
    def is_clear(self) -> bool:
        """Whether every request is admitted at once: nothing is to be found out first."""
        return not self.endpoint.breaker.is_open and not self.refusals.is_suspecting

    @property
    def deadline(self) -> float:
        """The instant until which this call waits for an API that answers nobody; `inf` while it answers."""
        return self.patience_ends(self.endpoint.breaker.failing_since)

    def patience_ends(self, since: float) -> float:
        """Return the instant until which this call waits for something that has lasted since `since`.

        Time before the call began, and time in which the process was suspended, do not count.
        """
        since = max(since, self.began_at)
        return since + self.endpoint.suspensions.seconds_since(since) + self.outage_timeout_s
