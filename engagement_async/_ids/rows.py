"""Rows of a table, whatever it is written in: where its IDs are, and what becomes of each row. Pure.

A quote that is never closed swallows the rows behind it, so rows are looked for within cells of several lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from engagement_async._ids.columns import best_column, column_number, is_known_name, named_column, rank
from engagement_async._ids.report import Intake
from engagement_async._ids.values import find_id, has_long_number, has_many_digits, is_strong

__all__ = ["Layout", "Row", "choose_layout", "ids_of_rows"]


class Row(NamedTuple):
    """One row, and the line in which it begins."""

    line: int
    cells: list[str]
    lines: Sequence[str]
    """The lines of a row that has several; else nothing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the IDs are."""

    column: int
    width: int
    header: list[str] | None
    owner: int | None = None
    """The column of the IDs' owners, where they have such."""

    @property
    def name(self) -> str | None:
        """What reports call the column: its name, or its number; nothing if it is the only one and has none."""
        if self.header is not None:
            return self.header[self.column]
        return str(self.column + 1) if self.width > 1 else None


def choose_layout(
    sample: list[Row], id_column: str | None, intake: Intake, *, owner_column: str | None = None
) -> Layout | None:
    """Return where the IDs of a table, and their owners, are by its first rows, or None if every cell of the only row is
    an ID.

    Raise `UsageError` if that is not clear.
    """
    layout = _id_layout(sample, id_column, intake)
    if layout is not None and layout.header is not None:
        intake.note_header(layout.header)
    return layout if owner_column is None else _with_owners(layout, owner_column, intake)


def _id_layout(sample: list[Row], id_column: str | None, intake: Intake) -> Layout | None:
    first = [cell.strip() for cell in sample[0].cells]
    width = len(first)
    has_ids = any(find_id(cell) for cell in first) and not any(is_known_name(cell) for cell in first)
    if id_column is not None:
        return _named_layout(first, id_column, intake, has_ids=has_ids)
    if width == 1:
        is_value = has_ids or (has_many_digits(first[0]) and rank(first[0]) is None)
        return Layout(0, 1, None if is_value else first)
    if not has_ids:
        if any(map(has_long_number, first)):
            raise intake.refused("the first line holds names of columns and an ID too: is the end of a line missing?")
        columns = {index: _cells(sample[1:], index) for index in range(width)}
        return Layout(best_column(first, columns, intake.source), width, first)
    strong = [index for index in range(width) if _holds_ids(_cells(sample, index))]
    if len(strong) == 1:
        return Layout(strong[0], width, None)
    if len(sample) == 1 and all(map(find_id, filter(None, first))):
        return None
    listed = ", ".join(repr(cell[:40]) for cell in first[:20])
    raise intake.refused(
        f"has no header, for its first line holds an ID: {listed}. Which column holds the Tweet IDs? Name it by its number, "
        f"as --id-column {strong[0] + 1 if strong else 1}" + ("" if not strong else ", or --ids-format text for all")
    )


def _named_layout(first: list[str], id_column: str, intake: Intake, *, has_ids: bool) -> Layout:
    number = column_number(id_column)
    if has_ids or (number is not None and number <= len(first) and has_many_digits(first[number - 1])):
        if number is None:
            raise intake.refused(
                f"has no header, for its first line holds an ID: so no column {id_column[:40]!r}. Name the column by its "
                "number, as --id-column 1"
            )
        if number > len(first):
            raise intake.refused(f"has no column {number}, but {len(first)}")
        return Layout(number - 1, len(first), None)
    intake.report.irregular += any(map(has_long_number, first))
    return Layout(named_column(first, id_column, intake.source), len(first), first)


def _with_owners(layout: Layout | None, owner_column: str, intake: Intake) -> Layout:
    """Return the layout with the column of the owners."""
    if layout is None:
        raise intake.refused("has nothing but IDs: which column holds them? Name it, as --id-column 1")
    if layout.header is not None:
        owner = named_column(layout.header, owner_column, intake.source, option="--owner-column")
        intake.use_owner_column(layout.header[owner])
    else:
        number = column_number(owner_column)
        if number is None or number > layout.width:
            raise intake.refused(
                f"has no header, for its first line holds an ID: so no column {owner_column[:40]!r} of owners. Name it by "
                f"its number, 1 to {layout.width}, as --owner-column 1"
            )
        owner = number - 1
        intake.use_owner_column(owner_column)
    if owner == layout.column:
        raise intake.refused(f"column {owner_column!r} holds the IDs: which one holds their owners?")
    return replace(layout, owner=owner)


def _cells(rows: Iterable[Row], index: int) -> list[str]:
    return [row.cells[index] for row in rows if index < len(row.cells)]


def _holds_ids(cells: Sequence[str]) -> bool:
    ids = [find_id(cell) for cell in cells if cell.strip()]
    return bool(ids) and sum(1 for found in ids if found and is_strong(found)) > len(ids) / 2


def ids_of_rows(rows: Iterable[Row], delimiter: str, layout: Layout, intake: Intake) -> list[str]:
    """Return the IDs of rows; what is none of a row is counted."""
    values: list[str] = []
    owners: list[str] = []
    numbers: list[int] = []
    ids: list[str] = []

    def taken() -> list[str]:
        found = intake.checked(values, numbers) if layout.owner is None else intake.owned(values, owners, numbers)
        values.clear()
        owners.clear()
        numbers.clear()
        ids.extend(found)
        return found

    for row in rows:
        if row.lines:  # in its order
            taken()
        value = _value(row, delimiter, layout, intake)
        if value is not None:
            values.append(value)
            numbers.append(row.line)
            if layout.owner is not None:
                owners.append(row.cells[layout.owner])
        if row.lines:
            _look_within(row, delimiter, layout, taken(), intake)
    taken()
    return ids


def _value(row: Row, delimiter: str, layout: Layout, intake: Intake) -> str | None:
    """Return the cell of the ID, or None after the row was counted as something else."""
    cells, column, width = row.cells, layout.column, layout.width
    if column >= len(cells):
        if any(cell.strip() for cell in cells):
            intake.reject(
                row.line, delimiter.join(cells), f"has {len(cells)} cells: the ID's is the {_nth(column + 1)}"
            )
        return None
    value = cells[column]
    has_surplus = any(cell.strip() for cell in cells[width:])
    if layout.owner is not None and any(map(str.strip, cells)) and (len(cells) < width or has_surplus):
        reason = f"has {len(cells)} cells, and the first row {width}: which one is the owner?"
        intake.reject(row.line, delimiter.join(cells), reason)
        return None
    if column > 0 and (len(cells) < width or has_surplus):  # a small number may be another column's
        found = find_id(value)
        if found is None or not is_strong(found):
            reason = f"has {len(cells)} cells, and the first row {width}: is a quote missing?"
            intake.reject(row.line, delimiter.join(cells), reason)
            return None
    intake.report.irregular += len(cells) < width or has_surplus
    if not value.strip() and not any(cell.strip() for cell in cells):
        return None  # a row of empty cells, as spreadsheets append them
    if layout.header is not None and find_id(value) is None and [cell.strip() for cell in cells] == layout.header:
        intake.report.notices += 1  # of files that were joined
        return None
    return value


def _look_within(row: Row, delimiter: str, layout: Layout, taken: Sequence[str], intake: Intake) -> None:
    """Reject the IDs in the lines of one row that look like rows of their own: a quote was opened too many or too few.

    The cells of the first line count from the left, those of the last from the right: the others are parts of a text.
    """
    left, right = layout.column, layout.column - layout.width
    last = len(row.lines) - 1
    for offset, line in enumerate(row.lines):
        cells = line.split(delimiter)
        places = ((left,) if offset < last else ()) + ((right,) if offset > 0 else ())
        found = [find_id(cells[place]) for place in places if -len(cells) <= place < len(cells)]
        if any(tweet_id and is_strong(tweet_id) and tweet_id not in taken for tweet_id in found):
            reason = f"is within quotes that were opened in line {row.line}: is one missing?"
            intake.reject(row.line + offset, line.strip(), reason)


def _nth(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
