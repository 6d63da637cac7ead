"""Credentials that the emulator accepts: those of the application, and tokens of each owner of Tweets.

They open nothing else, so they may be printed.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from dataclasses import dataclass

from .snowflake import MAX_OWNERS

__all__ = ["EmulatorCredentials", "Owner"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A user whose Tweets the emulator has, and the access token that opens them."""

    handle: str
    user_id: str
    access_token: str
    access_token_secret: str


@dataclass(frozen=True)
class EmulatorCredentials:
    """The application's credentials, and the access token of its first owner."""

    consumer_key: str
    consumer_secret: str
    access_token: str
    access_token_secret: str
    bearer_token: str

    @classmethod
    def new(cls, seed: int | None = None) -> EmulatorCredentials:
        """Return random ones, or with a `seed` always the same."""
        draw = secrets.randbits if seed is None else random.Random(seed).getrandbits  # noqa: S311
        return cls(
            consumer_key=f"{draw(100):025x}",
            consumer_secret=f"{draw(200):050x}",
            access_token=f"{10**17 + draw(56)}-{draw(160):040x}",
            access_token_secret=f"{draw(180):045x}",
            bearer_token=f"AAAA{draw(400):0100x}",
        )

    def owners(self, count: int) -> tuple[Owner, ...]:
        """Return that many owners: `owner1` with the access token that stands here, the others with derived ones.

        The same credentials give the same owners. Raise `ValueError` unless `count` is from 1 to `MAX_OWNERS`.
        """
        if not 1 <= count <= MAX_OWNERS:
            raise ValueError(f"owners must be from 1 to {MAX_OWNERS:,}, not {count:,}")
        user_id = self.access_token.partition("-")[0]  # as in the real API's tokens
        first = Owner("owner1", user_id, self.access_token, self.access_token_secret)
        others = (str(int.from_bytes(self._derive(str(number))[:7]) + 10**17) for number in range(2, count + 1))
        return first, *(self.token_for(f"owner{number}", user) for number, user in enumerate(others, 2))

    def token_for(self, handle: str, user_id: str, generation: int = 0) -> Owner:
        """Return an owner with a token that is derived from these credentials; each `generation` is another token."""
        digest = self._derive(f"{handle}/{user_id}/{generation}").hex()
        secret = self._derive(f"{handle}/{user_id}/{generation}/secret").hex()
        return Owner(handle, user_id, f"{user_id}-{digest[:40]}", secret[:45])

    def _derive(self, what: str) -> bytes:
        return hashlib.sha256(f"{self.consumer_secret}/{what}".encode()).digest()
