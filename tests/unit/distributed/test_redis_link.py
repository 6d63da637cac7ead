"""Which addresses are taken, what they hide, and how Redis is reached: TLS, users and passwords."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import pytest

from engagement_async import RateLimit, UsageError
from engagement_async.distributed import RedisScheduler
from engagement_async.distributed.redis_link import RedisAddress, RedisLink
from tests.support.certificates import write_certificate
from tests.support.redis_server import RedisServer, free_port, needs_redis

SECRET = "canary-password"


@pytest.mark.parametrize(
    ("url", "hosts", "database", "service", "username", "password"),
    [
        ("redis://localhost", (("localhost", 6379),), 0, "", None, None),
        ("redis://127.0.0.1:6380/3", (("127.0.0.1", 6380),), 3, "", None, None),
        ("redis://[::1]:6380", (("::1", 6380),), 0, "", None, None),
        ("rediss://redis.example", (("redis.example", 6379),), 0, "", None, None),
        ("rediss://us%40er:p%2Fw@redis.example/1", (("redis.example", 6379),), 1, "", "us@er", "p/w"),
        ("rediss://:pw@redis.example", (("redis.example", 6379),), 0, "", None, "pw"),
        (
            "rediss+sentinel://u:pw@one.example,two.example:7/service/2",
            (("one.example", 26379), ("two.example", 7)),
            2,
            "service",
            "u",
            "pw",
        ),
    ],
)
def test_an_address_says_where_and_who(
    url: str, hosts: tuple[tuple[str, int], ...], database: int, service: str, username: str, password: str
) -> None:
    address = RedisAddress.of(url)

    assert (address.hosts, address.database, address.service) == (hosts, database, service)
    assert (address.username, address.password) == (username, password)


def test_a_socket_is_an_address_too() -> None:
    assert RedisAddress.of("unix:///run/redis.sock").path == "/run/redis.sock"


def test_who_asks_may_be_told_apart_from_the_address() -> None:
    address = RedisAddress.of("rediss://redis.example", username="user", password=SECRET, ca_file="ca.pem")

    assert (address.username, address.password, address.ca_file) == ("user", SECRET, "ca.pem")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "begins with one of"),
        ("http://localhost", "begins with one of"),
        ("redis://redis.example", "not encrypted: use rediss://"),
        ("redis://10.0.0.1", "allow_plaintext"),
        ("redis+sentinel://one.example/service", r"use rediss\+sentinel://"),
        ("redis+sentinel://localhost", "name the service"),
        ("redis://localhost,127.0.0.1", "sentinels"),
        ("redis://localhost/zero", "is a number"),
        ("redis://localhost:port", "no host and port"),
        ("redis://localhost?db=1", "more than a host"),
        ("redis://[::1", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        RedisAddress.of(url.replace("://", f"://user:{SECRET}@", 1))

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("sign", ["/", "?", "#"])
def test_a_password_that_must_be_encoded_is_shown_nowhere(sign: str) -> None:
    for url in (f"redis://:{SECRET}{sign}x@localhost", f"redis+sentinel://user:x{sign}{SECRET}@localhost/service"):
        with pytest.raises(UsageError, match="percent-encode that, as %2F for /") as caught:
            RedisAddress.of(url)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_what_is_not_encrypted_goes_over_a_network_when_it_is_allowed() -> None:
    assert RedisAddress.of("redis://redis.example", allow_plaintext=True).hosts == (("redis.example", 6379),)


def test_the_password_shows_nowhere() -> None:
    address = RedisAddress.of(f"rediss://user:{SECRET}@redis.example")

    assert SECRET not in repr(address) + str(address)
    scheduler = RedisScheduler("rediss://redis.example", RateLimit(1), contract="x", password=SECRET)
    assert SECRET not in repr(scheduler)


@pytest.mark.parametrize("contract", ["", "a{b}", "a b", "x" * 101, "a\n"])
def test_a_name_that_no_key_may_have_is_refused(contract: str) -> None:
    with pytest.raises(UsageError, match="contract's name"):
        RedisLink.check(contract)


async def granted(scheduler: RedisScheduler) -> None:
    async with scheduler, asyncio.timeout(30):
        scheduler.settle(await scheduler.acquire(scheduler.lane()))


@needs_redis
async def test_users_and_passwords(tmp_path: Path) -> None:
    rights = f"user someone on >{SECRET} ~engagement-async:* +@all"
    async with RedisServer(tmp_path, "--requirepass", SECRET, *_user(rights)) as server:
        limit = RateLimit(5, period=0.1)
        await granted(RedisScheduler(server.url, limit, contract="x", password=SECRET))
        await granted(RedisScheduler(server.url, limit, contract="x", username="someone", password=SECRET))
        for wrong in (None, "wrong"):
            with pytest.raises(UsageError, match="Redis refuses") as caught:
                await granted(RedisScheduler(server.url, limit, contract="x", password=wrong))
            assert SECRET not in "".join(traceback.format_exception(caught.value))


def _user(rights: str) -> list[str]:
    name, *words = rights.split()
    return [f"--{name}", *words]


@needs_redis
async def test_a_user_without_rights_is_told_so(tmp_path: Path) -> None:
    async with RedisServer(tmp_path, *_user(f"user someone on >{SECRET} ~other:* +@all")) as server:
        with pytest.raises(UsageError, match="Redis refuses"):
            await granted(RedisScheduler(server.url, RateLimit(5), contract="x", username="someone", password=SECRET))


@needs_redis
async def test_tls_with_a_certificate_that_is_trusted_and_with_one_that_is_not(tmp_path: Path) -> None:
    certificate, key = write_certificate("localhost", tmp_path)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    async with RedisServer(tmp_path / "server", *options, "--tls-auth-clients", "no"):
        limit = RateLimit(5, period=0.1)
        await granted(RedisScheduler(f"rediss://localhost:{port}", limit, contract="x", ca_file=str(certificate)))

        for url, ca_file in [(f"rediss://localhost:{port}", None), (f"rediss://127.0.0.1:{port}", str(certificate))]:
            with pytest.raises(UsageError, match="certificate cannot be trusted"):
                await granted(RedisScheduler(url, limit, contract="x", ca_file=ca_file))
