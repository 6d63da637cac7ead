"""The package's source as the house's rules and guides read it: its modules, and what their syntax trees hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import engagement_async

__all__ = [
    "PACKAGE",
    "Function",
    "classes",
    "functions",
    "imports",
    "modules",
    "positional_bools",
    "private_names_of_others",
    "states_compared_with_text",
    "tree",
]

PACKAGE = Path(engagement_async.__file__).parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[tuple[str, Path]]:
    """Return each module's dotted name below the package, and its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).with_suffix("").parts
        if place[-1] not in ("__init__", "__main__"):
            yield ".".join(place), path


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Return the modules of this package, by dotted name below it, and the third-party roots that a file imports."""
    ours: set[str] = set()
    third_party: set[str] = set()
    package = ("engagement_async", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree(path)):
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


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """Return the functions and methods of a module with their dotted names, nested ones too."""

    def within(node: ast.AST, place: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield f"{place}{child.name}", child
            named = isinstance(child, Function | ast.ClassDef)
            yield from within(child, f"{place}{child.name}." if named else place)  # type: ignore[attr-defined]

    yield from within(tree(path), "")


def classes(path: Path) -> Iterator[ast.ClassDef]:
    """Return the classes of a module, nested ones too."""
    yield from (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))


def private_names_of_others(path: Path) -> Iterator[str]:
    """Return what a module takes of another that is marked as private there."""
    source = tree(path)
    own = {"_fields", "_asdict", "_replace", "_make", "_exit"}  # public names of a named tuple, and of `os`
    for node in ast.walk(source):
        if isinstance(node, Function | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            own.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # __slots__
            own.add(node.value)
    files = {each.stem for each in PACKAGE.iterdir()}
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and (node.level or str(node.module).startswith("engagement_async")):
            names = {alias.name for alias in node.names} - files
            yield from (f"import {name}" for name in names if _is_private(name))
        elif isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
            yield ast.unparse(node)


def states_compared_with_text(path: Path) -> Iterator[str]:
    """Return comparisons of a state with a string literal, and those of anything with prose."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = [text for side in sides for text in _literals(side)]
            if any(" " in text.strip() for text in texts) or (texts and any(_is_state(side) for side in sides)):
                yield ast.unparse(node)
        elif isinstance(node, ast.Match) and _is_state(node.subject):
            patterns = [pattern for case in node.cases for pattern in ast.walk(case.pattern)]
            if any(isinstance(pattern, ast.MatchValue) and _literals(pattern.value) for pattern in patterns):
                yield f"match {ast.unparse(node.subject)}"


def positional_bools(path: Path) -> Iterator[str]:
    """Return the parameters of public functions that take a bare True or False by position.

    A command's function is called by its command line with names, so it is left out.
    """
    for name, function in functions(path):
        if any(part.startswith("_") and not part.startswith("__") for part in name.split(".")):
            continue
        if any("command" in ast.unparse(decorator) for decorator in function.decorator_list):
            continue
        for parameter in (*function.args.posonlyargs, *function.args.args):
            if parameter.annotation is not None and "bool" in ast.unparse(parameter.annotation).split(" | "):
                yield f"{name}({parameter.arg})"


_STATES = {"state", "status", "outcome", "mode", "phase", "reason", "waiting_for", "wait_reason"}


def _is_state(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr.removeprefix("_") in {*_STATES, "kind"}
    return isinstance(node, ast.Name) and node.id in _STATES


def _literals(node: ast.expr) -> list[str]:
    parts = node.elts if isinstance(node, ast.Tuple | ast.Set | ast.List) else [node]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")
