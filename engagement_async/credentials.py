"""Credentials: an Authorization header for each attempt. Their secrets appear in no repr, str, format or pickle.

OAuth 1.0a is authlib's: https://docs.authlib.org/en/latest/client/oauth1.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from binascii import b2a_base64
from typing import NoReturn, Protocol
from urllib.parse import unquote

from authlib.oauth1.rfc5849.client_auth import ClientAuth
from authlib.oauth1.rfc5849.parameters import prepare_headers
from authlib.oauth1.rfc5849.signature import construct_base_string
from authlib.oauth1.rfc5849.util import escape

from engagement_async.errors import UsageError

__all__ = ["BearerCredentials", "Credentials", "OAuth1Credentials", "Signer"]


class Signer(Protocol):
    """Signs the requests to one address."""

    def authorization(self, timestamp: int) -> str:
        """Return the value of a new Authorization header.

        Args:
            timestamp: Seconds since the epoch by the server's clock, as far as it is known.
        """
        ...


class Credentials(Protocol):
    """What a client signs its requests with: `OAuth1Credentials`, `BearerCredentials`, or a class of your own."""

    @property
    def is_app_only(self) -> bool:
        """Whether only public metrics can be requested."""
        ...

    def signer(self, url: str) -> Signer:
        """Return an object that signs POST requests to one address.

        Args:
            url: The complete address of an endpoint, without a query.
        """
        ...


class _Header(str):
    """The value of an Authorization header, whose repr hides it: tracebacks may show local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Authorization>"


class _Secret:
    """Holds secrets in a closure: nothing that walks attributes, prints or pickles an object finds them."""

    __slots__ = ("_reveal",)

    def __init__(self, **values: str) -> None:
        for name, value in values.items():
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"{name} is empty: take it from the developer portal of your app")
            if value != value.strip() or not value.isascii() or not value.isprintable():
                raise UsageError(f"{name} has white space or control characters in it: copy it again")
        frozen = tuple(values.values())
        self._reveal = lambda: frozen

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<secret>)"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._reveal() == other._reveal()

    def __hash__(self) -> int:
        return hash((type(self), self._reveal()))

    def fingerprint(self, key: bytes) -> str:
        """Return a keyed hash of what identifies the application: the consumer key, or the Bearer token.

        It tells contracts apart, and reveals nothing to whoever does not know the key.
        """
        return hashlib.blake2b(self._reveal()[0].encode(), key=key, digest_size=16).hexdigest()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and is not pickled: make it anew in the other process")


class BearerCredentials(_Secret):
    """An app-only Bearer token. It can request the public metrics of `totals`, for any Tweet.

    API: https://docs.x.com/x-api/enterprise-gnip-2.0/fundamentals/engagement-api

    Args:
        token: The token; the word "Bearer" before it, as in a header, does no harm.

    Raises:
        UsageError: The token is empty, or contains white space or characters that are not printable ASCII.
    """

    __slots__ = ()
    is_app_only = True

    def __init__(self, token: str) -> None:
        if isinstance(token, str) and token[:7].lower() == "bearer ":
            token = token[7:].lstrip()
        super().__init__(token=token)

    def signer(self, url: str) -> Signer:
        """Return an object that signs POST requests to one address, always with the same header.

        Args:
            url: The complete address of an endpoint.
        """
        return _BearerSigner(self._reveal()[0])


class OAuth1Credentials(_Secret):
    """OAuth 1.0a user context of the Tweets' owner, signed with HMAC-SHA1. It can request all metrics of that user's Tweets.

    API: https://docs.x.com/x-api/enterprise-gnip-2.0/fundamentals/engagement-api

    Args:
        consumer_key: The key of your app.
        consumer_secret: The secret of your app.
        access_token: The token that the owner granted to your app.
        access_token_secret: Its secret.

    Raises:
        UsageError: A value is empty, or contains white space or characters that are not printable ASCII.
    """

    __slots__ = ()
    is_app_only = False

    def __init__(self, consumer_key: str, consumer_secret: str, access_token: str, access_token_secret: str) -> None:
        super().__init__(
            consumer_key=consumer_key,
            consumer_secret=consumer_secret,
            access_token=access_token,
            access_token_secret=access_token_secret,
        )

    def signer(self, url: str) -> Signer:
        """Return an object that signs POST requests to one address, each with a new nonce, timestamp and signature.

        Args:
            url: The complete address of an endpoint, without a query.
        """
        return _OAuth1Signer(url, *self._reveal())


_ESCAPED = str.maketrans({character: escape(character) for character in "+/="})
"""What Base64 has that must be percent-encoded: https://datatracker.ietf.org/doc/html/rfc5849#section-3.6"""


class _BearerSigner(_Secret):
    __slots__ = ()

    def __init__(self, token: str) -> None:
        super().__init__(token=token)

    def authorization(self, timestamp: int) -> str:
        return _Header(f"Bearer {self._reveal()[0]}")


class _OAuth1Signer(_Secret):
    """authlib renders base string and header once, around placeholders; each attempt fills those in and signs.

    The body takes no part in the signature: it is JSON, and the API's documented header has no `oauth_body_hash`.
    Only nonce and timestamp change between two attempts, and neither needs escaping; rendering anew each time would
    cost 0.13 ms, a third of a whole request. For the same reason the key is made once, and HMAC-SHA1 has one call:
    https://datatracker.ietf.org/doc/html/rfc5849#section-3.4.2
    """

    __slots__ = ()

    def __init__(self, url: str, consumer_key: str, consumer_secret: str, token: str, token_secret: str) -> None:
        client = ClientAuth(consumer_key, consumer_secret, token=token, token_secret=token_secret)
        params = client.get_oauth_params("NONCE", "TIMESTAMP")
        base = construct_base_string("POST", url, [(name, escape(value)) for name, value in params])
        header = prepare_headers([*params, ("oauth_signature", "SIGNATURE")], {})["Authorization"]
        super().__init__(
            base=_template(base, "{}%3D{}%26", oauth_nonce="NONCE", oauth_timestamp="TIMESTAMP"),
            header=_template(
                header, '{}="{}"', oauth_nonce="NONCE", oauth_timestamp="TIMESTAMP", oauth_signature="SIGNATURE"
            ),
            key=f"{escape(consumer_secret)}&{escape(token_secret)}",
        )

    def authorization(self, timestamp: int) -> str:
        base, header, key = self._reveal()
        values: dict[str, object] = {"oauth_nonce": secrets.token_hex(16), "oauth_timestamp": timestamp}
        digest = hmac.digest(key.encode(), (base % values).encode(), "sha1")
        values["oauth_signature"] = b2a_base64(digest, newline=False).decode().translate(_ESCAPED)
        return _Header(header % values)


_SENT = re.compile(r'oauth_(?:consumer_key|token|nonce|signature)="([^"]+)"|^(?!OAuth )\S+ (.+)')
_BETWEEN_RUNS = re.compile(r"(?:%[0-9A-Fa-f]{2})+|[^A-Za-z0-9]+")
_SHORTEST = 12
"""Characters of a value that is looked for: a shorter one might be a word."""


def without_credentials(body: bytes, authorization: str) -> bytes:
    """Return a body in which nothing is left of the Authorization header of its request, should it quote that."""
    for whole in (authorization, authorization.replace('"', '\\"')):
        body = body.replace(whole.encode(), b"***")
    values = [match[1] or match[2] for match in _SENT.finditer(authorization)]
    for value in (*values, *map(unquote, values)):
        if len(value) >= _SHORTEST:
            body = body.replace(value.encode(), b"***")
        for run in _BETWEEN_RUNS.split(value):  # whatever is between them may be encoded in one way or another
            if len(run) >= _SHORTEST and not run.isdigit():  # a user's ID is no secret, and stands in texts for itself
                body = re.sub(re.escape(run).encode(), b"***", body, flags=re.IGNORECASE)
    return body


def _template(rendered: str, form: str, **placeholders: str) -> str:
    """Return a %-template of what authlib rendered. The name before a placeholder says which, whatever the keys are."""
    template = rendered.replace("%", "%%")
    for name, placeholder in placeholders.items():
        head, found, tail = template.partition(form.format(name, placeholder).replace("%", "%%"))
        if not found:
            raise RuntimeError("authlib renders OAuth 1.0a parameters differently than this release expects")
        template = head + form.format(name, f"\0({name})s").replace("%", "%%").replace("\0", "%") + tail
    return template
