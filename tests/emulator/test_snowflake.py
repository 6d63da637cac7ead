"""Tweet IDs: distinct, of their time, and of their owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.emulator.snowflake import born_at_ms, owner_index, tweet_ids, tweet_ids_of

ids = st.integers(1, 2**63 - 1)


seeds = st.integers(0, 2**64 - 1)


@given(st.integers(0, 200), seeds, st.integers(1_300_000_000, 1_900_000_000), st.integers(1, 10**8))
def test_tweet_ids_are_distinct_and_of_their_time(count: int, seed: int, newest: int, span: int) -> None:
    oldest = max(newest - span, 1_290_000_000)
    found = tweet_ids(count, seed, newest_at=newest, oldest_at=oldest)

    assert len(set(found)) == count
    assert all(oldest * 1000 <= born_at_ms(int(tweet_id)) < newest * 1000 for tweet_id in found)
    assert found == tweet_ids(count, seed, newest_at=newest, oldest_at=oldest)


@given(st.integers(1, 1000), st.data(), seeds, seeds)
def test_ids_of_an_owner_are_the_owners(owners: int, data: st.DataObject, seed: int, world_seed: int) -> None:
    index = data.draw(st.integers(0, owners - 1))
    made = tweet_ids_of(index, owners, world_seed, 20, seed, newest_at=1.7e9, oldest_at=1.69e9)

    assert len(set(made)) == 20
    assert {owner_index(int(tweet_id), owners, world_seed) for tweet_id in made} == {index}
    assert all(1.69e12 <= born_at_ms(int(tweet_id)) < 1.7e12 for tweet_id in made)


@pytest.mark.parametrize("owners", [2, 3, 7, 10])
def test_owners_share_real_and_made_ids_evenly(owners: int) -> None:
    """Real IDs differ in the machine and have a sequence number of 0, most of the time."""
    for ids in (tweet_ids(5000, newest_at=1.7e9), [str((12345 << 22) | (machine << 12)) for machine in range(1024)]):
        shares = [0] * owners
        for tweet_id in ids:
            shares[owner_index(int(tweet_id), owners, 5)] += 1
        assert max(shares) < 1.25 * len(ids) / owners
        assert min(shares) > 0.75 * len(ids) / owners


def test_tweet_ids_before_snowflake_are_refused() -> None:
    with pytest.raises(ValueError, match="2010-11-05"):
        tweet_ids(1, newest_at=1.0e9)
