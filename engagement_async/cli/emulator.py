"""`engagement emulator`: a local Engagement API, until it is stopped.

What belongs here: its flags, and the `export` lines that it prints. The emulator itself is `engagement_async.emulator`.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Mapping
from typing import Any

import click

from engagement_async.emulator import FAULTS, Credentials, Emulator
from engagement_async.emulator.faults import parse_fault
from engagement_async.emulator.limit import WindowKind

__all__ = ["emulator"]

# Click folds paragraphs; \b keeps this one as a list.
_FAULT_LIST = "\b\nFaults, by NAME:\n" + "\n".join(f"  {fault.name:<22}{fault.what}" for fault in FAULTS.values())


def _parse_faults(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    try:
        return tuple(parse_fault(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command(epilog=_FAULT_LIST)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; any free one when 0.")
@click.option("--requests-per-minute", type=click.IntRange(1), default=300, show_default=True, help="Its rate limit.")
@click.option("--requests-per-second", type=click.IntRange(1), help="A second limit; none when not given.")
@click.option(
    "--window", type=click.Choice(["sliding", "fixed"]), default="sliding", show_default=True, help="How it counts."
)
@click.option(
    "--fault",
    "faults",
    metavar="NAME:EVERY",
    multiple=True,
    callback=_parse_faults,
    help="Each EVERY-th request goes wrong. Repeatable.",
)
@click.option("--seed", type=int, help="The same seed, the same numbers and credentials. Else seed 0, new credentials.")
@click.option("--latency", "latency_s", type=click.FloatRange(0), default=0.0, help="Seconds that a request takes.")
@click.option(
    "--unavailable", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Share of Tweets gone."
)
@click.option("--foreign", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of others' Tweets.")
@click.option("--clock-skew", type=float, default=0.0, help="Seconds that its clock is ahead of this machine's.")
def emulator(
    port: int,
    requests_per_minute: int,
    requests_per_second: int | None,
    window: WindowKind,
    faults: tuple[tuple[str, int], ...],
    seed: int | None,
    latency_s: float,
    unavailable: float,
    foreign: float,
    clock_skew: float,
) -> None:
    """Run a local Engagement API on 127.0.0.1 until Ctrl-C.

    Its first output are `export ENGAGEMENT_...=` lines, ready to be pasted into another shell: its address and the
    credentials that it accepts, which open nothing else. Exits 0 when it is stopped by SIGINT or SIGTERM.
    """
    server = Emulator(
        requests_per_minute,
        window=window,
        requests_per_second=requests_per_second,
        seed=seed or 0,
        port=port,
        credentials=Credentials.new(seed),
        faults=dict(faults),
        latency_s=latency_s,
        unavailable_fraction=unavailable,
        forbidden_fraction=foreign,
        clock_skew_s=clock_skew,
    )
    try:
        asyncio.run(_serve(server))
    except OSError as error:
        raise click.UsageError(f"Cannot listen on 127.0.0.1:{port}: {error.strerror or error}") from None


async def _serve(server: Emulator) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        for name, value in server.environment.items():
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
