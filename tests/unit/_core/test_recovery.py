"""All of recovery as one table of traces: what happens, in order, and what is decided on each. No clock, no network.

A trace drives one call. A Tweet is a letter, a request is named by its Tweets, and the requests that decisions make are
known by their names from then on; `?` is the last probe. A step is (instant, request, what happens, what is decided).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import TOTALS, Failure, Query, RateLimit
from engagement_async._core.answer import Answer
from engagement_async._core.batches import AnsweredTweets, OwnedTweet
from engagement_async._core.call_state import CallState, EndpointState
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
from engagement_async._core.parsing import ParsedResponse, ResponseParser
from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.recovery import admit, cancel, conclude, decide
from engagement_async._core.refusals import RefusedIdsError
from engagement_async._core.request import Outcome, Request
from engagement_async.errors import (
    AccessRefusedError,
    AttemptTimeoutError,
    AuthError,
    DisconnectedError,
    EngagementError,
    NotSentError,
    ProxyError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    ServerRefusedError,
)

QUERY = Query(
    TOTALS,
    engagement_types=["favorites", "impressions"],
    groupings={"by_tweet": ["tweet.id", "engagement.type"]},
)
PARSER = ResponseParser(QUERY)
NOON = 1_767_268_800.0
Step = tuple[float, str, str, str]


class Trace(NamedTuple):
    what: str
    steps: list[Step]
    others: int = 0
    """Answers to other requests before the first step: the API is known to work."""


def refused(text: str, *named: str) -> RefusedIdsError:
    return RefusedIdsError(f"the API refused the request: {text}", status=400, texts=(text,), named=named)


ERRORS: dict[str, EngagementError] = {
    "500": ServerError("the API failed: HTTP 500", status=500),
    "no connection": NotSentError("no connection"),
    "timeout": AttemptTimeoutError("no answer in time"),
    "cut off": DisconnectedError("the connection broke"),
    "429": RateLimitedError("Too Many Requests", status=429),
    "401": AuthError("the credentials were refused", status=401),
    "402": AccessRefusedError(
        "the API refuses this account: Payment Required", status=402, texts=("Payment Required",)
    ),
    "no access": AccessRefusedError("the API refuses this account: suspended", status=403, texts=("suspended",)),
    "no credentials": AuthError("the credential store has no credentials for it"),
    "403 html": AccessRefusedError("the API refuses this account: HTTP 403", status=403),
    "proxy": ProxyError("the proxy answered 407", status=407),
    "404": ServerRefusedError("no Engagement API at this address", status=404),
    "bad request": RequestRefusedError("groupBys you have specified", status=400),
}


WITNESSES = [OwnedTweet(i) for i in "xyz"]


class Play:
    """One call, its requests by name."""

    def __init__(self, others: int = 0) -> None:
        self.endpoint = EndpointState()
        self.call = CallState(self.endpoint, (RateLimit(300),), 0.0, 900.0)
        self.requests: dict[str, Request] = {}
        for n in range(others):
            self.endpoint.failure_rate.record(0)
            self.endpoint.record_answer(-1.0)
            self.endpoint.answered.append(AnsweredTweets((f"known{n}"[:6],)))

    def step(self, at: float, name: str, event: str) -> str:
        ids, _, owner = name.partition("@")
        new = Request(tuple(ids), PARSER, len(self.requests), owner=owner or None)
        request = self.requests.setdefault(name, new)
        if event == "in flight":
            state = self.call.owners.of(owner)
            state.in_flight += 1
            request.renewals = state.renewals
            return "in flight"
        if event == "admit":
            return self.describe(admit(request, self.call, now=at))
        if event == "cancel":
            cancel(request, self.call)
            return "cancelled"
        if owner:
            state = self.call.owners.of(owner)
            state.in_flight = max(0, state.in_flight - 1)  # as the engine does, before it asks what that means
        decision = decide(request, outcome(request, event), self.call, now=at, jitter=1.0, witnesses=WITNESSES)
        return self.describe(decision, at)

    def named(self, requests: tuple[Request, ...]) -> str:
        for request in requests:
            self.requests["".join(request.tweet_ids)] = request
        return " | ".join(
            "".join(r.tweet_ids)
            + (" for metrics" if r.looks_for is not None else "")
            + (" again" if r.is_second_look else "")
            for r in requests
        )

    def describe(self, decision: Decision | Admission, at: float = 0.0) -> str:
        match decision:
            case Send():
                return "send"
            case Wait(seconds):
                return "wait" if seconds == math.inf else f"wait {seconds:g}"
            case Postpone(seconds):
                return f"postpone {seconds:g}"
            case Probe(request):
                self.requests["?"] = request
                return f"probe {request.tweet_ids[0]}"
            case AwaitOwner():
                return "await owner"
            case Renew(owner):
                return f"renew {owner}"
            case GiveUp(failure):
                return f"give up: {failure.kind}"
            case Accept(answers, follow_up):
                failed = {
                    failure.kind
                    for answer in answers
                    for failure in answer.failed_tweet_ids.values()
                    if isinstance(failure, Failure)
                }
                parts = ["accept", *(f"{kind}" for kind in failed), *([self.named(follow_up)] if follow_up else [])]
                return ", ".join(parts)
            case RetryIn(seconds):
                return f"retry in {seconds:g}"
            case HoldAll(seconds):
                return f"hold {seconds:g}"
            case Resign(offset_s):
                return f"resign {offset_s:g}"
            case Requeue(requests):
                return f"split: {self.named(requests)}"
            case Fail(tweet_ids, failure, rest):
                return ", ".join([f"fail {''.join(tweet_ids)}: {failure.kind}", *([self.named(rest)] if rest else [])])
            case Stop(error):
                return f"stop: {type(error).__name__}"


def outcome(request: Request, event: str) -> Outcome:
    ids = request.tweet_ids
    kind, _, detail = event.partition(": ")
    if kind == "ok":
        return Outcome(ParsedResponse(Answer(0, ids, {"by_tweet": {i: {"favorites": 1} for i in ids}})))
    if kind in ("missing", "incomplete", "apart"):
        left = tuple(i for i in ids if i not in detail)
        answer = Answer(0, left, {"by_tweet": {i: {"favorites": 1} for i in left}})
        if kind == "missing":
            return Outcome(ParsedResponse(answer, missing=tuple(detail)))
        if kind == "incomplete":
            return Outcome(ParsedResponse(answer, incomplete=tuple(detail), gaps={"favorites": set(detail)}))
        return Outcome(ParsedResponse(Answer(0, ()), missing=tuple(detail), ask_apart=left))
    if kind == "still incomplete":
        return Outcome(ParsedResponse(Answer(0, ids, {"by_tweet": {}}, missing_metrics={"favorites": ids})))
    if kind == "refused":
        return Outcome(refused(detail))
    if kind == "refused by name":
        return Outcome(refused("not yours", *detail))
    if kind == "401 at":  # seconds that the server's date is ahead of the signature, and of this machine
        ahead, clock = map(float, detail.split())
        date = datetime.fromtimestamp(NOON, UTC)
        return Outcome(ERRORS["401"], RateHeaders(date=date), NOON - ahead, NOON - clock)
    if kind == "429 for":
        return Outcome(ERRORS["429"], RateHeaders(retry_after_s=float(detail)))
    if kind == "503 for":
        return Outcome(ERRORS["500"], RateHeaders(retry_after_s=float(detail)))
    return Outcome(ERRORS[event])


def twice_refused(owner: str, then: str = "fail a: credentials") -> list[Step]:
    name = f"a@{owner}"
    return [(0, name, "401", f"renew {owner}"), (0, name, "in flight", "in flight"), (0, name, "401", then)]


TRACES = [
    Trace(
        "an owner whose credentials are rotated twice has the store asked twice",
        [
            (0, "ab@x", "401", "renew x"),
            (1, "ab@x", "in flight", "in flight"),
            (1, "ab@x", "ok", "accept"),
            (9, "cd@x", "in flight", "in flight"),
            (9, "cd@x", "401", "renew x"),
            (10, "cd@x", "in flight", "in flight"),
            (10, "cd@x", "401", "fail cd: credentials"),
        ],
    ),
    Trace(
        "a proxy that refuses a probe lets another call probe",
        [
            *[(n, "abcd", "no connection", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (9, "abcd", "admit", "send"),
            (9, "efgh", "admit", "wait"),
            (9, "abcd", "proxy", "stop: ProxyError"),
            (9, "efgh", "admit", "send"),
        ],
    ),
    Trace(
        "a 401 of one owner has the store asked again, and fails this owner alone",
        [
            (0, "ab@x", "in flight", "in flight"),
            (0, "gh@x", "in flight", "in flight"),
            (0, "ab@x", "401", "renew x"),
            (0, "gh@x", "401", "retry in 0"),
            (0, "ab@x", "in flight", "in flight"),
            (1, "ab@x", "401", "fail ab: credentials"),
            (1, "cd@x", "admit", "give up: credentials"),
            (1, "ef@y", "admit", "send"),
            (2, "ef@y", "ok", "accept"),
        ],
    ),
    Trace(
        "an owner whom the store does not know costs no request",
        [(0, "ab@x", "no credentials", "fail ab: credentials"), (0, "cd@x", "admit", "give up: credentials")],
    ),
    Trace(
        "until an owner was answered, two of its requests are in flight",
        [
            (0, "ab@x", "admit", "send"),
            (0, "ab@x", "in flight", "in flight"),
            (0, "cd@x", "admit", "send"),
            (0, "cd@x", "in flight", "in flight"),
            (0, "ef@x", "admit", "await owner"),
            (0, "gh@y", "admit", "send"),
            (1, "ab@x", "ok", "accept"),
            (1, "ef@x", "admit", "send"),
        ],
    ),
    Trace(
        "an account that is refused twice fails with its owner; what the API says of the contract stops nobody alone",
        [
            (0, "ab@x", "no access", "split: a | b"),
            (1, "cd@x", "no access", "fail cd: credentials"),
            (2, "a", "admit", "give up: credentials"),
            (3, "ef@y", "ok", "accept"),
        ],
    ),
    Trace(
        "an owner with a single Tweet has no circuit: others tell whether the API fails at it",
        [
            (0, "a@x", "500", "retry in 0.5"),
            *[(n, "bc@y", "ok", "accept") for n in range(1, 3)],
            (4, "a@x", "500", "retry in 1"),
            (5, "bc@y", "ok", "accept"),
            (6, "d@x", "admit", "send"),
        ],
    ),
    Trace(
        "where nothing was answered, probes ask for Tweets of several owners",
        [
            *[(n, name, "500", f"retry in {0.5 * 2**n:g}") for n in range(2) for name in ("ab@x", "cd@y")],
            (2, "ab@x", "500", "retry in 2"),
            (9, "ab@x", "admit", "probe c"),
            (9, "?", "500", "accept"),
            (20, "ab@x", "admit", "probe a"),
            (20, "?", "ok", "accept"),
        ],
    ),
    Trace(
        "after a refusal of one of two requests, only one more is in flight: an account that is refused costs two",
        [
            (0, "ab@x", "in flight", "in flight"),
            (0, "cd@x", "in flight", "in flight"),
            (1, "ab@x", "no access", "split: a | b"),
            (1, "a", "admit", "await owner"),
            (2, "cd@x", "no access", "fail cd: credentials"),
            (2, "a", "admit", "give up: credentials"),
        ],
    ),
    Trace(
        "an account that is answered between two refusals is not the reason for them",
        [
            (0, "ab@x", "no access", "split: a | b"),
            (1, "a", "ok", "accept"),
            (9, "cd@x", "no access", "retry in 0"),
            (9, "cd@x", "ok", "accept"),
        ],
    ),
    Trace(
        "an owner that is not answered while others are has a circuit of its own",
        [
            (0, "xy@x", "ok", "accept"),
            (0, "ef@y", "ok", "accept"),
            (1, "ab@x", "500", "retry in 0.5"),
            (2, "ef@y", "ok", "accept"),
            (2, "ab@x", "500", "retry in 1"),
            (3, "ab@x", "500", "retry in 2"),
            (3, "cd@x", "admit", "postpone 0.5"),
            (3, "gh@y", "admit", "send"),
            (4, "cd@x", "admit", "probe x"),
            (4, "?", "500", "accept"),
            (4, "cd@x", "admit", "postpone 1"),
            (6, "cd@x", "admit", "probe y"),
            (6, "?", "ok", "accept"),
            (6, "cd@x", "admit", "send"),
            (7, "ab@x", "ok", "accept"),
        ],
    ),
    Trace(
        "whether an account that was answered before is refused, or some of its Tweets, a probe tells",
        [
            (0, "xy@x", "ok", "accept"),
            (1, "abcd@x", "no access", "retry in 0"),
            (1, "abcd@x", "admit", "probe x"),
            (1, "ef@x", "admit", "probe y"),
            (2, "?", "ok", "accept"),
            (2, "ef@x", "admit", "send"),
            (3, "abcd@x", "no access", "split: ab | cd"),
            (4, "ab", "no access", "split: a | b"),
            (5, "b", "ok", "accept"),
            (6, "a", "no access", "fail a: refused"),
            (7, "c@x", "no access", "retry in 0"),
            (7, "c@x", "admit", "probe b"),
            (8, "?", "no access", "fail b: credentials"),
            (9, "cd", "admit", "give up: credentials"),
        ],
    ),
    Trace(
        "a probe for an owner that cannot be sent opens the circuit of all",
        [
            (0, "xy@x", "ok", "accept"),
            (0, "ef@y", "ok", "accept"),
            (1, "ab@x", "500", "retry in 0.5"),
            (2, "ef@y", "ok", "accept"),
            (2, "ab@x", "500", "retry in 1"),
            (3, "ab@x", "500", "retry in 2"),
            (4, "ab@x", "admit", "probe x"),
            (4, "?", "no connection", "accept"),
            (4, "ab@x", "admit", "wait 0.5"),
            (4, "gh@y", "admit", "wait 0.5"),
        ],
    ),
    Trace(
        "a wrong clock is corrected for all owners",
        [(0, "ab@x", "401 at: 600 600", "resign 600"), (1, "ab@x", "ok", "accept")],
    ),
    Trace(
        "an owner whose token is revoked while the clock is wrong fails alone, and costs one request more",
        [
            (0, "ab@x", "in flight", "in flight"),
            (0, "cd@x", "in flight", "in flight"),
            (1, "ab@x", "401 at: 600 600", "resign 600"),
            (1, "ab@x", "admit", "await owner"),
            (1, "cd@x", "401 at: 600 600", "resign 600"),
            (1, "ab@x", "admit", "send"),
            (1, "ab@x", "in flight", "in flight"),
            (1, "cd@x", "admit", "await owner"),
            (2, "ab@x", "401", "renew x"),
            (2, "ab@x", "in flight", "in flight"),
            (2, "ab@x", "no credentials", "fail ab: credentials"),
            (2, "cd@x", "admit", "give up: credentials"),
        ],
    ),
    Trace(
        "twenty owners that fail alike before anybody is answered stop the run",
        [
            *[step for n in range(19) for step in twice_refused(str(n))],
            *twice_refused("last", "stop: AuthError"),
        ],
    ),
    Trace(
        "twenty owners that fail among others that are answered do not",
        [
            (0, "b@good", "ok", "accept"),
            *[step for n in range(21) for step in twice_refused(str(n))],
        ],
    ),
    Trace("an answer is accepted", [(0, "ab", "admit", "send"), (1, "ab", "ok", "accept")]),
    Trace(
        "a failed request is sent again after a backoff that doubles; the first disconnect at once",
        [
            (0, "ab", "cut off", "retry in 0"),
            (1, "ab", "500", "retry in 1"),
            (2, "ab", "ok", "accept"),
        ],
    ),
    Trace("Retry-After of a 503 is honoured", [(0, "ab", "503 for: 7", "retry in 7")]),
    Trace(
        "while others are answered, three failures split a request, two its halves, and a Tweet alone fails in the end",
        [
            (0, "abcd", "500", "retry in 0.5"),
            (1, "ef", "ok", "accept"),
            (2, "abcd", "500", "retry in 1"),
            (3, "abcd", "500", "split: ab | cd"),
            (4, "ab", "500", "retry in 0.5"),
            (5, "cd", "ok", "accept"),
            (6, "ab", "500", "split: a | b"),
            (7, "b", "ok", "accept"),
            *[(8.0 + n, "a", "500", f"retry in {seconds:g}") for n, seconds in enumerate([0.5, 1, 8, 16, 20])],
            (20, "gh", "ok", "accept"),
            (21, "a", "500", "fail a: server"),
        ],
        others=50,
    ),
    Trace(
        "where no other is answered, a failing request opens the circuit: a probe for another Tweet finds out",
        [
            (0, "abcd", "500", "retry in 0.5"),
            (1, "abcd", "500", "retry in 1"),
            (2, "abcd", "500", "retry in 2"),
            (2, "abcd", "admit", "wait 0.5"),
            (4, "abcd", "admit", "probe known7"),
            (4, "ef", "admit", "wait"),
            (5, "?", "ok", "accept"),
            (5, "abcd", "admit", "send"),
            (6, "abcd", "500", "split: ab | cd"),
        ],
        others=8,
    ),
    Trace(
        "with no Tweet known, the probe is one of the request's own",
        [
            *[(n, "abcd", "500", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (9, "abcd", "admit", "probe d"),
            (10, "?", "500", "accept"),
            (10, "abcd", "admit", "wait 1"),
            (11, "abcd", "admit", "probe c"),
        ],
    ),
    Trace(
        "a Tweet whose probe was answered is the one to probe with from then on",
        [
            *[(n, "abcd", "500", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (9, "abcd", "admit", "probe d"),
            (10, "?", "500", "accept"),
            (11, "abcd", "admit", "probe c"),
            (12, "?", "ok", "accept"),
            (12, "abcd", "500", "split: ab | cd"),
            (13, "ab", "500", "retry in 0.5"),
            (14, "ab", "500", "retry in 1"),
            (15, "ab", "500", "retry in 2"),
            (20, "ab", "admit", "probe c"),
        ],
    ),
    Trace(
        "while connections are refused the request itself is the probe: no Tweet can be to blame",
        [
            *[(n, "abcd", "no connection", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (9, "abcd", "admit", "send"),
            (9, "ef", "admit", "wait"),
            (10, "abcd", "no connection", "retry in 0"),
            (10, "ef", "admit", "wait 1"),
            (11, "ef", "admit", "send"),
            (11, "ef", "cancel", "cancelled"),
            (11, "ef", "admit", "send"),
            (12, "ef", "ok", "accept"),
            (12, "abcd", "admit", "send"),
        ],
    ),
    Trace(
        "failures before or in an outage count against nobody",
        [
            *[(n, "abcd", "500", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (3, "ef", "500", "retry in 0"),
            (9, "abcd", "admit", "probe known7"),
            (10, "?", "500", "accept"),
            (12, "abcd", "admit", "probe known6"),
            (13, "?", "500", "accept"),
            (16, "abcd", "admit", "probe known5"),
            (16, "?", "500", "accept"),
            (20, "abcd", "admit", "probe known4"),
            (21, "?", "ok", "accept"),
            (22, "abcd", "500", "retry in 0.5"),
            (23, "gh", "ok", "accept"),
            (24, "abcd", "500", "retry in 1"),
            (25, "abcd", "ok", "accept"),
        ],
        others=8,
    ),
    Trace(
        "an outage is given up after the timeout, when a probe failed even then; and whoever comes next may probe",
        [
            *[(n, "abcd", "500", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (9, "abcd", "admit", "probe known7"),
            (10, "?", "500", "accept"),
            *[
                step
                for n in range(1, 9)
                for step in (
                    (100.0 * n, "abcd", "admit", f"probe known{(7 - n) % 8}"),
                    (100.0 * n, "?", "500", "accept"),
                )
            ],
            (899, "abcd", "admit", "probe known6"),
            (899, "?", "500", "accept"),
            (899.5, "abcd", "admit", "wait 0.5"),
            (900, "abcd", "admit", "probe known5"),
            (901, "?", "500", "accept"),
            (901, "abcd", "admit", "give up: outage"),
            (902, "ef", "admit", "give up: outage"),
            (5_100, "gh", "admit", "probe known4"),
            (5_100, "gh", "cancel", "cancelled"),
            (5_100, "?", "cancel", "cancelled"),
            (5_100, "ij", "admit", "probe known3"),
            (5_101, "?", "ok", "accept"),
            (5_101, "ij", "admit", "send"),
        ],
        others=8,
    ),
    Trace(
        "a Tweet that fails alone is not failed for an outage that began since",
        [
            (0, "a", "500", "retry in 0.5"),
            (1, "b", "ok", "accept"),
            *[(2.0 + n, "a", "500", f"retry in {seconds:g}") for n, seconds in enumerate([1, 8, 16, 20])],
            (29, "a", "admit", "probe b"),
            (30, "?", "500", "accept"),
        ],
        others=50,
    ),
    Trace(
        "a Tweet that is left out is looked at once more, then failed",
        [(0, "abc", "missing: b", "accept, b again"), (1, "b", "missing: b", "accept, missing")],
    ),
    Trace(
        "a Tweet of which a metric was left out before is failed after two answers without it, too",
        [
            (0, "abc", "incomplete: b", "accept, b for metrics"),
            (1, "b", "missing: b", "accept, b for metrics again"),
            (2, "b", "missing: b", "accept, missing"),
        ],
    ),
    Trace(
        "a Tweet that stood in the last answer and was sent apart is failed after two answers without it, too",
        [
            (0, "abc", "missing: bc", "accept, bc again"),
            (1, "bc", "apart: c", "accept, missing, b"),
            (2, "b", "missing: b", "accept, b again"),
            (3, "b", "ok", "accept"),
        ],
    ),
    Trace(
        "sums of an answer that leaves a Tweet out are dropped: its other Tweets are sent apart",
        [(0, "abc", "apart: b", "accept, ac | b again")],
    ),
    Trace(
        "a metric that is left out is looked for once more, until that is known to be of no use",
        [
            (0, "abc", "incomplete: b", "accept, b for metrics"),
            (1, "b", "still incomplete", "accept"),
            (2, "def", "incomplete: ef", "accept, ef for metrics"),
            (3, "ef", "still incomplete", "accept"),
        ],
    ),
    Trace(
        "Tweets that a refusal names are failed, the others sent",
        [(0, "abc", "refused by name: b", "fail b: refused, ac")],
    ),
    Trace(
        "a refusal without names is bisected",
        [
            (0, "abcd", "refused: no", "split: ab | cd"),
            (1, "ab", "ok", "accept"),
            (2, "cd", "refused: no", "split: c | d"),
            (3, "c", "refused: no", "fail c: refused"),
            (4, "d", "ok", "accept"),
        ],
    ),
    Trace(
        "refusals that are all alike, whatever request IDs they hold, call witnesses; refused alike they stop the run",
        [
            (0, "abcd", "refused: no (request 12ab34)", "split: ab | cd"),
            (0, "efgh", "refused: no (request 77ff01)", "split: ef | gh"),
            (0, "ijkl", "refused: no (request 9)", "split: ij | kl"),
            (1, "ab", "admit", "probe x"),
            (1, "cd", "admit", "wait"),
            (2, "?", "refused: no (request 5)", "accept"),
            (2, "cd", "admit", "probe y"),
            (3, "?", "refused: no (request 6)", "accept"),
            (3, "cd", "admit", "probe z"),
            (4, "?", "refused: no (request 7)", "stop: RequestRefusedError"),
        ],
    ),
    Trace(
        "a witness that is answered clears the request: it is the Tweets",
        [
            *[(0.0, name, "refused: no", f"split: {name[:2]} | {name[2:]}") for name in ("abcd", "efgh", "ijkl")],
            (1, "ab", "admit", "probe x"),
            (2, "?", "ok", "accept"),
            (2, "ab", "admit", "send"),
            (2, "ab", "refused: no", "split: a | b"),
        ],
    ),
    Trace(
        "after answers, a Tweet that was answered before is the first witness",
        [
            *[(0.0, name, "refused: no", f"split: {name[:2]} | {name[2:]}") for name in ("abcd", "efgh", "ijkl")],
            (1, "ab", "admit", "probe known0"),
        ],
        others=3,
    ),
    Trace(
        "a refusal of the account halves nothing: probes make sure, then the run stops",
        [
            (0, "abcd", "402", "retry in 0"),
            (0, "efgh", "402", "retry in 0"),
            (0, "abcd", "admit", "wait 0.5"),
            (1, "abcd", "admit", "probe known7"),
            (1, "?", "402", "accept"),
            (3, "abcd", "admit", "probe known6"),
            (3, "?", "402", "accept"),
            (6, "abcd", "admit", "probe known5"),
            (6, "?", "402", "stop: AccessRefusedError"),
        ],
        others=8,
    ),
    Trace(
        "a 403 in no words of the API may pass, as an outage does",
        [(0, "abcd", "403 html", "retry in 0.5"), (1, "abcd", "403 html", "retry in 1"), (2, "abcd", "ok", "accept")],
    ),
    Trace("404 stops", [(0, "ab", "404", "stop: ServerRefusedError")]),
    Trace("a request that breaks a rule stops", [(0, "ab", "bad request", "stop: RequestRefusedError")]),
    Trace("a 401 stops", [(0, "ab", "401", "stop: AuthError")]),
    Trace("a 401 with a clock that is right stops", [(0, "ab", "401 at: 20 20", "stop: AuthError")]),
    Trace(
        "a clock that is wrong is corrected once",
        [(0, "ab", "401 at: 600 600", "resign 600"), (1, "ab", "401 at: 600 600", "stop: AuthError")],
    ),
    Trace(
        "a signature that was late is made again, though the clock is right by now",
        [(0, "ab", "401 at: 310 1", "resign 0"), (1, "ab", "ok", "accept")],
    ),
    Trace(
        "a 429 holds the contract, for ever longer where the API says less",
        [
            (0, "ab", "429 for: 0", "hold 1"),
            (0.5, "cd", "429 for: 0", "hold 1"),
            (2, "ab", "429 for: 0", "hold 2"),
            (5, "ab", "429 for: 0", "hold 3"),
            (10, "ab", "ok", "accept"),
            (11, "ab", "429 for: 0", "hold 1"),
        ],
    ),
    Trace(
        "a 429 without end stops the run within the timeout",
        [
            (0, "ab", "429 for: 600", "hold 601"),
            (602, "ab", "429 for: 290", "hold 291"),
            (894, "ab", "429 for: 10", "stop: RateLimitedError"),
        ],
    ),
    Trace(
        "what is beyond the end of a hold, when the process was suspended, is no time of 429s",
        [
            (0, "ab", "429 for: 60", "hold 61"),
            (5045, "ab", "429 for: 2", "hold 3"),
            (5049, "ab", "429 for: 700", "hold 701"),
            (5751, "ab", "429 for: 20", "stop: RateLimitedError"),
        ],
    ),
    Trace(
        "429s with refused credentials or accounts between them do not add up: owners fail alone however long it takes",
        [
            (0, "ab@x", "ok", "accept"),
            (0, "a@y", "429 for: 3", "hold 4"),
            (4, "a@y", "401", "renew y"),
            (901, "a@z", "429 for: 3", "hold 4"),
            (905, "a@z", "no access", "retry in 0"),
            (1802, "a@z", "429 for: 3", "hold 4"),
            (1806, "a@z", "429 for: 800", "hold 801"),
            (2702, "a@z", "429 for: 3", "stop: RateLimitedError"),
        ],
    ),
    Trace(
        "a 429 to a probe closes the circuit",
        [
            *[(n, "abcd", "500", f"retry in {0.5 * 2**n:g}") for n in range(3)],
            (9, "abcd", "admit", "probe d"),
            (10, "?", "429", "hold 61"),
            (10, "abcd", "admit", "send"),
        ],
    ),
]


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.what)
def test_trace(trace: Trace) -> None:
    play = Play(trace.others)
    for number, (at, name, event, expected) in enumerate(trace.steps, 1):
        assert play.step(at, name, event) == expected, f"step {number}: {event} for {name} at {at:g} s"


def test_ten_failures_of_different_requests_open_the_circuit() -> None:
    play = Play(others=3)

    for n in range(9):
        assert play.step(0, f"{n}x", "500") == "retry in 0.5"
        assert play.step(0, "ab", "admit") == "send"
    play.step(0, "9x", "500")

    assert play.step(0, "ab", "admit") == "wait 0.5"


@given(ids=st.lists(st.integers(1, 10**6).map(str), min_size=1, max_size=250, unique=True), data=st.data())
def test_bisecting_finds_one_bad_id_in_at_most_16_more_requests_and_loses_none(
    ids: list[str], data: st.DataObject
) -> None:
    bad = data.draw(st.sampled_from(ids))
    call = CallState(EndpointState(), (RateLimit(300),), 0.0, 900.0)
    queue, good, requests = [Request(tuple(ids), PARSER, 0)], list[str](), 0
    while queue:
        request = queue.pop(0)
        requests += 1
        if bad not in request.tweet_ids:
            good += request.tweet_ids
            decide(request, outcome(request, "ok"), call, now=0.0, jitter=0.5)
            continue
        match decide(request, outcome(request, "refused: no"), call, now=0.0, jitter=0.5):
            case Requeue(requests_left):
                queue += requests_left
            case Fail(tweet_ids, _, rest):
                assert (tweet_ids, rest) == ((bad,), ())

    assert requests <= 1 + 16
    assert sorted([*good, bad]) == sorted(ids)


def test_a_call_whose_owners_all_failed_ends_with_their_error() -> None:
    play = Play()
    for owner in ("x", "y"):
        for _, name, event, _ in twice_refused(owner):
            play.step(0, name, event)

    error = conclude(play.call)
    assert isinstance(error, AuthError)
    assert str(error) == "every owner fails alike; owner y: the credentials were refused"

    play.step(2, "a@z", "ok")
    assert conclude(play.call) is None


def test_owners_that_were_refused_before_say_nothing_of_others() -> None:
    """More than twenty may be left of a job: one of them may have new tokens."""
    play = Play()
    play.call.owners.refused_before = {str(n) for n in range(30)}
    for n in range(30):
        for _, name, event, _ in twice_refused(str(n)):
            assert not play.step(0, name, event).startswith("stop")
    for n in range(30, 49):
        for _, name, event, _ in twice_refused(str(n)):
            assert not play.step(0, name, event).startswith("stop")
    *first, last = twice_refused("49")
    for _, name, event, _ in first:
        play.step(0, name, event)
    assert play.step(0, last[1], last[2]) == "stop: AuthError"


def test_a_call_waits_for_the_rate_from_its_own_beginning_on() -> None:
    """The one before it timed out behind a 429, and nothing was requested since."""
    play = Play()
    assert play.step(0, "ab", "429 for: 3") == "hold 4"

    play.call = CallState(play.endpoint, (RateLimit(300),), 3600.0, 900.0)

    assert play.step(3600, "cd", "429 for: 800") == "hold 801"
    assert play.step(4499, "cd", "429 for: 3") == "stop: RateLimitedError"


def test_a_second_look_that_shows_no_tweet_says_nothing_of_metrics() -> None:
    play = Play()

    for n, name in enumerate("abcd"):
        play.step(n, name, f"incomplete: {name}")
        play.step(n, name, f"missing: {name}" if name == "a" else "still incomplete")

    assert play.endpoint.leaves_out_metrics


@pytest.mark.parametrize(
    ("answer", "gaps"),
    [
        # Found; favorites are missing in a part of the time range alone.
        (Answer(0, ("a",), {"by_tweet": {"a": {"impressions": 1}}}, missing_metrics={"favorites": ("a",)}), {}),
        (Answer(0, ("a",), {"by_tweet": {}}, missing_metrics={"impressions": ("a",)}), {"impressions": {"a"}}),
        (Answer(0, ("a",), unavailable_tweet_ids=("a",)), {}),
    ],
    ids=["found", "in vain", "gone"],
)
def test_a_second_look_is_about_what_it_looked_for(answer: Answer, gaps: dict[str, set[str]]) -> None:
    play = Play()
    request = Request(("a",), PARSER, 0, looks_for={"impressions": frozenset("a")})

    decide(request, Outcome(ParsedResponse(answer)), play.call, now=0.0, jitter=1.0, witnesses=())

    assert play.endpoint.gaps == gaps


def test_a_second_look_without_its_metric_found_nothing() -> None:
    play = Play()
    request = Request(
        ("a",), PARSER, 0, looks_for={"replies": frozenset("a")}
    )  # the API refused replies, and asked again

    decide(
        request,
        Outcome(ParsedResponse(Answer(0, ("a",), {"by_tweet": {"a": {"favorites": 1}}}))),
        play.call,
        now=0.0,
        jitter=1.0,
    )

    for n, name in enumerate("bcd"):
        play.step(n, name, f"incomplete: {name}")
        play.step(n, name, "still incomplete")
    assert play.endpoint.leaves_out_metrics


def test_where_no_tweet_has_values_one_that_is_gone_is_a_sign_of_life() -> None:
    play = Play()
    gone = ParsedResponse(Answer(0, ("g", "h"), unavailable_tweet_ids=("g", "h")))
    decide(Request(("g", "h"), PARSER, 0), Outcome(gone), play.call, now=0, jitter=1.0)
    for n in range(10):
        play.step(n, "b", "500")

    assert play.endpoint.breaker.is_open
    assert play.step(60, "b", "admit") == "probe g"
    mixed = ParsedResponse(Answer(0, ("g", "v"), {"by_tweet": {"v": {"favorites": 1}}}, unavailable_tweet_ids=("g",)))
    decide(Request(("g", "v"), PARSER, 0), Outcome(mixed), play.call, now=61, jitter=1.0)
    assert play.endpoint.answered[-1] == AnsweredTweets(("v",))


def test_an_owner_without_credentials_is_no_sign_of_life_of_the_api() -> None:
    play = Play(others=1)
    breaker = play.endpoint.breaker
    play.endpoint.answered.clear()
    for n in range(10):
        play.step(n, f"{n}@x", "timeout")
    assert breaker.is_open

    assert play.step(60, "a@y", "no credentials") == "fail a: credentials"
    assert breaker.is_open
    assert play.step(60, "b@z", "admit") == "probe b"
    play.step(60, "c@y2", "no credentials")
    assert breaker.is_probing  # that of another request
    play.step(60, "?", "no credentials")
    assert (breaker.is_open, breaker.is_probing) == (True, False)
    assert play.step(60, "d@w", "admit") == "probe d"
    assert play.step(61, "?", "ok") == "accept"
    assert not breaker.is_open


def test_nothing_is_probed_with_the_tweets_of_an_owner_that_failed() -> None:
    play = Play()
    play.step(0, "ab@x", "ok")
    play.step(0, "c@y", "ok")
    assert [tweet.owner for tweet in play.call.endpoint.answered] == ["x", "y"]
    for _, name, event, _ in twice_refused("x"):
        play.step(1, name, event)

    assert [tweet.owner for tweet in play.call.endpoint.answered] == ["y"]
    assert play.call.endpoint.answered.maxlen == EndpointState.KNOWN
    assert play.call.owners.has_failed("x")
    assert not play.call.owners.has_failed("y")
    assert not play.call.owners.has_failed(None)


def test_a_call_without_owners_ends_without_an_error() -> None:
    assert conclude(Play().call) is None
