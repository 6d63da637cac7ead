"""A report as one HTML page: no script, nothing that is loaded, light and dark, for screens and paper.

Pure, but for its style sheet. Everything that comes from outside is text: it is escaped here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from engagement_async.reports.picture import Link, Picture, Table, Value
from engagement_async.reports.style import style

__all__ = ["Fact", "Report", "Section", "page"]

Draw = Callable[[Picture, int, str], str]
"""Returns a picture as an SVG element: so wide, and with IDs that begin so."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A number that stands above everything else."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report."""

    name: str
    title: str
    facts: Sequence[Fact] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[tuple[str, Table]] = ()
    """Tables that belong to no picture, each with its title."""
    notes: Sequence[str] = ()
    """What a reader must know of what is missing."""


@dataclass(frozen=True, slots=True)
class Report:
    """All of a report."""

    title: str
    about: str
    """Where it is from, and when it was made."""
    sections: Sequence[Section] = field(default_factory=tuple)

    @property
    def pictures(self) -> dict[str, Picture]:
        """All pictures by name."""
        return {picture.name: picture for section in self.sections for picture in section.pictures}


def page(report: Report, draw: Draw, *, wide: int, narrow: int) -> str:
    """Return the page.

    Args:
        report: What it says.
        draw: Draws the pictures.
        wide: Pixels of a chart on a desk.
        narrow: Pixels of a chart on a telephone.
    """

    def figure(picture: Picture) -> str:
        name = escape(picture.name)
        return (
            f'<figure id="{name}"><h3>{escape(picture.title)}</h3><p class="says">{escape(picture.says)}</p>'
            f'<div class="wide">{draw(picture, wide, f"{name}-w-")}</div>'
            f'<div class="narrow">{draw(picture, narrow, f"{name}-n-")}</div>'
            f"<figcaption>{escape(picture.about)}</figcaption>"
            f"{_details(f'{picture.title}: the numbers', picture.table, is_open=picture.shows_table)}</figure>"
        )

    parts = []
    for section in report.sections:
        parts.append(f'<section aria-labelledby="{section.name}"><h2 id="{section.name}">{escape(section.title)}</h2>')
        parts += (f'<p class="note">{escape(note)}</p>' for note in section.notes)
        parts.append(_facts(section.facts))
        parts += map(figure, section.pictures)
        parts += (_details(title, table, is_open=False) for title, table in section.tables)
        parts.append("</section>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(report.title)}</title><style>{style()}</style></head><body>"
        f"<header><h1>{escape(report.title)}</h1><p>{escape(report.about)}</p>{_contents(report)}</header>"
        f"<main>{''.join(parts)}</main></body></html>\n"
    )


def _contents(report: Report) -> str:
    names = [(picture.name, picture.title) for picture in report.pictures.values()]
    links = "".join(f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in names)
    return f'<nav aria-label="Pictures"><ul>{links}</ul></nav>' if links else ""


def _facts(facts: Iterable[Fact]) -> str:
    items = "".join(
        f"<div><dt>{escape(fact.name)}</dt><dd>{escape(fact.value)}"
        + (f"<small>{escape(fact.more)}</small>" if fact.more else "")
        + "</dd></div>"
        for fact in facts
    )
    return f"<dl>{items}</dl>" if items else ""


def _details(title: str, table: Table, *, is_open: bool) -> str:
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{_table(title, table)}</details>"


def _table(title: str, table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    head = "".join(
        f'<th scope="col"{" class=n" if _is_number(column) else ""}>{escape(name)}</th>'
        for name, column in zip(table.columns, columns, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{_cell(row[0])}</th>' + "".join(map(_data, row[1:])) + "</tr>" for row in table.rows
    )
    more = f"<p>{table.left_out:,} more are not in this table.</p>" if table.left_out else ""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(title)}" tabindex="0"><table>'
        f"<caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}"
    )


def _is_number(column: Sequence[Value]) -> bool:
    return any(value is not None for value in column) and all(isinstance(v, int | float | None) for v in column)


def _data(value: Value) -> str:
    return f"<td class=n>{_cell(value)}</td>" if isinstance(value, int | float) else f"<td>{_cell(value)}</td>"


def _cell(value: Value) -> str:
    match value:
        case None:
            return ""
        case Link(text, address):
            return f'<a href="{escape(address)}" rel="noopener noreferrer">{escape(text)}</a>'
        case int() | float():
            return f"{value:,}"
        case _:
            return escape(value)
