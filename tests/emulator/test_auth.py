"""Who may ask: signatures of two libraries are valid; everything forged, stale, repeated or sloppy is refused."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest
from authlib.oauth1 import ClientAuth
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, SIGNATURE_PLAINTEXT

from engagement_async.emulator import EmulatorCredentials, Refusal
from engagement_async.emulator.auth import Authority, Caller, SignedRequest
from tests.support import emulator_requests

NOW = 1_795_300_000
"""When headers are signed and checked: one that is made at collection never grows stale."""
URL = "https://127.0.0.1:8080/insights/engagement/totals"
CREDENTIALS = EmulatorCredentials.new(7)


TOKEN_TEXT = "Your account could not be authenticated. Reason: Access token not found"


def sign(url: str = URL, **changes: Any) -> str:
    return emulator_requests.sign(url, CREDENTIALS, **{"timestamp": str(NOW)} | changes)


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


def check(
    *headers: str,
    authority: Authority | None = None,
    now: float = NOW,
    uptime_s: float = 0.0,
    method: str = "POST",
    url: str = URL,
    **options: Any,
) -> Caller:
    request = SignedRequest(headers, method, url, **options)
    return (authority or Authority(CREDENTIALS)).check(request, now, uptime_s)


def refused(*headers: str, **options: Any) -> str:
    """Return the reason with which the headers are refused."""
    with pytest.raises(Refusal) as caught:
        check(*headers, **options)
    assert caught.value.status == 401
    (text,) = caught.value.texts
    prefix, _, reason = text.partition(" Reason: ")
    assert prefix == "Your account could not be authenticated."
    return reason


@pytest.mark.parametrize("library", ["oauthlib", "authlib"])
def test_signatures_of_both_libraries_are_valid(library: str) -> None:
    now = time.time()
    header = sign(timestamp=str(int(now))) if library == "oauthlib" else authlib_header()

    caller = check(header, now=now)

    assert caller.owner is not None
    assert caller.owner.access_token == CREDENTIALS.access_token
    assert not caller.is_app_only
    assert caller.nonce
    assert quote(caller.nonce, safe="") in header


def test_the_bearer_token_is_app_only() -> None:
    caller = check(f"Bearer {CREDENTIALS.bearer_token}", now=0)

    assert caller.is_app_only
    assert caller.nonce is None


def by_hand(**parameters: str) -> str:
    return emulator_requests.sign_by_hand(URL, CREDENTIALS, timestamp=str(NOW), nonce="n", **parameters)


@pytest.mark.parametrize("token", [{}, {"token": ""}], ids=["absent", "empty"])
def test_consumer_key_and_secret_alone_are_app_only(token: dict[str, str]) -> None:
    caller = check(by_hand(**token))

    assert caller.is_app_only
    assert caller.nonce == "n"


def test_no_token_and_a_wrong_consumer_secret_are_refused() -> None:
    header = sign(resource_owner_key=None, resource_owner_secret="", client_secret="wrong")

    assert refused(header) == "Invalid signature"


@pytest.mark.parametrize("header", ["Bearer ", "Bearer", "Bearer AAAA", f"Bearer {CREDENTIALS.bearer_token}x"])
def test_another_bearer_token_has_the_documented_text(header: str) -> None:
    assert refused(header) == "Access token not found"


def test_another_access_token_has_the_documented_text() -> None:
    with pytest.raises(Refusal) as caught:
        check(sign(resource_owner_key="1-unknown"))

    assert (caught.value.status, caught.value.texts) == (401, (TOKEN_TEXT,))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "Authorization header is missing"),
        ("Basic dTpw", "Unknown Authorization Type"),
        ("OAuth", "oauth_consumer_key is missing"),
        ("OAuth nonsense", "Malformed Authorization header"),
    ],
)
def test_headers_that_are_no_signature_are_refused_with_a_reason(header: str, reason: str) -> None:
    assert refused(header) == reason


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        ({"client_key": "someone"}, "Consumer key not found"),
        ({"client_secret": "wrong"}, "Invalid signature"),
        ({"resource_owner_secret": "wrong"}, "Invalid signature"),
        ({"url": URL.replace("totals", "28hr")}, "Invalid signature"),
        ({"timestamp": "soon"}, "Malformed timestamp"),
        ({"timestamp": "-1"}, "Malformed timestamp"),
        ({"signature_method": SIGNATURE_PLAINTEXT}, "Only OAuth 1.0 with HMAC-SHA1 is supported"),
        ({"signature_method": SIGNATURE_HMAC_SHA256}, "Only OAuth 1.0 with HMAC-SHA1 is supported"),
    ],
)
def test_forged_signatures_are_refused_with_a_reason(forged: dict[str, str], reason: str) -> None:
    assert refused(sign(**forged)) == reason


def test_no_header_at_all() -> None:
    assert refused() == "Authorization header is missing"


def test_two_headers_are_refused() -> None:
    assert refused(sign(), sign()) == "Malformed Authorization header"


def test_the_method_is_signed() -> None:
    assert refused(sign(), method="PUT") == "Invalid signature"


@pytest.mark.parametrize("version", ["1.0A", "1.0a"])
def test_version_1_0a_is_accepted_on_demand(version: str) -> None:
    header = by_hand(version=version)

    assert refused(header) == "Only OAuth 1.0 with HMAC-SHA1 is supported"
    assert check(header, accepts_1_0a=True).nonce


def test_the_version_may_be_absent() -> None:
    assert check(by_hand()).nonce


def test_the_body_hash_is_part_of_who_calls() -> None:
    assert check(sign()).body_hash is None
    assert check(by_hand(body_hash="2jmj7l5rSw0yVb/vlWAYkK/YBwk=")).body_hash == "2jmj7l5rSw0yVb/vlWAYkK/YBwk="


@pytest.mark.parametrize("offset", [-301, 301])
def test_a_timestamp_over_300_s_off_is_refused(offset: int) -> None:
    assert refused(sign(timestamp="1700000000"), now=1.7e9 + offset) == "Timestamp out of bounds"


@pytest.mark.parametrize("offset", [-300, 300])
def test_a_timestamp_within_300_s_is_valid(offset: int) -> None:
    assert check(sign(timestamp="1700000000"), now=1.7e9 + offset).nonce


def test_a_nonce_is_valid_once() -> None:
    authority, header = Authority(CREDENTIALS), sign()
    check(header, authority=authority)

    assert refused(header, authority=authority) == "Nonce already used"


def test_a_refused_signature_spends_no_nonce() -> None:
    authority = Authority(CREDENTIALS)
    with pytest.raises(Refusal):
        check(sign(nonce="n", client_secret="x"), authority=authority)

    assert check(sign(nonce="n"), authority=authority).nonce == "n"


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=30))
def test_no_nonce_is_valid_twice_however_time_passes(steps: list[int]) -> None:
    authority = Authority(CREDENTIALS)
    now = 1_700_000_000
    headers: list[str] = []
    for number, step in enumerate(steps):
        now += step
        headers.append(sign(nonce=str(number), timestamp=str(now)))
        check(headers[-1], authority=authority, now=now)
        for header in headers:
            with pytest.raises(Refusal):
                check(header, authority=authority, now=now)


def test_revoked_credentials_are_refused() -> None:
    authority = Authority(CREDENTIALS)
    authority.revoke()

    for header in (sign(), f"Bearer {CREDENTIALS.bearer_token}", sign(resource_owner_key=None)):
        assert refused(header, authority=authority) == "Access token not found"


def test_seeded_credentials_are_the_same_and_others_are_not() -> None:
    assert EmulatorCredentials.new(7) == CREDENTIALS
    assert EmulatorCredentials.new(8) != CREDENTIALS
    assert EmulatorCredentials.new() != EmulatorCredentials.new()
