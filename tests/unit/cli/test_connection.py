"""Commands behind a proxy with a private authority, where names are dead; and no secret is in what they print."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from engagement_async import UsageError
from engagement_async.cli.config import Settings
from engagement_async.cli.connection import Connection
from engagement_async.emulator import Emulator, tweet_ids
from tests.support.certificates import server_context, write_certificate
from tests.support.connect_proxy import ConnectProxy

HOST = "data-api.invalid"
NOW = time.time()
IDS = tweet_ids(600, newest_at=NOW)
PASSWORD = "canary-of/a@proxy"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), base64.b64encode(f"me:{PASSWORD}".encode()).decode())


class Behind:
    """An emulator that only proxies reach, and commands that run there."""

    def __init__(self, folder: Path, emulator: Emulator) -> None:
        self.folder = folder
        self.emulator = emulator
        self.port = int(emulator.base_url.rpartition(":")[2])
        (folder / "ids.txt").write_text("\n".join(IDS))
        for host in (HOST, "127.0.0.1"):
            (folder / host).mkdir()
            write_certificate(host, folder / host)
        both = (folder / host / "certificate.pem" for host in (HOST, "127.0.0.1"))
        (folder / "ca.pem").write_bytes(b"".join(path.read_bytes() for path in both))

    def run(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command; whatever it printed or wrote holds no secret."""
        done = subprocess.run(
            [sys.executable, "-m", "engagement_async", *args],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "XDG_CONFIG_HOME": str(self.folder / "config"),
                "ENGAGEMENT_STATE_DIR": str(self.folder / "state"),
                "ENGAGEMENT_REQUESTS_PER_MINUTE": "6000",
                "PYTHONASYNCIODEBUG": "1",
                **self.emulator.environment,
                **environ,
            },
        )
        written = [path.read_bytes().decode("utf-8", "replace") for path in self.folder.rglob("*.log")]
        own = [value for name, value in self.emulator.environment.items() if "SECRET" in name or "TOKEN" in name]
        for text in (done.stdout, done.stderr, *written):
            assert not [secret for secret in (*SECRETS, *own) if secret in text]
        return done


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    with Emulator(requests_per_minute=None, now=lambda: NOW, tls=server_context(HOST), public_host=HOST) as emulator:
        yield Behind(tmp_path_factory.mktemp("behind"), emulator)


@pytest.fixture
def proxy(behind: Behind) -> Iterator[ConnectProxy]:
    with ConnectProxy({HOST: behind.port}, user="me", password=PASSWORD) as running:
        yield running


@pytest.fixture
def tls_proxy(behind: Behind) -> Iterator[ConnectProxy]:
    tls = server_context("127.0.0.1")
    with ConnectProxy({HOST: behind.port}, user="me", password=PASSWORD, tls=tls) as running:
        yield running


def with_password(proxy: ConnectProxy) -> str:
    return proxy.url.replace("://", f"://me:{quote(PASSWORD, safe='')}@")


def test_a_fetch_goes_through_the_proxy_of_the_environment(behind: Behind, proxy: ConnectProxy) -> None:
    done = behind.run(
        "fetch", "totals", "--ids", "ids.txt", "-o", "totals.csv", "--log-file", "fetch.log", "--log-level", "debug",
        HTTPS_PROXY=with_password(proxy), SSL_CERT_FILE="ca.pem",
    )  # fmt: skip

    assert (done.returncode, proxy.tunnels > 0) == (0, True), done.stderr
    assert (behind.folder / "fetch.log").read_text().count(" status=200 ") == 3
    assert (behind.folder / "fetch.log").stat().st_mode & 0o777 == 0o600


def test_a_job_goes_through_a_proxy_with_tls_of_its_own(behind: Behind, tls_proxy: ConnectProxy) -> None:
    done = behind.run(
        "backfill", "run", "job", "totals", "--ids", "ids.txt", "--ca-file", "ca.pem", "--log-file", "job.log",
        ENGAGEMENT_PROXY=with_password(tls_proxy),
    )  # fmt: skip

    assert (done.returncode, tls_proxy.tunnels > 0) == (0, True), done.stderr
    written = b"".join(path.read_bytes() for path in (behind.folder / "job").rglob("*") if path.is_file())
    assert not [secret for secret in SECRETS if secret.encode() in written]


def test_check_says_how_it_went(behind: Behind, proxy: ConnectProxy) -> None:
    done = behind.run("check", "--ca-file", "ca.pem", "--json", HTTPS_PROXY=with_password(proxy))

    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["proxy"] == f"{proxy.address} (the environment)"
    assert found["credentials"] == "accepted (HTTP 200; the Tweet is answered)"


@pytest.mark.parametrize(
    ("user", "refusal", "code", "said"),
    [
        ("", None, 2, "407 Proxy Authentication Required: it wants credentials"),
        ("you:canary@", None, 2, "it wants other credentials than those given"),
        (None, "403 Forbidden", 2, "403 Forbidden: its rules do not allow"),
        (None, "502 Bad Gateway", 5, "502 Bad Gateway: it has no connection to the API"),
        (None, "", 5, "broke off, or its answer was no HTTP"),
    ],
)
@pytest.mark.parametrize(
    "command", [("check",), ("fetch", "totals", IDS[0], "--max-duration", "3s")], ids=["check", "fetch"]
)
def test_refusals_of_the_proxy_are_told_as_its_own(
    behind: Behind, proxy: ConnectProxy, command: tuple[str, ...], user: str | None, refusal: str, code: int, said: str
) -> None:
    proxy.refusal = refusal
    url = with_password(proxy) if user is None else proxy.url.replace("://", f"://{user}")
    done = behind.run(*command, "--ca-file", "ca.pem", HTTPS_PROXY=url)

    assert done.returncode == code
    assert f"the proxy {proxy.address} " in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_proxy_the_name_is_dead_and_that_is_told(behind: Behind, proxy: ConnectProxy) -> None:
    for option, environ in (("--no-proxy", {}), ("--ca-file=ca.pem", {"NO_PROXY": ".invalid"})):
        done = behind.run(
            "fetch", "totals", IDS[0], "--max-duration", "3s", option, HTTPS_PROXY=with_password(proxy), **environ
        )
        assert done.returncode == 5
        assert f"the name {HOST} was not found" in done.stderr
        assert "name it with proxy or --proxy" in done.stderr
    assert proxy.heads == []


def test_openssl_says_why_a_certificate_is_refused(behind: Behind, proxy: ConnectProxy) -> None:
    done = behind.run("fetch", "totals", IDS[0], HTTPS_PROXY=with_password(proxy))

    assert done.returncode == 2
    assert f"the certificate of {HOST} cannot be trusted: self-signed certificate." in done.stderr
    assert "SSL_CERT_FILE or --ca-file" in done.stderr


# --- what is refused before anything is sent ---


def connection(*, flags: dict[str, object] | None = None, base_url: str | None = None, **environ: str) -> Connection:
    return Connection.of(Settings(Path("x")), flags or {}, environ, base_url)


def test_a_password_in_an_argument_is_refused() -> None:
    with pytest.raises(UsageError, match="other users can see: set ENGAGEMENT_PROXY") as caught:
        connection(flags={"proxy": f"http://me:{PASSWORD}@proxy:3128"})
    assert PASSWORD not in str(caught.value)


def test_flags_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="--proxy and --no-proxy"):
        connection(flags={"proxy": "http://proxy:3128", "no_proxy": True})


def test_files_that_are_no_authorities_are_told(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1")
    with pytest.raises(UsageError, match="--ca-file has no certificate in PEM form"):
        connection(flags={"ca_file": str(tmp_path / "ids.txt")})
    with pytest.raises(UsageError, match="--ca-file cannot be read: No such file"):
        connection(flags={"ca_file": str(tmp_path / "none")})
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE names .*none, which cannot be read"):
        connection(SSL_CERT_FILE=str(tmp_path / "none"))


def test_http_goes_direct_whatever_the_environment_says() -> None:
    found = connection(base_url="http://127.0.0.1:8080", HTTPS_PROXY="http://proxy:1", HTTP_PROXY="http://proxy:1")
    assert found.proxy is None
    with pytest.raises(UsageError, match=r"allow_http_to='emulator'|--allow-http-to"):
        connection(base_url="http://emulator:8080")
    assert connection(base_url="http://emulator:8080", flags={"allow_http_to": ("emulator",)}).reach["proxy"] is None
