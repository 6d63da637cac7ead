"""The HTTP proxy between a client and the API: its address, its credentials, and when the environment names one.

A proxy is for https alone: it is asked to CONNECT, and sees neither requests nor credentials of the API.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping
from typing import NoReturn
from urllib.parse import unquote

from yarl import URL

from engagement_async.errors import UsageError

__all__ = ["Proxy"]


class _Header(str):
    """The value of a Proxy-Authorization header, whose repr hides it: tracebacks may show local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Proxy-Authorization>"


class Proxy:
    """An HTTP proxy that is asked to CONNECT to the API. Its credentials appear in no repr, str or pickle.

    Args:
        url: Its address: `http://proxy.example:3128`, `https://...` for TLS to the proxy itself, with
            `user:password@` if it wants them; special characters in those percent-encoded, as `%40` for `@`.

    Raises:
        UsageError: It is no such address.
    """

    __slots__ = ("_authorization", "url")

    url: URL
    """The address, without credentials."""

    def __init__(self, url: str) -> None:
        self.url, self._authorization, problem = _parsed(url)
        url = ""  # a traceback may show local variables
        if problem is not None:
            raise UsageError(problem)

    def __repr__(self) -> str:
        return f"Proxy({str(self.url)!r}{', with credentials' if self.has_credentials else ''})"

    def __str__(self) -> str:
        return f"{self.url.host}:{self.url.port}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Proxy may hold a password and is not pickled: make it anew in the other process")

    @property
    def has_credentials(self) -> bool:
        """Whether a user and a password were given."""
        return self._authorization() is not None

    def headers(self) -> dict[str, str]:
        """Return the headers of a CONNECT to it."""
        authorization = self._authorization()
        return {} if authorization is None else {"Proxy-Authorization": authorization}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], base_url: str) -> Proxy | None:
        """Return the proxy that environment variables name for an https address, or None.

        That is `HTTPS_PROXY`, else `ALL_PROXY`, each also in small letters, unless `NO_PROXY` has the host: a name, which
        stands for those below it too, an address, a network such as `10.0.0.0/8`, each with a port if you like, or `*`.

        Args:
            environ: The variables, as `os.environ`.
            base_url: The address of the API.

        Raises:
            UsageError: The variable is no address of an HTTP proxy.
        """
        address = URL(base_url)
        if address.scheme != "https" or _is_excepted(_first(environ, "no_proxy") or "", address):
            return None
        for name in ("https_proxy", "all_proxy"):
            if text := _first(environ, name):
                try:
                    return cls(text)
                except UsageError as error:
                    text = ""
                    raise UsageError(f"{name.upper()}: {error}; or go without, with --no-proxy") from None
        return None


def _parsed(text: str) -> tuple[URL, Callable[[], str | None], str | None]:
    """Return the address, its credentials, and what is wrong with it: never quoting the text, which may hold a password."""
    problem = _problem_of(text)
    if problem is not None:
        return URL(), lambda: None, problem
    url = _url_of(text)
    authorization = None
    if url.raw_user is not None or url.raw_password is not None:
        pair = f"{unquote(url.raw_user or '')}:{unquote(url.raw_password or '')}"
        authorization = _Header(f"Basic {base64.b64encode(pair.encode()).decode()}")
    return URL.build(scheme=url.scheme, host=url.host or "", port=url.port), lambda: authorization, None


def _url_of(text: str) -> URL:
    text = text.strip()
    return URL(text if "://" in text else f"http://{text}")


def _problem_of(text: str) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return "a proxy is an address as http://proxy.example:3128"
    try:
        url = _url_of(text)
        host, _ = url.host, url.port
    except ValueError:
        host = None
    if not host:
        return (
            "the proxy's address cannot be read: write it as http://user:password@proxy.example:3128, special characters in "
            "user and password percent-encoded, as %40 for @"
        )
    if url.scheme not in ("http", "https"):
        return "the proxy is no HTTP proxy: its address begins with http:// or https://"
    if url.path not in ("", "/") or url.query_string or url.fragment:
        return (
            "the proxy's address has more than a host and a port: if that is the password, percent-encode it, as %2F for / "
            "and %23 for #"
        )
    return None


def _first(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable in small or capital letters: the small ones are the older custom, and win as in curl."""
    return next((value for key in (name, name.upper()) if (value := environ.get(key, "").strip())), None)


def _is_excepted(no_proxy: str, address: URL) -> bool:
    host = (address.host or "").rstrip(".").lower()
    entries = no_proxy.replace(",", " ").lower().split()
    return any(entry == "*" or _covers(entry, host, address.port) for entry in entries)


def _covers(entry: str, host: str, port: int | None) -> bool:
    name, colon, its_port = entry.rpartition(":")
    if colon and its_port.isdigit() and ("]" in name or ":" not in name):
        if int(its_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").strip(".")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))
