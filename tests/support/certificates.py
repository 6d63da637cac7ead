"""Certificates for one test run, made on the spot and never written down but for the moment that ssl needs to read them."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["server_context", "trusting_client", "write_certificate"]


@cache
def server_context(host: str) -> ssl.SSLContext:
    """Return a server's context with a certificate for that host name or address, signed by itself alone."""
    certificate, key = _self_signed(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "certificate.pem")
        path.write_bytes(certificate + key)
        context.load_cert_chain(path)
    return context


def trusting_client(host: str) -> ssl.SSLContext:
    """Return a client's context that trusts that certificate, and still checks the host's name."""
    return ssl.create_default_context(cadata=_self_signed(host)[0].decode())


def write_certificate(host: str, folder: Path) -> tuple[Path, Path]:
    """Write that certificate and its key for a server that is another process; return their paths."""
    paths = folder / "certificate.pem", folder / "key.pem"
    for path, text in zip(paths, _self_signed(host), strict=True):
        path.touch(mode=0o600)
        path.write_bytes(text)
    return paths


@cache
def _self_signed(host: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
