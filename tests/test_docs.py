"""docs/command-line.md: no command, option, variable or exit code is missing, and its examples are real ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from engagement_async import cli
from engagement_async.cli import exit_codes
from engagement_async.cli.app import COMMANDS, Session, engagement
from engagement_async.cli.config import SETTINGS

TEXT = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
EXAMPLES = [
    line.rpartition("| ")[2].partition(" < ")[0].partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if "engagement " in line and not line.startswith(("pip", "mkdir", "install", "python"))
]


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


ALL = dict(commands(engagement))


def section(name: str) -> str:
    return TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", [path for path in ALL if path], ids=" ".join)
def test_every_option_of_every_command_is_documented(path: tuple[str, ...]) -> None:
    text = section(path[0])
    assert f"engagement {' '.join(path)}" in text
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            for option in parameter.opts:
                assert f"`{option}" in text, f"{' '.join(path)} {option}"


def test_no_option_is_documented_that_is_none() -> None:
    for name in COMMANDS:
        known = {
            option for path, command in ALL.items() if path[:1] == (name,) for p in command.params for option in p.opts
        }
        told = {
            option
            for row in re.findall(r"^\|(.*?)(?<!\\)\|", section(name), re.MULTILINE)
            for option in re.findall(r"`(--?[a-z-]+)", row)
        }
        assert told <= known | {"-h", "--help"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_one_that_the_command_takes(example: str) -> None:
    words = shlex.split(example)
    assert words[0] == "engagement"
    if words[1].startswith("-"):
        return
    path: tuple[str, ...] = ()
    rest = words[1:]
    while rest and (*path, rest[0]) in ALL:
        path = (*path, rest.pop(0))
    ALL[path].make_context(" ".join(path), rest, obj=Session())


def test_every_setting_event_and_exit_code_is_documented() -> None:
    for key in SETTINGS:
        assert f"| `ENGAGEMENT_{key.upper()}` | `{key}` |" in section("Credentials and settings")
    codes = {
        int(code) for code in re.findall(r"\b(\d+)\b", " ".join(re.findall(r"^\| ([\d, ]+) \|", TEXT, re.MULTILINE)))
    }
    sources = "".join(path.read_text() for path in (Path(cli.__file__).parent).glob("*.py"))
    for event in re.findall(r'\bevent\(\s*"(\w+)"', sources):
        assert f"| `{event}`" in section("Events for machines")
    assert codes == {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
