"""docs/emulator.md says what the code does: its tables, its options, its counts, its examples."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs import emulator_tables as tables
from engagement_async import emulator as package
from engagement_async.emulator import FAULTS, Emulator, FaultSettings, Interpretation
from engagement_async.emulator.request_rules import DOCUMENTED

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"
TEXT = PAGE.read_text(encoding="utf-8")
README = PAGE.parents[1] / "README.md"


@pytest.mark.parametrize("table", [tables.flags, tables.options, tables.interpretations, tables.faults])
def test_the_generated_tables_are_up_to_date(table: Callable[[], str]) -> None:
    assert table() in TEXT, "run `make figures`"


@pytest.mark.parametrize("path", [PAGE, README], ids=lambda path: path.name)
def test_every_count_of_faults_is_right(path: Path) -> None:
    counts = re.findall(r"(\d+) (?:named )?(?:faults|kinds of bad day)", path.read_text(encoding="utf-8"))

    assert {int(count) for count in counts} <= {len(FAULTS)}


@pytest.mark.parametrize("setting", FaultSettings.__dataclass_fields__)
def test_every_setting_of_faults_is_documented(setting: str) -> None:
    assert f"`{setting}`" in TEXT


@pytest.mark.parametrize("field", Interpretation.__dataclass_fields__)
def test_every_field_of_interpretations_is_documented(field: str) -> None:
    assert f"`{field}`" in TEXT


@pytest.mark.parametrize("name", package.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", TEXT)


@pytest.mark.parametrize("method", [name for name in vars(Emulator) if not name.startswith("_")])
def test_every_method_is_documented(method: str) -> None:
    assert re.search(rf"\b{method}\b", TEXT)


def test_the_documented_texts_are_quoted_as_they_are() -> None:
    assert DOCUMENTED["tweets"].format(ids="1,2") in TEXT


def test_the_script_that_writes_ids_runs() -> None:
    (script,) = re.findall(r"<<'EOF'\n(.*?)EOF", TEXT, re.DOTALL)
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=True)

    lines = done.stdout.splitlines()
    assert lines[0] == "owner,tweet_id"
    assert len(set(lines)) == 25_001
