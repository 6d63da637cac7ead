"""Credentials by reference: each process that signs with them reads its own environment."""

from __future__ import annotations

import os

from engagement_async.credentials import BearerCredentials, OAuth1Credentials, Signer
from engagement_async.errors import UsageError

__all__ = ["EnvironmentCredentials"]

_OAUTH1 = ("CONSUMER_KEY", "CONSUMER_SECRET", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET")
_BEARER = "BEARER_TOKEN"


class EnvironmentCredentials:
    """Credentials that are named, and not given: whoever signs with them reads them from its own environment.

    They can be sent to other processes, since they hold no secret. `ENGAGEMENT_CONSUMER_KEY`, `ENGAGEMENT_CONSUMER_SECRET`,
    `ENGAGEMENT_ACCESS_TOKEN` and `ENGAGEMENT_ACCESS_TOKEN_SECRET` are OAuth 1.0a; where none of them is set,
    `ENGAGEMENT_BEARER_TOKEN` is a Bearer token.

    Args:
        prefix: What the names of the variables begin with.

    Raises:
        UsageError: Later, when they are needed: a variable is missing, or holds no secret.
    """

    def __init__(self, prefix: str = "ENGAGEMENT_") -> None:
        if not isinstance(prefix, str) or not prefix.isidentifier():
            raise UsageError(f"prefix is the beginning of names of variables, as 'ENGAGEMENT_', not {prefix!r}")
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"EnvironmentCredentials({self.prefix!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return EnvironmentCredentials, (self.prefix,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.prefix == other.prefix

    def __hash__(self) -> int:
        return hash((type(self), self.prefix))

    @property
    def is_app_only(self) -> bool:
        """Whether only public metrics can be requested: there is a Bearer token alone."""
        return self._read().is_app_only

    def signer(self, url: str) -> Signer:
        """Return an object that signs POST requests to one address, with what the environment has now.

        Args:
            url: The complete address of an endpoint, without a query.

        Raises:
            UsageError: A variable is missing, or holds no secret.
        """
        return self._read().signer(url)

    def fingerprint(self, key: bytes) -> str:
        """Return a keyed hash of what identifies the application: it tells contracts apart.

        Args:
            key: What the hash is keyed with.

        Raises:
            UsageError: As for `signer`.
        """
        return self._read().fingerprint(key)

    def _read(self) -> OAuth1Credentials | BearerCredentials:
        values = {name: os.environ.get(self.prefix + name, "").strip() for name in (*_OAUTH1, _BEARER)}
        missing = [self.prefix + name for name in _OAUTH1 if not values[name]]
        if len(missing) == len(_OAUTH1) and values[_BEARER]:
            return BearerCredentials(values[_BEARER])
        if missing:
            raise UsageError(
                f"the environment of this process has no {', '.join(missing)}: set them where the work is done, or "
                f"{self.prefix}{_BEARER} for public metrics of totals"
            )
        return OAuth1Credentials(*(values[name] for name in _OAUTH1))
