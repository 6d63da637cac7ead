"""Types of options and arguments that several commands have.

A script passes an empty text where a variable is unset: it must not pass for a default.
"""

from __future__ import annotations

from typing import Any

import click

__all__ = ["NAMED", "NamedPath"]


class Named(click.types.StringParamType):
    """A text that is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        _refuse_empty(value, param, ctx)
        return super().convert(value, param, ctx)


class NamedPath(click.Path):
    """A path that is there: an empty one is the current folder to `pathlib`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        _refuse_empty(value, param, ctx)
        return super().convert(value, param, ctx)


def _refuse_empty(value: object, param: click.Parameter | None, ctx: click.Context | None) -> None:
    if not str(value).strip():
        option = "the value" if param is None else param.opts[0]
        raise click.UsageError(f"{option} is empty: give a value, or leave the option out", ctx)


NAMED = Named()
