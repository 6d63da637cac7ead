"""The rule that keeps the contract, against a model server that counts arrivals. Pure: no loop, no clock."""

from __future__ import annotations

import heapq
import math
import os
import random
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import RateLimit, UsageError
from engagement_async._core.rate_limit import PACE, RECOVERY_INTERVAL_S, Ledger, Token

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SCHEDULES = 100_000 if NIGHTLY else 2_000

limits = st.builds(RateLimit, st.integers(1, 12), period=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
MINUTE_S = RateLimit(1).window_s
TEN_S = RateLimit(1, period=10).window_s


def peak(arrivals: list[float], period: float) -> int:
    """Return the most arrivals in any window of that length, whatever its alignment."""
    at = sorted(arrivals)
    return max((bisect_left(at, start + period) - index for index, start in enumerate(at)), default=0)


class Model:
    """A network and a server in between a greedy caller and the ledger: everything that may happen, at random."""

    def __init__(self, limits: list[RateLimit], seed: int) -> None:
        self.random = random.Random(seed)
        self.ledger = Ledger(limits)
        self.arrivals: dict[str | None, list[float]] = {None: [], "a": [], "b": []}
        self.now = 0.0
        self.pending: list[tuple[float, int, str, Token, float]] = []
        self.count = 0

    def run(self, requests: int) -> None:
        blocked = 0
        while self.count < requests:
            endpoint = self.random.choice(["a", "b"])
            token = self.ledger.reserve(self.now, endpoint)
            if isinstance(token, Token):
                self.send(token, endpoint)
                blocked = 0
                if self.random.random() < 0.5:
                    self.pass_time(self.random.expovariate(20.0))
                continue
            assert token > self.now
            blocked += 1
            assert blocked < 10_000, "the ledger never grants again"
            self.advance(token)
        while self.pending:
            self.advance(math.inf)

    def send(self, token: Token, endpoint: str) -> None:
        self.count += 1
        fate = self.random.random()
        out = self.random.choice([0.0, 0.001, self.random.expovariate(3.0), self.random.uniform(0, 3)])
        back = self.random.choice([0.0, 0.001, self.random.expovariate(3.0), self.random.uniform(0, 3)])
        if fate < 0.08:  # cancelled at the moment of its grant, or never left
            self.at(self.now + self.random.choice([0.0, out]), "refund", token)
            return
        self.arrive(self.now + out, endpoint)
        if fate < 0.2:  # given up by the caller, before or after it arrived
            aborted_s = self.random.uniform(0, out + back)
            self.at(self.now + aborted_s, "abandon", token, within_s=max(0.0, out - aborted_s))
        else:
            self.at(self.now + out + back, "settle", token)
        if fate > 0.97:
            self.ledger.hold_until(self.now + self.random.uniform(0, 3))

    def arrive(self, at: float, endpoint: str) -> None:
        self.arrivals[None].append(at)
        self.arrivals[endpoint].append(at)

    def at(self, at: float, event: str, token: Token, within_s: float = 0.0) -> None:
        heapq.heappush(self.pending, (at, self.count, event, token, within_s))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.pending and self.pending[0][0] <= until:
            self.advance(until)
        self.now = until

    def advance(self, until: float) -> None:
        """To the next event, or to that instant."""
        if self.pending and self.pending[0][0] <= until:
            self.now, _, event, token, within_s = heapq.heappop(self.pending)
            if event == "settle":
                self.ledger.settle(token, self.now)
            elif event == "abandon":
                self.ledger.abandon(token, self.now, within_s)
            else:
                self.ledger.refund(token)
        elif until < math.inf:
            self.now = until


@settings(max_examples=SCHEDULES)
@given(
    st.lists(limits, min_size=1, max_size=3), st.sampled_from([None, "a"]), st.integers(0, 2**32), st.integers(5, 60)
)
def test_never_more_arrivals_than_the_contract(
    contract: list[RateLimit], endpoint: str | None, seed: int, requests: int
) -> None:
    contract = [*contract[:-1], RateLimit(contract[-1].requests, contract[-1].period, endpoint)]
    model = Model(contract, seed)

    model.run(requests)

    for limit in contract:
        # Sliding windows of every alignment hold the fixed ones.
        assert peak(model.arrivals[limit.endpoint], limit.period) <= limit.requests


def grants(ledger: Ledger, requests: int, round_trip_s: float) -> Iterator[float]:
    """Return the instants at which a greedy caller is granted, when every answer takes that long."""
    now = 0.0
    answers: list[tuple[float, int, Token]] = []
    for number in range(requests):
        while not isinstance(token := ledger.reserve(now), Token):
            if answers and answers[0][0] <= token:
                now = max(now, answers[0][0])
                ledger.settle(heapq.heappop(answers)[2], now)
            else:
                assert token < math.inf
                now = token
        yield now
        heapq.heappush(answers, (now + round_trip_s, number, token))


@pytest.mark.parametrize("requests", [10, 300, 3_000])
@pytest.mark.parametrize("round_trip_s", [0.0, 0.27, 2.0])
def test_all_of_the_contract_is_used(requests: int, round_trip_s: float) -> None:
    """A window, once warm, sees N requests every W + L seconds: nothing is left on the table."""
    limit = RateLimit(requests)
    at = list(grants(Ledger([limit]), 6 * requests, round_trip_s))

    window_s = limit.window_s
    seconds = at[-1] - at[requests]
    used = (5 * requests - 1) / seconds / (requests / window_s)

    assert used >= window_s / (window_s + round_trip_s) - 0.005
    assert peak(at, limit.period) <= requests


@pytest.mark.parametrize(
    ("limit", "burst"),
    [
        (RateLimit(600), 60),
        (RateLimit(300), 30),
        (RateLimit(15), 2),
        (RateLimit(600, burst=1), 1),
        (RateLimit(300, burst=300), 300),
        (RateLimit(1), 1),
    ],
)
def test_it_starts_with_a_burst_and_then_keeps_the_pace(limit: RateLimit, burst: int) -> None:
    at = list(grants(Ledger([limit]), limit.requests, 0.2))

    assert limit.burst_size == burst
    assert at.count(0.0) == burst
    apart = {round(later - sooner, 6) for sooner, later in pairwise(at[burst:])}
    assert apart <= {round(MINUTE_S / (PACE * limit.requests), 6)}


@pytest.mark.parametrize(("period", "margin_s"), [(0.5, 0.05), (1, 0.05), (60, 0.06), (3_600, 3.6), (86_400, 86.4)])
def test_the_margin_for_the_drift_of_clocks_grows_with_the_period(period: float, margin_s: float) -> None:
    assert RateLimit(1, period=period).window_s == pytest.approx(period + margin_s)


@pytest.mark.parametrize(
    ("requests", "period"), [(300, 60), (1_000, 900), (1_000, 3_600), (10_000, 3_600), (100, 86_400), (10_000, 86_400)]
)
@pytest.mark.parametrize("ppm", [20, 100, 500, 1_000])
def test_a_clock_that_runs_fast_exceeds_no_contract(requests: int, period: float, ppm: int) -> None:
    """The ledger's seconds are shorter than the server's."""
    fast = 1 + ppm * 1e-6
    at = list(grants(Ledger([RateLimit(requests, period=period)]), 3 * requests, 0.05))

    assert peak([instant / fast for instant in at], period) <= requests


@pytest.mark.parametrize("burst", [10, 100, 1_000])
@pytest.mark.parametrize("jump_s", [0.1, 1.0, 10.0])
def test_a_clock_that_jumps_costs_the_burst_and_what_the_pace_allows(burst: int, jump_s: float) -> None:
    """As docs/scheduler.md says; the margin covers drift, and no jump."""
    limit = RateLimit(10_000, burst=burst)
    ledger = Ledger([limit])
    at: list[float] = []
    now = jumped_s = 0.0
    while len(at) < 3 * limit.requests:
        token = ledger.reserve(now + jumped_s)
        if isinstance(token, Token):
            ledger.settle(token, now + jumped_s)
            at.append(now)
            if len(at) == limit.requests:
                jumped_s = jump_s
        else:
            now = token - jumped_s

    over = peak(at, limit.period) - limit.requests

    assert over <= burst + PACE * limit.requests * jump_s / limit.window_s


def test_a_token_comes_back_one_window_after_its_answer_and_not_before() -> None:
    ledger = Ledger([RateLimit(1, period=10)])
    token = ledger.reserve(0.0)
    assert isinstance(token, Token)
    assert ledger.reserve(5.0) == math.inf

    ledger.settle(token, 7.0)

    assert ledger.reserve(16.0) == 7.0 + TEN_S
    assert isinstance(ledger.reserve(7.0 + TEN_S), Token)


def test_an_aborted_request_stays_out_for_the_window_and_as_long_as_it_may_arrive() -> None:
    ledger = Ledger([RateLimit(1, period=10)])
    token = ledger.reserve(0.0)
    assert isinstance(token, Token)

    ledger.abandon(token, 1.0, within_s=60)

    assert ledger.reserve(2.0) == 1.0 + 60 + TEN_S


def test_what_an_event_loop_left_behind_counts_as_aborted_once() -> None:
    limit = RateLimit(3, period=10, burst=3)
    ledger = Ledger([limit])
    tokens = [ledger.reserve(0.0) for _ in range(3)]
    assert all(isinstance(token, Token) for token in tokens)
    ledger.abandon_all(5.0, within_s=60)

    for token in tokens:
        assert isinstance(token, Token)
        ledger.settle(token, 6.0)
        ledger.refund(token)

    assert ledger.reserve(6.0) == 5.0 + 60 + TEN_S
    assert ledger.available(limit, 5.0 + 60 + TEN_S) == 3


def test_a_refund_is_whole_and_happens_once() -> None:
    ledger = Ledger([RateLimit(2, period=10), RateLimit(1, period=1)])
    token = ledger.reserve(0.0)
    assert isinstance(token, Token)

    for _ in range(3):
        ledger.refund(token)
        ledger.settle(token, 0.0)

    assert [ledger.available(limit, 0.0) for limit in ledger.limits] == [2, 1]


def test_several_limits_are_granted_all_or_none() -> None:
    minute, second, historical = RateLimit(4, period=60), RateLimit(2, period=1), RateLimit(1, 60, "historical")
    ledger = Ledger([minute, second, historical])
    first = ledger.reserve(0.0, "historical")
    assert isinstance(first, Token)

    refused = ledger.reserve(0.0, "historical")

    assert refused == math.inf
    assert [ledger.available(limit, 0.0) for limit in ledger.limits] == [3, 1, 0]
    assert isinstance(ledger.reserve(0.0, "totals"), Token)
    assert ledger.reserve(0.0, "totals") == math.inf


def test_a_hold_stops_everything_and_ends_without_a_burst() -> None:
    ledger = Ledger([RateLimit(10_000)])
    ledger.hold_until(30.0)
    ledger.hold_until(20.0)  # a later word that is shorter changes nothing
    assert ledger.reserve(5.0) == 30.0

    at = []
    now = 30.0
    while now < 31.0:
        token = ledger.reserve(now)
        if isinstance(token, Token):
            at.append(now)
        else:
            now = token

    assert at[0] == 30.0
    assert peak(at, 0.1) <= 11
    assert min(later - sooner for sooner, later in pairwise(at)) >= RECOVERY_INTERVAL_S - 1e-9


def taken(ledger: Ledger, now: float = 0.0) -> Token:
    token = ledger.reserve(now)
    assert isinstance(token, Token)
    return token


def grants_at(ledger: Ledger, now: float) -> int:
    number = 0
    while isinstance(ledger.reserve(now), Token):
        number += 1
    return number


def test_refunds_during_a_hold_allow_no_burst_after_it() -> None:
    def burst_after_hold(refunds: int) -> int:
        ledger = Ledger([RateLimit(1_000)])
        tokens = [taken(ledger) for _ in range(10)]
        ledger.hold_until(30.0)
        for token in tokens[:refunds]:
            ledger.refund(token)
        return grants_at(ledger, 32.1)

    assert burst_after_hold(10) == burst_after_hold(0)


def test_the_server_s_word_caps_what_is_left_until_the_reset() -> None:
    limit = RateLimit(10, burst=10)
    ledger = Ledger([limit])

    ledger.cap(limit, 2, now=0.0, until=30.0)
    ledger.cap(limit, 7, now=0.0, until=30.0)  # the server can only tighten

    assert ledger.available(limit, 0.0) == 2
    tokens = [taken(ledger), taken(ledger)]
    assert ledger.reserve(0.0) == 30.0
    ledger.refund(tokens[0])
    assert ledger.available(limit, 6.0) == 1
    assert ledger.available(limit, 30.0) == 9


def test_each_word_of_the_server_holds_by_itself() -> None:
    limit = RateLimit(10, burst=10)
    ledger = Ledger([limit])

    ledger.cap(limit, 0, now=0.0, until=5.0)
    ledger.cap(limit, 3, now=0.0, until=30.0)

    assert ledger.reserve(0.0) == 5.0
    assert grants_at(ledger, 5.0) == 3
    assert ledger.reserve(6.0) == 30.0
    assert grants_at(ledger, 30.0) == 7


@pytest.mark.parametrize("word", [0, -1, -100])
def test_a_word_of_nothing_left_grants_nothing_whatever_is_refunded(word: int) -> None:
    limit = RateLimit(10, burst=10)
    ledger = Ledger([limit])
    tokens = [taken(ledger) for _ in range(5)]

    ledger.cap(limit, word, now=0.0, until=60.0)
    for token in tokens:
        ledger.refund(token)  # they never left, and the server never counted them

    assert ledger.available(limit, 0.0) == 0
    assert ledger.reserve(0.0) == 60.0


def test_a_refund_of_a_request_after_the_word_is_left_again() -> None:
    limit = RateLimit(10, burst=10)
    ledger = Ledger([limit])
    before = taken(ledger)
    ledger.cap(limit, 2, now=0.0, until=60.0)
    after = taken(ledger)

    ledger.refund(before)
    assert ledger.available(limit, 0.0) == 1
    ledger.refund(after)
    assert ledger.available(limit, 0.0) == 2


def test_what_came_back_since_a_grant_is_not_counted_as_available_then() -> None:
    limit = RateLimit(3, period=10, burst=3)
    ledger = Ledger([limit])
    ledger.settle(taken(ledger), 0.0)
    token = taken(ledger, 9.0)
    ledger.settle(token, 11.0)

    assert ledger.available(limit, 11.0) == 2
    assert ledger.available(limit, 11.0, since=token) == 1


@pytest.mark.parametrize("burst", [0, -1, 1.5, True, 301])
def test_a_burst_of_nonsense_is_refused(burst: object) -> None:
    with pytest.raises(UsageError, match="burst from 1 to its 300 requests"):
        RateLimit(300, burst=burst)  # type: ignore[arg-type]


@pytest.mark.parametrize("requests", [0, -1, 1.5, True, "300"])
def test_a_limit_of_nonsense_is_refused(requests: object) -> None:
    with pytest.raises(UsageError, match="whole number of requests"):
        RateLimit(requests)  # type: ignore[arg-type]


@pytest.mark.parametrize("period", [0, -1, math.nan, math.inf, "60"])
def test_a_period_of_nonsense_is_refused(period: object) -> None:
    with pytest.raises(UsageError, match="period in seconds"):
        RateLimit(300, period=period)  # type: ignore[arg-type]


def test_no_limit_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one RateLimit"):
        Ledger([])
