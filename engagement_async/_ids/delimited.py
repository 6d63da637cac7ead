"""Tweet IDs out of CSV and TSV: one column of it, with or without a header. Lazy, line numbers kept.

A block of lines without a quote is cut by `str.split`; others go through `csv`, line by line. A quote that is never closed
swallows the rows behind it, so rows are looked for within cells of several lines.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import NamedTuple

from engagement_async._ids.columns import best_column, column_number, is_known_name, named_column, rank
from engagement_async._ids.formats import Format, delimiter_of, is_sep_line
from engagement_async._ids.lines import Block
from engagement_async._ids.report import Intake
from engagement_async._ids.text import text_ids
from engagement_async._ids.values import find_id, has_long_number, has_many_digits, is_strong, plain_lines, plain_values

__all__ = ["Layout", "Row", "choose_layout", "delimited_ids", "ids_of_rows"]

_SAMPLE_ROWS = 50
_CHUNK_ROWS = 16 * 1024
_RECORD_BYTES = 4 * 1024 * 1024
"""The largest row: a cell of several lines is as long as the text of it, and a quote that is never closed as the file."""


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


def delimited_ids(
    blocks: Iterable[Block],
    intake: Intake,
    *,
    id_column: str | None,
    hint: Format | None,
    owner_column: str | None = None,
) -> Iterator[list[str]]:
    """Yield the IDs of one column, in chunks, and put their owners into `intake.owners` if `owner_column` names theirs.

    Raise `UsageError` if it is not clear which column it is.
    """
    source = iter(blocks)
    first = next(source, None)
    if first is None:
        return
    number, block = first
    skipped, delimiter = _delimiter(block, hint)
    block = block.split(b"\n", skipped)[skipped]
    table = _Table(chain(((number + skipped, block),), source) if block else source, delimiter, intake)
    sample = _some(table, _SAMPLE_ROWS)
    if not sample:
        return
    layout = choose_layout(sample, id_column, intake, owner_column=owner_column)
    if layout is None:  # rows of IDs and nothing else
        intake.report.format = Format.TEXT
        yield from text_ids(((row.line, (delimiter.join(row.cells) + "\n").encode()) for row in sample), intake)
        return
    intake.report.column = layout.name
    yield from _chunks(table, sample[layout.header is not None :], layout, intake)


def _delimiter(block: bytes, hint: Format | None) -> tuple[int, str]:
    """Return how many lines come before the table, and what separates its cells."""
    for skipped, raw in enumerate(block.split(b"\n")):
        line = raw.decode("utf-8", "replace").rstrip("\r")
        if is_sep_line(line):
            return skipped + 1, delimiter_of(line)
        if line.strip():
            return skipped, "\t" if hint is Format.TSV and "\t" in line else delimiter_of(line)
    return 0, ","


# --- the layout ---------------------------------------------------------------------------------------------------


def choose_layout(
    sample: list[Row], id_column: str | None, intake: Intake, *, owner_column: str | None = None
) -> Layout | None:
    """Return where the IDs of a table, and their owners, are by its first rows, or None if every cell of the only row is
    an ID.

    Raise `UsageError` if that is not clear.
    """
    layout = _id_layout(sample, id_column, intake)
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
        intake.report.owner_column = layout.header[owner]
    else:
        number = column_number(owner_column)
        if number is None or number > layout.width:
            raise intake.refused(
                f"has no header, for its first line holds an ID: so no column {owner_column[:40]!r} of owners. Name it by "
                f"its number, 1 to {layout.width}, as --owner-column 1"
            )
        owner = number - 1
        intake.report.owner_column = owner_column
    if owner == layout.column:
        raise intake.refused(f"column {owner_column!r} holds the IDs: which one holds their owners?")
    return replace(layout, owner=owner)


def _cells(rows: Iterable[Row], index: int) -> list[str]:
    return [row.cells[index] for row in rows if index < len(row.cells)]


def _holds_ids(cells: Sequence[str]) -> bool:
    ids = [find_id(cell) for cell in cells if cell.strip()]
    return bool(ids) and sum(1 for found in ids if found and is_strong(found)) > len(ids) / 2


# --- the rows -----------------------------------------------------------------------------------------------------


class _Table:
    """The rows of blocks of lines: those without a quote as lines, the others as cells."""

    def __init__(self, blocks: Iterable[Block], delimiter: str, intake: Intake) -> None:
        self.delimiter = delimiter
        self._blocks = iter(blocks)
        self._intake = intake
        self._block = b""
        """The block, while none of its lines was taken."""
        self._lines: list[str] = []
        self._at = 0
        self._number = 1

    def ids(self) -> list[str] | None:
        """Return the lines of a whole block, if each is an ID and nothing else."""
        ids = plain_lines(self._block) if self._block else None
        if ids is not None:
            self._take_all()
        return ids

    def plain(self) -> tuple[int, list[str]] | None:
        """Return the lines to the end of the block, with the number of the first, if none of them holds a quote."""
        lines = self._lines[self._at :]
        has_quotes = b'"' in self._block if self._block else any('"' in line for line in lines)
        return None if has_quotes else (self._take_all(), lines)

    def column(self, layout: Layout) -> list[str] | None:
        """Return the cells of the column to the end of the block, if every line is a regular row with an ID."""
        lines = self._lines[self._at :]
        place, width = layout.column, layout.width
        try:
            with _large_cells():
                reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
                values = [cells[place] for cells in reader if len(cells) == width]
        except csv.Error:
            return None
        ids = plain_values(values) if len(values) == len(lines) else None
        if ids is not None:
            self._take_all()
        return ids

    def block(self) -> tuple[int, list[list[str]]] | None:
        """Return the rows to the end of the block, with the number of the first, if each has a line to itself."""
        lines = self._lines[self._at :]
        try:
            with _large_cells():
                rows = list(csv.reader(lines, delimiter=self.delimiter, strict=True))
        except csv.Error:
            return None
        return None if len(rows) != len(lines) else (self._take_all(), rows)

    def _take_all(self) -> int:
        number, self._number = self._number, self._number + len(self._lines) - self._at
        self._block = b""
        self._at = len(self._lines)
        return number

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one, those of a block with quotes at least to its end."""
        while self.fill():
            taken: list[str] = []
            reader = csv.reader(self._taking(taken), delimiter=self.delimiter, strict=True)
            while self._at < len(self._lines):
                line, taken[:] = self._number, []
                if '"' not in self._lines[self._at]:
                    text = self._next()
                    if text and not text.isspace():
                        yield Row(line, text.split(self.delimiter), ())
                    continue
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    if len(taken) > 1:
                        raise self._intake.refused(
                            f"a quote is opened here, and not closed well: {error}", line
                        ) from None
                    self._intake.reject(line, taken[0].strip(), f"is not CSV: {error}")
                    continue
                if cells:
                    yield Row(line, cells, tuple(taken) if len(taken) > 1 else ())

    def fill(self) -> bool:
        """Read the next block if all lines were taken; return whether there is a line."""
        while self._at == len(self._lines):
            block = next(self._blocks, None)
            if block is None:
                return False
            self._number, self._block = block
            self._lines, self._at = self._block.decode("utf-8", "replace").split("\n")[:-1], 0
        return True

    def _next(self) -> str:
        line = self._lines[self._at]
        self._block = b""
        self._at += 1
        self._number += 1
        return line

    def _taking(self, taken: list[str]) -> Iterator[str]:
        """Yield lines for the reader, and note them; a row that grows beyond all measure is one with an open quote."""
        size = 0
        while self.fill():
            line = self._next()
            size = size + len(line) if taken else len(line)
            if size > _RECORD_BYTES:
                raise csv.Error(f"the row has over {_RECORD_BYTES:,} characters")
            taken.append(line)
            yield line + "\n"
        taken.append("")  # the end of the file within a row


def _some(table: _Table, count: int) -> list[Row]:
    with _large_cells():
        return list(islice(table.rows(), count))


@contextmanager
def _large_cells() -> Iterator[None]:
    """Let cells be as large as rows; the limit is the whole process's."""
    limit = csv.field_size_limit(2 * _RECORD_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


# --- the column ---------------------------------------------------------------------------------------------------


def _chunks(table: _Table, sample: list[Row], layout: Layout, intake: Intake) -> Iterator[list[str]]:
    yield from filter(None, (ids_of_rows(sample, table.delimiter, layout, intake),))
    while table.fill():
        if layout.width == 1 and (alone := table.ids()) is not None:
            ids = alone
        elif (lines := table.plain()) is not None:
            ids = _of_lines(*lines, table.delimiter, layout, intake)
        elif (values := table.column(layout)) is not None:
            ids = values
        elif (block := table.block()) is not None:
            ids = _of_cells(*block, table.delimiter, layout, intake)
        else:
            ids = ids_of_rows(_some(table, _CHUNK_ROWS), table.delimiter, layout, intake)
        if ids:
            yield ids


def _of_lines(number: int, lines: list[str], delimiter: str, layout: Layout, intake: Intake) -> list[str]:
    """Return the IDs of lines without quotes."""
    if layout.column == 0 and layout.owner is None:  # whatever the other cells are
        values = lines if layout.width == 1 else [line.partition(delimiter)[0] for line in lines]
        ids = plain_values(values)
        if ids is not None and {line.count(delimiter) for line in lines} == {layout.width - 1}:
            return ids
    return _of_cells(number, [line.split(delimiter) for line in lines], delimiter, layout, intake)


def _of_cells(number: int, rows: list[list[str]], delimiter: str, layout: Layout, intake: Intake) -> list[str]:
    """Return the IDs of rows that have a line each."""
    if {*map(len, rows)} == {layout.width}:
        column, owner = layout.column, layout.owner
        values = [cells[column] for cells in rows]
        if owner is not None:
            return intake.owned(values, [cells[owner] for cells in rows], range(number, number + len(rows)))
        ids = plain_values(values)
        if ids is not None:
            return ids
    return ids_of_rows((Row(line, cells, ()) for line, cells in enumerate(rows, number)), delimiter, layout, intake)


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
