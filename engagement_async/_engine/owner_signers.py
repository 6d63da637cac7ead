"""The credentials of many owners, got from a store when they are needed, and kept in a bounded cache."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from engagement_async.credential_store import CredentialStore
from engagement_async.credentials import Credentials, Signer
from engagement_async.errors import AuthError, UsageError

__all__ = ["OwnerSigners"]


@dataclass(slots=True)
class _Owner:
    credentials: Credentials
    signers: dict[str, Signer] = field(default_factory=dict)
    was_refused: bool = False


class OwnerSigners:
    """Signs for owners, by address. Asks the store once for each owner, and again when the API refused what it gave."""

    KEPT = 16_384
    """Owners in the cache: one takes some 2 kB, and to render an owner's first signature again 0.15 ms."""

    def __init__(self, store: CredentialStore) -> None:
        self._store = store
        self._owners: OrderedDict[str, _Owner] = OrderedDict()

    def known(self, owner: str, url: str) -> Signer | None:
        """Return the signer if it is at hand."""
        held = self._owners.get(owner)
        return None if held is None or held.was_refused else held.signers.get(url)

    async def get(self, owner: str, url: str) -> Signer:
        """Return the signer of an owner for an address.

        Raise `AuthError` when the store has no credentials of this owner, or still those that the API refused.
        """
        held = self._owners.get(owner)
        if held is None or held.was_refused:
            credentials = await self._store.get(owner)
            if credentials is None:
                raise AuthError("the credential store has no credentials for it")
            if not hasattr(credentials, "signer"):
                raise UsageError(
                    f"the credential store gave a {type(credentials).__name__} for owner {owner!r}: it returns "
                    "OAuth1Credentials(...) or None"
                )
            current = self._owners.get(owner)
            if current is not None and not current.was_refused and current.credentials == credentials:
                held = current  # another request asked for them at the same time
            elif held is not None and held.credentials == credentials:
                self._owners.pop(owner, None)  # a later call tries them again: they may have been refused by mistake
                raise AuthError("the credential store has no other credentials")
            else:
                held = self._owners[owner] = _Owner(credentials)
                if len(self._owners) > self.KEPT:
                    self._owners.popitem(last=False)
        self._owners.move_to_end(owner)
        signer = held.signers.get(url)
        if signer is None:
            signer = held.signers[url] = held.credentials.signer(url)
        return signer

    def renew(self, owner: str, signer: object) -> None:
        """Ask the store again before the next request of this owner: the API refused what this signer signed.

        Another call may have done so, and have newer credentials by now.
        """
        held = self._owners.get(owner)
        if held is not None and any(signer is current for current in held.signers.values()):
            held.was_refused = True
