"""How a command reaches the API: its address, a proxy, certificate authorities. Checked before anything is sent."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import click

from engagement_async.cli.app import remember_flag
from engagement_async.cli.completion import complete_files
from engagement_async.cli.config import Settings
from engagement_async.cli.options import all_of
from engagement_async.cli.parameters import NAMED
from engagement_async.config import DEFAULT_BASE_URL, checked_base_url
from engagement_async.errors import UsageError
from engagement_async.proxy import Proxy

__all__ = ["Connection", "Reach", "connection_options", "profile_option"]


def _kept(*names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Return an option that is no parameter of its command: `Connection.of` finds it in the session."""
    return click.option(*names, expose_value=False, callback=remember_flag, **attributes)


profile_option = _kept(
    "--profile",
    type=NAMED,
    metavar="NAME",
    help="Profile of the configuration file: [profiles.NAME]. Also ENGAGEMENT_PROFILE.",
)

base_url_option = click.option(
    "--base-url", type=NAMED, metavar="URL", help="Address of the API. Also ENGAGEMENT_BASE_URL."
)

connection_options = all_of(
    base_url_option,
    profile_option,
    _kept(
        "--proxy",
        type=NAMED,
        metavar="URL",
        help="HTTP proxy, as http://proxy.example:3128. Also ENGAGEMENT_PROXY, which may have user:password@, and the usual "
        "HTTPS_PROXY and NO_PROXY.",
    ),
    _kept("--no-proxy", is_flag=True, help="Use no proxy, whatever the environment says."),
    _kept(
        "--ca-file",
        type=NAMED,
        metavar="FILE",
        shell_complete=complete_files,
        help="Certificate authorities to trust beside the system's, as PEM. Also ENGAGEMENT_CA_FILE; SSL_CERT_FILE replaces "
        "the system's.",
    ),
    _kept(
        "--allow-http-to",
        type=NAMED,
        metavar="HOST",
        multiple=True,
        help="Allow plain http to this host: for an emulator in another container. Also ENGAGEMENT_ALLOW_HTTP_TO.",
    ),
)


class Reach(TypedDict, total=False):
    """What of a connection a client or a job is given."""

    base_url: str
    proxy: Proxy | None
    tls: ssl.SSLContext | None
    allow_http_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """What a command knows of the way to the API."""

    base_url: str
    proxy: Proxy | None = None
    proxy_from: str | None = None
    """What named the proxy, as `--proxy`."""
    ca_file: str | None = None
    allow_http_to: tuple[str, ...] = ()
    _tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, settings: Settings, flags: Mapping[str, Any], environ: Mapping[str, str], base_url: str | None = None
    ) -> Connection:
        """Return the connection of the flags, or else of the settings and the environment.

        Raise `UsageError` for what cannot be.
        """
        address = base_url or settings.base_url or DEFAULT_BASE_URL
        allowed = flags.get("allow_http_to") or _items(settings.get("allow_http_to"))
        checked_base_url(address, allowed)
        proxy, proxy_from = _proxy(settings, flags, environ, address)
        ca_file = settings.get("ca_file", flags.get("ca_file"))
        return cls(address, proxy, proxy_from, ca_file, tuple(allowed), _context(ca_file, environ))

    @property
    def reach(self) -> Reach:
        """What a client or a job is given."""
        return {
            "base_url": self.base_url,
            "proxy": self.proxy,
            "tls": self._tls,
            "allow_http_to": self.allow_http_to,
        }


def _items(text: str | None) -> tuple[str, ...]:
    return tuple(item.strip() for item in (text or "").split(",") if item.strip())


def _proxy(
    settings: Settings, flags: Mapping[str, Any], environ: Mapping[str, str], base_url: str
) -> tuple[Proxy | None, str | None]:
    flag = flags.get("proxy")
    if flags.get("no_proxy"):
        if flag is not None:
            raise UsageError("--proxy and --no-proxy: take one of them")
        return None, None
    if flag is not None:
        if "@" in flag:
            raise UsageError(
                "--proxy has a user or password in it, which other users can see: set ENGAGEMENT_PROXY, or write proxy into "
                "the configuration file"
            )
        return Proxy(flag), "--proxy"
    if not base_url.lower().startswith("https:"):
        return None, None  # over plain http, to this machine, a proxy would read the credentials
    given = settings.get("proxy")
    if given is not None:
        return Proxy(given), "ENGAGEMENT_PROXY" if environ.get("ENGAGEMENT_PROXY") else str(settings.path)
    proxy = Proxy.from_environment(environ, base_url)
    return proxy, "the environment" if proxy is not None else None


def _context(ca_file: str | None, environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return a TLS context that trusts the file's authorities too; None for the default one."""
    system = environ.get("SSL_CERT_FILE", "").strip()
    if system and not os.access(system, os.R_OK):
        raise UsageError(f"SSL_CERT_FILE names {system}, which cannot be read: correct it, or unset it")
    if ca_file is None:
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        raise UsageError(f"{ca_file}: --ca-file has no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise UsageError(f"{ca_file}: --ca-file cannot be read: {error.strerror}") from None
    return context
