"""What a caller configures beside the rate limit: values and their checks. Nothing here does I/O."""

from __future__ import annotations

import ipaddress
import math
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from yarl import URL

from engagement_async.errors import UsageError
from engagement_async.proxy import Proxy

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_CONCURRENCY",
    "DEFAULT_OUTAGE_TIMEOUT_S",
    "ConnectionOptions",
    "SizeLimits",
    "Timeouts",
    "check_seconds",
    "checked_base_url",
    "parsed_base_url",
]

DEFAULT_BASE_URL = "https://data-api.twitter.com"
DEFAULT_CONCURRENCY = 16
DEFAULT_OUTAGE_TIMEOUT_S = 15 * 60.0
"""How long to wait for an API that does not answer. The API's pages ask for retries without saying for how long; an
outage of ten minutes must be survived."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one attempt may take. All three are seconds, above 0.

    Args:
        connect_s: Seconds to connect, TLS included.
        read_s: Seconds between two reads from the connection.
        total_s: Seconds for the whole attempt, from connecting to the last byte of the response.

    Raises:
        UsageError: A value is not a number of seconds above 0.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "read_s", "total_s"):
            check_seconds(f"Timeouts.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """The largest response that is read. A larger one counts as broken, and is retried.

    The largest real response (25 Tweets, 17 metrics, 4 weeks of hours, 3 groupings) has about 10 MB and 6 levels.

    Args:
        wire_bytes: Bytes of the body as it is sent, compressed.
        decoded_bytes: Bytes of the body once it is decompressed.
        json_depth: Levels of nested objects and arrays.

    Raises:
        UsageError: A value is not a whole number from 1 on.
    """

    wire_bytes: int = 16 * 2**20
    decoded_bytes: int = 64 * 2**20
    json_depth: int = 32

    def __post_init__(self) -> None:
        for name in ("wire_bytes", "decoded_bytes", "json_depth"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"SizeLimits.{name} is a whole number from 1 on, not {value!r}")


class ConnectionOptions(TypedDict, total=False):
    """Keywords of `EngagementClient` that other callables take and pass on, such as `BackfillJob.run`."""

    concurrency: int
    """Maximum requests in flight."""
    outage_timeout_s: float
    """Seconds to wait for an API that answers nobody."""
    timeouts: Timeouts | None
    """Seconds for one attempt."""
    size_limits: SizeLimits | None
    """The largest response that is read."""
    tls: ssl.SSLContext | None
    """A TLS context of your own."""
    proxy: Proxy | str | None
    """The proxy between client and API."""
    allow_http_to: str | Iterable[str]
    """Hosts that may be reached by plain http."""


def check_seconds(name: str, value: object) -> None:
    """Raise `UsageError` if the value of the option `name` is not a number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UsageError(f"{name} is a number of seconds above 0, not {value!r}")


def checked_base_url(text: str, allow_http_to: str | Iterable[str] = ()) -> URL:
    """Return an address that credentials can be sent to: https, or http to a loopback address or to one of these hosts.

    Raise `UsageError` for any other, and for one with a user or password.
    """
    url = parsed_base_url(text)
    allowed = [allow_http_to] if isinstance(allow_http_to, str) else list(allow_http_to)
    for host in allowed:
        if not isinstance(host, str) or not host or set(host) & set("/@*"):
            raise UsageError(f"allow_http_to is the name of a host, or several, not {host!r}")
    host = url.host or ""
    if url.scheme == "http" and not _is_loopback(host) and host not in allowed:
        raise UsageError(
            f"base_url is http to {host}, which would show the credentials to the network: use https, or allow it with "
            f"allow_http_to={host!r} (--allow-http-to {host}) if the credentials are an emulator's"
        )
    return url


def parsed_base_url(text: str) -> URL:
    """Return the address of the API, be it one that credentials can be sent to or not.

    Raise `UsageError` if it is no web address, or has a user, a password, a query or a fragment.
    """
    try:
        url = URL(text)
        host = url.host  # which decodes names in Punycode
    except (ValueError, TypeError):
        raise UsageError("base_url is no address: write https://data-api.twitter.com") from None
    if url.user is not None or url.password is not None:
        raise UsageError("base_url has a user or password in it: credentials are given apart from it")
    if url.scheme not in ("http", "https") or not host:
        raise UsageError("base_url is no web address: write https://data-api.twitter.com")
    if url.query_string or url.fragment:
        raise UsageError("base_url has a query or fragment: leave them out")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
