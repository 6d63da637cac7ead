"""The rules of the house: which folder may import which, what the core may use, and the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engagement_async

PACKAGE = Path(engagement_async.__file__).parent
IMPURE = {"asyncio", "aiohttp", "time", "socket", "ssl", "threading", "random", "os", "subprocess"}
MAY_IMPORT = {
    "errors": set(),
    "_core": {"errors"},
    "config": {"errors"},
    "credentials": {"errors"},
    "_progress": {"errors", "_core"},
    "_engine": {"errors", "_core", "config", "credentials", "_progress"},
    "client": {"errors", "_core", "config", "credentials", "_progress", "_engine", "__version__"},
    "_ids": {"errors", "_core"},
    "_export": {"errors", "_core"},
    "backfill": {"errors", "_core", "config", "credentials", "_progress", "_engine", "client", "_ids", "_export"},
    "emulator": {"_core.endpoints"},
}
"""Folder or module to what it may import of the package, itself aside. `cli` may import everything."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).with_suffix("").parts
        if place[-1] not in ("__init__", "__main__"):
            yield ".".join(place), path


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """The modules of this package, by dotted name below it, and the third-party roots that a file imports."""
    ours: set[str] = set()
    third_party: set[str] = set()
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
            root, _, rest = name.partition(".")
            if root == "engagement_async" and rest:
                ours.add(rest)
            elif root != "engagement_async":
                third_party.add(root)
    return ours, third_party


@pytest.mark.parametrize(("name", "path"), [pytest.param(*module, id=module[0]) for module in modules()])
def test_imports_go_down(name: str, path: Path) -> None:
    place = name.partition(".")[0]
    if place == "cli":
        return
    allowed = MAY_IMPORT[place]

    for imported in imports_of(path)[0]:
        folder = imported.partition(".")[0]
        assert folder == place or folder in allowed or imported in allowed, f"{name} imports {imported}"


@pytest.mark.parametrize("path", [pytest.param(p, id=n) for n, p in modules() if n.startswith("_core.")])
def test_the_core_has_no_clock_no_loop_and_no_io(path: Path) -> None:
    assert not imports_of(path)[1] & IMPURE


def test_nothing_is_imported_in_a_circle() -> None:
    arrows = {name: imports_of(path)[0] - {name} for name, path in modules()}
    left = set(arrows)
    while free := {name for name in left if not arrows[name] & left}:
        left -= free

    assert left == set()


def test_argv_and_environment_are_read_by_the_command_line_alone() -> None:
    for name, path in modules():
        if not name.startswith("cli."):
            used = {
                ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
            }
            assert not used & {"os.environ", "os.getenv", "sys.argv"}, name


def test_every_public_name_is_there_and_no_other() -> None:
    for name in engagement_async.__all__:
        assert getattr(engagement_async, name) is not None
    assert sorted(engagement_async.__all__) == list(engagement_async.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        engagement_async.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import engagement_async, sys; print({'aiohttp', 'pyarrow', 'click', 'asyncio'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
