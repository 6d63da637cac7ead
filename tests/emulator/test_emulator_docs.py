"""docs/emulator.md says what the code does: its table of faults, its flags, its options."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from engagement_async.cli.emulator import emulator
from engagement_async.emulator import FAULTS, Emulator, FaultSettings

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")


def test_the_table_of_faults_is_the_table() -> None:
    rows = [f"| `{fault.name}` | {fault.what} | {fault.then} |" for fault in FAULTS.values()]

    assert "\n".join(["| name | what happens | then |", "|---|---|---|", *rows, ""]) in PAGE


@pytest.mark.parametrize("option", [name for param in emulator.params for name in param.opts])
def test_every_flag_is_documented(option: str) -> None:
    assert re.search(rf"`{option}[ `]", PAGE)


@pytest.mark.parametrize("option", sorted(set(inspect.signature(Emulator).parameters) - {"host"}))
def test_every_option_is_documented(option: str) -> None:
    assert re.search(rf"^\|.*`{option}`.*\|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("setting", FaultSettings.__dataclass_fields__)
def test_every_setting_of_faults_is_documented(setting: str) -> None:
    assert f"{setting}=" in PAGE
