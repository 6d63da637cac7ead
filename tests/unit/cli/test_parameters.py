from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from engagement_async.cli.app import engagement, run
from engagement_async.cli.parameters import Named, NamedPath

EVERYWHERE = (
    "--contract",
    "--scheduler",
    "--profile",
    "--base-url",
    "--ca-file",
    "--proxy",
    "--log-file",
    "--metrics-file",
)
ALSO: dict[tuple[str, ...], tuple[str, ...]] = {
    ("fetch", "totals", "20"): ("--metrics", "--ids", "--output", "--credentials"),
    ("plan", "totals", "20"): ("--metrics",),
    ("backfill", "run", "job"): ("--metrics", "--ids", "--credentials"),
    ("backfill", "export", "job"): ("--output",),
    ("series", "pull", "s.duckdb"): ("--metrics", "--ids", "--credentials"),
}
COMMANDS: list[tuple[tuple[str, ...], str]] = [
    (("check",), option) for option in EVERYWHERE if option != "--metrics-file"
]
for command, options in ALSO.items():
    reaches_the_api = command[0] != "plan" and command[1] != "export"
    COMMANDS += [(command, option) for option in (*options, *(EVERYWHERE if reaches_the_api else ()))]


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_an_option_that_is_empty_does_not_pass_for_the_default(
    command: tuple[str, ...],
    option: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert run([*command, option, value]) == 2
    assert "is empty: give a value, or leave the option out" in capsys.readouterr().err


def options_of(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Option]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from options_of(below, f"{name} {each}")
    yield from ((name, option) for option in command.params if isinstance(option, click.Option))


def test_no_option_takes_an_empty_text() -> None:
    of_text = [
        (name, option)
        for name, option in options_of(engagement)
        if isinstance(option.type, (click.types.StringParamType, click.Path)) and not option.is_flag
    ]
    assert len(of_text) > 100
    assert [
        f"{name} {option.opts[0]}" for name, option in of_text if not isinstance(option.type, (Named, NamedPath))
    ] == []
