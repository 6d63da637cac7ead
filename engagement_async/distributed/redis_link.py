"""How Redis is reached: what an address may be, and one exchange with the script. No rule of the contract is here."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

import msgspec

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async.errors import UsageError

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisAddress", "RedisLink", "RedisUnavailableError"]

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
CONNECT_TIMEOUT_S = 2.0
EXCHANGE_TIMEOUT_S = 2.0
SENTINEL_PORT = 26379
PASSING_ERRORS = frozenset({"BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE", "NOTREADY", "FAILOVER"})
"""Error codes of the protocol that end by themselves, or when an operator acts."""
_SCRIPT = (files(__package__) / "contract.lua").read_text()
_NAME = re.compile(r"[\w.:@+-]{1,100}", re.ASCII)


class RedisUnavailableError(Exception):
    """Redis does not answer now, and may later."""


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is, and who asks. What is secret shows in no repr.

    >>> RedisAddress.of("redis://localhost:6379/0")
    >>> RedisAddress.of("rediss://user@redis.example:6380", password="...", ca_file="ca.pem")
    >>> RedisAddress.of("rediss+sentinel://one.example,two.example:26380/service")
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @classmethod
    def of(
        cls,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        allow_plaintext: bool = False,
    ) -> RedisAddress:
        """Return the address that a URL names. Raise `UsageError` for what is none, or would show secrets to a network."""
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise UsageError(f"a scheduler's address begins with one of {', '.join(f'{name}://' for name in SCHEMES)}")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise UsageError(f"the {scheme} address cannot be read: write redis://host:6379/0") from None
        username = unquote(parts.username) if parts.username else username
        password = unquote(parts.password) if parts.password else password
        if parts.query or parts.fragment or (scheme != "unix" and "@" in parts.path):
            raise UsageError(
                "a scheduler's address has more than a host, a port and a number or service: leave it out. If it is a part "
                "of the password, percent-encode that, as %2F for /, %3F for ? and %23 for #"
            )
        if scheme == "unix":
            return cls(scheme, path=unquote(parts.path), username=username, password=password)
        is_sentinel = scheme.endswith("+sentinel")
        hosts = _hosts(parts.netloc.rpartition("@")[2], SENTINEL_PORT if is_sentinel else 6379)
        service, _, database = parts.path.strip("/").partition("/") if is_sentinel else ("", "", parts.path.strip("/"))
        if is_sentinel and not service:
            raise UsageError("name the service that the sentinels watch: redis+sentinel://host1,host2/service")
        if not is_sentinel and len(hosts) != 1:
            raise UsageError("several hosts are sentinels: write redis+sentinel://host1,host2/service")
        if database and not database.isdigit():
            raise UsageError(f"a Redis database is a number, not {database!r}")
        if scheme in ("redis", "redis+sentinel") and not allow_plaintext:
            for host, _ in hosts:
                if not _is_loopback(host):
                    raise UsageError(
                        f"{scheme}:// to {host} is not encrypted: use {scheme.replace('redis', 'rediss')}://, or allow it "
                        "with allow_plaintext=True (--allow-plaintext-redis) within a network that you trust"
                    )
        return cls(scheme, hosts, "", service, int(database or 0), username, password, ca_file)

    def __str__(self) -> str:
        place = self.path or ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{place}"

    @staticmethod
    def require_library() -> None:
        """Raise `UsageError` when redis is not installed."""
        try:
            import redis  # noqa: F401
        except ImportError:
            raise UsageError("RedisScheduler needs redis: pip install 'engagement-async[redis]'") from None

    def client(self) -> Redis:
        """Return a client with one connection."""
        from redis.asyncio import Redis, Sentinel
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options: dict[str, Any] = {
            "db": self.database,
            "username": self.username,
            "password": self.password,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": EXCHANGE_TIMEOUT_S,
            "max_connections": 1,
            "retry": Retry(NoBackoff(), 0),  # an exchange is repeated by whoever made it
        }
        if self.scheme.startswith("rediss"):
            options |= {"ssl": True, "ssl_ca_certs": self.ca_file, "ssl_check_hostname": True}
        if self.scheme == "unix":
            return Redis(unix_socket_path=self.path, **options)
        if self.service:
            sentinel_options = {name: value for name, value in options.items() if name != "db"}
            sentinel = Sentinel(self.hosts, sentinel_kwargs=sentinel_options, **options)  # type: ignore[no-untyped-call]
            found: Redis = sentinel.master_for(self.service)
            return found
        return Redis(host=self.hosts[0][0], port=self.hosts[0][1], **options)


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for place in text.split(","):
        try:
            parts = urlsplit(f"//{place}")
            hosts.append((parts.hostname or "localhost", parts.port or port))
        except ValueError:
            raise UsageError(f"{place!r} is no host and port") from None
    return tuple(hosts)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RedisLink:
    """One connection to the contract of that name, on one event loop."""

    def __init__(self, address: RedisAddress, contract: str) -> None:
        self._client = address.client()
        self._script = self._client.register_script(_SCRIPT)
        prefix = f"engagement-async:{{{contract}}}:"
        names = ["state", "owners", "expiry", "due", "turns", "answered", *(f"answered:{name}" for name in ENDPOINTS)]
        self._keys = [prefix + name for name in names]

    @staticmethod
    def check(contract: str) -> None:
        """Raise `UsageError` for what cannot be linked, before anybody waits for it."""
        if not _NAME.fullmatch(contract):
            raise UsageError(f"a contract's name has up to 100 letters, digits and . : @ + - _, not {contract!r}")
        RedisAddress.require_library()

    async def exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the script's reply.

        Raise `RedisUnavailableError` when there is none now, and `UsageError` when there will be none until somebody
        changes something.
        """
        from redis import exceptions

        try:
            packed = await self._script(keys=self._keys, args=[msgspec.msgpack.encode(request)])
        except (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError) as error:
            _refuse(error)
        except (
            exceptions.ConnectionError,
            exceptions.TimeoutError,
            exceptions.BusyLoadingError,
            exceptions.ReadOnlyError,
            exceptions.ClusterDownError,
            exceptions.MasterDownError,
            exceptions.OutOfMemoryError,
            exceptions.TryAgainError,
            OSError,
            TimeoutError,
        ) as error:
            await self._client.connection_pool.disconnect()
            if _is_of_certificate(error):
                raise UsageError(
                    "Redis' certificate cannot be trusted: name its authority with ca_file, and the host as it is in there"
                ) from None
            raise RedisUnavailableError(type(error).__name__) from None
        except exceptions.ResponseError as error:
            if str(error).partition(" ")[0] in PASSING_ERRORS:
                raise RedisUnavailableError(type(error).__name__) from None
            _refuse(error)
        reply: dict[str, Any] = msgspec.msgpack.decode(packed)
        return reply

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def _is_of_certificate(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _refuse(error: Exception) -> NoReturn:
    raise UsageError(f"Redis refuses: {str(error)[:200]}") from None
