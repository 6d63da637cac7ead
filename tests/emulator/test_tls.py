"""The self-signed certificate: trusted where it is given, and nowhere else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from engagement_async.emulator.tls import SelfSignedCertificate
from tests.support.emulator_requests import (
    BY_TWEET,
    IDS,
    make_emulator,
    request_body,
    send,
)

GOOD = request_body(IDS, ["favorites", "impressions"], BY_TWEET)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def certificate() -> SelfSignedCertificate:
    return SelfSignedCertificate.new(["127.0.0.1"])


@pytest.fixture
def server_context(certificate: SelfSignedCertificate) -> ssl.SSLContext:
    """Made before the loop runs: it goes through a file."""
    return certificate.server_context()


@pytest.mark.parametrize("faults", [None, {"reset": 2}, {"close-mid-body": 2}])
async def test_over_tls(faults: Any, certificate: SelfSignedCertificate, server_context: ssl.SSLContext) -> None:
    async with make_emulator(tls=server_context, faults=faults) as emulator:
        trusting = ssl.create_default_context(cadata=certificate.pem.decode())
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
            assert emulator.base_url == f"https://127.0.0.1:{emulator.port}"
            assert (await send(session, emulator, "totals", GOOD))[0] == 200
            if faults:
                with pytest.raises(aiohttp.ClientError):
                    await send(session, emulator, "totals", GOOD)
            assert (await send(session, emulator, "totals", GOOD))[0] == 200
        async with aiohttp.ClientSession() as stranger:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await send(stranger, emulator, "totals", GOOD)


def test_a_certificate_shows_no_key() -> None:
    certificate = SelfSignedCertificate.new(["emulator", "127.0.0.1", "emulator"])

    assert certificate.pem.startswith(b"-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in repr(certificate)
    assert certificate.pem != SelfSignedCertificate.new(["emulator"]).pem
