"""What is signed, and how strictly a header is read: as oauthlib signs, and as RFC 5849 says."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_async.emulator import EmulatorCredentials
from engagement_async.emulator.signature import body_hash, parse_oauth_header, parse_parameters, signature_of
from tests.support.emulator_requests import sign

URL = "http://127.0.0.1:8080/insights/engagement/totals"
CREDENTIALS = EmulatorCredentials.new(7)
SECRETS = (CREDENTIALS.consumer_secret, CREDENTIALS.access_token_secret)


def is_signed(header: str, url: str, form: list[tuple[str, str]] | None = None) -> bool:
    """Tell whether the signature in a header is the one of the URL and the form."""
    parameters = parse_oauth_header(header.removeprefix("OAuth "))
    return dict(parameters)["oauth_signature"] == signature_of("POST", url, [*parameters, *(form or [])], *SECRETS)


def test_the_example_of_the_standard() -> None:
    """https://www.rfc-editor.org/rfc/rfc5849#section-1.2"""
    header = (
        'realm="Photos", oauth_consumer_key="dpf43f3p2l4k3l03", oauth_token="nnch734d00sl2jdk", '
        'oauth_signature_method="HMAC-SHA1", oauth_timestamp="137131202", oauth_nonce="chapoH", '
        'oauth_signature="MdpQcU8iPSUjWoN%2FUDMsK2sui9I%3D"'
    )
    parameters = parse_oauth_header(header)
    url = "http://photos.example.net/photos?file=vacation.jpg&size=original"

    assert (
        signature_of("GET", url, parameters, "kd94hf93k423kf44", "pfkkdhi9sl3r4s00") == "MdpQcU8iPSUjWoN/UDMsK2sui9I="
    )


@pytest.mark.parametrize("query", ["a=b", "a=b&a=a&c", "x=%20%2B+&y=%C3%A4", "oauth_hint=1"])
def test_the_query_string_is_signed(query: str) -> None:
    url = f"{URL}?{query}"

    assert is_signed(sign(url, CREDENTIALS), url)
    assert not is_signed(sign(URL, CREDENTIALS), url)
    assert not is_signed(sign(url, CREDENTIALS), URL)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4))
def test_any_query_is_signed_as_oauthlib_signs_it(parameters: list[tuple[str, str]]) -> None:
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters if name)
    url = f"{URL}?{query}" if query else URL

    assert is_signed(sign(url, CREDENTIALS), url)


@pytest.mark.parametrize(
    ("signed", "received"),
    [
        ("http://emulator/a", "http://EMULATOR:80/a"),
        ("https://emulator/a", "https://emulator:443/a"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("http://emulator/", "http://emulator"),
    ],
)
def test_the_host_is_normalized(signed: str, received: str) -> None:
    assert is_signed(sign(signed, CREDENTIALS), received)


def test_a_form_may_be_signed() -> None:
    header = sign(URL, CREDENTIALS, body="a=1&b=x+y")

    assert is_signed(header, URL, parse_parameters("a=1&b=x+y"))
    assert not is_signed(header, URL)


@pytest.mark.parametrize("separator", [",", " , ", ",\t"])
def test_white_space_around_commas_is_free(separator: str) -> None:
    assert is_signed(sign(URL, CREDENTIALS).replace(", ", separator), URL)


def test_a_realm_is_not_signed_and_may_hold_anything() -> None:
    assert is_signed(sign(URL, CREDENTIALS).replace("OAuth ", 'OAuth realm="https://example/a b", '), URL)


def test_an_empty_header_has_no_parameters() -> None:
    assert parse_oauth_header("  ") == []


MALFORMED = {
    "a parameter twice": 'oauth_nonce="n", oauth_nonce="n"',
    "unquoted values": "oauth_nonce=n",
    "signature not percent-encoded": re.sub(
        r'oauth_signature="([^"]+)"',
        lambda match: f'oauth_signature="{unquote(match[1])}"',
        sign(URL, CREDENTIALS).removeprefix("OAuth "),
    ),
    "cut percent-encoding": 'oauth_nonce="n%2"',
    "bytes that are no UTF-8": 'oauth_nonce="%FF"',
    "two commas": 'oauth_nonce="n",, oauth_token="t"',
    "no commas": 'oauth_nonce="n" oauth_token="t"',
    "words": "nonsense",
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_a_sloppy_header_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"name|percent|twice|utf-8"):
        parse_oauth_header(header)


def test_the_hash_of_a_body() -> None:
    """The example of https://oauth.googlecode.com/svn/spec/ext/body_hash/1.0/oauth-bodyhash.html#rfc.section.A.1"""
    assert body_hash(b"Hello World!") == "Lve95gjOVATpfV8EL5X4nxwjKHE="
