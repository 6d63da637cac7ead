"""Who sent a request: an owner with OAuth 1.0a, or the application alone with its keys or the Bearer token.

The checks of an `Authorization` header are here; signatures are in signature.py. Nonces are kept no longer than their
timestamps are accepted.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .owners import EmulatorCredentials, Owner
from .request_rules import DOCUMENTED, Refusal
from .signature import Parameters, parse_oauth_header, signature_of

__all__ = ["TIMESTAMP_TOLERANCE_S", "Authority", "Caller", "SignedRequest"]

TIMESTAMP_TOLERANCE_S = 300
_MAX_NONCES = 1_000_000
_REQUIRED = ("oauth_consumer_key", "oauth_nonce", "oauth_signature", "oauth_signature_method", "oauth_timestamp")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What the credentials of a request are checked against.

    `headers`: every `Authorization` header. `url`: as the client named it, with its query string. `form`: parameters of a
    body that is part of the signature. `accepts_1_0a`: whether `oauth_version` may be 1.0A.
    """

    headers: Sequence[str]
    method: str
    url: str
    form: Sequence[tuple[str, str]] = ()
    accepts_1_0a: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `owner`: None for the application alone."""

    owner: Owner | None
    nonce: str | None = None
    body_hash: str | None = None

    @property
    def is_app_only(self) -> bool:
        return self.owner is None


def _refused(reason: str) -> Refusal:
    return Refusal(401, f"Your account could not be authenticated. Reason: {reason}")


class Authority:
    """Checks credentials, remembers nonces, and knows which tokens were revoked.

    Instants of revocations are seconds since the emulator started.
    """

    def __init__(self, credentials: EmulatorCredentials, owners: int = 1) -> None:
        self.credentials = credentials
        self.owners: dict[str, Owner] = {owner.handle: owner for owner in credentials.owners(owners)}
        self.handles = {owner.user_id: handle for handle, owner in self.owners.items()}
        self._by_token = {owner.access_token: owner for owner in self.owners.values()}
        self._revoked_at: dict[str, float] = {}
        self._all_revoked_at = float("inf")
        self._tokens_issued = 0
        self._nonces: set[int] = set()
        self._stamps: deque[tuple[int, int]] = deque()

    def revoke(self, handle: str | None = None, at: float = 0.0) -> None:
        """Refuse the token of one owner from the instant `at` on; without a `handle` all credentials."""
        if handle is None:
            self._all_revoked_at = at
        else:
            self._revoked_at[self.owner(handle).access_token] = at

    def reissue(self, handle: str) -> Owner:
        """Give an owner a new access token, and refuse the old one from now on."""
        before = self.owner(handle)
        self._tokens_issued += 1
        after = self.credentials.token_for(handle, before.user_id, self._tokens_issued)
        self._revoked_at[before.access_token] = 0.0
        self._by_token[after.access_token] = self.owners[handle] = after
        return after

    def owner(self, handle: str) -> Owner:
        """Return an owner by handle. Raise `ValueError` when there is none."""
        try:
            return self.owners[handle]
        except KeyError:
            last = len(self.owners)
            raise ValueError(f"no owner is called {handle!r}: they are owner1 to owner{last}") from None

    def check(self, request: SignedRequest, now: float, uptime_s: float = 0.0) -> Caller:
        """Return who sent a request. `now`: the server's clock, epoch seconds; `uptime_s`: since it started.

        Raise `Refusal` (401).
        """
        if not request.headers or not request.headers[0].strip():
            raise _refused("Authorization header is missing")
        if len(request.headers) > 1:
            raise _refused("Malformed Authorization header")
        scheme, _, rest = request.headers[0].strip().partition(" ")
        is_revoked = uptime_s >= self._all_revoked_at
        if scheme.lower() == "bearer":
            if is_revoked or not hmac.compare_digest(rest.strip().encode(), self.credentials.bearer_token.encode()):
                raise Refusal(401, DOCUMENTED["token"])
            return Caller(None)
        if scheme.lower() != "oauth":
            raise Refusal(401, DOCUMENTED["scheme"])
        try:
            parameters = parse_oauth_header(rest)
        except ValueError:
            raise _refused("Malformed Authorization header") from None
        if is_revoked:
            raise Refusal(401, DOCUMENTED["token"])
        return self._check_oauth(request, parameters, now, uptime_s)

    def _check_oauth(self, request: SignedRequest, parameters: Parameters, now: float, uptime_s: float) -> Caller:
        given = dict(parameters)
        if missing := [name for name in _REQUIRED if not given.get(name)]:
            raise _refused(f"{missing[0]} is missing")
        versions = ("1.0", "1.0A", "1.0a") if request.accepts_1_0a else ("1.0",)
        if given["oauth_signature_method"] != "HMAC-SHA1" or given.get("oauth_version", "1.0") not in versions:
            raise _refused("Only OAuth 1.0 with HMAC-SHA1 is supported")
        if given["oauth_consumer_key"] != self.credentials.consumer_key:
            raise _refused("Consumer key not found")
        owner = self._owner_of_token(given.get("oauth_token", ""), uptime_s)
        try:
            self._check_signature(owner, request, parameters, given, now)
        except Refusal as refusal:
            refusal.owner = None if owner is None else owner.handle
            raise
        return Caller(owner, given["oauth_nonce"], given.get("oauth_body_hash"))

    def _check_signature(
        self,
        owner: Owner | None,
        request: SignedRequest,
        parameters: Parameters,
        given: Mapping[str, str],
        now: float,
    ) -> None:
        stamp = given["oauth_timestamp"]
        if not stamp.isdecimal() or not stamp.isascii() or len(stamp) > 12:
            raise _refused("Malformed timestamp")
        if abs(now - int(stamp)) > TIMESTAMP_TOLERANCE_S:
            raise _refused("Timestamp out of bounds")
        if not self._is_signed_by(owner, request, parameters, given["oauth_signature"]):
            raise _refused("Invalid signature")
        self._spend_nonce(given["oauth_nonce"], stamp, now)

    def _is_signed_by(
        self, owner: Owner | None, request: SignedRequest, parameters: Parameters, signature: str
    ) -> bool:
        secrets = self.credentials.consumer_secret, "" if owner is None else owner.access_token_secret
        try:
            expected = signature_of(request.method, request.url, [*parameters, *request.form], *secrets)
        except ValueError:  # a host that is none, such as one with a port over 65535
            return False
        return hmac.compare_digest(signature.encode(), expected.encode())

    def _owner_of_token(self, token: str, uptime_s: float) -> Owner | None:
        """Return whose token it is. No token: the application asks for itself, which is documented for totals."""
        if not token:
            return None
        owner = self._by_token.get(token)
        if owner is None:
            raise Refusal(401, DOCUMENTED["token"])
        if uptime_s >= self._revoked_at.get(token, float("inf")):
            raise Refusal(401, DOCUMENTED["token"], owner=owner.handle)
        return owner

    def _spend_nonce(self, nonce: str, stamp: str, now: float) -> None:
        key = hash((nonce, stamp))
        if key in self._nonces:
            raise _refused("Nonce already used")
        self._nonces.add(key)
        self._stamps.append((int(stamp), key))
        # Roughly in order of time. One that is held for too long behind a later stamp does no harm.
        while now - self._stamps[0][0] > TIMESTAMP_TOLERANCE_S or len(self._stamps) > _MAX_NONCES:
            self._nonces.discard(self._stamps.popleft()[1])
