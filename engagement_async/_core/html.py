"""Values as small HTML tables, for notebooks. They load nothing, and take their colours from the page that they are on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["facts_html", "note_html", "table_html"]

_TABLE = '<table style="color:inherit">'  # which tables of pages without a doctype do not do by themselves
_LEFT = 'style="text-align:left;vertical-align:top;padding:0.1em 0.8em 0.1em 0"'


def table_html(
    title: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, more: int = 0, is_all: bool = True
) -> str:
    """Return a table with a caption; `more` is how many rows are left out, at least where these are not all."""
    head = "".join(f'<th scope="col" {_LEFT}>{_text(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td {_LEFT}>{_text(row.get(name))}</td>" for name in columns) + "</tr>" for row in rows
    )
    foot = f"<p>{'' if is_all else 'at least '}{more:,} more rows</p>" if more else ""
    return f"{_TABLE}{_caption(title)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}"


def facts_html(title: str, facts: Iterable[tuple[str, object]], *, done: tuple[int, int] | None = None) -> str:
    """Return a table with a caption and a fact in each row; below the caption a bar, if some are `done` of so many."""
    body = "".join(
        f'<tr><th scope="row" {_LEFT}>{_text(name)}</th><td {_LEFT}>{_text(fact)}</td></tr>' for name, fact in facts
    )
    bar = ""
    if done is not None:
        share = done[0] / done[1] if done[1] else 1.0
        label = f"{share:.1%}"
        bar = (
            f'<tr><td colspan="2" {_LEFT}><progress value="{share:.4f}" max="1" aria-label="{label}" '
            f'style="width:20em">{label}</progress></td></tr>'
        )
    return f"{_TABLE}{_caption(title)}<tbody>{bar}{body}</tbody></table>"


def note_html(title: str, note: str) -> str:
    """Return a title with one sentence."""
    return f"<p><strong>{_text(title)}</strong><br>{_text(note)}</p>"


def _caption(title: str) -> str:
    return f'<caption style="text-align:left;white-space:nowrap"><strong>{_text(title)}</strong></caption>'


def _text(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return escape(text.encode("utf-8", "replace").decode())  # names of files need not be UTF-8
