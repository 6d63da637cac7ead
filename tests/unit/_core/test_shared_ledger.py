"""The rule over memory that several processes share, against a model server that counts arrivals. No lock, no clock."""

from __future__ import annotations

import ctypes
import heapq
import math
import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import RateLimit
from engagement_async._core.shared_bucket import UNWRITTEN_S
from engagement_async._core.shared_ledger import GRACE_S, SharedToken
from tests.contract_suite import peak
from tests.support.shared_ledgers import QUARANTINE_S, ledgers, taken

SCHEDULES = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 200


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
        self.naps = [0.001, 0.05, 1.0, max(limit.period for limits in contracts for limit in limits)]
        self.boot_at = 0.0
        self.snapshots: list[tuple[float, bytes]] = []

    @property
    def clock(self) -> float:
        """The seconds since boot, which the ledgers know."""
        return self.now - self.boot_at

    def run(self, requests: int, power_cuts: int = 0) -> None:
        blocked = 0
        cuts = sorted(self.random.randrange(requests) for _ in range(power_cuts))
        while self.count < requests:
            number = self.random.randrange(len(self.ledgers))
            endpoint = self.random.choice(["a", "b"])
            if cuts and self.random.random() < 0.3:
                self.take_snapshot()
            if cuts and self.count >= cuts[0]:
                del cuts[0]
                self.cut_power()
            token = self.ledgers[number].reserve(self.clock, endpoint)
            if isinstance(token, SharedToken):
                self.send(number, token, endpoint)
                blocked = 0
                if self.random.random() < 0.5:
                    self.pass_time(self.random.expovariate(20.0))
            else:
                assert token > self.clock
                blocked += 1
                assert blocked < 20_000, "the ledger never grants again"
                self.advance(min(token + self.boot_at + 1e-9, self.now + self.random.choice(self.naps)))
            if self.random.random() < 0.02:
                self.kill(number)

    def kill(self, number: int) -> None:
        """Its requests go on, and nobody hears of their answers. Another process takes the slot over."""
        self.pending = [event for event in self.pending if event[3] != number or event[2] == "arrive"]
        heapq.heapify(self.pending)
        self.owners += 1
        self.ledgers[number].join(number, self.clock, owner=self.owners)
        self.ledgers[number].note_quarantine(QUARANTINE_S)

    def take_snapshot(self) -> None:
        """Have the disk know the block as it is now."""
        self.ledgers[0].stamp(self.clock, self.now)
        self.snapshots.append((self.now, bytes(self.ledgers[0].block)))

    def cut_power(self) -> None:
        """End everybody, and start the machine with what the disk knew some time before."""
        known = [block for at, block in self.snapshots if self.now - at < UNWRITTEN_S]
        if not known:
            return
        block = self.random.choice(known)
        self.snapshots = []
        ctypes.memmove(ctypes.addressof(self.ledgers[0].block), block, len(block))
        self.pending = [event for event in self.pending if event[2] == "arrive" and event[0] < self.now + 0.2]
        heapq.heapify(self.pending)
        self.pass_time(0.2)
        self.boot_at = self.now + self.random.choice([0.0, 3.0, 600.0])
        self.pass_time(self.boot_at - self.now + self.random.choice([0.5, 20.0]))
        for number, ledger in enumerate(self.ledgers):
            if not number:
                ledger.cross_boot(f"boot at {self.boot_at}", self.clock, self.now)
            self.owners += 1
            ledger.join(number, self.clock, owner=self.owners)
            ledger.note_quarantine(QUARANTINE_S)

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
            self.ledgers[number].hold_until(self.clock + self.random.uniform(0, 3))

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
            ledger.settle(token, self.clock)
        elif event == "abandon":
            ledger.abandon(token, self.clock, value)
        else:
            ledger.refund(token, self.clock)


limits = st.builds(RateLimit, st.integers(1, 12), period=st.sampled_from([0.5, 1.0, 2.0, 5.0]))


@settings(max_examples=SCHEDULES)
@given(
    st.lists(limits, min_size=1, max_size=2, unique_by=lambda limit: limit.period),
    st.integers(1, 16),
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
@given(
    st.builds(RateLimit, st.integers(1, 30), period=st.sampled_from([1.0, 5.0, 60.0, 900.0]), burst=st.just(1)),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.integers(5, 60),
)
def test_a_power_cut_at_any_moment_lets_no_more_through(
    limit: RateLimit, processes: int, power_cuts: int, seed: int, requests: int
) -> None:
    model = Model([[limit]] * processes, seed)

    model.run(requests, power_cuts)

    assert peak(model.arrivals["a"] + model.arrivals["b"], limit.period) <= limit.requests


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


def test_abandoned_requests_of_any_number_are_remembered() -> None:
    """Where there is no room for each, they come back with a later one."""
    limit = RateLimit(60, period=1, burst=60)
    (ledger,) = ledgers([limit])
    for number in range(60):
        ledger.abandon(taken(ledger, 0.0), 0.0, within_s=100.0 + number)

    for number in range(60):
        assert ledger.available(limit, 100.5 + number, None) <= number
    assert ledger.available(limit, 161.5, None) == 60
