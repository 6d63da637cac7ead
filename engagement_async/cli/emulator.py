"""`engagement emulator`: a local Engagement API, until it is stopped.

Its options, the `export` lines that it prints, and its help are here. The emulator itself is `engagement_async.emulator`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import shlex
import socket
import ssl
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from engagement_async._export.files import check_outside_jobs
from engagement_async.cli.completion import complete_files
from engagement_async.cli.parameters import NAMED, NamedPath
from engagement_async.cli.signals import handled_signals, signals_held
from engagement_async.emulator import (
    FAULTS,
    INTERPRETATIONS,
    Emulator,
    EmulatorCredentials,
    FaultKind,
    Interpretation,
    Owner,
)
from engagement_async.emulator.faults import parse_fault
from engagement_async.emulator.limit import WindowKind
from engagement_async.emulator.snowflake import MAX_OWNERS

__all__ = ["emulator"]

_OTHER = "Other options"
# Of a certificate that this command may overwrite. PEM allows text before it.
_FIRST_LINE = b"Self-signed certificate of an engagement emulator, made at its last start.\n"


class _Option(click.Option):
    """An option of one section of the help."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Leave out the range of a number: the errors name it."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class _Command(click.Command):
    """A command whose help has its options in sections, and the names of faults and interpretations after them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", _OTHER), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=36)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in _tables():
            with formatter.section(title):
                indent = " " * formatter.current_indent
                names = ", ".join(name for name, _ in rows)
                lines = textwrap.wrap(names, formatter.width - len(indent), break_on_hyphens=False)
                formatter.write("".join(f"{indent}{line}\n" for line in lines))


def _tables() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the interpretations, then the faults of each kind: a title, names and descriptions."""
    yield "Interpretations", [(each.name, each.description) for each in INTERPRETATIONS.values()]
    for kind in FaultKind:
        faults = [fault for fault in FAULTS.values() if fault.kind is kind]
        yield f"Faults: {kind.value}", [(each.name, each.description) for each in faults]


def _list(ctx: click.Context, _param: click.Parameter, is_given: bool) -> None:
    if is_given:
        width = max(len(name) for _, rows in _tables() for name, _ in rows)
        for title, rows in _tables():
            click.echo(f"{title}:")
            for name, description in rows:
                click.echo(f"  {name:<{width}}  {description}")
            click.echo()
        ctx.exit()


def _option(section: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    return click.option(*names, cls=_Option, section=section, **attributes)


def _complete_names(names: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    return lambda _ctx, _param, incomplete: [name for name in names if name.startswith(incomplete)]


def _parse_faults(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    try:
        return tuple(parse_fault(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _parse_host(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a name or an address, as an address of the web and a certificate may hold it."""
    if value is None:
        return None
    with suppress(UnicodeError):  # a part of it is empty, or too long
        value.encode("idna")
        if re.fullmatch(r"[\w.:%-]*", value, re.ASCII):
            return value
    raise click.BadParameter(f"{value!r} is no name or address of a host: write it as emulator or 0.0.0.0", ctx, param)


def _parse_interpretation(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> Interpretation:
    try:
        return Interpretation.named(*names)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _parse_revocations(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    revocations = {}
    for value in values:
        owner, _, seconds = value.rpartition(":")
        if not owner or not re.fullmatch(r"\d+(\.\d+)?", seconds):
            message = f"{value!r} is not OWNER:SECONDS, such as owner3:60 for one minute after the start"
            raise click.BadParameter(message, ctx, param)
        revocations[owner] = float(seconds)
    return revocations


def _parse_instant(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        message = f"{text!r} is no instant: write 2026-11-21 or 2026-11-21T22:30:00Z (UTC)"
        raise click.BadParameter(message, ctx, param) from None


@click.command(cls=_Command)
@_option(
    "Rate limit",
    "--requests-per-minute",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    metavar="N",
    help="Requests a minute.",
)
@_option(
    "Rate limit",
    "--requests-per-second",
    type=click.IntRange(1),
    metavar="N",
    help="A second limit beside it. Default: none.",
)
@_option(
    "Rate limit",
    "--window",
    type=click.Choice(["sliding", "fixed"]),
    default="sliding",
    show_default=True,
    help="What a minute is: any 60 seconds, or from full minute to full minute.",
)
@_option(
    "Tweets",
    "--seed",
    type=int,
    metavar="N",
    help="The same seed gives the same values and credentials. Default: values of seed 0, new credentials.",
)
@_option(
    "Tweets",
    "--now",
    type=NAMED,
    callback=_parse_instant,
    metavar="TIME",
    help="Stop the time of the Tweets' world there, as 2026-11-21T22:30:00Z. Default: today's time, going on.",
)
@_option(
    "Tweets",
    "--unavailable",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Share of Tweets that are deleted.",
)
@_option(
    "Tweets",
    "--forbidden",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of Tweets whose author's token the emulator does not have.",
)
@_option(
    "Owners",
    "--owners",
    type=click.IntRange(1, MAX_OWNERS),
    default=1,
    show_default=True,
    metavar="N",
    help="How many owners share the Tweets, owner1 to ownerN, each with a token of its own.",
)
@_option(
    "Owners",
    "--owners-file",
    type=NamedPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    shell_complete=complete_files,
    help="Where to write their tokens, as CSV: owner, access_token, access_token_secret.",
)
@_option(
    "Owners",
    "--revoke",
    "revocations",
    type=NAMED,
    multiple=True,
    callback=_parse_revocations,
    metavar="OWNER:SECONDS",
    help="Refuse the token of OWNER from so many seconds after the start, as owner3:60. May be repeated.",
)
@_option(
    "Behaviour",
    "--interpretation",
    type=NAMED,
    multiple=True,
    shell_complete=_complete_names(INTERPRETATIONS),
    callback=_parse_interpretation,
    metavar="NAME",
    help="Read what the documentation leaves open in another way. May be repeated; the names are below.",
)
@_option(
    "Behaviour",
    "--fault",
    "faults",
    type=NAMED,
    multiple=True,
    shell_complete=_complete_names(FAULTS),
    callback=_parse_faults,
    metavar="NAME:EVERY",
    help="Let every EVERY-th request go wrong, as 503:10. May be repeated; the names are below.",
)
@_option(
    "Behaviour",
    "--latency",
    "latency_s",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="How long a request takes.",
)
@_option(
    "Behaviour",
    "--clock-skew",
    "clock_skew_s",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="How far its clock is ahead of this machine's.",
)
@_option(
    "Network",
    "--host",
    type=NAMED,
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    callback=_parse_host,
    help="Address to listen on; 0.0.0.0 in a container.",
)
@_option(
    "Network",
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port to listen on. Default: any free one.",
)
@_option(
    "Network",
    "--public-host",
    type=NAMED,
    metavar="NAME",
    callback=_parse_host,
    help="Name by which clients reach it, for its address and its certificate. Default: that of --host.",
)
@_option(
    "Network", "--tls-self-signed", is_flag=True, help="Serve https, with a certificate that is made at each start."
)
@_option(
    "Network",
    "--certificate-file",
    type=NamedPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    shell_complete=complete_files,
    help="Where to write that certificate for clients. Default: a temporary file.",
)
@_option(
    _OTHER,
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="Describe every interpretation and every fault, and exit.",
)
def emulator(
    requests_per_minute: int,
    requests_per_second: int | None,
    window: WindowKind,
    seed: int | None,
    now: float | None,
    unavailable: float,
    forbidden: float,
    owners: int,
    owners_file: Path | None,
    revocations: dict[str, float],
    interpretation: Interpretation,
    faults: tuple[tuple[str, int], ...],
    latency_s: float,
    clock_skew_s: float,
    host: str,
    port: int,
    public_host: str | None,
    tls_self_signed: bool,
    certificate_file: Path | None,
) -> None:
    """Run a local Engagement API until Ctrl-C.

    It first prints `export ENGAGEMENT_...=` lines, ready to be pasted into another shell: its address, and the
    credentials that it accepts, which open nothing else. Everything else goes to stderr. It exits 0 when it is stopped by
    SIGINT or SIGTERM.
    """
    if certificate_file is not None and not tls_self_signed:
        raise click.UsageError(
            "--certificate-file needs --tls-self-signed: without it there is no certificate to write"
        )
    if unknown := revocations.keys() - {f"owner{number}" for number in range(1, owners + 1)}:
        raise click.UsageError(f"--revoke {min(unknown)}: with --owners {owners} they are owner1 to owner{owners}")
    if not _is_loopback(host):
        click.echo(
            f"Warning: other machines can reach {host}. The emulator is for tests; its credentials open nothing else.",
            err=True,
        )
    with _certificate(host, public_host, certificate_file) if tls_self_signed else _plain() as (tls, certificate_path):
        server = Emulator(
            requests_per_minute,
            window=window,
            requests_per_second=requests_per_second,
            seed=seed or 0,
            host=host,
            port=port,
            public_host=public_host,
            credentials=EmulatorCredentials.new(seed),
            owners=owners,
            revocations=revocations,
            now=time.time if now is None else lambda: now,
            interpretation=interpretation,
            faults=dict(faults),
            latency_s=latency_s,
            unavailable_fraction=unavailable,
            forbidden_fraction=forbidden,
            clock_skew_s=clock_skew_s,
            tls=tls,
        )
        if owners_file is not None:
            _write_owners(owners_file, server.owners)
        exports = {"SSL_CERT_FILE": str(certificate_path)} if certificate_path is not None else {}
        try:
            with signals_held() as deliver:
                asyncio.run(_serve(server, exports, deliver))
        except OSError as error:
            raise click.UsageError(f"Cannot listen on {host}:{port}: {error.strerror or error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_Tls = tuple[ssl.SSLContext | None, Path | None]


@contextmanager
def _plain() -> Iterator[_Tls]:
    yield None, None


@contextmanager
def _certificate(host: str, public_host: str | None, certificate_file: Path | None) -> Iterator[_Tls]:
    """Make a certificate for every name that clients may use, and write it to a file while it is served."""
    from engagement_async.emulator.tls import SelfSignedCertificate

    names = [public_host, host, "localhost", "127.0.0.1", "::1", socket.gethostname()]
    certificate = SelfSignedCertificate.new(name for name in names if name)
    if certificate_file is not None:
        _write_certificate(certificate_file, certificate.pem)
        yield certificate.server_context(), certificate_file.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="engagement-emulator-") as folder:
        path = Path(folder, "certificate.pem")
        _write_certificate(path, certificate.pem)
        yield certificate.server_context(), path


def _write_certificate(path: Path, pem: bytes) -> None:
    check_outside_jobs(path)
    try:
        if path.exists() and not _is_certificate_of_emulator(path.read_bytes()):
            raise click.UsageError(
                f"--certificate-file {path} exists, and is no certificate of an emulator: name another file, or delete it"
            )
        path.write_bytes(_FIRST_LINE + pem)
    except OSError as error:
        raise click.UsageError(f"Cannot write --certificate-file {path}: {error.strerror or error}") from None


def _is_certificate_of_emulator(content: bytes) -> bool:
    return content.startswith(_FIRST_LINE) and content.count(b"-----BEGIN ") == 1


def _write_owners(path: Path, owners: Iterable[Owner]) -> None:
    """Write the tokens of all owners, readable by nobody else: clients refuse a file that others can read."""
    rows = [f"{owner.handle},{owner.access_token},{owner.access_token_secret}" for owner in owners]
    text = "\n".join(["owner,access_token,access_token_secret", *rows, ""])
    check_outside_jobs(path)
    try:
        if path.exists():
            if path.read_text(encoding="utf-8", errors="replace") == text:
                return
            raise click.UsageError(
                f"--owners-file {path} exists, and holds something else: name another file, or delete it"
            )
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"Cannot write --owners-file {path}: {error.strerror or error}") from None


async def _serve(server: Emulator, exports: Mapping[str, str], deliver: Callable[[], None]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in handled_signals():
        loop.add_signal_handler(number, stopped.set)
    deliver()
    async with server:
        for name, value in {**exports, **server.environment}.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        click.echo(f"Engagement API on {server.base_url}, {server.requests_per_minute} requests a minute.", err=True)
        await stopped.wait()
    log = server.log
    click.echo(f"{log.requests} requests, at most {log.peak} in a minute; {_counts(log.statuses)}", err=True)
    if log.faults:
        click.echo(f"faults: {_counts(log.faults)}", err=True)


def _counts(counter: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counter.items()) or "no answers"
