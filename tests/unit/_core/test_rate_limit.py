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
from engagement_async._core.rate_limit import CLOCK_MARGIN_S, PACE, RECOVERY_INTERVAL_S, Ledger, Token

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SCHEDULES = 100_000 if NIGHTLY else 2_000

limits = st.builds(RateLimit, st.integers(1, 12), period=st.sampled_from([0.5, 1.0, 2.0, 5.0]))


def peak(arrivals: list[float], period: float) -> int:
    """The most arrivals in any window of that length, whatever its alignment."""
    at = sorted(arrivals)
    return max((bisect_left(at, start + period) - index for index, start in enumerate(at)), default=0)


class Model:
    """A network and a server in between a greedy caller and the ledger: everything that may happen, at random."""

    def __init__(self, limits: list[RateLimit], seed: int, quarantine_s: float) -> None:
        self.random = random.Random(seed)
        self.ledger = Ledger(limits, quarantine_s=quarantine_s)
        self.quarantine_s = quarantine_s
        self.limits = limits
        self.arrivals: dict[str | None, list[float]] = {None: [], "a": [], "b": []}
        self.now = 0.0
        self.pending: list[tuple[float, int, str, Token]] = []
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
                    self.now += self.random.expovariate(20.0)
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
        out = min(out, self.quarantine_s)
        back = self.random.choice([0.0, 0.001, self.random.expovariate(3.0), self.random.uniform(0, 3)])
        if fate < 0.08:  # cancelled at the moment of its grant, or never left
            self.at(self.now + self.random.choice([0.0, out]), "refund", token)
            return
        self.arrive(self.now + out, endpoint)
        if fate < 0.2:  # given up by the caller, before or after it arrived
            self.at(self.now + self.random.uniform(0, out + back), "abandon", token)
        else:
            self.at(self.now + out + back, "settle", token)
        if fate > 0.97:
            self.ledger.hold_until(self.now + self.random.uniform(0, 3))

    def arrive(self, at: float, endpoint: str) -> None:
        self.arrivals[None].append(at)
        self.arrivals[endpoint].append(at)

    def at(self, at: float, event: str, token: Token) -> None:
        heapq.heappush(self.pending, (at, self.count, event, token))

    def advance(self, until: float) -> None:
        """To the next event, or to that instant."""
        if self.pending and self.pending[0][0] <= until:
            self.now, _, event, token = heapq.heappop(self.pending)
            if event == "settle":
                self.ledger.settle(token, self.now)
            elif event == "abandon":
                self.ledger.abandon(token, self.now)
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
    model = Model(contract, seed, quarantine_s=3.0)

    model.run(requests)

    for limit in contract:
        # Sliding windows of every alignment hold the fixed ones.
        assert peak(model.arrivals[limit.endpoint], limit.period) <= limit.requests


def grants(ledger: Ledger, requests: int, round_trip_s: float) -> Iterator[float]:
    """The instants at which a greedy caller is granted, when every answer takes that long."""
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
    at = list(grants(Ledger([limit], quarantine_s=60), 6 * requests, round_trip_s))

    window_s = limit.period + CLOCK_MARGIN_S
    seconds = at[-1] - at[requests]
    used = (5 * requests - 1) / seconds / (requests / window_s)

    assert used >= window_s / (window_s + round_trip_s) - 0.005
    assert peak(at, limit.period) <= requests


def test_it_starts_with_a_small_burst_and_then_keeps_the_pace() -> None:
    at = list(grants(Ledger([RateLimit(600)], quarantine_s=60), 100, 0.2))

    assert [instant for instant in at if instant == 0.0] == [0.0] * 6
    apart = {round(later - sooner, 9) for sooner, later in pairwise(at[6:])}
    assert apart == {round(60.05 / (PACE * 600), 9)}


def test_a_token_comes_back_one_window_after_its_answer_and_not_before() -> None:
    ledger = Ledger([RateLimit(1, period=10)], quarantine_s=60)
    token = ledger.reserve(0.0)
    assert isinstance(token, Token)
    assert ledger.reserve(5.0) == math.inf

    ledger.settle(token, 7.0)

    assert ledger.reserve(16.0) == 7.0 + 10 + CLOCK_MARGIN_S
    assert isinstance(ledger.reserve(7.0 + 10 + CLOCK_MARGIN_S), Token)


def test_an_aborted_request_stays_out_for_the_window_and_the_quarantine() -> None:
    ledger = Ledger([RateLimit(1, period=10)], quarantine_s=60)
    token = ledger.reserve(0.0)
    assert isinstance(token, Token)

    ledger.abandon(token, 1.0)

    assert ledger.reserve(2.0) == 1.0 + 10 + CLOCK_MARGIN_S + 60


def test_a_refund_is_whole_and_happens_once() -> None:
    ledger = Ledger([RateLimit(2, period=10), RateLimit(1, period=1)], quarantine_s=60)
    token = ledger.reserve(0.0)
    assert isinstance(token, Token)

    for _ in range(3):
        ledger.refund(token)
        ledger.settle(token, 0.0)

    assert [ledger.free(limit, 0.0) for limit in ledger.limits] == [2, 1]


def test_several_limits_are_granted_all_or_none() -> None:
    minute, second, historical = RateLimit(4, period=60), RateLimit(2, period=1), RateLimit(1, 60, "historical")
    ledger = Ledger([minute, second, historical], quarantine_s=60)
    first = ledger.reserve(0.0, "historical")
    assert isinstance(first, Token)

    refused = ledger.reserve(0.0, "historical")

    assert refused == math.inf
    assert [ledger.free(limit, 0.0) for limit in ledger.limits] == [3, 1, 0]
    assert isinstance(ledger.reserve(0.0, "totals"), Token)
    assert ledger.reserve(0.0, "totals") == math.inf


def test_a_hold_stops_everything_and_ends_without_a_burst() -> None:
    ledger = Ledger([RateLimit(10_000)], quarantine_s=60)
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


def test_the_server_s_word_caps_what_is_left_until_the_reset() -> None:
    limit = RateLimit(10)
    ledger = Ledger([limit], quarantine_s=60)

    ledger.cap(limit, 2, now=0.0, until=30.0)
    ledger.cap(limit, 7, now=0.0, until=30.0)  # the server can only tighten

    assert ledger.free(limit, 0.0) == 2
    tokens = [ledger.reserve(0.0), ledger.reserve(0.0)]
    assert all(isinstance(token, Token) for token in tokens)
    assert ledger.reserve(0.0) == 30.0
    assert isinstance(tokens[0], Token)
    ledger.refund(tokens[0])
    assert ledger.free(limit, 6.0) == 1
    assert ledger.free(limit, 30.0) == 9


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
        Ledger([], quarantine_s=60)
