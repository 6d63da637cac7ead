"""What a caller configures beside the contract: values, and their checks. Nothing here does I/O."""

from __future__ import annotations

import ipaddress
import math
import ssl
from dataclasses import dataclass
from typing import TypedDict

from yarl import URL

from engagement_async.errors import UsageError

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_CONCURRENCY",
    "DEFAULT_OUTAGE_TIMEOUT_S",
    "ConnectionOptions",
    "SizeLimits",
    "Timeouts",
    "check_seconds",
    "checked_base_url",
]

DEFAULT_BASE_URL = "https://data-api.twitter.com"
DEFAULT_CONCURRENCY = 16
DEFAULT_OUTAGE_TIMEOUT_S = 15 * 60.0
"""How long an outage is waited out: reference pages of the API speak of retries, not of how long; a storm of ten minutes
must be survived."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one attempt: to connect, between two reads, and in all.

    >>> Timeouts(total_s=120)
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "read_s", "total_s"):
            check_seconds(f"Timeouts.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """The largest answer that is read: bytes on the wire, bytes once decoded, levels of nested JSON.

    The largest honest answer, 25 Tweets by 17 metrics by 4 weeks of hours, thrice, has some 10 MB and 6 levels.
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
    """Keywords of `EngagementClient` that other callables take too and hand on, as `BackfillJob.run` does."""

    concurrency: int
    """Requests in flight at most."""
    base_url: str
    outage_timeout_s: float
    """How long an API that does not answer is waited for."""
    timeouts: Timeouts | None
    size_limits: SizeLimits | None
    tls: ssl.SSLContext | None


def check_seconds(name: str, value: object) -> None:
    """Raises `UsageError` for what is no span of time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UsageError(f"{name} is a number of seconds above 0, not {value!r}")


def checked_base_url(text: str) -> URL:
    """The address, if credentials may be sent there: https, or http to this machine itself; no userinfo."""
    try:
        url = URL(text)
    except (ValueError, TypeError):
        raise UsageError("base_url is no address: write https://data-api.twitter.com") from None
    if url.user is not None or url.password is not None:
        raise UsageError("base_url has a user or password in it: credentials are given apart from it")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("base_url is no web address: write https://data-api.twitter.com")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise UsageError(f"base_url is http to {url.host}, which would show the credentials to the network: use https")
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
