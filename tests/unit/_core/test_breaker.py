from __future__ import annotations

import math

import pytest

from engagement_async._core.breaker import CircuitBreaker
from engagement_async._core.suspensions import Suspensions
from engagement_async.errors import ServerError

ERROR = ServerError("HTTP 500", status=500)


def open_circuit(at: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    breaker.record_failure(ERROR, at, 1.0)
    breaker.trip(at, 1.0)
    return breaker


def test_it_opens_after_ten_failures_in_a_row() -> None:
    breaker = CircuitBreaker()

    for _ in range(9):
        breaker.record_failure(ERROR, 0.0, 1.0)
        assert not breaker.is_open
    breaker.record_failure(ERROR, 0.0, 1.0)

    assert breaker.is_open


def test_an_answer_starts_the_count_anew() -> None:
    breaker = CircuitBreaker()

    for _ in range(100):
        breaker.record_failure(ERROR, 0.0, 1.0)
        breaker.record_answer(0.0)

    assert not breaker.is_open


def test_more_failures_than_answers_use_up_the_budget_unless_they_are_suspects() -> None:
    for is_suspect in (False, True):
        breaker = CircuitBreaker()
        for _ in range(51):
            breaker.record_failure(ERROR, 0.0, 1.0, is_suspect=is_suspect)
            breaker.record_failure(ERROR, 0.0, 1.0, is_suspect=is_suspect)
            if not breaker.is_open:
                breaker.record_answer(0.0)
        assert breaker.is_open is not is_suspect


def test_one_probe_at_a_time_at_growing_intervals() -> None:
    breaker = open_circuit()
    delays = []
    now = 0.0
    for _ in range(8):
        delays.append(breaker.delay_before_next(now))
        now += delays[-1]
        breaker.begin_probe()
        assert breaker.delay_before_next(now) == math.inf
        breaker.record_failed_probe(ERROR, now, 1.0)

    assert delays == [0.5, 1, 2, 4, 8, 16, 20, 20]


def test_a_probe_that_is_cancelled_leaves_its_place() -> None:
    breaker = open_circuit()
    breaker.begin_probe()

    breaker.cancel_probe()

    assert breaker.delay_before_next(0.5) == 0.0


def test_an_answer_closes_it() -> None:
    breaker = open_circuit()

    breaker.record_answer(3.0)

    assert not breaker.is_open
    assert breaker.last_answer_at == 3.0
    assert breaker.failing_since == math.inf


@pytest.mark.parametrize(("failed_probes", "outages"), [(1, 0), (2, 0), (3, 1), (9, 1)])
def test_an_outage_is_confirmed_by_three_failed_probes(failed_probes: int, outages: int) -> None:
    breaker = open_circuit()

    for _ in range(failed_probes):
        breaker.record_failed_probe(ERROR, 1.0, 1.0)

    assert breaker.outages == outages


def test_the_last_probe_before_a_deadline_is_due_at_the_deadline() -> None:
    breaker = open_circuit()
    for _ in range(6):
        breaker.record_failed_probe(ERROR, 0.0, 1.0)  # the next one is due after 20 s

    assert breaker.delay_before_next(1.0, deadline=10.0) == 9.0
    assert not breaker.is_given_up(10.0, 10.0)

    breaker.record_failed_probe(ERROR, 10.5, 1.0)

    assert breaker.is_given_up(10.5, 10.0)
    assert not breaker.is_given_up(10.5, 11.0), "a caller that came later waits longer"


def test_time_in_which_the_process_was_suspended_is_told_apart() -> None:
    suspensions = Suspensions()
    breaker = CircuitBreaker(suspensions)
    breaker.record_failure(ERROR, 10.0, 1.0)
    for now in (20.0, 100.0, 5_100.0, 5_120.0):
        breaker.look(now)

    assert suspensions.seconds_since(10.0) == 5_000.0 - Suspensions.LONGEST_STEP_S


def test_an_answer_that_came_before_the_last_failure_closes_nothing() -> None:
    breaker = open_circuit()
    breaker.record_failure(ERROR, 20.0, 1.0)

    breaker.record_answer(19.0)

    assert breaker.is_open
    assert breaker.last_answer_at == 19.0

    breaker.record_answer(21.0)

    assert not breaker.is_open


def test_nothing_is_given_up_while_a_probe_is_due() -> None:
    breaker = open_circuit()
    breaker.record_failed_probe(ERROR, 10.0, 1.0)

    assert breaker.is_given_up(10.5, 10.0)
    assert not breaker.is_given_up(5_000.0, 10.0), "the machine may have slept: the API is asked first"


def test_an_answer_that_waited_for_its_consumer_counts_from_when_it_came() -> None:
    breaker = CircuitBreaker()
    for now in (10.0, 20.0, 30.0):
        breaker.record_failure(ERROR, now, 1.0)

    breaker.record_answer(25.0)

    assert breaker.failing_since == 30.0
    for now in range(40, 40 + CircuitBreaker.OPEN_AFTER - 2):
        breaker.record_failure(ERROR, float(now), 1.0)
    assert not breaker.is_open, "nine failures since that answer"

    breaker.record_failure(ERROR, 60.0, 1.0)

    assert breaker.is_open


def test_a_late_answer_after_a_later_one_changes_nothing() -> None:
    breaker = CircuitBreaker()
    breaker.record_failure(ERROR, 10.0, 1.0)
    breaker.record_answer(12.0)

    breaker.record_answer(9.0)

    assert breaker.last_answer_at == 12.0
    assert not breaker.is_open
