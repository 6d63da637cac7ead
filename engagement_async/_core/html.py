"""A result as a small HTML table, for notebooks. It loads nothing, and takes its colours from the page that it is on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["table_html"]

_CELL = 'style="text-align:left;padding:0.1em 0.8em 0.1em 0"'


def table_html(title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, more: int = 0) -> str:
    """Return a table with a caption; `more` is how many rows are left out."""
    head = "".join(f'<th scope="col" {_CELL}>{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{escape(_text(row.get(name)))}</td>" for name in columns) + "</tr>"
        for row in rows
    )
    foot = f"<p>{more:,} more rows</p>" if more else ""
    return (
        f'<table><caption style="text-align:left"><strong>{escape(title)}</strong></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
