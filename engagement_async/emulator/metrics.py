"""The values of metrics: pure functions of (seed, Tweet, metric, hour), in integers alone.

A Tweet's metric has a total, and its life a curve: the share of the total, in 2**32nds, that is reached some hours after
birth. What happened up to an hour is `total * curve[hours since birth] >> 32`; an hour's value is the difference of two of
these. So hours add up to days and to totals exactly, and each of the three is one step to compute. The price is that each
metric is rounded by itself: in a single hour the parts of `engagements` may exceed it, never over a whole life.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import pairwise

from .hashing import mix
from .snowflake import HOUR_S, LIFE_HOURS, born_at_ms

__all__ = ["Life", "life", "value"]

_PHASES = 24
_SPEEDS = (2, 4, 8, 16)  # hours after which a Tweet draws a quarter of its peak
# How awake its audience is, by its local hour, in percent.
_AWAKE = (25, 15, 10, 8, 8, 10, 20, 40, 60, 70, 75, 80, 85, 85, 80, 80, 85, 90, 95, 100, 100, 90, 70, 45)

# metric: (share of which metric, smallest share, spread: both in thousandths, one Tweet in how many has it at all).
# The largest shares of all parts of `engagements` add up to less than 1000, so their totals never exceed it.
_SHARES: dict[str, tuple[str, int, int, int]] = {
    "engagements": ("impressions", 10, 90, 1),
    "favorites": ("engagements", 200, 200, 1),
    "retweets": ("favorites", 50, 250, 1),
    "quote_tweets": ("retweets", 20, 200, 1),
    "replies": ("favorites", 20, 180, 1),
    "detail_expands": ("engagements", 40, 50, 1),
    "url_clicks": ("engagements", 20, 70, 2),
    "media_engagements": ("engagements", 20, 60, 2),
    "user_profile_clicks": ("engagements", 10, 30, 1),
    "hashtag_clicks": ("engagements", 0, 20, 3),
    "permalink_clicks": ("engagements", 0, 10, 1),
    "app_install_attempts": ("engagements", 0, 10, 16),
    "app_opens": ("engagements", 0, 10, 16),
    "email_tweet": ("engagements", 0, 5, 1),
    "user_follows": ("engagements", 0, 10, 1),
    "media_views": ("impressions", 300, 500, 2),
    "video_views": ("impressions", 100, 500, 4),
}
_SALTS = {metric: (index + 1) * 0x9E3779B97F4A7C15 for index, metric in enumerate(_SHARES)}


@cache  # 96 of them at most
def _curve(phase: int, speed: int) -> tuple[int, ...]:
    """Return LIFE_HOURS + 1 shares of a whole life, from 0 to 2**32: a quick rise, a long decay, nights."""
    reached = [0]
    for age in range(LIFE_HOURS):
        rise = min(age + 1, 3)
        awake = _AWAKE[(phase + age) % 24]
        noise = 700 + mix(phase * 1_000_003 + speed * 10_007 + age) % 600
        decay = (1 << 30) * speed * speed // ((speed + age) * (speed + age))
        reached.append(reached[-1] + rise * awake * noise * decay // 1000)
    return tuple((sum_ << 32) // reached[-1] for sum_ in reached)


@dataclass(frozen=True, slots=True)
class Life:
    """One Tweet: the hour of its birth (hours since 1970), its popularity and its curve."""

    born_hour: int
    random: int
    impressions: int
    curve: tuple[int, ...]
    _totals: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def total(self, metric: str) -> int:
        """Return what `metric` counts over the whole life."""
        if metric == "impressions":
            return self.impressions
        if (cached := self._totals.get(metric)) is not None:
            return cached
        of, least, spread, one_in = _SHARES[metric]
        bits = mix(self.random ^ _SALTS[metric])
        has_none = one_in > 1 and (bits >> 32) % one_in
        total = 0 if has_none else self.total(of) * (least + bits % (spread + 1)) // 1000
        self._totals[metric] = total
        return total

    def shares(self, edges: Sequence[int]) -> list[int]:
        """Return the curve at some instants (hours since 1970), in 2**32nds."""
        born, curve = self.born_hour, self.curve
        return [curve[0 if edge <= born else min(edge - born, LIFE_HOURS)] for edge in edges]

    def values(self, metric: str, shares: Sequence[int]) -> list[int]:
        """Return what `metric` counts between each two neighbours of `shares`."""
        if shares[0] == shares[-1]:
            return [0] * (len(shares) - 1)
        total = self.total(metric)
        reached = [total * share >> 32 for share in shares]
        return [after - before for before, after in pairwise(reached)]


@lru_cache(maxsize=8192)
def life(seed: int, tweet_id: int) -> Life:
    """Return the life of a Tweet.

    Popularity has a heavy tail: half of all Tweets have fewer than 300 impressions, one in 10,000 has over a million.
    """
    random = mix(tweet_id ^ mix(seed))
    impressions = min((150 << 32) // ((random >> 32) + 1), 400_000_000)
    born_hour = born_at_ms(tweet_id) // (HOUR_S * 1000)
    phase = (born_hour + random % _PHASES) % 24  # the audience's time zone, and the hour of birth in it
    return Life(born_hour, random, impressions, _curve(phase, _SPEEDS[(random >> 8) % len(_SPEEDS)]))


def value(seed: int, tweet_id: int | str, metric: str, hour: int) -> int:
    """Return what one Tweet's `metric` counts in one hour (hours since 1970)."""
    one = life(seed, int(tweet_id))
    return one.values(metric, one.shares((hour, hour + 1)))[0]
