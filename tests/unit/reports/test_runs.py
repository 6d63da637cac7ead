"""The numbers behind the pictures of runs."""

from __future__ import annotations

from collections import Counter

import pytest

from engagement_async import RateLimit
from engagement_async.backfill.traffic import Slot, bucket_of
from engagement_async.reports.runs import (
    MOST_BINS,
    bin_length_s,
    is_mostly_pause,
    latencies_of,
    percentile_s,
    rates_of,
    stretches_of,
    troubles_of,
)

T = 1_780_000_000


def slots(*sent: int, length_s: int = 1) -> list[Slot]:
    return [Slot(T + at * length_s, length_s, number) for at, number in enumerate(sent) if number]


@pytest.mark.parametrize(
    ("made", "length_s"),
    [
        (slots(1), 1),
        (slots(*[1] * MOST_BINS), 1),
        (slots(*[1] * (MOST_BINS + 1)), 2),
        (slots(1, length_s=60), 60),
        ([Slot(T, 1, 1), Slot(T + 30 * 86_400, 60, 1)], 21_600),
        ([Slot(T, 1, 1), Slot(T + 3650 * 86_400, 60, 1)], 86_400),
    ],
)
def test_bins_are_as_short_as_there_are_not_too_many(made: list[Slot], length_s: int) -> None:
    assert bin_length_s(made) == length_s


def test_the_rate_is_that_of_the_period_which_the_contract_counts() -> None:
    """Twenty at once are twenty in two seconds, which is what the contract allows, and not 1,200 a minute."""
    rates = rates_of(slots(20, 0, 0, 20, 0), RateLimit(20, period=2))

    assert [rate.per_minute for rate in rates] == [600.0, 600.0, 0.0, 600.0]


def test_a_minute_is_counted_with_slots_of_seconds_and_of_minutes() -> None:
    contract = RateLimit(60)

    assert max(rate.per_minute for rate in rates_of(slots(*[1] * 200), contract)) == 60.0
    assert [rate.per_minute for rate in rates_of(slots(60, 30, length_s=60), contract)] == [60.0, 30.0]


def test_slots_that_are_longer_than_the_period_are_means() -> None:
    assert [rate.per_minute for rate in rates_of(slots(60, length_s=60), RateLimit(20, period=1))] == [60.0]


def test_without_a_contract_it_is_a_minute() -> None:
    assert rates_of(slots(5, 5), None)[-1].per_minute == 10.0
    assert rates_of([], None) == []


def test_a_pause_between_runs_has_a_rate_of_nothing() -> None:
    rates = rates_of([Slot(T, 1, 5), Slot(T + 5, 1, 5)], RateLimit(20, period=1))

    assert [rate.per_minute for rate in rates] == [300.0, 0.0, 0.0, 0.0, 0.0, 300.0]


def test_latencies_are_percentiles_of_the_responses_of_a_bin() -> None:
    counts = Counter({bucket_of(0.1): 98, bucket_of(2.0): 2})
    (found,) = latencies_of([Slot(T, 1, 100, latencies=counts), Slot(T + 1, 1, 1)])

    assert found.responses == 100
    assert found.percentiles_s == pytest.approx((0.1, 0.1, 2.0), rel=0.05)


def test_percentiles_of_several_slots_are_those_of_all_responses() -> None:
    counts = [Counter({bucket_of(0.1): 1}), Counter({bucket_of(1.0): 1}), Counter({bucket_of(1.0): 1})]

    assert percentile_s(counts, 50) == pytest.approx(1.0, rel=0.05)
    with pytest.raises(ValueError, match="no responses"):
        percentile_s([], 50)


def test_what_went_wrong_is_counted_by_bin() -> None:
    found = troubles_of([Slot(T, 1, 5, 1), Slot(T + 2, 1, 5, 2, limited=1, refused=4, unanswered=3)])

    assert [each[2:] for each in found] == [(1, 0, 0, 0), (0, 0, 0, 0), (2, 1, 4, 3)]


def test_a_run_without_trouble_has_no_such_picture() -> None:
    assert troubles_of(slots(1, 2, 3)) == []


@pytest.mark.parametrize(
    ("begins", "stretches", "mostly_pause"),
    [
        ([0], 1, False),
        ([0, 60, 120], 1, False),
        ([0, 60 + 599], 1, False),
        ([0, 60 + 600], 2, True),
        ([*range(0, 3600, 60), 3600 + 7200], 2, False),
        ([0, 86_400, 86_460, 2 * 86_400], 3, True),
    ],
)
def test_work_with_long_pauses_is_several_stretches(begins: list[int], stretches: int, *, mostly_pause: bool) -> None:
    found = stretches_of([Slot(T + at, 60, 1) for at in begins])

    assert [slot.at - T for stretch in found for slot in stretch] == begins
    assert (len(found), is_mostly_pause(found)) == (stretches, mostly_pause)
