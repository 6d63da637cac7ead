"""Whether somebody else is suspected with right: against a server that counts, over a network that delays at random."""

from __future__ import annotations

import heapq
import os
import random
from collections.abc import Mapping
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_async import RateLimit
from engagement_async._core.other_consumers import Cap, OtherConsumerDetector
from engagement_async._core.rate_limit import Ledger, Token

SCHEDULES = 5_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 50
MINUTE = RateLimit(300)
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
EPOCH = 1_767_225_600


def observe(
    limits: list[RateLimit],
    headers: Mapping[str, str],
    available: int,
    *,
    detector: OtherConsumerDetector | None = None,
    endpoint: str = "totals",
    now: float = 0.0,
    in_flight: int = 0,
) -> Cap | None:
    detector = detector or OtherConsumerDetector(limits)
    return detector.observe(headers, endpoint, now=now, in_flight=in_flight, available=lambda limit: available)


def left(remaining: int | str, **others: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in others.items()}
    return {"x-per-minute-remaining": str(remaining), **named}


@pytest.mark.parametrize(
    ("headers", "available", "cap"),
    [
        ({}, 300, None),
        (left(""), 300, None),
        (left("-1"), 300, None),
        (left("many"), 300, None),
        (left(200), 200, None),
        (left(201), 200, None),
        (left(199), 200, Cap(MINUTE, 199, 60.0)),
        (left(0), 1, Cap(MINUTE, 0, 60.0)),
        (left(199, date=DATE, x_per_minute_reset=str(EPOCH + 20)), 200, Cap(MINUTE, 199, 21.0)),
        (left(199, date=DATE, x_per_minute_reset=str(EPOCH + 900)), 200, Cap(MINUTE, 199, 60.0)),
        (left(199, date=DATE, x_per_minute_reset=str(EPOCH - 20)), 200, Cap(MINUTE, 199, 60.0)),
        (left(199, date=DATE, x_per_minute_reset="nan"), 200, Cap(MINUTE, 199, 60.0)),
        (left(199, x_per_minute_reset=str(EPOCH + 20)), 200, Cap(MINUTE, 199, 60.0)),
    ],
)
def test_the_server_s_word_against_this_side_s_count(
    headers: Mapping[str, str], available: int, cap: Cap | None
) -> None:
    assert observe([MINUTE], headers, available) == cap


@pytest.mark.parametrize(
    ("limits", "of", "endpoint", "limit"),
    [
        ([RateLimit(1_000, period=3_600)], None, "totals", None),
        ([RateLimit(20, period=1)], None, "totals", None),
        ([RateLimit(300, period=59)], None, "totals", None),
        ([RateLimit(300, period=61)], None, "totals", RateLimit(300, period=61)),
        ([RateLimit(20, period=1), MINUTE, RateLimit(9_000, period=3_600)], None, "totals", MINUTE),
        ([MINUTE, RateLimit(100, endpoint="28hr")], None, "totals", MINUTE),
        ([MINUTE, RateLimit(100, endpoint="28hr")], None, "28hr", None),
        ([MINUTE, RateLimit(100, endpoint="28hr")], 100, "28hr", RateLimit(100, endpoint="28hr")),
        ([MINUTE, RateLimit(100, endpoint="28hr")], 300, "28hr", MINUTE),
        ([MINUTE, RateLimit(100, endpoint="28hr")], 7, "28hr", None),
        ([RateLimit(100, endpoint="28hr")], 100, "totals", None),
    ],
)
def test_a_word_by_the_minute_concerns_limits_by_the_minute_alone(
    limits: list[RateLimit], of: int | None, endpoint: str, limit: RateLimit | None
) -> None:
    headers = left(0) if of is None else left(0, x_per_minute_limit=str(of))

    cap = observe(limits, headers, 5, endpoint=endpoint)

    assert cap == (None if limit is None else Cap(limit, 0, 60.0))


def test_once_another_consumer_is_known_what_is_in_flight_is_taken_off() -> None:
    detector = OtherConsumerDetector([MINUTE])

    assert observe([], left(60), 60, detector=detector, in_flight=5) is None
    assert observe([], left(50), 60, detector=detector, in_flight=5) == Cap(MINUTE, 50, 60.0)
    assert observe([], left(50), 50, detector=detector, in_flight=5, now=59) == Cap(MINUTE, 45, 60.0)
    assert observe([], left(3), 50, detector=detector, in_flight=5, now=59) == Cap(MINUTE, 0, 60.0)
    assert observe([], left(50), 50, detector=detector, in_flight=5, now=119) is None


class Server:
    """Counts arrivals in a sliding or a fixed minute, those of somebody else among them."""

    def __init__(self, requests: int, *, is_fixed: bool) -> None:
        self.requests = requests
        self.is_fixed = is_fixed
        self.arrivals: list[float] = []
        self.others: list[float] = []

    def remaining(self, now: float) -> int:
        since = now // 60 * 60 if self.is_fixed else now - 60
        return self.requests - sum(since < at <= now for at in (*self.arrivals, *self.others))


def play(server: Server, limit: RateLimit, seed: int, *, slowest_s: float, pause_s: float = 0.0) -> list[float]:
    """Send for five minutes, with a pause after each request; return when another consumer was seen."""
    chance = random.Random(seed)
    ledger = Ledger([limit])
    detector = OtherConsumerDetector([limit])
    seen: list[float] = []
    events: list[tuple[float, int, str, Token, int]] = []
    now, number, in_flight = 0.0, 0, 0
    next_at = 0.0

    def delay_s() -> float:
        return min(slowest_s, chance.choice([0.01, chance.expovariate(2.0), chance.uniform(0, slowest_s)]))

    while now < 300:
        token = ledger.reserve(now) if now >= next_at else next_at
        if isinstance(token, Token):
            in_flight += 1
            next_at = now + pause_s
            heapq.heappush(events, (now + delay_s(), number, "arrives", token, 0))
            number += 1
            continue
        at = min(token, now + chance.expovariate(1.0))
        if not events or at < events[0][0]:
            now = at
            continue
        now, _, event, token, remaining = heapq.heappop(events)
        if event == "arrives":
            server.arrivals.append(now)
            heapq.heappush(events, (now + delay_s(), number, "is answered", token, server.remaining(now)))
            number += 1
            continue
        ledger.settle(token, now)
        in_flight -= 1
        available = partial(ledger.available, now=now, since=token)
        cap = detector.observe(left(max(0, remaining)), "totals", now=now, in_flight=in_flight, available=available)
        if cap is not None:
            seen.append(now)
            ledger.cap(limit, cap.remaining, now, now + cap.for_s)
    return seen


contracts = st.builds(RateLimit, st.sampled_from([5, 40]), burst=st.sampled_from([None, 5]))


@settings(max_examples=SCHEDULES)
@given(contracts, st.integers(0, 2**32), st.booleans())
def test_nobody_is_suspected_where_nobody_is(limit: RateLimit, seed: int, is_fixed: bool) -> None:
    server = Server(limit.requests, is_fixed=is_fixed)

    assert play(server, limit, seed, slowest_s=20.0) == []


@given(st.integers(0, 2**32), st.booleans())
def test_somebody_who_spends_half_of_the_contract_is_seen(seed: int, is_fixed: bool) -> None:
    """This side alone would be within the contract."""
    server = Server(40, is_fixed=is_fixed)
    server.others = [float(second) for second in range(60, 300, 3)]

    seen = play(server, RateLimit(40), seed, slowest_s=0.5, pause_s=2.0)

    assert 60 <= min(seen) <= 130
