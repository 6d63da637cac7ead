"""Values and IDs: pure, exact, and lifelike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async._core.endpoints import HISTORICAL, TOTALS
from engagement_async.emulator.metrics import life, value
from engagement_async.emulator.snowflake import LIFE_HOURS, born_at_ms, owner_index, tweet_ids, tweet_ids_of

METRICS = sorted({*HISTORICAL.metrics, *TOTALS.metrics})
PARTS_OF_ENGAGEMENTS = sorted(set(HISTORICAL.metrics) - {"impressions", "engagements", "media_views", "video_views"})
ids = st.integers(1, 2**63 - 1)
seeds = st.integers(0, 2**64 - 1)


@given(seeds, ids, st.sampled_from(METRICS))
def test_all_hours_of_a_life_are_the_total(seed: int, tweet_id: int, metric: str) -> None:
    one = life(seed, tweet_id)
    hours = one.values(metric, one.shares(range(one.born_hour - 2, one.born_hour + LIFE_HOURS + 3)))

    assert sum(hours) == one.total(metric)
    assert min(hours) >= 0
    assert hours[:2] == [0, 0]
    assert hours[-2:] == [0, 0]


@given(seeds, ids, st.sampled_from(METRICS), st.data())
def test_any_cut_of_time_adds_up(seed: int, tweet_id: int, metric: str, data: st.DataObject) -> None:
    one = life(seed, tweet_id)
    edges = sorted(data.draw(st.lists(st.integers(one.born_hour - 50, one.born_hour + 800), min_size=2, max_size=20)))

    assert sum(one.values(metric, one.shares(edges))) == sum(
        value(seed, tweet_id, metric, hour) for hour in range(edges[0], edges[-1])
    )


@given(seeds, ids)
def test_proportions_are_sane(seed: int, tweet_id: int) -> None:
    total = life(seed, tweet_id).total

    assert total("impressions") >= total("engagements") >= total("favorites") >= total("retweets")
    assert total("retweets") >= total("quote_tweets")
    assert total("favorites") >= total("replies")
    assert sum(map(total, PARTS_OF_ENGAGEMENTS)) <= total("engagements")


@given(seeds, ids)
def test_the_same_seed_gives_the_same_life(seed: int, tweet_id: int) -> None:
    first = life(seed, tweet_id)
    life.cache_clear()

    assert life(seed, tweet_id) == first


def test_numbers_are_these_on_every_machine() -> None:
    one = life(0, 1070059276213702656)

    totals = [one.total(metric) for metric in ("impressions", "engagements", "favorites", "video_views")]
    hours = [value(0, 1070059276213702656, "impressions", one.born_hour + age) for age in range(6)]

    assert totals == [319, 9, 2, 35]
    assert hours == [10, 17, 28, 16, 23, 24]


def test_popularity_has_a_heavy_tail() -> None:
    counts = sorted(life(3, int(tweet_id)).impressions for tweet_id in tweet_ids(2000, newest_at=1.7e9))

    assert counts[1000] < 400
    assert counts[-1] > 50 * counts[1000]


def test_a_tweet_peaks_within_a_day_and_fades() -> None:
    popular = max(tweet_ids(300, newest_at=1.7e9), key=lambda tweet_id: life(0, int(tweet_id)).impressions)
    one = life(0, int(popular))
    hours = [value(0, popular, "impressions", one.born_hour + age) for age in range(LIFE_HOURS)]

    assert hours.index(max(hours)) < 24
    assert sum(hours[:72]) > sum(hours) / 2
    assert sum(hours[-24:]) < sum(hours) / 50


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
