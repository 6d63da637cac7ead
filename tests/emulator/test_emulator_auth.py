"""Who may ask: signatures of two libraries are taken; everything forged, old or repeated is refused."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest
from authlib.oauth1 import ClientAuth
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, SIGNATURE_PLAINTEXT

from engagement_async.emulator.auth import Authority, Credentials
from engagement_async.emulator.request_rules import Refusal
from tests.support import emulator_requests

NOW = 1_795_300_000
"""The instant at which headers are signed and checked: a header that is made at collection never grows old."""
URL = "http://127.0.0.1:8080/insights/engagement/totals"
CREDENTIALS = Credentials.new(7)
TOKEN_TEXT = "Your account could not be authenticated. Reason: Access token not found"


def sign(url: str = URL, **changes: Any) -> str:
    return emulator_requests.sign(url, CREDENTIALS, **{"timestamp": str(NOW), "nonce": "1"} | changes)


def authlib_header() -> str:
    """Return a header that is signed at the clock's time: authlib takes no other."""
    auth = ClientAuth(
        CREDENTIALS.consumer_key,
        CREDENTIALS.consumer_secret,
        token=CREDENTIALS.access_token,
        token_secret=CREDENTIALS.access_token_secret,
    )
    header: str = auth.sign("POST", URL, {}, b"")[1]["Authorization"]
    return header


def refused(header: str | None, *, now: float = NOW, method: str = "POST") -> str:
    with pytest.raises(Refusal) as caught:
        Authority(CREDENTIALS).check(header, method, URL, now)
    assert caught.value.status == 401
    (text,) = caught.value.texts
    prefix, _, reason = text.partition(" Reason: ")
    assert prefix == "Your account could not be authenticated."
    return reason


@pytest.mark.parametrize("library", ["oauthlib", "authlib"])
def test_both_libraries_signatures_are_taken(library: str) -> None:
    now = time.time()
    header = sign(timestamp=str(int(now))) if library == "oauthlib" else authlib_header()

    app_only, nonce = Authority(CREDENTIALS).check(header, "POST", URL, now)

    assert not app_only
    assert nonce
    assert quote(nonce, safe="") in header


def test_the_documented_spacing_of_the_header_is_taken() -> None:
    header = sign().replace(", ", ",")

    assert Authority(CREDENTIALS).check(header, "POST", URL, NOW)[0] is False


def test_the_bearer_token_is_app_only() -> None:
    assert Authority(CREDENTIALS).check(f"Bearer {CREDENTIALS.bearer_token}", "POST", URL, 0) == (True, None)


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", "Bearer AAAA", f"Bearer {CREDENTIALS.bearer_token}x"])
def test_another_bearer_token_has_the_documented_text(header: str) -> None:
    assert refused(header) == "Access token not found"


def test_another_access_token_has_the_documented_text() -> None:
    with pytest.raises(Refusal) as caught:
        Authority(CREDENTIALS).check(sign(resource_owner_key="1-unknown"), "POST", URL, NOW)

    assert (caught.value.status, caught.value.texts) == (401, (TOKEN_TEXT,))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "Authorization header is missing"),
        ("", "Authorization header is missing"),
        ("Basic dTpw", "Unknown authorization scheme"),
        ("OAuth", "oauth_consumer_key is missing"),
        ("OAuth nonsense", "Malformed Authorization header"),
        (sign(client_key="someone"), "Consumer key not found"),
        (sign(client_secret="wrong"), "Invalid signature"),
        (sign(resource_owner_secret="wrong"), "Invalid signature"),
        (sign(URL.replace("totals", "28hr")), "Invalid signature"),
        (sign(timestamp="soon"), "Malformed timestamp"),
        (sign(timestamp="-1"), "Malformed timestamp"),
        (
            sign(signature_method=SIGNATURE_PLAINTEXT),
            "Only OAuth 1.0 with HMAC-SHA1 is supported",
        ),
        (
            sign(signature_method=SIGNATURE_HMAC_SHA256),
            "Only OAuth 1.0 with HMAC-SHA1 is supported",
        ),
    ],
)
def test_forged_headers_are_refused_with_a_reason(header: str | None, reason: str) -> None:
    assert refused(header) == reason


def test_the_method_is_signed() -> None:
    assert refused(sign(), method="PUT") == "Invalid signature"


@pytest.mark.parametrize("offset", [-301, 301])
def test_a_timestamp_over_300_s_off_is_refused(offset: int) -> None:
    assert refused(sign(timestamp="1700000000"), now=1.7e9 + offset) == "Timestamp out of bounds"


@pytest.mark.parametrize("offset", [-300, 300])
def test_a_timestamp_within_300_s_is_taken(offset: int) -> None:
    header = sign(timestamp="1700000000")

    assert Authority(CREDENTIALS).check(header, "POST", URL, 1.7e9 + offset)[1]


def test_a_nonce_is_taken_once() -> None:
    authority, header = Authority(CREDENTIALS), sign()
    authority.check(header, "POST", URL, NOW)

    with pytest.raises(Refusal, match="Nonce already used"):
        authority.check(header, "POST", URL, NOW)


def test_a_refused_signature_spends_no_nonce() -> None:
    authority = Authority(CREDENTIALS)
    with pytest.raises(Refusal):
        authority.check(sign(nonce="n", client_secret="x"), "POST", URL, NOW)

    assert authority.check(sign(nonce="n"), "POST", URL, NOW)[1] == "n"


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=30))
def test_no_nonce_is_taken_twice_however_time_passes(steps: list[int]) -> None:
    authority = Authority(CREDENTIALS)
    now = 1_700_000_000
    headers: list[str] = []
    for number, step in enumerate(steps):
        now += step
        headers.append(sign(nonce=str(number), timestamp=str(now)))
        authority.check(headers[-1], "POST", URL, now)
        for header in headers:
            with pytest.raises(Refusal):
                authority.check(header, "POST", URL, now)


def test_revoked_credentials_are_refused() -> None:
    authority = Authority(CREDENTIALS)
    authority.revoked = True

    for header in (sign(), f"Bearer {CREDENTIALS.bearer_token}"):
        with pytest.raises(Refusal, match="Access token not found"):
            authority.check(header, "POST", URL, NOW)


def test_seeded_credentials_are_the_same_and_others_are_not() -> None:
    assert Credentials.new(7) == CREDENTIALS
    assert Credentials.new() != Credentials.new()
