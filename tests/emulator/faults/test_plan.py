"""Which request meets which fault."""

from __future__ import annotations

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.emulator import FAULTS, Emulator, Reaction, random_faults
from engagement_async.emulator.faults import FaultPlan, parse_fault
from tests.support.emulator_faults import GOOD
from tests.support.emulator_requests import make_emulator, send


async def test_faults_can_be_exchanged_and_ended() -> None:
    async with aiohttp.ClientSession() as session, make_emulator() as emulator:
        statuses = []
        for faults in (None, {"503": 1}, None):
            emulator.set_faults(faults)
            statuses.append((await send(session, emulator, "totals", GOOD))[0])

    assert statuses == [200, 503, 200]


@given(st.dictionaries(st.sampled_from(["500", "502", "503", "504", "408"]), st.integers(1, 9), max_size=4))
def test_every_fault_comes_as_often_as_ordered(faults: dict[str, int]) -> None:
    plan = FaultPlan(faults)
    met: dict[str, int] = {}
    for _ in range(2520):
        if (fault := plan.next(reused=False, data=True)) is not None:
            met[fault.name] = met.get(fault.name, 0) + 1

    if sum(1 / every for every in faults.values()) <= 1:
        assert met.keys() == faults.keys()
        # One that was crowded out at the very end may be due still.
        assert all(2520 // every - met[name] in (0, 1) for name, every in faults.items())
    else:
        assert sum(met.values()) > 2500


def test_one_fault_comes_exactly_every_so_often() -> None:
    plan = FaultPlan({"503": 3})

    assert [plan.next(reused=False, data=False) is not None for _ in range(7)] == [False, False, True] * 2 + [False]


def test_a_schedule_may_be_a_function() -> None:
    plan = FaultPlan(lambda number: "503" if number == 2 else "close-reused" if number == 3 else None)

    assert [fault and fault.name for fault in (plan.next(reused=False, data=True) for _ in range(3))] == [
        None,
        "503",
        None,
    ]


@given(st.integers(0, 2**64), st.floats(0, 1))
def test_random_faults_are_the_same_for_the_same_seed(seed: int, rate: float) -> None:
    schedule = [random_faults(rate, seed)(number) for number in range(300)]

    assert schedule == [random_faults(rate, seed)(number) for number in range(300)]
    assert abs(sum(name is not None for name in schedule) / 300 - rate) < 0.2
    assert all(FAULTS[name].expected in (Reaction.RETRY, Reaction.ACCEPT) for name in schedule if name is not None)


@pytest.mark.parametrize("text", ["503", "503:", "503:0", "503:x", ":3", "nothing:3", "503:-1"])
def test_a_malformed_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"NAME:EVERY|no fault is called"):
        parse_fault(text)


def test_an_unknown_fault_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"no fault is called 'gzip'.*gzip-cut"):
        Emulator(faults={"gzip": 3})
    with pytest.raises(ValueError, match="1 or more"):
        Emulator(faults={"503": 0})
    assert parse_fault("gzip-cut:12") == ("gzip-cut", 12)
