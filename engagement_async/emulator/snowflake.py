"""Tweet IDs: the instant of birth in the upper bits, the owner in the lower ones. Pure, integers alone.

The real API knows owners from a database. Here an owner is a function of the ID's lower 22 bits, so that a test can make
any number of IDs of one owner.
"""

from __future__ import annotations

from .hashing import mix

__all__ = ["HOUR_S", "LIFE_HOURS", "MAX_OWNERS", "born_at_ms", "owner_index", "tweet_ids", "tweet_ids_of"]

HOUR_S = 3600
LIFE_HOURS = 28 * 24
"""A Tweet counts for four weeks and is silent afterwards."""
MAX_OWNERS = 100_000
SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
"""An ID's upper bits are milliseconds since 2010-11-04; older IDs hold no time, and count as being that old."""
_LOW_BITS = 22
_LOW_MASK = (1 << _LOW_BITS) - 1
# Fibonacci hashing of the lower bits, which can be reversed: that is how IDs of one owner are made.
_FACTOR = 0x278DDD
_INVERSE = pow(_FACTOR, -1, 1 << _LOW_BITS)


def born_at_ms(tweet_id: int) -> int:
    """Return the instant that an ID holds, in milliseconds since 1970."""
    return (tweet_id >> _LOW_BITS) + SNOWFLAKE_EPOCH_MS


def owner_index(tweet_id: int, owners: int, seed: int) -> int:
    """Return which of `owners` owners a Tweet belongs to, from 0."""
    scrambled = ((tweet_id ^ mix(seed)) * _FACTOR) & _LOW_MASK
    return scrambled * owners >> _LOW_BITS


def tweet_ids(count: int, seed: int = 0, *, newest_at: float, oldest_at: float | None = None) -> list[str]:
    """Return `count` distinct IDs of Tweets born between two instants (epoch seconds), in random order.

    Without `oldest_at` they are of the 28 days before `newest_at`. Raise `ValueError` for instants before snowflake IDs.
    """
    return _generate(count, seed, newest_at, oldest_at, owner=None)


def tweet_ids_of(
    index: int,
    owners: int,
    world_seed: int,
    count: int,
    seed: int = 0,
    *,
    newest_at: float,
    oldest_at: float | None = None,
) -> list[str]:
    """Return IDs as `tweet_ids` does, all of the owner number `index` of `owners` in the world of `world_seed`."""
    return _generate(count, mix(seed) ^ index, newest_at, oldest_at, owner=(index, owners, mix(world_seed)))


def _generate(
    count: int, seed: int, newest_at: float, oldest_at: float | None, owner: tuple[int, int, int] | None
) -> list[str]:
    newest = int(newest_at * 1000) - SNOWFLAKE_EPOCH_MS
    oldest = newest - LIFE_HOURS * HOUR_S * 1000 if oldest_at is None else int(oldest_at * 1000) - SNOWFLAKE_EPOCH_MS
    if not 0 <= oldest < newest:
        raise ValueError("tweet_ids needs 2010-11-05 <= oldest_at < newest_at, both in epoch seconds")
    made: dict[int, None] = {}
    state = mix(seed)
    while len(made) < count:
        state = mix(state)
        moment = oldest + state % (newest - oldest)
        low = mix(state ^ seed) & _LOW_MASK
        if owner is not None:
            low = _low_bits_of(low, *owner)
        made[(moment << _LOW_BITS) | low] = None
    return [str(tweet_id) for tweet_id in made]


def _low_bits_of(random: int, index: int, owners: int, salt: int) -> int:
    """Return lower bits that `owner_index` maps to `index`. `random`: any integer; `salt`: `mix` of the world's seed."""
    first = -(-(index << _LOW_BITS) // owners)
    after_last = -(-((index + 1) << _LOW_BITS) // owners)
    scrambled = first + random % (after_last - first)
    return (scrambled * _INVERSE ^ salt) & _LOW_MASK
