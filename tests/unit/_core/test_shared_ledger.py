"""The rule over memory that several processes share, against a model server that counts arrivals. No lock, no clock."""

from __future__ import annotations

import heapq
import math
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import RateLimit, UsageError
from engagement_async._core.shared_ledger import (
    GRACE_S,
    SharedLedger,
    SharedToken,
    block_bytes,
    check_limits,
)
from tests.contract_suite import peak

SCHEDULES = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 200
QUARANTINE_S = 3.0


def ledgers(*limits: list[RateLimit], boot: str = "boot") -> list[SharedLedger]:
    """Return processes that share one block, each with its limits."""
    memory = bytearray(block_bytes())
    made = [SharedLedger(mine, memory) for mine in limits]
    made[0].begin(boot, 0.0, 0.0)
    for number, ledger in enumerate(made):
        ledger.join(number, 0.0, owner=number + 1)
        ledger.note_quarantine(QUARANTINE_S)
    return made


def taken(ledger: SharedLedger, now: float, endpoint: str | None = None) -> SharedToken:
    token = ledger.reserve(now, endpoint)
    assert isinstance(token, SharedToken), f"not before {token}"
    return token


class Model:
    """Processes that are greedy at random, killed at random and started again, and a network in between."""

    def __init__(self, contracts: list[list[RateLimit]], seed: int) -> None:
        self.random = random.Random(seed)
        self.ledgers = ledgers(*contracts)
        self.contracts = contracts
        self.arrivals: dict[str, list[float]] = {"a": [], "b": []}
        self.now = 0.0
        self.pending: list[tuple[float, int, str, int, SharedToken, float]] = []
        self.count = 0
        self.owners = len(contracts)

    def run(self, requests: int) -> None:
        blocked = 0
        while self.count < requests:
            number = self.random.randrange(len(self.ledgers))
            endpoint = self.random.choice(["a", "b"])
            token = self.ledgers[number].reserve(self.now, endpoint)
            if isinstance(token, SharedToken):
                self.send(number, token, endpoint)
                blocked = 0
                if self.random.random() < 0.5:
                    self.pass_time(self.random.expovariate(20.0))
            else:
                assert token > self.now
                blocked += 1
                assert blocked < 20_000, "the ledger never grants again"
                self.advance(min(token, self.now + self.random.choice([0.001, 0.05, 1.0])))
            if self.random.random() < 0.02:
                self.kill(number)

    def kill(self, number: int) -> None:
        """Its requests go on, and nobody hears of their answers. Another process takes the slot over."""
        self.pending = [event for event in self.pending if event[3] != number or event[2] == "arrive"]
        heapq.heapify(self.pending)
        self.owners += 1
        self.ledgers[number].join(number, self.now, owner=self.owners)
        self.ledgers[number].note_quarantine(QUARANTINE_S)

    def send(self, number: int, token: SharedToken, endpoint: str) -> None:
        self.count += 1
        fate = self.random.random()
        there = min(QUARANTINE_S, self.random.choice([0.0, 0.001, self.random.expovariate(3.0)]))
        back = self.random.choice([0.0, 0.001, self.random.expovariate(3.0)])
        if fate < 0.08:
            self.at(self.now + self.random.choice([0.0, there]), "refund", number, token)
            return
        self.at(self.now + there, "arrive", number, token, endpoint=endpoint)
        if fate < 0.2:
            aborted_s = self.random.uniform(0, there + back)
            self.at(self.now + aborted_s, "abandon", number, token, within_s=max(0.0, there - aborted_s))
        else:
            self.at(self.now + there + back, "settle", number, token)
        if fate > 0.97:
            self.ledgers[number].hold_until(self.now + self.random.uniform(0, 3))

    def at(
        self, at: float, event: str, number: int, token: SharedToken, within_s: float = 0.0, endpoint: str = ""
    ) -> None:
        if event == "arrive":
            heapq.heappush(self.pending, (at, self.random.getrandbits(60), event, number, token, ord(endpoint)))
        else:
            heapq.heappush(self.pending, (at, self.random.getrandbits(60), event, number, token, within_s))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.pending and self.pending[0][0] <= until:
            self.advance(until)
        self.now = until

    def advance(self, until: float) -> None:
        if not self.pending or self.pending[0][0] > until:
            if until < math.inf:
                self.now = until
            return
        self.now, _, event, number, token, value = heapq.heappop(self.pending)
        ledger = self.ledgers[number]
        if event == "arrive":
            self.arrivals[chr(int(value))].append(self.now)
        elif event == "settle":
            ledger.settle(token, self.now)
        elif event == "abandon":
            ledger.abandon(token, self.now, value)
        else:
            ledger.refund(token, self.now)


limits = st.builds(RateLimit, st.integers(1, 12), period=st.sampled_from([0.5, 1.0, 2.0, 5.0]))


@settings(max_examples=SCHEDULES)
@given(
    st.lists(limits, min_size=1, max_size=2, unique_by=lambda limit: limit.period),
    st.integers(1, 4),
    st.sampled_from([None, "a"]),
    st.integers(0, 2**32),
    st.integers(5, 60),
)
def test_never_more_arrivals_than_the_contract(
    contract: list[RateLimit], processes: int, endpoint: str | None, seed: int, requests: int
) -> None:
    contract = [*contract[:-1], RateLimit(contract[-1].requests, contract[-1].period, endpoint), RateLimit(30, 0.2)]
    model = Model([contract] * processes, seed)

    model.run(requests)

    for limit in contract:
        arrivals = model.arrivals["a"] + (model.arrivals["b"] if limit.endpoint is None else [])
        assert peak(arrivals, limit.period) <= limit.requests


@settings(max_examples=SCHEDULES)
@given(st.integers(0, 2**32), st.integers(5, 60))
def test_processes_that_state_different_limits_keep_the_widest_of_them(seed: int, requests: int) -> None:
    """Each one alone grants within its own; together they are never over what any of them allows."""
    model = Model([[RateLimit(4, 1.0)], [RateLimit(8, 1.0)], [RateLimit(6, 1.0), RateLimit(20, 5.0)]], seed)

    model.run(requests)

    assert peak(model.arrivals["a"] + model.arrivals["b"], 1.0) <= 8


def test_a_token_comes_back_one_window_after_its_answer_rounded_up_to_a_quantum() -> None:
    limit = RateLimit(1, period=10)
    first, second = ledgers([limit], [limit])
    token = taken(first, 0.0)
    assert second.reserve(5.0, None) == math.inf

    first.settle(token, 7.0)

    back_at = second.reserve(8.0, None)
    assert isinstance(back_at, float)
    assert 7.0 + limit.window_s <= back_at <= 7.0 + limit.window_s * (1 + 1 / 500)
    first.reserve(8.0, None)  # waits too, and was served before
    assert isinstance(second.reserve(back_at, None), SharedToken)


def test_all_of_the_contract_is_used_whatever_the_quantum_costs() -> None:
    limit = RateLimit(600)
    (ledger,) = ledgers([limit])
    granted = 0
    now = 0.0
    while now < 1_200:
        token = ledger.reserve(now, None)
        if isinstance(token, SharedToken):
            granted += 1
            ledger.settle(token, now)
        else:
            now = token

    assert granted / (600 * 20) >= 0.99


def test_the_slots_take_turns() -> None:
    limit = RateLimit(1, period=10)
    first, second = ledgers([limit], [limit])
    first.settle(taken(first, 0.0), 0.0)
    back_at = first.reserve(1.0, None)
    assert second.reserve(1.0, None) == back_at
    assert isinstance(back_at, float)

    waits_until = first.reserve(back_at, None)  # it was served before: the other one has some grace

    assert isinstance(waits_until, float)
    assert back_at < waits_until <= back_at + GRACE_S
    assert isinstance(second.reserve(back_at + GRACE_S / 2, None), SharedToken)


def test_a_slot_that_does_not_come_loses_its_turn() -> None:
    limit = RateLimit(1, period=10)
    first, second = ledgers([limit], [limit])
    first.settle(taken(first, 0.0), 0.0)
    back_at = first.reserve(1.0, None)
    second.reserve(1.0, None)
    assert isinstance(back_at, float)

    assert isinstance(first.reserve(back_at + GRACE_S, None), SharedToken)


def test_what_a_killed_process_had_in_flight_counts_until_it_may_have_arrived() -> None:
    limit = RateLimit(2, period=10, burst=2)
    first, second = ledgers([limit], [limit])
    taken(first, 0.0)
    taken(first, 0.0)
    assert second.others_in_flight() == [0]

    second.abandon_slot(0, 5.0)

    assert second.others_in_flight() == []
    back_at = second.reserve(6.0, None)
    assert isinstance(back_at, float)
    assert back_at == pytest.approx(5.0 + QUARANTINE_S + limit.window_s, abs=0.03)


def test_a_limit_that_is_new_counts_what_others_know() -> None:
    minute = RateLimit(10, burst=10)
    first, other = ledgers([minute], [minute])
    for _ in range(4):
        first.settle(taken(first, 0.0, "28hr"), 0.0)
    out = taken(first, 1.0, "totals")

    other.limits = (minute, RateLimit(6, period=120, burst=6), RateLimit(5, endpoint="28hr", burst=5))
    other.join(1, 2.0, owner=77)

    assert [other.available(limit, 2.0, None) for limit in other.limits] == [5, 1, 0]
    first.settle(out, 3.0)
    assert [other.available(limit, 3.0, None) for limit in other.limits] == [5, 1, 0]


def test_limits_that_nobody_uses_any_more_make_room() -> None:
    memory = bytearray(block_bytes())
    SharedLedger([], memory).begin("boot", 0.0, 0.0)
    for number in range(30):
        ledger = SharedLedger([RateLimit(1, period=1.0 + number)], memory)
        ledger.join(0, 100.0 * number, owner=1)
        ledger.settle(taken(ledger, 100.0 * number), 100.0 * number)
        ledger.leave(100.0 * number)

    *some, one_too_many = [SharedLedger([RateLimit(1, period=1.0 + number)], memory) for number in range(9)]
    for number, ledger in enumerate(some):
        ledger.join(number, 10_000.0, owner=number + 1)
    with pytest.raises(UsageError, match="different limits"):
        one_too_many.join(8, 10_000.0, owner=9)


def test_a_contract_of_many_limits_or_long_names_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 4 limits"):
        check_limits([RateLimit(1, period=number) for number in range(1, 6)])
    with pytest.raises(UsageError, match="no endpoint"):
        check_limits([RateLimit(1, endpoint="x" * 40)])


@pytest.mark.parametrize(
    ("wall_passed_s", "boot_s", "back_in_s"),
    [
        (30.0, 10.0, 40.0),  # 70 s of window and quarantine, less half a minute
        (-500.0, 10.0, 60.0),  # a clock that went back: no time has passed but that since the boot
        (30.0, 45.0, 25.0),  # nothing is younger than this boot
        (500.0, 10.0, 0.0),
    ],
)
def test_a_boot_is_crossed_by_the_wall_clock(wall_passed_s: float, boot_s: float, back_in_s: float) -> None:
    limit = RateLimit(1, period=70 - QUARANTINE_S)
    (ledger,) = ledgers([limit])
    taken(ledger, 1_000.0)
    ledger.stamp(1_000.0, 5_000.0)
    assert ledger.is_of_boot("boot")
    assert not ledger.is_of_boot("another")

    ledger.cross_boot("another", boot_s, 5_000.0 + wall_passed_s)
    ledger.join(0, boot_s, owner=9)

    token = ledger.reserve(boot_s, None)
    wait_s = 0.0 if isinstance(token, SharedToken) else token - boot_s
    assert wait_s == pytest.approx(back_in_s, abs=0.3)


def test_memory_that_holds_no_ledger_is_seen() -> None:
    memory = bytearray(block_bytes())
    ledger = SharedLedger([RateLimit(1)], memory)
    assert not ledger.is_valid()
    ledger.begin("boot", 0.0, 0.0)
    assert ledger.is_valid()
    memory[:8] = b"nonsense"
    assert not ledger.is_valid()


def test_abandoned_requests_of_any_number_are_remembered() -> None:
    """Where there is no room for each, they come back with a later one."""
    limit = RateLimit(60, period=1, burst=60)
    (ledger,) = ledgers([limit])
    for number in range(60):
        ledger.abandon(taken(ledger, 0.0), 0.0, within_s=100.0 + number)

    for number in range(60):
        assert ledger.available(limit, 100.5 + number, None) <= number
    assert ledger.available(limit, 161.5, None) == 60
