"""Who is asking: OAuth 1.0a of the one user, or the one Bearer token.

What belongs here: the checks of an `Authorization` header. The signature is authlib's to verify (its server side), the
timestamp and the nonce are ours. Nonces are kept no longer than their timestamps are accepted.
"""

from __future__ import annotations

import hmac
import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import unquote
from urllib.request import parse_http_list, parse_keqv_list

from authlib.oauth1.rfc5849.signature import verify_hmac_sha1

from .request_rules import DOCUMENTED, Refusal

__all__ = ["TIMESTAMP_TOLERANCE_S", "Authority", "Credentials"]

TIMESTAMP_TOLERANCE_S = 300
_MAX_NONCES = 1_000_000
_REQUIRED = ("oauth_consumer_key", "oauth_nonce", "oauth_signature", "oauth_signature_method", "oauth_timestamp")


@dataclass(frozen=True)
class Credentials:
    """The credentials that one emulator accepts. They open nothing else, so they may be printed."""

    consumer_key: str
    consumer_secret: str
    access_token: str
    access_token_secret: str
    bearer_token: str

    @classmethod
    def new(cls, seed: int | None = None) -> Credentials:
        """Random ones, or with a `seed` always the same."""
        draw = (lambda bits: secrets.randbits(bits)) if seed is None else random.Random(seed).getrandbits  # noqa: S311
        return cls(
            consumer_key=f"{draw(100):025x}",
            consumer_secret=f"{draw(200):050x}",
            access_token=f"{10**17 + draw(56)}-{draw(160):040x}",
            access_token_secret=f"{draw(180):045x}",
            bearer_token=f"AAAA{draw(400):0100x}",
        )


@dataclass
class _Signed:
    """What authlib's verification reads of a request."""

    method: str
    uri: str
    params: list[tuple[str, str]]
    signature: str
    client_secret: str
    token_secret: str
    headers: dict[str, str] = field(default_factory=dict)


def _refused(reason: str) -> Refusal:
    return Refusal(401, f"Your account could not be authenticated. Reason: {reason}")


class Authority:
    """Checks `Authorization` headers against `credentials`; remembers nonces. `revoked`: the access token is gone."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.revoked = False
        self._nonces: set[int] = set()
        self._stamps: deque[tuple[int, int]] = deque()

    def check(self, header: str | None, method: str, url: str, now: float) -> tuple[bool, str | None]:
        """Return whether it is app-only (Bearer), and the OAuth nonce. `now`: the server's epoch seconds.

        Raises `Refusal` (401).
        """
        scheme, _, rest = (header or "").strip().partition(" ")
        if scheme.lower() == "bearer":
            if self.revoked or not hmac.compare_digest(rest.strip().encode(), self.credentials.bearer_token.encode()):
                raise Refusal(401, DOCUMENTED["token"])
            return True, None
        if scheme.lower() != "oauth":
            raise _refused("Authorization header is missing" if not header else "Unknown authorization scheme")
        return False, self._check_oauth(rest, method, url, now)

    def _check_oauth(self, rest: str, method: str, url: str, now: float) -> str:
        try:
            pairs = [(key, unquote(value)) for key, value in parse_keqv_list(parse_http_list(rest)).items()]
        except (IndexError, ValueError):
            raise _refused("Malformed Authorization header") from None
        given = dict(pairs)
        if missing := [name for name in _REQUIRED if not given.get(name)]:
            raise _refused(f"{missing[0]} is missing")
        if given["oauth_signature_method"] != "HMAC-SHA1" or given.get("oauth_version", "1.0") != "1.0":
            raise _refused("Only OAuth 1.0 with HMAC-SHA1 is supported")
        wanted = self.credentials
        if given["oauth_consumer_key"] != wanted.consumer_key:
            raise _refused("Consumer key not found")
        if self.revoked or given.get("oauth_token") != wanted.access_token:
            raise Refusal(401, DOCUMENTED["token"])
        stamp = given["oauth_timestamp"]
        if not stamp.isdecimal() or not stamp.isascii() or len(stamp) > 12:
            raise _refused("Malformed timestamp")
        if abs(now - int(stamp)) > TIMESTAMP_TOLERANCE_S:
            raise _refused("Timestamp out of bounds")
        signed = _Signed(
            method, url, pairs, given["oauth_signature"], wanted.consumer_secret, wanted.access_token_secret
        )
        if not signed.signature.isascii() or not verify_hmac_sha1(signed):
            raise _refused("Invalid signature")
        self._spend_nonce(given["oauth_nonce"], stamp, now)
        return given["oauth_nonce"]

    def _spend_nonce(self, nonce: str, stamp: str, now: float) -> None:
        key = hash((nonce, stamp))
        if key in self._nonces:
            raise _refused("Nonce already used")
        self._nonces.add(key)
        self._stamps.append((int(stamp), key))
        # Roughly in order of time. One that is held for too long behind a later stamp does no harm.
        while now - self._stamps[0][0] > TIMESTAMP_TOLERANCE_S or len(self._stamps) > _MAX_NONCES:
            self._nonces.discard(self._stamps.popleft()[1])
