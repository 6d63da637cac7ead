"""The rules of the house: which folder may import which, what the core may use, and the public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engagement_async
from engagement_async import errors
from tests.support import source
from tests.support.interpreters import ROOT, promised
from tests.support.source import imports, modules

TESTS = Path(__file__).parent
IMPURE = {"asyncio", "aiohttp", "time", "socket", "ssl", "threading", "random", "os", "subprocess"}
MAY_IMPORT = {
    "errors": set(),
    "_core": {"errors"},
    "proxy": {"errors"},
    "config": {"errors", "proxy"},
    "credentials": {"errors"},
    "credential_store": {"credentials", "errors"},
    "_progress": {"errors", "_core"},
    "_display": {"errors", "_core", "_progress"},
    "_engine": {"errors", "_core", "config", "credential_store", "credentials", "proxy", "_progress", "__version__"},
    "client": {
        "errors",
        "_core",
        "config",
        "credential_store",
        "credentials",
        "proxy",
        "_progress",
        "_display",
        "_engine",
        "__version__",
    },
    "_ids": {"errors", "_core"},
    "_export": {"errors", "_core"},
    "backfill": {
        "errors",
        "_core",
        "config",
        "credential_store",
        "credentials",
        "_progress",
        "_display",
        "_engine",
        "client",
        "_ids",
        "_export",
    },
    "series": {"errors", "_core", "config", "_display", "_engine", "client", "_export"},
    "reports": {"errors", "_core", "_export", "backfill", "series"},
    "distributed": {
        "errors",
        "_core",
        "config",
        "credential_store",
        "credentials",
        "_progress",
        "_engine",
        "client",
        "proxy",
        "_export",
    },
    "emulator": {"_core.endpoints"},
}
"""Folder or module to what it may import of the package, itself aside. `cli` may import everything."""
COMPARED_TEXT: dict[str, str] = {}
"""Comparisons of a state or of prose with a string literal that stay, and why."""
POSITIONAL_BOOLS: dict[str, str] = {}
"""Positional bools that stay, and why."""
TESTED_ELSEWHERE = {
    "_core.decisions": "values alone: unit/_core/test_recovery.py",
    "_engine.sender": "unit/_engine/test_stream.py",
    "backfill.committer": "unit/backfill/test_job.py, unit/backfill/test_journal.py, test_kill.py",
    "backfill.repair": "unit/backfill/test_job.py, unit/backfill/test_journal.py, test_kill.py",
    "backfill.runner": "unit/backfill/test_job.py, unit/backfill/test_journal.py, test_kill.py",
    "cli.backfill.common": "unit/cli/backfill/test_run.py",
    "cli.backfill.export": "unit/cli/backfill/test_run.py",
    "cli.backfill.retry_failed": "unit/cli/backfill/test_run.py",
    "cli.backfill.run_command": "unit/cli/backfill/test_run.py",
    "cli.backfill.status": "unit/cli/backfill/test_run.py",
    "cli.backfill.usage": "unit/cli/backfill/test_run.py",
    "cli.backfill.verify": "unit/cli/backfill/test_run.py",
    "cli.series.common": "unit/cli/series/test_pull.py",
    "cli.series.export": "unit/cli/series/test_pull.py",
    "cli.series.fill": "unit/cli/series/test_pull.py",
    "cli.series.status": "unit/cli/series/test_pull.py",
    "cli.series.watch": "unit/cli/series/test_pull.py, unit/series/test_series.py",
    "cli.streams": "unit/cli/test_app.py",
    "reports.data_pictures": "unit/reports/test_composition.py",
    "reports.loaded": "values alone: unit/reports/test_sources.py",
    "reports.picture": "values alone: unit/reports/test_composition.py",
    "reports.run_pictures": "unit/reports/test_composition.py",
    "reports.style": "unit/reports/test_page.py",
    "series.database": "unit/series/test_store.py, unit/series/test_series.py",
    "series.exporter": "unit/series/test_tables.py",
    "series.gathering": "unit/series/test_store.py, unit/series/test_series.py",
    "series.schema": "unit/series/test_store.py",
}
"""Modules without a test file of their own, and where they are tested."""


@pytest.mark.parametrize(("name", "path"), [pytest.param(*module, id=module[0]) for module in modules()])
def test_imports_go_down(name: str, path: Path) -> None:
    place = name.partition(".")[0]
    if place == "cli":
        return
    allowed = MAY_IMPORT[place]

    for imported in imports(path)[0]:
        folder = imported.partition(".")[0]
        assert folder == place or folder in allowed or imported in allowed, f"{name} imports {imported}"


@pytest.mark.parametrize("path", [pytest.param(p, id=n) for n, p in modules() if n.startswith("_core.")])
def test_the_core_has_no_clock_no_loop_and_no_io(path: Path) -> None:
    assert not imports(path)[1] & IMPURE


def test_nothing_is_imported_in_a_circle() -> None:
    arrows = {name: imports(path)[0] - {name} for name, path in modules()}
    left = set(arrows)
    while free := {name for name in left if not arrows[name] & left}:
        left -= free

    assert left == set()


def test_argv_and_environment_are_read_by_the_command_line_alone() -> None:
    """And where the machine's ledgers are, which Python programs and commands must agree on; and by credentials that are
    named instead of given, because a process of an engine has no command line.
    """
    for name, path in modules():
        if not name.startswith("cli.") and name not in ("distributed.machine", "distributed.environment"):
            used = {ast.unparse(node) for node in ast.walk(source.tree(path)) if isinstance(node, ast.Attribute)}
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


@pytest.mark.parametrize("path", [pytest.param(path, id=name) for name, path in modules()])
def test_what_is_private_stays_in_its_module(path: Path) -> None:
    assert list(source.private_names_of_others(path)) == []


def test_no_state_is_compared_with_text() -> None:
    """States are enums: a literal that is misspelt, or a sentence that is reworded, would compare as different."""
    found = {f"{name}: {text}" for name, path in modules() for text in source.states_compared_with_text(path)}

    assert found == set(COMPARED_TEXT)


def test_no_public_function_takes_a_bare_true_or_false() -> None:
    found = {f"{name}.{text}" for name, path in modules() for text in source.positional_bools(path)}

    assert found == set(POSITIONAL_BOOLS)


def test_every_module_has_its_test_file() -> None:
    """The emulator's tests are apart, by what a client sees of it."""
    untested = {name for name, _ in modules() if not name.startswith("emulator.") and not test_file(name).exists()}

    assert untested == set(TESTED_ELSEWHERE)


def test_every_unit_test_file_has_its_module() -> None:
    """A test that belongs to no module lies beside the folder, and not in it."""
    mirrored = {test_file(name) for name, _ in modules()}

    assert set((TESTS / "unit").rglob("test_*.py")) - mirrored == set()


def test_file(module: str) -> Path:
    *folders, name = module.split(".")
    place = TESTS if folders[:1] == ["emulator"] else TESTS / "unit"
    return place.joinpath(*folders, f"test_{name.lstrip('_')}.py")


test_file.__test__ = False  # type: ignore[attr-defined]


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^    ([│├└─ ]*\w+Error(?: \(also an? \w+\))?)(?:  .*)?$", errors.__doc__, re.MULTILINE)

    assert drawn == list(draw(errors.EngagementError))


def draw(error: type[Exception]) -> Iterator[str]:
    """Return the lines of an error and of those derived from it first of all, in the order of their definition."""
    also = [f"{'an' if base.__name__[0] in 'AEIOU' else 'a'} {base.__name__}" for base in error.__bases__[1:]]
    yield error.__name__ + (f" (also {', '.join(also)})" if also else "")
    below = [e for e in error.__subclasses__() if e.__module__ == errors.__name__ and e.__bases__[0] is error]
    for each in below:
        is_last = each is below[-1]
        first, *rest = draw(each)
        yield f"{'└' if is_last else '├'}── {first}"
        yield from (f"{' ' if is_last else '│'}   {line}" for line in rest)


def test_every_promised_python_is_tried() -> None:
    versions = promised()
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()

    assert re.findall(r"python: \[(.*)\]", text) == [", ".join(f'"{version}"' for version in versions)]
    assert f'requires-python = ">={versions[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_workflow_runs_what_a_desk_runs() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (nightly,) = re.findall(r"target: \[(.*)\]", text)

    assert set(nightly.split(", ")) <= set(targets)
    assert set(re.findall(r"run: (\w+ \S+)", text)) == {"bash .ci/run", "make matrix", "make ${{"}


@pytest.mark.parametrize(
    ("rule", "code", "found"),
    [
        (source.private_names_of_others, "from .thing import _hidden", ["import _hidden"]),
        (source.private_names_of_others, "from ._core.thing import Open", []),
        (source.private_names_of_others, "def f(other): return other._hidden", ["other._hidden"]),
        (source.private_names_of_others, "class A:\n def f(self, other): self._own = other._own", []),
        (source.states_compared_with_text, "progress.state == 'done'", ["progress.state == 'done'"]),
        (source.states_compared_with_text, "failure.kind in ('a', 'b')", ["failure.kind in ('a', 'b')"]),
        (source.states_compared_with_text, "text != 'no such thing'", ["text != 'no such thing'"]),
        (source.states_compared_with_text, "match x.state:\n case 'done': pass", ["match x.state"]),
        (source.states_compared_with_text, "path == '-' or state is State.DONE", []),
        (source.positional_bools, "class A:\n def f(self, a: int, b: bool | None): ...", ["A.f(b)"]),
        (source.positional_bools, "def f(a: int, *, b: bool): ...", []),
        (source.positional_bools, "def _f(b: bool): ...", []),
    ],
)
def test_a_broken_rule_is_found(
    rule: Callable[[Path], Iterator[str]], code: str, found: list[str], tmp_path: Path
) -> None:
    (tmp_path / "module.py").write_text(code)

    assert list(rule(tmp_path / "module.py")) == found
