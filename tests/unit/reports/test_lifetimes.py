"""The half-life of Tweets: whose hours count, and where the half is."""

from __future__ import annotations

import pytest

from engagement_async.emulator import tweet_ids
from engagement_async.reports.lifetimes import Lifetimes, born_at, half_life_h

HOUR = 3600.0
MIDNIGHT = 1_767_225_600.0
BORN_H = int(MIDNIGHT // HOUR)


def tweet_of(born: float) -> str:
    return str((int(born * 1000) - 1288834974657) << 22)


@pytest.mark.parametrize(
    ("values", "born_after_h", "half_life"),
    [
        ([10, 0, 0], 0.0, 0.5),
        ([10, 0, 0], 0.5, 0.25),  # it came within the half hour that was left
        ([0, 10, 0], 0.5, 1.0),
        ([5, 5], 0.0, 1.0),
        ([2, 4, 4], 0.0, 1.75),
        ([1, 0, 0, 3], 0.25, 3.0 - 0.25 + 1 / 3),
    ],
)
def test_the_half_is_where_it_is(values: list[int], born_after_h: float, half_life: float) -> None:
    assert half_life_h(values, born_after_h) == pytest.approx(half_life)


def test_nothing_has_no_half() -> None:
    with pytest.raises(ValueError, match="no engagement"):
        half_life_h([0, 0], 0.0)


def test_an_id_tells_when_its_tweet_was_made() -> None:
    assert born_at(tweet_of(MIDNIGHT)) == pytest.approx(MIDNIGHT, abs=0.001)
    assert born_at(tweet_ids(1, newest_at=MIDNIGHT, oldest_at=MIDNIGHT - 1)[0]) == pytest.approx(MIDNIGHT, abs=2)
    assert born_at("20") is None


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        ((MIDNIGHT, MIDNIGHT + 24 * HOUR), True),
        ((MIDNIGHT - 5 * HOUR, MIDNIGHT + 30 * HOUR), True),
        ((MIDNIGHT + 60, MIDNIGHT + 24 * HOUR), True),  # within the hour in which it was made
        ((MIDNIGHT + HOUR, MIDNIGHT + 40 * HOUR), False),  # its first hour is not known
        ((MIDNIGHT, MIDNIGHT + 23 * HOUR), False),
    ],
)
def test_only_tweets_that_were_seen_from_their_first_hour_on_count(seen: tuple[float, float], *, counts: bool) -> None:
    lifetimes = Lifetimes()
    lifetimes.add(tweet_of(MIDNIGHT), {"replies": {BORN_H: 4}}, seen)

    assert bool(lifetimes.found()) is counts


def test_all_are_looked_at_for_the_same_time() -> None:
    """One was seen for four weeks and lives long: over the day that all were seen it is as the others."""
    lifetimes = Lifetimes()
    for number in range(3):
        hours = {BORN_H: 2, BORN_H + 23: 2, BORN_H + 200: 1000}
        days = 28 if number == 0 else 1
        lifetimes.add(tweet_of(MIDNIGHT + number), {"replies": hours}, (MIDNIGHT, MIDNIGHT + days * 24 * HOUR))

    (found,) = lifetimes.found()

    assert (found.horizon_h, found.tweets) == (24, 3)
    assert found.median_h == pytest.approx(1.0, abs=0.01)
    assert found.shares[0] == 0.5
    assert found.shares[-1] == 1.0


def test_the_longest_time_is_taken_that_half_of_them_were_seen_for() -> None:
    lifetimes = Lifetimes()
    for number, days in enumerate((1, 7, 7, 28)):
        hours = {BORN_H: 1}
        lifetimes.add(tweet_of(MIDNIGHT + number), {"replies": hours}, (MIDNIGHT, MIDNIGHT + days * 24 * HOUR))

    assert [found.horizon_h for found in lifetimes.found()] == [168]


def test_metrics_without_engagement_have_none() -> None:
    lifetimes = Lifetimes()
    lifetimes.add(
        tweet_of(MIDNIGHT), {"replies": {BORN_H: 0}, "favorites": {BORN_H: 1}}, (MIDNIGHT, MIDNIGHT + 24 * HOUR)
    )

    assert [found.metric for found in lifetimes.found()] == ["favorites"]
    assert Lifetimes().found() == []


def test_quartiles_are_of_tweets() -> None:
    lifetimes = Lifetimes()
    for number in range(4):
        hours = {BORN_H + 5 * number: 10}
        lifetimes.add(tweet_of(MIDNIGHT), {"replies": hours}, (MIDNIGHT, MIDNIGHT + 24 * HOUR))

    (found,) = lifetimes.found()

    assert (found.quartiles_h[0], found.median_h, found.quartiles_h[1]) == (0.5, 5.5, 10.5)
