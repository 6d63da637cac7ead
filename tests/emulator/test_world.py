"""Which Tweets there are, and whose: pure functions of the ID and the seed."""

from __future__ import annotations

import pytest

from engagement_async.emulator import World, tweet_ids
from engagement_async.emulator.world import is_over_90_days, is_over_1800_days
from tests.support.emulator_requests import NOW

MANY = tweet_ids(4000, newest_at=NOW)


def test_fractions_are_kept_and_pure() -> None:
    world = World(seed=5, unavailable_fraction=0.1, forbidden_fraction=0.2)
    gone = [tweet_id for tweet_id in MANY if world.is_unavailable(tweet_id, NOW)]
    forbidden = [tweet_id for tweet_id in MANY if world.author_of_forbidden(tweet_id)]

    assert 300 < len(gone) < 500
    assert 650 < len(forbidden) < 950
    assert gone == [tweet_id for tweet_id in MANY if world.is_unavailable(tweet_id, NOW)]
    assert gone != [tweet_id for tweet_id in MANY if World(6, unavailable_fraction=0.1).is_unavailable(tweet_id, NOW)]


def test_what_is_named_comes_first() -> None:
    world = World(unavailable={"7"}, unavailable_fraction=0, forbidden={"8": "100"}, user_ids=("1", "2"))

    assert world.is_unavailable("7", NOW)
    assert not world.is_unavailable("8", NOW)
    assert world.author_of("8") == "100"
    assert world.author_of("7") in ("1", "2")


def test_a_tweet_of_the_future_is_unavailable() -> None:
    (tweet_id,) = tweet_ids(1, newest_at=NOW + 10, oldest_at=NOW + 9)
    world = World(unavailable_fraction=0)

    assert world.is_unavailable(tweet_id, NOW)
    assert not world.is_unavailable(tweet_id, NOW + 10)


def test_whose_token_may_ask_about_what() -> None:
    world = World(forbidden={"8": "100", "9": "2"}, user_ids=("1", "2"))

    assert world.author_of_forbidden("8", "1") == world.author_of_forbidden("8", "2") == "100"
    assert world.author_of_forbidden("8") == "100"
    assert world.author_of_forbidden("9", "1") == "2"
    assert world.author_of_forbidden("9", "2") is None
    assert world.author_of_forbidden("9") is None


def test_a_world_without_owners_belongs_to_whoever_asks() -> None:
    assert World().author_of_forbidden("7", "1") is None


@pytest.mark.parametrize(("days", "is_over"), [(90, is_over_90_days), (1800, is_over_1800_days)])
def test_ages(days: int, is_over: object) -> None:
    (tweet_id,) = tweet_ids(1, newest_at=NOW, oldest_at=NOW - 0.001)
    assert callable(is_over)

    assert not is_over(tweet_id, NOW + days * 86_400 - 1)
    assert is_over(tweet_id, NOW + days * 86_400 + 1)
