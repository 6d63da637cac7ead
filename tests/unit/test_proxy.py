"""Proxies: what is an address of one, what is told of it, and when the environment names one."""

from __future__ import annotations

import base64
import copy
import pickle
import traceback

import pytest

from engagement_async import Proxy, UsageError

CANARY = "canary-of-a-proxy"
URL = "https://data-api.twitter.com"


@pytest.mark.parametrize(
    ("text", "address", "pair"),
    [
        ("http://proxy:3128", "http://proxy:3128", None),
        ("proxy:3128", "http://proxy:3128", None),
        ("https://proxy", "https://proxy", None),
        ("http://proxy/", "http://proxy", None),
        ("http://[::1]:3128", "http://[::1]:3128", None),
        (" http://user:pass@proxy:3128 ", "http://proxy:3128", "user:pass"),
        ("http://user@proxy:3128", "http://proxy:3128", "user:"),
        ("http://u%40x:p%2F%23%3A@proxy:3128", "http://proxy:3128", "u@x:p/#:"),
        ("http://user:p@ss@proxy:3128", "http://proxy:3128", "user:p@ss"),
        ("http://user:pässword@proxy:3128", "http://proxy:3128", "user:pässword"),
        ("user:pass@proxy:3128", "http://proxy:3128", "user:pass"),
    ],
)
def test_addresses(text: str, address: str, pair: str | None) -> None:
    proxy = Proxy(text)

    assert str(proxy.url) == address
    assert proxy.has_credentials is (pair is not None)
    expected = {} if pair is None else {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    assert proxy.headers() == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a proxy is an address"),
        (None, "a proxy is an address"),
        (f"socks5://u:{CANARY}@proxy:1080", "is no HTTP proxy"),
        (f"http://u:{CANARY}#@proxy:3128", "cannot be read|more than a host"),
        (f"http://u:{CANARY}/@proxy:3128", "cannot be read|more than a host"),
        (f"http://u:{CANARY}@proxy:port", "cannot be read"),
        (f"http://u:{CANARY}@proxy:3128/path", "more than a host and a port"),
        (f"http://u:{CANARY}@proxy:3128?a=b", "more than a host and a port"),
        (f"http://u:{CANARY}@", "cannot be read"),
    ],
)
def test_what_is_no_address_is_told_without_its_password(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Proxy(text)

    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in whole.stack if "proxy.py" in frame.filename and "test_" not in frame.filename]
    assert frames
    assert CANARY not in str(caught.value) + "".join(str(frame.locals) for frame in frames)


def test_a_password_shows_nowhere() -> None:
    proxy = Proxy(f"http://user:{CANARY}@proxy:3128")
    encoded = base64.b64encode(f"user:{CANARY}".encode()).decode()

    shown = f"{proxy} {proxy!r} {proxy.url} {proxy.headers()!r}"
    assert CANARY not in shown
    assert encoded not in shown
    assert str(proxy) == "proxy:3128"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="is not pickled"):
            copied(proxy)


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1"),
        ({"https_proxy": " ", "HTTPS_PROXY": "http://b:1"}, "http://b:1"),
        ({"ALL_PROXY": "http://c:1"}, "http://c:1"),
        ({"ALL_PROXY": "http://c:1", "HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"HTTP_PROXY": "http://d:1"}, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://a:1", "no_proxy": "twitter.com"}, None),
    ],
)
def test_what_the_environment_names(environ: dict[str, str], address: str | None) -> None:
    proxy = Proxy.from_environment(environ, URL)

    assert (None if proxy is None else str(proxy.url)) == address
    assert Proxy.from_environment(environ, "http://127.0.0.1:8080") is None


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY: the proxy is no HTTP proxy"):
        Proxy.from_environment({"HTTPS_PROXY": "socks5://a:1"}, URL)


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_excepted"),
    [
        ("data-api.twitter.com", URL, True),
        ("DATA-API.Twitter.com", URL, True),
        (".twitter.com", URL, True),
        ("*.twitter.com", URL, True),
        ("twitter.com.", URL, True),
        ("tter.com", URL, False),
        ("data-api.twitter.com:443", URL, True),
        ("data-api.twitter.com:444", URL, False),
        ("localhost, .twitter.com", URL, True),
        ("localhost .twitter.com", URL, True),
        ("", URL, False),
        (",", URL, False),
        (".", URL, False),
        ("10.0.0.0/8", "https://10.1.2.3:8443", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("127.0.0.1", "https://127.0.0.1:8443", True),
        ("127.0.0.1:8443", "https://127.0.0.1:8443", True),
        ("127.0.0.1:1", "https://127.0.0.1:8443", False),
        ("::1", "https://[::1]:8443", True),
        ("[::1]:8443", "https://[::1]:8443", True),
        ("fe80::/10", "https://[fe80::1]", True),
    ],
)
def test_exceptions(no_proxy: str, url: str, is_excepted: bool) -> None:
    proxy = Proxy.from_environment({"HTTPS_PROXY": "http://a:1", "NO_PROXY": no_proxy}, url)

    assert (proxy is None) is is_excepted
