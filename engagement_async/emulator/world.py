"""Which Tweets the emulator has, and whose they are. Pure: no clock; what a Tweet is follows from its ID and the seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from .hashing import mix
from .snowflake import HOUR_S, born_at_ms, owner_index

__all__ = ["World", "is_over_90_days", "is_over_1800_days"]

_DAY_MS = 24 * HOUR_S * 1000
_STRANGERS = 3


@dataclass
class World:
    """The Tweets. What one is follows from its ID and the seed, unless it is named here.

    `unavailable`: IDs of deleted Tweets, besides `unavailable_fraction` of all and those whose ID is of the future.
    `forbidden`: ID to author (user ID) of Tweets that belong to somebody whose token the emulator does not have, besides
    `forbidden_fraction` of all.
    `rejected`: IDs that make any request with them fail with a 400 that does not name them.
    `user_ids`: the owners, who share all other Tweets evenly.
    """

    seed: int = 0
    unavailable: set[str] = field(default_factory=set)
    unavailable_fraction: float = 0.01
    forbidden: dict[str, str] = field(default_factory=dict)
    forbidden_fraction: float = 0.0
    rejected: set[str] = field(default_factory=set)
    user_ids: tuple[str, ...] = ()

    def is_unavailable(self, tweet_id: str, now: float) -> bool:
        """Tell whether the Tweet was deleted, or is not born yet at `now` (epoch seconds)."""
        if tweet_id in self.unavailable or born_at_ms(int(tweet_id)) > now * 1000:
            return True
        return self.unavailable_fraction > 0 and self._draw(tweet_id, 0xDEAD) < self.unavailable_fraction

    def author_of(self, tweet_id: str) -> str | None:
        """Return the user ID of a Tweet's author. None: the only user there is."""
        if (author := self.forbidden.get(tweet_id)) is not None:
            return author
        if self.forbidden_fraction > 0 and self._draw(tweet_id, 0xA1E4) < self.forbidden_fraction:
            return str(18_435_372 + mix(int(tweet_id)) % _STRANGERS)
        if len(self.user_ids) < 2:
            return self.user_ids[0] if self.user_ids else None
        return self.user_ids[owner_index(int(tweet_id), len(self.user_ids), self.seed)]

    def author_of_forbidden(self, tweet_id: str, user_id: str | None = None) -> str | None:
        """Return the author of a Tweet that the user must not ask about, None for a Tweet that is allowed.

        `user_id`: whose token it is; None stands for all owners together.
        """
        author = self.author_of(tweet_id)
        if author is None or author == user_id or (user_id is None and author in self.user_ids):
            return None
        return author

    def _draw(self, tweet_id: str, salt: int) -> float:
        return mix(mix(int(tweet_id) ^ salt) ^ self.seed) / 2**64


def is_over_90_days(tweet_id: str, now: float) -> bool:
    """Tell whether totals has no impressions and engagements of the Tweet."""
    return now * 1000 - born_at_ms(int(tweet_id)) > 90 * _DAY_MS


def is_over_1800_days(tweet_id: str, now: float) -> bool:
    """Tell whether the Tweet's `video_views` are a fake zero."""
    return now * 1000 - born_at_ms(int(tweet_id)) > 1800 * _DAY_MS
