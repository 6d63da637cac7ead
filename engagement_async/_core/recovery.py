"""What an outcome means: `admit` before a request is sent, `decide` after it. All of recovery is decided here.

Pure: no clock, no loop, no randomness. Instants (`now`, seconds of one monotonic clock) and `jitter` (uniform in [0, 1))
are passed in. What decisions depend on is in `EndpointState`, shared by all calls to one endpoint, and `CallState`, of one
call; both change here alone. The engine executes what is returned, and decides nothing.

    admit:   Send | Probe | Wait | AwaitOwner | Postpone | GiveUp
    decide:  Accept | RetryIn | HoldAll | Resign | Renew | Requeue | Fail | Stop

How a request that keeps failing is told from an API that keeps failing: by answers to others. A request whose failures
were followed by an answer to another one is a suspect, and is bisected until the Tweet that the API fails at stands alone.
Where no other was answered the circuit opens, and a probe for another Tweet finds out. Where Tweets have owners, the others
are those of the same owner, which has a circuit of its own: the API may fail at one account, and answer everybody else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from dataclasses import replace
from itertools import chain

from engagement_async._core.accounting import Gaps
from engagement_async._core.answer import Answer
from engagement_async._core.backoff import LONGEST_DELAY_S, backoff_s, exponential_s, hold_s
from engagement_async._core.batches import AnsweredTweets, OwnedTweet
from engagement_async._core.breaker import CircuitBreaker
from engagement_async._core.call_state import CallState, OwnerState
from engagement_async._core.decisions import (
    Accept,
    Admission,
    AwaitOwner,
    Decision,
    Fail,
    GiveUp,
    HoldAll,
    Postpone,
    Probe,
    Renew,
    Requeue,
    Resign,
    RetryIn,
    Send,
    Stop,
    Wait,
)
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.parsing import ParsedResponse
from engagement_async._core.refusals import RefusedIdsError, summarize
from engagement_async._core.request import Outcome, Purpose, Request, split_in_half
from engagement_async._core.words import owner_text
from engagement_async.errors import (
    AccessRefusedError,
    APIError,
    AttemptError,
    AuthError,
    EngagementError,
    NotSentError,
    ProxyError,
    RateLimitedError,
    RequestRefusedError,
)

__all__ = ["admit", "cancel", "conclude", "decide", "may_lack"]

CLOCK_TOLERANCE_S = 30.0
"""OAuth servers accept timestamps within minutes; a smaller error of the clock is not why they refuse."""
SUSPECT_AFTER = 3
"""Failures of one request, with no answer to any other since the first, before only a probe can tell more."""
UNAUTHORIZED, PAYMENT_REQUIRED = 401, 402
"""A 401 is about the credentials of a request; a 402 about the contract as a whole, whoever's Tweets are requested."""
OWNER_REFUSALS = 2
"""Requests of one owner that are refused for the account's sake, before its other Tweets fail unsent."""
ACCESS_REFUSALS = 3
"""Probes that are refused for a reason that is not about the request, before the run stops."""
CONTRADICTIONS = 2
"""Times that others were answered between two such refusals of one request, before the refusal is about its Tweets."""
LONGEST_RETRY_AFTER_S = 60.0
"""The longest `Retry-After` of a failure that is waited for: perhaps nobody else finds out that the API works again."""
MOST_SPLIT_ATTEMPTS, MOST_FINAL_ATTEMPTS = 12, 40


def admit(request: Request, call: CallState, *, now: float) -> Admission:
    """Decide whether this request may be sent, or what must be found out first."""
    if request.owner is not None:
        owner = call.owners.of(request.owner)
        if owner.failure is not None:
            return GiveUp(owner.failure)
        if owner.breaker is not None and owner.is_out and not call.endpoint.breaker.is_open:
            return _admit_of_owner(request, owner, owner.breaker, call, now)
        if not owner.may_send:
            return AwaitOwner()
        if owner.is_questioned and not call.endpoint.breaker.is_open:
            return AwaitOwner() if owner.in_flight else Probe(owner.life_sign(request))
    breaker = call.endpoint.breaker
    if breaker.is_open:
        breaker.look(now)
        if breaker.is_given_up(now, call.deadline):
            text = f"the API answered nothing for {call.outage_timeout_s:.0f} s; last: {breaker.last_error}"
            return GiveUp(Failure(text, kind=FailureKind.OUTAGE))
        wait_s = breaker.delay_before_next(now, call.deadline)
        if wait_s:
            return Wait(wait_s)
        breaker.begin_probe()
        if isinstance(breaker.last_error, NotSentError):  # no Tweet is to blame for a connection that is refused
            request.is_probe = True
            return Send()
        return Probe(call.endpoint.life_sign(request))
    if call.refusals.is_suspecting:
        if call.refusals.is_asking:
            return Wait(math.inf)
        witness = call.refusals.next_witness()
        if witness is not None:
            return Probe(request.probe(witness, Purpose.WITNESS))
    return Send()


def _admit_of_owner(
    request: Request, owner: OwnerState, breaker: CircuitBreaker, call: CallState, now: float
) -> Admission:
    """Decide on a request of an owner that the API does not answer, while it answers others."""
    breaker.look(now)
    deadline = call.patience_ends(breaker.failing_since)
    if breaker.is_given_up(now, deadline):
        text = (
            f"the API answered nothing for owner {request.owner} for {call.outage_timeout_s:.0f} s, while it answered "
            f"others; last: {breaker.last_error}"
        )
        return GiveUp(Failure(text, kind=FailureKind.OUTAGE, owner=request.owner))
    wait_s = breaker.delay_before_next(now, deadline)
    if (wait_s == math.inf and owner.in_flight) or now < owner.postponed_until:
        return AwaitOwner()
    if wait_s:
        wait_s = min(wait_s, LONGEST_DELAY_S)
        owner.postponed_until = now + wait_s
        return Postpone(wait_s)
    breaker.begin_probe()
    return Probe(owner.life_sign(request))


def may_lack(request: Request, call: CallState) -> Gaps | None:
    """Return which Tweets are answered all the same without which metrics, or None if all are; others are sent once more."""
    is_sent_again = request.is_second_look or request.looks_for is not None
    if is_sent_again or request.purpose is not Purpose.DATA or call.endpoint.leaves_out_metrics:
        return None
    return call.endpoint.gaps


def decide(
    request: Request,
    outcome: Outcome,
    call: CallState,
    *,
    now: float,
    jitter: float,
    witnesses: Iterable[OwnedTweet] = (),
) -> Decision:
    """Decide what one outcome means for one request, and record it in the state of its endpoint and call.

    `witnesses` are Tweets from places far apart in the input, for the case that every request is refused.
    """
    if request.purpose is Purpose.WITNESS:
        call.refusals.is_asking = False
    result = outcome.result
    if isinstance(result, ProxyError) or (isinstance(result, AuthError) and result.status is None):
        cancel(request, call)  # the proxy's or the credential store's word: the API said nothing
    at = min(now, outcome.arrived_at)
    if isinstance(result, ParsedResponse) and request.is_probe:
        call.endpoint.breaker.record_contact()  # sent since the last failure
    if not isinstance(result, (AttemptError, AccessRefusedError)):
        request.is_probe = False  # the API is there: the circuit closes
    if request.owner is not None:
        _record_contact(request, request.owner, result, call, at)
    match result:
        case ParsedResponse():
            return _on_answer(request, result, call, at)
        case RateLimitedError():
            return _on_rate_limit(result, outcome, call, now, jitter)
        case AuthError():
            return _on_auth_error(request, result, outcome, call, now)
        case AccessRefusedError() if result.texts and request.owner is not None and result.status != PAYMENT_REQUIRED:
            return _on_owner_refused(request, request.owner, result, call, now)
        case AccessRefusedError() if result.texts:
            if _contradicts_itself(request, result, call, now):
                return _on_refusal(request, _about_its_ids(result), call, now, witnesses)
            return _on_access_refused(request, result, call, now, jitter)
        case AccessRefusedError() | AttemptError():
            # A refusal in no words of the API comes from something before it, as a proxy or a firewall: it may pass.
            return _on_failure(request, result, outcome.headers.retry_after_s, call, now, jitter)
        case RefusedIdsError():
            return _on_refusal(request, result, call, now, witnesses)
        case _:
            if isinstance(result, APIError):
                call.endpoint.breaker.record_answer(now)
            return Stop(result)


def cancel(request: Request, call: CallState) -> None:
    """Release what a probe that was cancelled had taken, so that another may go."""
    if request.purpose is Purpose.WITNESS:
        call.refusals.is_asking = False
    if request.is_probe:
        call.endpoint.breaker.cancel_probe()
    if request.is_owner_probe and request.owner is not None:
        breaker = call.owners.of(request.owner).breaker
        if breaker is not None:
            breaker.cancel_probe()


def _record_contact(
    request: Request, owner: str, result: ParsedResponse | EngagementError, call: CallState, at: float
) -> None:
    """Note what an outcome says of the credentials of its owner, and of the circuit if that is probed."""
    state = call.owners.of(owner)
    state.note(request.tweet_ids)
    if isinstance(result, (ParsedResponse, RefusedIdsError)):
        shown = _with_values(result.answer) if isinstance(result, ParsedResponse) else ()
        call.owners.record_answer(owner, at, AnsweredTweets(shown, owner) if shown else None)
    breaker = state.breaker
    if not request.is_owner_probe or breaker is None or isinstance(result, (AttemptError, ProxyError)):
        return
    if isinstance(result, ParsedResponse) or (isinstance(result, APIError) and result.texts):
        breaker.record_contact()  # sent since the last failure
    elif not isinstance(result, AccessRefusedError):
        breaker.cancel_probe()


def _on_answer(request: Request, parsed: ParsedResponse, call: CallState, at: float) -> Decision:
    endpoint = call.endpoint
    endpoint.record_answer(at)
    call.refusals.record_answer()
    answer = parsed.answer
    if answer.tweet_ids:
        endpoint.note_answered(AnsweredTweets(_with_values(answer), request.owner))
    if request.purpose is not Purpose.DATA:
        return Accept(())
    endpoint.failure_rate.record(request.failures)
    if request.looks_for is not None:
        asked = request.parser.query.engagement_types
        looked_for = {metric: ids for metric, ids in request.looks_for.items() if metric in asked}
        endpoint.record_second_look(*_looked_for(looked_for, answer))
    if parsed.is_whole:
        return Accept((answer,))
    answers = [answer]
    follow_up = [
        replace(request.part(ids), parser=request.parser.for_query(query))
        for query, ids in parsed.retry_without_metrics
    ]
    if parsed.ask_apart:
        follow_up.append(replace(request.part(parsed.ask_apart), is_second_look=False))  # these were in this answer
    if parsed.incomplete:
        follow_up.append(replace(request.part(parsed.incomplete), is_second_look=False, looks_for=parsed.gaps))
    if parsed.missing and request.is_second_look and not parsed.from_error_status:
        answers.append(_fail_as_missing(request.batch_number, parsed.missing))
    elif parsed.missing:
        # An error status says nothing of the IDs that it does not name: they were not looked at yet.
        is_second_look = request.is_second_look or not parsed.from_error_status
        follow_up.append(replace(request.part(parsed.missing), is_second_look=is_second_look))
    return Accept(tuple(answers), tuple(follow_up))


def _with_values(answer: Answer) -> tuple[str, ...]:
    """Return the Tweets that have values, or all if there is none: they can be requested when the API seems down."""
    without = {*answer.unavailable_tweet_ids, *answer.forbidden_tweet_ids}.union(*answer.unsupported_tweet_ids.values())
    return (tuple(i for i in answer.tweet_ids if i not in without) if without else ()) or answer.tweet_ids


def _looked_for(gaps: Gaps, answer: Answer) -> tuple[Gaps, int]:
    """Return which of these gaps an answer has, too, and how many it has not. Tweets without any value are in neither."""
    without = {*answer.unavailable_tweet_ids, *answer.forbidden_tweet_ids, *answer.failed_tweet_ids}
    answered = frozenset(answer.tweet_ids) - without
    still: dict[str, Set[str]] = {}
    found = 0
    for metric, ids in gaps.items():
        looked_for = (answered & ids).difference(answer.unsupported_tweet_ids.get(metric, ()))
        missing = looked_for & frozenset(answer.missing_metrics.get(metric, ()))
        found += len(looked_for) - len(missing)
        if missing:
            still[metric] = missing
    return still, found


def _fail_as_missing(batch_number: int, tweet_ids: tuple[str, ...]) -> Answer:
    failure = Failure("missing: two answers left this Tweet out", kind=FailureKind.MISSING)
    return Answer(batch_number, tweet_ids, failed_tweet_ids=dict.fromkeys(tweet_ids, failure))


def _circuit_of(request: Request, error: EngagementError, call: CallState) -> CircuitBreaker:
    """Return the circuit whose answers tell whether others are answered: its owner's, if that has several Tweets.

    What could not be sent says nothing of owners.
    """
    if request.owner is None or isinstance(error, NotSentError):
        return call.endpoint.breaker
    state = call.owners.of(request.owner)
    if not state.has_several:
        return call.endpoint.breaker
    if state.breaker is None:
        state.breaker = CircuitBreaker(call.endpoint.suspensions)
        state.breaker.last_answer_at = state.last_answer_at
    return state.breaker


def _on_failure(
    request: Request, error: EngagementError, retry_after_s: float | None, call: CallState, now: float, jitter: float
) -> Decision:
    endpoint = call.endpoint
    breaker = endpoint.breaker
    own = _circuit_of(request, error, call)
    if request.owner is not None and request.purpose is Purpose.DATA:
        endpoint.note_unanswered(request.owner, request.tweet_ids)
    if request.is_owner_probe:
        if own is breaker:  # nothing could be sent to anybody
            cancel(request, call)
            breaker.record_failure(error, now, jitter)
        else:
            own.record_failed_probe(error, now, jitter)
        own.trip(now, jitter)
        return Accept(())
    if request.is_probe:
        request.is_probe = False
        breaker.record_failed_probe(error, now, jitter)
        return Accept(()) if request.purpose is Purpose.LIFE_SIGN else RetryIn(0.0)
    if request.purpose is Purpose.WITNESS:
        breaker.record_failure(error, now, jitter)
        return Accept(())
    if breaker.is_open:  # what was in flight when the outage began says nothing about this request
        breaker.record_failure(error, now, jitter)
        return RetryIn(0.0)
    if own.is_open:
        own.record_failure(error, now, jitter)
        return RetryIn(0.0)
    state = None if request.owner is None else call.owners.of(request.owner)
    outages = breaker.outages + (0 if state is None or state.breaker is None else state.breaker.outages)
    if request.outages_seen != outages:  # nor do its failures before the last outage
        request.outages_seen = outages
        request.failures = 0
        request.doubtful_since = request.failed_at = math.inf
    request.failures += 1
    previous_failure_at, request.failed_at = request.failed_at, now
    request.doubtful_since = min(request.doubtful_since, now)
    is_anybody_answered = breaker.last_answer_at > request.doubtful_since
    others_are_answered = own.last_answer_at > request.doubtful_since
    breaker.record_failure(error, now, jitter, is_suspect=is_anybody_answered)
    if own is not breaker and is_anybody_answered:
        own.record_failure(error, now, jitter, is_suspect=others_are_answered)
    circuit = own if is_anybody_answered else breaker
    wait_s = backoff_s(request.failures, error, jitter)
    asked_s = min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
    if others_are_answered and len(request.tweet_ids) == 1 and request.failures >= SUSPECT_AFTER:
        # It is about to fail. What it needs may be down for some seconds only: spread the last attempts over a minute.
        wait_s = max(wait_s, (0.5 + 0.5 * jitter) * exponential_s(request.failures + 2))
    if not others_are_answered:
        if request.failures >= SUSPECT_AFTER or now + max(wait_s, asked_s) > call.patience_ends(circuit.failing_since):
            circuit.trip(now, jitter)
    elif len(request.tweet_ids) > 1:
        improbable, at_least = (0.05, 0.2) if request.is_suspect else (0.02, 0.15)
        attempts = endpoint.failure_rate.attempts_until(improbable, at_least=at_least, most=MOST_SPLIT_ATTEMPTS)
        if request.failures >= attempts:
            return Requeue(tuple(request.suspect_part(ids, now) for ids in split_in_half(request.tweet_ids)))
    elif request.failures >= endpoint.failure_rate.attempts_until(1e-4, at_least=0.15, most=MOST_FINAL_ATTEMPTS):
        if own.last_answer_at > previous_failure_at:
            text = (
                f"the API fails at this Tweet, {request.failures} times in a row while it answers for others: {error}"
            )
            return Fail(request.tweet_ids, Failure(text, kind=FailureKind.SERVER))
        circuit.trip(now, jitter)  # an outage may have begun since others were answered
    is_open = breaker.is_open or own.is_open
    return RetryIn(wait_s if is_open else max(wait_s, asked_s))  # of an open circuit probes find out


def _contradicts_itself(request: Request, error: AccessRefusedError, call: CallState, now: float) -> bool:
    """Note a refusal in the account's name; return whether it is about the Tweets.

    It is, where others were answered between such refusals, again and again.
    """
    if request.purpose is not Purpose.DATA or error.status == PAYMENT_REQUIRED:
        return False
    request.contradictions += call.endpoint.breaker.last_answer_at > request.access_refused_at
    request.access_refused_at = now
    return request.contradictions >= CONTRADICTIONS


def _about_its_ids(error: APIError) -> RefusedIdsError:
    status = error.status or 0
    text = f"the API refuses this, while it answers others ({status}): {summarize(status, error.texts)}"
    return RefusedIdsError(text, status=status, texts=error.texts, named=())


def _on_access_refused(request: Request, error: APIError, call: CallState, now: float, jitter: float) -> Decision:
    """Decide on a refusal of the account: a few probes make sure, everybody else waits, and nothing is split."""
    endpoint = call.endpoint
    if request.is_probe:
        request.is_probe = False
        endpoint.breaker.record_failed_probe(error, now, jitter)
        endpoint.access_refusals += 1
        if endpoint.access_refusals >= ACCESS_REFUSALS:
            return Stop(error)
    else:
        endpoint.breaker.record_failure(error, now, jitter)
        endpoint.breaker.trip(now, jitter)
    return RetryIn(0.0) if request.purpose is Purpose.DATA else Accept(())


def _on_refusal(
    request: Request, error: RefusedIdsError, call: CallState, now: float, witnesses: Iterable[OwnedTweet]
) -> Decision:
    call.endpoint.record_answer(now)
    if request.purpose is Purpose.WITNESS and call.refusals.convicts(error):
        text = f"{error}. Every request so far was refused alike: it is the request, not its Tweets"
        return Stop(RequestRefusedError(text, status=error.status, texts=error.texts))
    if request.purpose is not Purpose.DATA:
        return Accept(())
    named = error.named or (request.tweet_ids if len(request.tweet_ids) == 1 else ())
    if named:
        rest = tuple(i for i in request.tweet_ids if i not in frozenset(named))
        failure = Failure(str(error), kind=FailureKind.REFUSED)
        return Fail(named, failure, (request.part(rest),) if rest else ())
    known = (group.pick(0) for group in call.endpoint.answered)
    usable = (tweet for tweet in chain(known, witnesses) if not call.owners.has_failed(tweet.owner))
    call.refusals.record_refusal(error, request.batch_number, usable)
    return Requeue(tuple(request.part(ids) for ids in split_in_half(request.tweet_ids)))


def _on_rate_limit(error: APIError, outcome: Outcome, call: CallState, now: float, jitter: float) -> Decision:
    call.endpoint.breaker.record_contact()
    limited = call.endpoint.limited
    call.endpoint.record_rate_limit(now)
    seconds = hold_s(outcome.headers, call.limits, jitter, holds=limited.holds)
    call.endpoint.hold_until(now + seconds)
    if limited.holds > 1 and now + seconds > call.patience_ends(limited.since):
        return Stop(error)
    return HoldAll(seconds)


def _on_auth_error(request: Request, error: AuthError, outcome: Outcome, call: CallState, now: float) -> Decision:
    """Decide on a 401: the credentials are at fault, unless the signature's timestamp was off (wrong clock, sent late).

    One without a status is the credential store's.
    """
    if error.status is not None:
        call.endpoint.record_response(now)
    if request.owner is not None:
        call.owners.record_refusal(request.owner)
    date = outcome.headers.date
    if date is None or request.was_resigned or abs(date.timestamp() - outcome.signed_at) <= CLOCK_TOLERANCE_S:
        return Stop(error) if request.owner is None else _on_owner_unknown(request, request.owner, error, call)
    request.was_resigned = True
    offset_s = date.timestamp() - outcome.received_at
    return Resign(offset_s if abs(offset_s) > CLOCK_TOLERANCE_S else 0.0)


def _on_owner_unknown(request: Request, owner: str, error: AuthError, call: CallState) -> Decision:
    """Decide on a 401 for one owner of several: the store may have newer credentials; else this owner alone fails."""
    state = call.owners.of(owner)
    if request.renewals < state.renewals and state.failure is None:  # it was signed with what the store gave before
        return RetryIn(0.0) if request.purpose is Purpose.DATA else Accept(())
    if state.refusal is None and error.status == UNAUTHORIZED:
        state.refusal = error
        state.renewals += 1
        return Renew(owner)
    return _fail_owner(request, owner, state.refusal or error, call)


def _on_owner_refused(request: Request, owner: str, error: APIError, call: CallState, now: float) -> Decision:
    """Decide on a refusal of one owner's account: after the second one this owner fails.

    Of an owner that was answered before, some of the Tweets may be to blame: a probe for a Tweet that was answered tells.
    """
    call.endpoint.record_response(now)
    request.is_probe = False
    state = call.owners.record_refusal(owner)
    state.refusals += 1
    if not state.was_answered or request.purpose is not Purpose.DATA:
        if state.refusals >= OWNER_REFUSALS:
            return _fail_owner(request, owner, error, call)
        if request.purpose is not Purpose.DATA:
            return Accept(())
        if len(request.tweet_ids) == 1:
            return RetryIn(0.0)
        request.contradictions += 1  # where one half is answered, the other one has the Tweets
        return Requeue(tuple(request.part(ids) for ids in split_in_half(request.tweet_ids)))
    request.contradictions += state.last_answer_at > request.access_refused_at or state.patience > 1
    request.access_refused_at = now
    if request.contradictions and len(request.tweet_ids) > 1 and state.refusals <= state.patience:
        return Requeue(tuple(request.part(ids) for ids in split_in_half(request.tweet_ids)))
    if request.contradictions and len(request.tweet_ids) == 1 and state.refusals == 1:  # since the last answer
        return Fail(request.tweet_ids, Failure(str(_about_its_ids(error)), kind=FailureKind.REFUSED))
    state.is_questioned = True
    return RetryIn(0.0)


def _fail_owner(request: Request, owner: str, error: APIError, call: CallState) -> Decision:
    failure = Failure(f"owner {owner}: {error}", kind=FailureKind.CREDENTIALS)
    alike = f"every owner fails alike; owner {owner_text(owner)}: {error}"
    of_all = type(error)(alike, status=error.status, texts=error.texts)
    call.endpoint.forget_owner(owner)
    if call.owners.fail(owner, failure, of_all):
        return Stop(of_all)
    return Fail(request.tweet_ids, failure)


def conclude(call: CallState) -> EngagementError | None:
    """Return what a call that came to its end is to raise: the error with which every one of its owners failed."""
    return call.owners.common_error
