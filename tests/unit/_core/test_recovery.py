"""The policy as one table of traces: what comes in, in order, and what must be decided on each. No clock, no network.

A trace drives one policy. Each of its steps is (what happened, what is decided); a policy keeps its history from step to
step, so a trace reads from top to bottom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async import TOTALS, Query, RateLimit
from engagement_async._core.parsing import ResponseParser
from engagement_async._core.rate_headers import RateHeaders
from engagement_async._core.recovery import Outage, Suspicion, backoff_s, clock_error_s, hold_s, missing_answer, narrow
from engagement_async._core.refusals import RefusedIdsError
from engagement_async.errors import (
    AccessRefusedError,
    AttemptError,
    AttemptTimeoutError,
    AuthError,
    BodyError,
    DisconnectedError,
    InvalidAnswerError,
    NotSentError,
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
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
EPOCH = 1_767_225_600
"""The same instant."""


class Trace(NamedTuple):
    what: str
    policy: Callable[[], Callable[[Any], Any]]
    """Makes a fresh policy: a function from what happened to what is decided."""
    steps: Sequence[tuple[Any, Any]]


# --- the policies, each as a function of one event ---


def deciding() -> Callable[[Any], Any]:
    """(status, body) of a reply to a request for "1", "2", "3" -> the row of the retry table that it falls into."""
    reader = ResponseParser(QUERY)
    rows = {
        AttemptError: "again",
        RateLimitedError: "hold",
        AuthError: "check the clock, else stop",
        AccessRefusedError: "stop",
        RefusedIdsError: "narrow",
        RequestRefusedError: "stop",
        ServerRefusedError: "stop",
    }

    def decide(event: tuple[int, Any]) -> Any:
        status, body = event
        body = body if isinstance(body, bytes) else orjson.dumps(body)
        try:
            reading = reader.parse(0, ("1", "2", "3"), status, {}, body)
        except Exception as error:
            return next(row for kind, row in rows.items() if isinstance(error, kind))
        if reading.retry_without_metrics:
            return (
                "ask for less",
                reading.retry_without_metrics[0][0].engagement_types,
                reading.retry_without_metrics[0][1],
            )
        return ("ask again for", reading.missing) if reading.missing else "answer"

    return decide


def backing_off(draw: float) -> Callable[[], Callable[[Any], Any]]:
    """An error, one after the other at one request -> seconds until the next attempt."""

    def policy() -> Callable[[Any], Any]:
        faults = 0

        def fail(error: AttemptError) -> float:
            nonlocal faults
            faults += 1
            return backoff_s(faults, error, draw)

        return fail

    return policy


def holding(*limits: RateLimit, draw: float = 0.0) -> Callable[[], Callable[[Any], Any]]:
    """The headers of a 429 -> seconds for which the contract is held."""
    return lambda: lambda headers: hold_s(RateHeaders.from_headers(headers), limits, draw)


def telling_the_time() -> Callable[[Any], Any]:
    """(the server's Date, our epoch seconds) -> the correction."""
    return lambda event: clock_error_s(
        RateHeaders.from_headers({} if event[0] is None else {"date": event[0]}), event[1]
    )


def narrowing() -> Callable[[Any], Any]:
    """(the IDs of a refused request, IDs that the refusal names) -> (IDs that fail, and why; what to ask next)."""

    def refuse(event: tuple[str, str]) -> tuple[dict[str, str], list[str]]:
        asked, named = event
        out, rest = narrow(0, tuple(asked), refusal("no", *named))
        return out.failed_tweet_ids if out else {}, ["".join(ids) for ids in rest]

    return refuse


def suspecting() -> Callable[[Any], Any]:
    """(a refusal's text, how many IDs it refused, those it names), or "answered" -> "go on", "doubt" or "stop"."""
    suspicion = Suspicion()

    def hear(event: str | tuple[str, int, str]) -> str:
        if isinstance(event, str):
            suspicion.clear()
            return "go on"
        text, count, named = event
        if suspicion.refuse(refusal(text, *named), count):
            return "stop"
        return "doubt" if suspicion.in_doubt else "go on"

    return hear


def outlasting(outage_timeout_s: float = 900.0, budget: int = Outage.BUDGET) -> Callable[[], Callable[[Any], Any]]:
    """(instant, what) -> what the breaker says then.

    `ask` -> "go", "probe", seconds to wait (`inf`: for the probe's outcome) or "give up"; `fault`, `probe fails`,
    `probe is cancelled`, `answer`, `new call` -> (is the circuit open, what is left of the budget).
    """

    def policy() -> Callable[[Any], Any]:
        outage = Outage(outage_timeout_s, budget)
        began_at = -math.inf

        def happen(event: tuple[float, str]) -> Any:
            nonlocal began_at
            now, what = event
            if what == "ask":
                if outage.is_over_deadline(now, began_at):
                    return "give up"
                wait_s = outage.admit(now)
                return wait_s or ("probe" if outage.is_open else "go")
            if what in ("fault", "probe fails"):
                outage.fault(TIMEOUT, now, 1.0, was_probe=what == "probe fails")
            elif what == "probe is cancelled":
                outage.release()
            elif what == "answer":
                outage.answered()
            else:
                began_at = now
            return "open" if outage.is_open else "closed", outage.budget

        return happen

    return policy


def refusal(text: str, *named: str) -> RefusedIdsError:
    return RefusedIdsError(text, status=400, texts=(text,), named=named)


GONE = DisconnectedError("the server closed the connection before its answer")
TIMEOUT = AttemptTimeoutError("no answer in time")
FAILED = ServerError("the API failed", status=503)
GOOD = {i: {"favorites": "1", "impressions": "2"} for i in "123"}
TOO_OLD = "Impressions & engagements for tweets older than 90 days (TIME_PERIOD) are not supported"
NO_GROUP = "One or more of the groupBys you have specified are not supported: (engagement.hour)."


def at(now: float, what: str, times: int) -> list[tuple[float, str]]:
    return [(now, what)] * times


TRACES = [
    Trace(
        "what each reply means",
        deciding,
        [
            ((200, {"by_tweet": GOOD}), "answer"),
            # the API, or what stands before it, is ill
            *(((status, b""), "again") for status in (408, 500, 502, 503, 504, 507)),
            ((502, b"<html>Bad gateway 1234567890123456789</html>"), "again"),
            ((200, b""), "again"),
            ((200, b"<html>Back soon</html>"), "again"),
            ((200, b'{"by_tweet": {"1": {"favor'), "again"),
            ((200, b"\xff\xfe"), "again"),
            ((200, []), "again"),
            ((200, {"by_tweet": [1, 2]}), "again"),
            ((200, {"by_tweet": {"1": {"favorites": ["1"]}}}), "again"),
            ((200, {"by_tweet": {"1": {"favorites": "many"}}}), "again"),
            ((200, {"by_tweet": {"1": {"favorites": "1.5"}}}), "again"),
            ((200, b'{"by_tweet":' + b'{"a":' * 1_000 + b"1" + b"}" * 1_001), "again"),
            ((200, b'{"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "again"),
            ((200, {"errors": ["internal server error"]}), "again"),
            ((400, {"errors": ["internal server error"]}), "again"),
            # too fast
            ((429, b""), "hold"),
            ((429, {"errors": ["whatever"]}), "hold"),
            ((200, {"errors": ["You have exceeded your rate limit."]}), "hold"),
            ((403, {"errors": [{"message": "Rate limit exceeded", "code": 88}]}), "hold"),
            ((503, {"errors": ["Too many requests"]}), "hold"),
            # credentials
            ((401, b""), "check the clock, else stop"),
            ((401, {"errors": ["Timestamp out of bounds"]}), "check the clock, else stop"),
            ((403, {"errors": ["your application id is not authorized."]}), "check the clock, else stop"),
            # IDs
            ((403, {"errors": ["Forbidden to access tweets: 1,2"]}), ("ask again for", ("3",))),
            ((403, {"errors": ["Forbidden to access tweets for author id 18435372: 1, 2"]}), ("ask again for", ("3",))),
            ((400, {"errors": ["Bad request"]}), "narrow"),
            ((400, {"errors": ["3 Tweet ID(s) are unavailable"], "unavailable_tweet_ids": ["1", "2", "3"]}), "answer"),
            ((400, {"errors": ["gone"], "unavailable_tweet_ids": ["1"]}), ("ask again for", ("2", "3"))),
            (
                (400, {"errors": [TOO_OLD], "unsupported_for_impressions_engagements_tweet_ids": ["1", "2", "3"]}),
                ("ask for less", ("favorites",), ("1", "2", "3")),
            ),
            ((200, {"by_tweet": {"1": GOOD["1"]}}), ("ask again for", ("2", "3"))),
            ((200, {"by_tweet": {"9": GOOD["1"]}}), ("ask again for", ("1", "2", "3"))),
            ((200, {"by_tweet": {**GOOD, "2": {"favorites": None, "impressions": "1"}}}), ("ask again for", ("2",))),
            ((200, {"by_tweet": {**GOOD, "2": {"favorites": -1, "impressions": 2}, "9": {}}, "new": [{}]}), "answer"),
            # the request, who makes it, or where it goes
            ((403, b""), "stop"),
            ((403, b"<html>Forbidden</html>"), "stop"),
            ((403, {"errors": ["Forbidden to access metrics: retweets"]}), "stop"),
            ((400, {"errors": [NO_GROUP]}), "stop"),
            ((404, {"errors": [{"message": "Sorry, that page does not exist", "code": 34}]}), "stop"),
            ((406, {"errors": ["This request requires gzip compression."]}), "stop"),
            *(((status, b""), "stop") for status in (301, 302, 303, 307, 308, 405, 410, 413, 451)),
        ],
    ),
    Trace(
        "faults of one request: doubling to 20 s, before the jitter",
        backing_off(draw=1.0),
        [(FAILED, s) for s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0)],
    ),
    Trace(
        "full jitter may wait not at all",
        backing_off(draw=0.0),
        [(FAILED, 0.0), (TIMEOUT, 0.0), (GONE, 0.0)],
    ),
    Trace(
        "full jitter, half way",
        backing_off(draw=0.5),
        [(FAILED, 0.25), (TIMEOUT, 0.5), (BodyError("cut"), 1.0), (InvalidAnswerError("no JSON"), 2.0), (GONE, 4.0)],
    ),
    Trace(
        "the first disconnect is a dead keep-alive connection: at once, and only the first",
        backing_off(draw=1.0),
        [(GONE, 0.0), (GONE, 1.0), (GONE, 2.0)],
    ),
    Trace(
        "a refused connection is no dead keep-alive connection",
        backing_off(draw=1.0),
        [(NotSentError("no connection"), 0.5), (GONE, 1.0)],
    ),
    Trace(
        "a 429 holds for what it says, and 0.1 s at least on top",
        holding(RateLimit(300)),
        [
            ({"retry-after": "20"}, 20.1),
            ({"retry-after": "0.5"}, 0.6),
            ({"retry-after": "0"}, 0.1),
            ({"retry-after": "Thu, 01 Jan 2026 00:00:20 GMT", "date": DATE}, 20.1),
            ({"x-per-minute-reset": str(EPOCH + 30), "date": DATE}, 30.1),
            ({"x-per-minute-reset": str(EPOCH + 30), "retry-after": "20", "date": DATE}, 30.1),
            ({"x-per-minute-reset": str(EPOCH + 10), "retry-after": "20", "date": DATE}, 20.1),
            # the limit of a second alone is used up
            (
                {
                    "x-per-second-remaining": "0",
                    "x-per-second-reset": str(EPOCH + 1),
                    "x-per-minute-remaining": "7",
                    "x-per-minute-reset": str(EPOCH + 50),
                    "date": DATE,
                },
                1.1,
            ),
        ],
    ),
    Trace(
        "a 429 that says nothing, or nonsense, is waited out for one window",
        holding(RateLimit(300, period=60), RateLimit(20, period=1)),
        [
            ({}, 60.1),
            *(({"retry-after": text}, 60.1) for text in ("", "soon", "nan", "inf", "-inf", "-5", "1e9", "9" * 400)),
            *(({"x-per-minute-reset": text, "date": DATE}, 60.1) for text in ("soon", "nan", "-1", "1e300", "\u0665")),
            ({"x-per-minute-reset": str(EPOCH + 30)}, 60.1),  # by whose clock?
            ({"x-per-minute-reset": str(EPOCH + 30), "date": "yesterday"}, 60.1),
            ({"x-per-minute-reset": str(EPOCH - 30), "date": DATE}, 60.1),
            ({"retry-after": "Thu, 32 Jan 2026 00:00:20 GMT", "date": DATE}, 60.1),
            ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT", "date": DATE}, 60.1),
            ({"retry-after": "Thu, 01 Jan 2099 00:00:00 GMT", "date": DATE}, 60.1),
            ({"retry-after": "901"}, 60.1),  # over 15 minutes, for a limit by the minute
            ({"retry-after": "900"}, 900.1),
        ],
    ),
    Trace("the jitter of a hold is up to a second", holding(RateLimit(300), draw=1.0), [({"retry-after": "5"}, 6.0)]),
    Trace(
        "a clock is wrong from 30 s on",
        telling_the_time,
        [
            ((DATE, EPOCH), None),
            ((DATE, EPOCH + 30), None),
            ((DATE, EPOCH - 30), None),
            ((DATE, EPOCH + 31), -31.0),
            ((DATE, EPOCH - 600), 600.0),
            ((None, EPOCH), None),
            (("", EPOCH), None),
            (("the day before yesterday", 0), None),
        ],
    ),
    Trace(
        "IDs that a refusal names are taken out in one request",
        narrowing,
        [
            (("abcd", "bd"), ({"b": "no", "d": "no"}, ["ac"])),
            (("ab", "ab"), ({"a": "no", "b": "no"}, [])),
        ],
    ),
    Trace(
        "a bad ID that is not named is found by halving",
        narrowing,
        [
            (("abcdefgh", ""), ({}, ["abcd", "efgh"])),
            (("efgh", ""), ({}, ["ef", "gh"])),
            (("abc", ""), ({}, ["a", "bc"])),
            (("gh", ""), ({}, ["g", "h"])),
            (("g", ""), ({"g": "no"}, [])),
        ],
    ),
    Trace(
        "three equal refusals raise the doubt, three single IDs settle it",
        suspecting,
        [
            (("bad", 250, ""), "go on"),
            (("bad", 250, ""), "go on"),
            (("bad", 250, ""), "doubt"),
            (("bad", 1, ""), "doubt"),
            (("bad", 1, ""), "doubt"),
            (("bad", 1, ""), "stop"),
        ],
    ),
    Trace(
        "an answer clears the request for good",
        suspecting,
        [
            *[(("bad", 250, ""), "go on")] * 2,
            ("answered", "go on"),
            *[(("bad", 250, ""), "go on")] * 9,
            *[(("bad", 1, ""), "go on")] * 9,
        ],
    ),
    Trace(
        "an answer ends the doubt",
        suspecting,
        [
            *[(("bad", 250, ""), "go on")] * 2,
            (("bad", 250, ""), "doubt"),
            ("answered", "go on"),
            (("bad", 1, ""), "go on"),
        ],
    ),
    Trace(
        "different texts are no suspicion, nor are refusals that name IDs",
        suspecting,
        [
            (("bad", 250, ""), "go on"),
            (("worse", 250, ""), "go on"),
            (("worst", 250, ""), "go on"),
            (("bad", 250, ""), "go on"),
            *[(("bad", 250, "1"), "go on")] * 5,
            (("bad", 250, ""), "doubt"),
        ],
    ),
    Trace(
        "ten faults in a row open the circuit; one probe at a time, ever more seldom; an answer closes it",
        outlasting(),
        [
            ((0, "ask"), "go"),
            *zip(at(0, "fault", 9), [("closed", left) for left in range(49, 40, -1)], strict=True),
            ((0, "ask"), "go"),
            ((0, "fault"), ("open", 40)),
            ((0, "ask"), 0.5),
            ((0.2, "ask"), pytest.approx(0.3)),
            ((0.5, "ask"), "probe"),
            ((0.5, "ask"), math.inf),
            ((1, "fault"), ("open", 39)),  # of a request that was under way
            ((1, "ask"), math.inf),
            ((1, "probe fails"), ("open", 38)),
            ((1, "ask"), 1.0),
            ((2, "ask"), "probe"),
            ((2, "probe fails"), ("open", 37)),
            ((2, "ask"), 2.0),
            ((4, "ask"), "probe"),
            ((4, "probe is cancelled"), ("open", 37)),
            ((4, "ask"), "probe"),
            ((4, "answer"), ("closed", 38)),
            ((4, "ask"), "go"),
        ],
    ),
    Trace(
        "a probe waits 20 s at most",
        outlasting(),
        [
            *zip(at(0, "fault", 10), [*[("closed", 50 - n) for n in range(1, 10)], ("open", 40)], strict=True),
            *[
                step
                for n, delay in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0))
                for step in (
                    ((100.0 * n + 50, "ask"), "probe"),
                    ((100.0 * n + 50, "probe fails"), ("open", 39 - n)),
                    ((100.0 * n + 50, "ask"), delay),
                )
            ],
        ],
    ),
    Trace(
        "answers between faults pay for them: half of all broken keeps the circuit closed",
        outlasting(),
        [((0, "fault"), ("closed", 49)), ((0, "answer"), ("closed", 50))] * 100,
    ),
    Trace(
        "a used up budget opens the circuit; an answer closes it with a fifth of the budget",
        outlasting(budget=2),
        [
            ((0, "fault"), ("closed", 1)),
            ((0, "fault"), ("open", 0)),
            ((1, "ask"), "probe"),
            ((1, "answer"), ("closed", 10)),
            ((1, "answer"), ("closed", 11)),
        ],
    ),
    Trace(
        "after the deadline without an answer what is left is given up; a new call has the deadline before it",
        outlasting(outage_timeout_s=900, budget=1),
        [
            ((0, "fault"), ("open", 0)),
            ((900, "ask"), "probe"),
            ((900, "probe fails"), ("open", 0)),
            ((900.1, "ask"), "give up"),
            ((901, "new call"), ("open", 0)),
            ((901, "ask"), "probe"),
            ((901, "answer"), ("closed", 10)),
            ((5_000, "ask"), "go"),
        ],
    ),
]


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.what)
def test_trace(trace: Trace) -> None:
    decide = trace.policy()
    for number, (event, decision) in enumerate(trace.steps, 1):
        expected = pytest.approx(decision) if isinstance(decision, float) else decision
        assert decide(event) == expected, f"step {number}: {str(event)[:200]}"


@given(faults=st.integers(1, 10**6), draw=st.floats(0, 1, exclude_max=True))
def test_a_backoff_is_never_negative_and_never_over_20_s(faults: int, draw: float) -> None:
    assert 0 <= backoff_s(faults, TIMEOUT, draw) <= 20


@given(st.dictionaries(st.sampled_from(["retry-after", "x-per-minute-reset", "x-per-second-reset", "date"]), st.text()))
def test_whatever_a_429_says_it_holds_for_at_least_a_moment_and_at_most_15_minutes(headers: dict[str, str]) -> None:
    assert 0.1 <= hold_s(RateHeaders.from_headers(headers), [RateLimit(300)], 0.5) <= 901


@given(ids=st.lists(st.integers(1, 10**6).map(str), min_size=1, max_size=250, unique=True), data=st.data())
def test_halving_finds_one_bad_id_in_at_most_16_more_requests_and_loses_none(
    ids: list[str], data: st.DataObject
) -> None:
    bad = data.draw(st.sampled_from(ids))
    queue, good, requests = [tuple(ids)], list[str](), 0
    while queue:
        asked = queue.pop(0)
        requests += 1
        if bad not in asked:
            good += asked
            continue
        out, rest = narrow(0, asked, refusal("no"))
        queue += rest
        if out is not None:
            assert dict(out.failed_tweet_ids) == {bad: "no"}

    assert requests <= 1 + 16
    assert sorted([*good, bad]) == sorted(ids)


def test_ids_that_two_answers_leave_out_are_failed_with_the_reason() -> None:
    answer = missing_answer(3, ("1", "2"))

    assert answer.tweet_ids == ("1", "2")
    assert set(answer.failed_tweet_ids) == {"1", "2"}
    assert all(reason.startswith("missing: ") for reason in answer.failed_tweet_ids.values())
