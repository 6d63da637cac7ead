"""The generated tables of docs/emulator.md. `python -m tests.emulator.tables` writes them; a test compares them."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from pathlib import Path

import click

from engagement_async.cli.emulator import emulator
from engagement_async.emulator import FAULTS, INTERPRETATIONS, Emulator

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"
_BLOCK = re.compile(r"(<!-- generated: (\w+), by `python -m tests.emulator.tables` -->\n).*?(<!-- end -->)", re.DOTALL)


def flags() -> str:
    """Return the options of the command, in the sections of its help."""
    context = click.Context(emulator)
    rows = ["| option | |", "|---|---|"]
    section = ""
    for parameter in emulator.params:
        record = parameter.get_help_record(context)
        assert record is not None
        if (title := getattr(parameter, "section", "")) != section:
            section = title
            rows.append(f"| **{title}** | |")
        option, description = (cell.replace("|", "\\|") for cell in record)
        default = re.search(r"  \[default: (.*)\]$", description)
        if default:
            description = f"{description[: default.start()]} Default: {default[1]}."
        rows.append(f"| `{option}` | {description} |")
    return "\n".join(rows)


_OPTIONS = {
    (
        "requests_per_minute",
        "period",
        "window",
    ): 'its rate limit, and the length of a "minute" in seconds; None: no limit',
    ("requests_per_second",): "a second limit beside it; the headers of both families come in any case",
    ("seed",): "of the values, and of which Tweets are unavailable or forbidden",
    ("credentials",): "`EmulatorCredentials.new(seed)` gives fixed ones; None: random ones",
    (
        "owners",
        "revocations",
    ): "how many users share the Tweets, see [below](#many-owners); handle to the seconds after the start "
    "from which on that owner's token is refused",
    ("host", "port"): "where it listens; port 0: any free one",
    ("public_host",): "the name in `base_url`, where clients use another one than `host`",
    ("now",): "which day it is in the world of Tweets: a function that returns epoch seconds",
    ("clock_skew_s",): "how far its clock (`Date`, OAuth timestamps, resets) is ahead of the machine's",
    (
        "latency_s",
    ): "seconds, a range `(low, high)`, or a function of the request's number; a part of it passes before the "
    "arrival is counted",
    (
        "unavailable",
        "unavailable_fraction",
    ): "IDs of deleted Tweets, and a share of all; those of the future always are",
    (
        "forbidden",
        "forbidden_fraction",
    ): "ID to author of Tweets whose author's token it does not have, and a share of all",
    ("rejected",): "IDs that make any request with them fail with a 400 that does not name them",
    ("interpretation",): "how it reads what the documentation leaves open, see [below](#interpretations)",
    (
        "faults",
        "fault_settings",
    ): "`{name: every}`, a function of the request's number, or `random_faults(rate, seed)`; a `FaultSettings`",
    ("log_size", "count_ids"): "requests that are kept in full (None: all); count how often each ID was answered",
    ("tls",): "an `ssl.SSLContext` of a server: then its address is https",
}


def options() -> str:
    """Return the options of `Emulator`, with their defaults."""
    parameters = inspect.signature(Emulator).parameters
    missing = parameters.keys() ^ {name for names in _OPTIONS for name in names}
    if missing:
        raise KeyError(f"options of Emulator and descriptions here differ in {', '.join(sorted(missing))}")
    rows = ["| option | default | |", "|---|---|---|"]
    for names, description in _OPTIONS.items():
        defaults = ", ".join(_shown(parameters[name].default) for name in names)
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {defaults} | {description} |")
    return "\n".join(rows)


def _shown(default: object) -> str:
    if default is time.time:
        return "`time.time`"
    return f"`{default!r}`".replace("'", '"')


def interpretations() -> str:
    """Return the named interpretations."""
    rows = ["| name | what it changes |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{each.name}` | {each.description} |" for each in INTERPRETATIONS.values())])


def faults() -> str:
    """Return the number of faults, and each of them."""
    rows = [f"There are {len(FAULTS)} faults:", "", "| name | what happens | a good client |", "|---|---|---|"]
    kind = None
    for fault in FAULTS.values():
        if fault.kind is not kind:
            kind = fault.kind
            rows.append(f"| **{kind.value[0].upper()}{kind.value[1:]}** | | |")
        rows.append(f"| `{fault.name}` | {fault.description} | {fault.expected.value} |")
    return "\n".join(rows)


_TABLES: dict[str, Callable[[], str]] = {
    "flags": flags,
    "options": options,
    "interpretations": interpretations,
    "faults": faults,
}


def render(page: str) -> str:
    """Return the page with every generated table as it must be. Raise `KeyError` for a table that nothing makes."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{_TABLES[match[2]]()}\n\n{match[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
