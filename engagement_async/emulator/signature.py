"""OAuth 1.0a signatures (RFC 5849), by code of the emulator's own. Pure.

The client signs with a library, and a defect of that library would hide if the same one checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

__all__ = ["body_hash", "parse_oauth_header", "parse_parameters", "signature_of"]

_PARAMETER = re.compile(r'([A-Za-z0-9._~%-]+)="([^"]*)"')
_ENCODED = re.compile(r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})*")
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_SIGNED = ("oauth_signature", "realm")

Parameters = list[tuple[str, str]]


def parse_oauth_header(text: str) -> Parameters:
    """Return the decoded parameters of an `Authorization` header, after the word `OAuth`.

    Raise `ValueError` unless each is `name="value"` once, percent-encoded, between commas
    (https://www.rfc-editor.org/rfc/rfc5849#section-3.5.1).
    """
    parameters: Parameters = []
    for part in _SEPARATOR.split(text.strip()) if text.strip() else ():
        match = _PARAMETER.fullmatch(part)
        if match is None:
            raise ValueError('not name="value"')
        name, value = match.groups()
        if name != "realm" and not _ENCODED.fullmatch(value):
            raise ValueError("not percent-encoded")
        parameters.append((unquote(name, errors="strict"), unquote(value, errors="strict")))
    names = [name for name, _ in parameters]
    if len(set(names)) < len(names):
        raise ValueError("a parameter is given twice")
    return parameters


def parse_parameters(text: str) -> Parameters:
    """Return the parameters of a query string or of a form's body.

    (https://www.rfc-editor.org/rfc/rfc5849#section-3.4.1.3.1)
    """
    return parse_qsl(text, keep_blank_values=True)


def signature_of(
    method: str, url: str, parameters: Iterable[tuple[str, str]], consumer_secret: str, token_secret: str
) -> str:
    """Return the HMAC-SHA1 signature of a request. `parameters`: those of the header and of a form's body.

    Those of the query string are taken from `url`. (https://www.rfc-editor.org/rfc/rfc5849#section-3.4)
    """
    place = urlsplit(url)
    host = (place.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if place.port is not None and place.port != _DEFAULT_PORTS.get(place.scheme):
        host = f"{host}:{place.port}"
    base_url = f"{place.scheme}://{host}{place.path or '/'}"
    signed = [*parameters, *parse_parameters(place.query)]
    pairs = sorted((_encode(name), _encode(value)) for name, value in signed if name not in _NOT_SIGNED)
    base = "&".join(map(_encode, (method.upper(), base_url, "&".join(f"{name}={value}" for name, value in pairs))))
    key = f"{_encode(consumer_secret)}&{_encode(token_secret)}"
    return base64.b64encode(hmac.digest(key.encode(), base.encode(), "sha1")).decode()


def body_hash(body: bytes) -> str:
    """Return what `oauth_body_hash` must be for a body that is no form."""
    return base64.b64encode(hashlib.sha1(body).digest()).decode()  # noqa: S324  the protocol's choice


def _encode(text: str) -> str:
    return quote(text, safe="~")
