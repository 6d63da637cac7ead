"""One limit in shared memory: what was answered comes back by quanta, never sooner than it may."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from engagement_async import RateLimit
from engagement_async._core import shared_bucket as buckets
from engagement_async._core.shared_block import LATE, RING, Bucket

LIMIT = RateLimit(100, period=10)


def bucket(now: float = 0.0, limit: RateLimit = LIMIT) -> Bucket:
    made = Bucket()
    buckets.begin(made, limit, now)
    return made


steps = st.lists(
    st.tuples(
        st.floats(0, 30) | st.just(0.0),  # time passes
        st.floats(-5, 200) | st.just(LIMIT.window_s),  # until what is given back returns
        st.integers(0, 3),  # so much of it
    ),
    max_size=60,
)


@given(steps, st.floats(0, 1e7))
def test_nothing_comes_back_before_its_time_and_all_of_it_soon_after(
    given_back: list[tuple[float, float, int]], began_at: float
) -> None:
    now = began_at
    made = bucket(now)
    model: list[float] = []
    for passed_s, returns_in_s, count in given_back:
        now += passed_s
        buckets.expire(made, now)
        buckets.return_later(made, now + returns_in_s, count)
        model += [now + returns_in_s] * count
        model = [at for at in model if at > now]

        assert buckets.counted_back(made) >= len(model)
        for nth, at in enumerate(sorted(model), 1):
            assert buckets.nth_return(made, nth + buckets.counted_back(made) - len(model)) >= at
    buckets.expire(made, max([now, *model]) + made.quantum_s)
    assert buckets.counted_back(made) == 0
    assert made.returned == sum(count for _, _, count in given_back)
    assert buckets.nth_return(made, 1) == math.inf


@given(st.lists(st.floats(0, LIMIT.window_s), min_size=1, max_size=50))
def test_within_a_window_each_comes_back_at_the_end_of_its_quantum(returns: list[float]) -> None:
    made = bucket()
    for at in returns:
        buckets.return_later(made, at, 1)

    found = [at for at, count in buckets.returns(made) for _ in range(count)]

    assert found == sorted(found)
    pending = sorted(at for at in returns if at > 0)
    assert all(at <= back <= at + made.quantum_s * 1.001 for at, back in zip(pending, found, strict=True))


def test_a_ring_whose_numbers_do_not_fit_ends_all_the_same() -> None:
    """As a disk that lost power may leave them."""
    made = bucket()
    made.in_ring = 10**6

    assert list(buckets.returns(made)) == []
    assert buckets.nth_return(made, 1) == math.inf
    buckets.expire(made, 1e6)
    made.ring[(made.cursor + 1) % RING] = 5
    made.in_ring = 0
    buckets.return_later(made, made.cursor * made.quantum_s + 0.001, 1)
    buckets.expire(made, 2e6)
    assert buckets.counted_back(made) == 0


def test_where_there_is_no_room_for_each_they_come_back_with_a_later_one() -> None:
    made = bucket()
    for number in range(5 * LATE):
        buckets.return_later(made, 100.0 + number, 1)

    for number in range(5 * LATE):
        buckets.expire(made, 99.5 + number)
        assert buckets.counted_back(made) >= 5 * LATE - number
    buckets.expire(made, 1_000.0)
    assert buckets.counted_back(made) == 0


def test_the_tightest_words_of_the_server_are_kept() -> None:
    made = bucket()
    for number in range(20):
        buckets.add_cap(made, 20 - number, 0.0, 10.0 + number, number)
    assert min(cap.remaining for cap in made.caps if cap.until > 0) == 1
    assert buckets.capped_until(made, 0.0) == -math.inf
    assert buckets.capped_until(made, 0.0, ahead=1) == 29.0
    assert buckets.capped_until(made, 29.0, ahead=1) == -math.inf


def test_a_limit_of_an_endpoint_counts_its_requests_alone() -> None:
    wide, narrow = bucket(), bucket(limit=RateLimit(5, endpoint="28hr"))

    assert [buckets.counts(wide, name) for name in (None, "28hr", "totals")] == [True, True, True]
    assert [buckets.counts(narrow, name) for name in (None, "28hr", "totals")] == [False, True, False]
