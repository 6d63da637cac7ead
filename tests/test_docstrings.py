"""Public docstrings say what a caller must know: every parameter, its unit, what is returned and what is raised.

A parameter is documented when its name stands in an `Args:` section or in backticks; a field, when a docstring follows it or
its class names it. Seconds are called seconds. What a function raises itself is named, and whatever is awaited names its
errors.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import engagement_async
from engagement_async import backfill, distributed, emulator, reports, series


def public(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Return a module's public classes and functions, and the public methods and properties of those classes."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            yield name, value
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and isinstance(member, (property, staticmethod, classmethod)):
                    yield f"{name}.{attribute}", member.fget if isinstance(member, property) else member.__func__
                elif not attribute.startswith("_") and inspect.isfunction(member):
                    yield f"{name}.{attribute}", member
        elif inspect.isfunction(value):
            yield name, value


PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in (engagement_async, backfill, distributed, emulator, reports, series)
    for name, value in public(module)
}


def tree_of(value: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def documents(docstring: str, name: str) -> bool:
    return bool(re.search(rf"`[^`]*\b{name}\b[^`]*`|^\s+\*{{0,2}}{name}( \([^)]+\))?: ", docstring, re.MULTILINE))


def missing_of_class(cls: type) -> Iterator[str]:
    docstring = cls.__doc__ or ""
    if issubclass(cls, (enum.Enum, BaseException)) and "__init__" not in vars(cls):
        return
    bodies = [tree_of(base).body for base in cls.__mro__ if base.__module__.startswith("engagement_async")]
    described = {
        node.target.id
        for body in bodies  # what a field of a base is, its base says
        for node, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return
    init = vars(cls).get("__init__")
    docstring += (init.__doc__ or "") if inspect.isfunction(init) else ""
    yield from missing_parameters(docstring, parameters, described)


def missing_parameters(docstring: str, parameters: Any, described: set[str]) -> Iterator[str]:
    for name in parameters:
        if name.startswith("_") or name in ("self", "cls", "args", "kwargs"):
            continue
        if name not in described and not documents(docstring, name):
            yield f"parameter {name}"
        if name.endswith("_s") and name not in described and "second" not in docstring.lower():
            yield f"unit of {name}"


def missing_of_function(function: Callable[..., Any], *, is_property: bool) -> Iterator[str]:
    docstring = function.__doc__ or ""
    parameters = dict(inspect.signature(function).parameters)
    yield from missing_parameters(docstring, parameters, set())
    if is_property:
        return
    if function.__annotations__.get("return") not in (None, "None") and not re.search(
        r"\b(Return|Yield|Iterate|Tell whether)", docstring, re.IGNORECASE
    ):
        yield "what is returned"
    raised = {
        node.exc.func.id
        for node in ast.walk(tree_of(function))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    for error in sorted(raised):
        if error not in docstring:
            yield f"that it raises {error}"
    if inspect.iscoroutinefunction(function) and not re.search(r"Raise", docstring):
        yield "what is raised"


def missing(value: Any, name: str) -> list[str]:
    """Return what the docstring of a public name does not say."""
    if not (value.__doc__ or "").strip():
        return ["a docstring"]
    if inspect.isclass(value):
        return list(missing_of_class(value))
    owner = PUBLIC.get(name.rpartition(".")[0])
    is_property = inspect.isclass(owner) and isinstance(vars(owner).get(name.rpartition(".")[2]), property)
    return list(missing_of_function(value, is_property=is_property))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_docstring_says_what_a_caller_must_know(name: str) -> None:
    lacking = missing(PUBLIC[name], name)

    assert not lacking, f"{name} does not say: {', '.join(lacking)}"
