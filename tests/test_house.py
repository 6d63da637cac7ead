"""The walls of the house: who may import whom; and the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engagement_async

PACKAGE = Path(engagement_async.__file__).parent
PURE = {
    "errors",
    "endpoints",
    "query",
    "chunker",
    "groupings",
    "idset",
    "rate_headers",
    "ledger",
    "answers",
    "retrying",
    "merger",
    "result",
    "tables",
}
ADAPTERS = {"scheduler", "credentials", "transport"}
IMPURE_MODULES = {"asyncio", "aiohttp", "time", "socket", "ssl", "threading", "random", "os", "subprocess", "tenacity"}
FOLDERS = {"backfill", "series", "distributed", "cli"}


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """The modules of ours (first level below the package) and the foreign ones that a file imports."""
    ours: set[str] = set()
    foreign: set[str] = set()
    package = ("engagement_async", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names = [module] if module != "engagement_async" else [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, *rest = name.split(".")
            if root == "engagement_async" and rest:
                ours.add(rest[0])
            elif root != "engagement_async":
                foreign.add(root)
    return ours, foreign


def files(*names: str) -> list[Path]:
    return [PACKAGE / f"{name}.py" for name in sorted(names)]


@pytest.mark.parametrize("path", files(*PURE), ids=lambda path: path.stem)
def test_pure_files_import_pure_ones_and_no_clock_or_io(path: Path) -> None:
    ours, foreign = imports_of(path)

    assert ours <= PURE
    assert not foreign & IMPURE_MODULES


@pytest.mark.parametrize("path", files(*ADAPTERS), ids=lambda path: path.stem)
def test_adapters_import_pure_files(path: Path) -> None:
    assert imports_of(path)[0] <= PURE


def test_the_engine_is_above_both_and_the_client_above_the_engine() -> None:
    assert imports_of(PACKAGE / "engine.py")[0] <= PURE | ADAPTERS
    assert imports_of(PACKAGE / "client.py")[0] <= PURE | ADAPTERS | {"engine", "__version__"}


def test_the_emulator_knows_the_endpoints_alone() -> None:
    for path in sorted((PACKAGE / "emulator").rglob("*.py")):
        assert imports_of(path)[0] <= {"endpoints", "emulator"}, path.name


def test_nothing_below_imports_a_folder() -> None:
    for path in sorted(PACKAGE.glob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            assert not imports_of(path)[0] & (FOLDERS | {"emulator"}), path.name


def test_argv_and_environment_are_read_by_the_command_line_alone() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "cli" not in path.parts and path.stem != "__main__":
            names = {
                ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
            }
            assert not names & {"os.environ", "os.getenv", "sys.argv"}, path.name


def test_every_public_name_is_there_and_no_other() -> None:
    for name in engagement_async.__all__:
        assert getattr(engagement_async, name) is not None
    assert engagement_async.__all__ == sorted(engagement_async.__all__, key=lambda name: (not name.isupper(), name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        engagement_async.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import engagement_async, sys; print({'aiohttp', 'pyarrow', 'click', 'asyncio'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
