"""`make guides`: what is large in the package, for a reader's judgement and never a reason to cut a good file in two."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.source import Function, classes, functions, modules

LINES, FUNCTION_LINES, ATTRIBUTES, PARAMETERS = 300, 50, 12, 8


def long_modules() -> Iterator[tuple[int, str]]:
    for name, path in modules():
        yield len(path.read_text().splitlines()), name


def long_functions() -> Iterator[tuple[int, str]]:
    for where, function in _all_functions():
        assert function.end_lineno is not None
        yield function.end_lineno - function.lineno + 1, where


def many_parameters() -> Iterator[tuple[int, str]]:
    for where, function in _all_functions():
        arguments = function.args
        names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        yield len([name for name in names if name not in ("self", "cls")]), where


def many_attributes() -> Iterator[tuple[int, str]]:
    for name, path in modules():
        for each in classes(path):
            for method in each.body:
                if isinstance(method, Function) and method.name == "__init__":
                    yield len(_set_on_self(method)), f"{name}.{each.name}"


def _all_functions() -> Iterator[tuple[str, Function]]:
    for name, path in modules():
        for function, node in functions(path):
            yield f"{name}.{function}", node


def _set_on_self(method: Function) -> set[str]:
    return {
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


GUIDES = (
    (f"modules over {LINES} lines", LINES, long_modules),
    (f"functions over {FUNCTION_LINES} lines", FUNCTION_LINES, long_functions),
    (f"more than {ATTRIBUTES} attributes set in an __init__", ATTRIBUTES, many_attributes),
    (f"more than {PARAMETERS} parameters", PARAMETERS, many_parameters),
)


def main() -> None:
    for title, most, measure in GUIDES:
        over = sorted(((number, where) for number, where in measure() if number > most), reverse=True)
        print(f"{title}: {len(over) or 'none'}")
        for number, where in over:
            print(f"  {number:5}  {where}")


if __name__ == "__main__":
    main()
