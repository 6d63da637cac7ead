"""Types of options and arguments that several commands have."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["NAMED"]


class Named(click.types.StringParamType):
    """A text that is there. A script passes an empty one where a variable is unset: it must not pass for a default."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        text = super().convert(value, param, ctx)
        if not text.strip():
            option = "the value" if param is None else param.opts[0]
            raise click.UsageError(f"{option} is empty: give a value, or leave the option out", ctx)
        return text


NAMED = Named()
