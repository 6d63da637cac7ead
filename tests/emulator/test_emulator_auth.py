"""Who may ask: signatures of two libraries are taken; everything forged, old or repeated is refused."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from authlib.oauth1 import ClientAuth
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, SIGNATURE_PLAINTEXT

from engagement_async.emulator.auth import Authority, Credentials
from engagement_async.emulator.request_rules import Refusal
from tests.support.emulator_requests import sign

URL = "http://127.0.0.1:8080/insights/engagement/totals"
CREDENTIALS = Credentials.new(7)
TOKEN_TEXT = "Your account could not be authenticated. Reason: Access token not found"


def authlib_header(url: str = URL) -> str:
    auth = ClientAuth(
        CREDENTIALS.consumer_key,
        CREDENTIALS.consumer_secret,
        token=CREDENTIALS.access_token,
        token_secret=CREDENTIALS.access_token_secret,
    )
    header: str = auth.sign("POST", url, {}, b"")[1]["Authorization"]
    return header


def refused(header: str | None, *, url: str = URL, now: float | None = None, method: str = "POST") -> str:
    with pytest.raises(Refusal) as caught:
        Authority(CREDENTIALS).check(header, method, url, time.time() if now is None else now)
    assert caught.value.status == 401
    (text,) = caught.value.texts
    prefix, _, reason = text.partition(" Reason: ")
    assert prefix == "Your account could not be authenticated."
    return reason


@pytest.mark.parametrize("header", [sign(URL, CREDENTIALS), authlib_header()], ids=["oauthlib", "authlib"])
def test_both_libraries_signatures_are_taken(header: str) -> None:
    app_only, nonce = Authority(CREDENTIALS).check(header, "POST", URL, time.time())

    assert not app_only
    assert nonce
    assert quote(nonce, safe="") in header


def test_the_documented_spacing_of_the_header_is_taken() -> None:
    header = sign(URL, CREDENTIALS).replace(", ", ",")

    assert Authority(CREDENTIALS).check(header, "POST", URL, time.time())[0] is False


def test_the_bearer_token_is_app_only() -> None:
    assert Authority(CREDENTIALS).check(f"Bearer {CREDENTIALS.bearer_token}", "POST", URL, 0) == (True, None)


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", "Bearer AAAA", f"Bearer {CREDENTIALS.bearer_token}x"])
def test_another_bearer_token_has_the_documented_text(header: str) -> None:
    assert refused(header) == "Access token not found"


def test_another_access_token_has_the_documented_text() -> None:
    with pytest.raises(Refusal) as caught:
        Authority(CREDENTIALS).check(sign(URL, CREDENTIALS, resource_owner_key="1-unknown"), "POST", URL, time.time())

    assert (caught.value.status, caught.value.texts) == (401, (TOKEN_TEXT,))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "Authorization header is missing"),
        ("", "Authorization header is missing"),
        ("Basic dTpw", "Unknown authorization scheme"),
        ("OAuth", "oauth_consumer_key is missing"),
        ("OAuth nonsense", "Malformed Authorization header"),
        (sign(URL, CREDENTIALS, client_key="someone"), "Consumer key not found"),
        (sign(URL, CREDENTIALS, client_secret="wrong"), "Invalid signature"),
        (sign(URL, CREDENTIALS, resource_owner_secret="wrong"), "Invalid signature"),
        (sign(URL.replace("totals", "28hr"), CREDENTIALS), "Invalid signature"),
        (sign(URL, CREDENTIALS, timestamp="soon"), "Malformed timestamp"),
        (sign(URL, CREDENTIALS, timestamp="-1"), "Malformed timestamp"),
        (
            sign(URL, CREDENTIALS, signature_method=SIGNATURE_PLAINTEXT),
            "Only OAuth 1.0 with HMAC-SHA1 is supported",
        ),
        (
            sign(URL, CREDENTIALS, signature_method=SIGNATURE_HMAC_SHA256),
            "Only OAuth 1.0 with HMAC-SHA1 is supported",
        ),
    ],
)
def test_forged_headers_are_refused_with_a_reason(header: str | None, reason: str) -> None:
    assert refused(header) == reason


def test_the_method_is_signed() -> None:
    assert refused(sign(URL, CREDENTIALS), method="PUT") == "Invalid signature"


@pytest.mark.parametrize("offset", [-301, 301])
def test_a_timestamp_over_300_s_off_is_refused(offset: int) -> None:
    assert refused(sign(URL, CREDENTIALS, timestamp="1700000000"), now=1.7e9 + offset) == "Timestamp out of bounds"


@pytest.mark.parametrize("offset", [-300, 300])
def test_a_timestamp_within_300_s_is_taken(offset: int) -> None:
    header = sign(URL, CREDENTIALS, timestamp="1700000000")

    assert Authority(CREDENTIALS).check(header, "POST", URL, 1.7e9 + offset)[1]


def test_a_nonce_is_taken_once() -> None:
    authority, header = Authority(CREDENTIALS), sign(URL, CREDENTIALS)
    authority.check(header, "POST", URL, time.time())

    with pytest.raises(Refusal, match="Nonce already used"):
        authority.check(header, "POST", URL, time.time())


def test_a_refused_signature_spends_no_nonce() -> None:
    authority = Authority(CREDENTIALS)
    now = str(int(time.time()))
    with pytest.raises(Refusal):
        authority.check(sign(URL, CREDENTIALS, nonce="n", timestamp=now, client_secret="x"), "POST", URL, time.time())

    assert authority.check(sign(URL, CREDENTIALS, nonce="n", timestamp=now), "POST", URL, time.time())[1] == "n"


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=30))
def test_no_nonce_is_taken_twice_however_time_passes(steps: list[int]) -> None:
    authority = Authority(CREDENTIALS)
    now = 1_700_000_000
    headers: list[str] = []
    for number, step in enumerate(steps):
        now += step
        headers.append(sign(URL, CREDENTIALS, nonce=str(number), timestamp=str(now)))
        authority.check(headers[-1], "POST", URL, now)
        for header in headers:
            with pytest.raises(Refusal):
                authority.check(header, "POST", URL, now)


def test_revoked_credentials_are_refused() -> None:
    authority = Authority(CREDENTIALS)
    authority.revoked = True

    for header in (sign(URL, CREDENTIALS), f"Bearer {CREDENTIALS.bearer_token}"):
        with pytest.raises(Refusal, match="Access token not found"):
            authority.check(header, "POST", URL, time.time())


def test_seeded_credentials_are_the_same_and_others_are_not() -> None:
    assert Credentials.new(7) == CREDENTIALS
    assert Credentials.new() != Credentials.new()
