"""Tweet IDs out of CSV and TSV: one column of it, with or without a header. Lazy, line numbers kept.

A block of lines without a quote is cut by `str.split`; others go through `csv`, line by line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import NamedTuple

from engagement_async._core.batches import COMMON_ID
from engagement_async._ids.formats import Format, delimiter_of, is_sep_line
from engagement_async._ids.lines import Block
from engagement_async._ids.report import Intake
from engagement_async._ids.rows import Layout, Row, choose_layout, ids_of_rows
from engagement_async._ids.text import text_ids
from engagement_async._ids.values import find_id, plain_lines, plain_values
from engagement_async.errors import UsageError

__all__ = ["delimited_ids"]

_SAMPLE_ROWS = 50
_CHUNK_ROWS = 16 * 1024
_RECORD_BYTES = 4 * 1024 * 1024
"""The largest row: a cell of several lines is as long as the text of it, and a quote that is never closed as the file."""


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
    intake.note_header(block.partition(b"\n")[0].decode("utf-8", "replace").split(delimiter))
    table = _Table(chain(((number + skipped, block),), source) if block else source, delimiter, intake)
    sample = _some(table, _SAMPLE_ROWS)
    if not sample:
        return
    intake.note_header(sample[0].cells)  # whose names may have line breaks
    first_line = delimiter.join(sample[0].cells)
    if not any(map(find_id, sample[0].cells)):  # a header: reports show a part of it
        intake.check_no_credentials(first_line)
    try:
        layout = choose_layout(sample, id_column, intake, owner_column=owner_column)
    except UsageError:  # it shows the line
        intake.check_may_show(first_line)
        raise
    if layout is None:  # rows of IDs and nothing else
        intake.report.format = Format.TEXT
        yield from text_ids(((row.line, (delimiter.join(row.cells) + "\n").encode()) for row in sample), intake)
        return
    intake.use_column(layout.name)
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


# --- the rows -----------------------------------------------------------------------------------------------------


class _Patterns(NamedTuple):
    """What every line of a regular table matches, its ID as the one group."""

    without_quotes: re.Pattern[str]
    with_quotes: re.Pattern[str]
    with_quoted_ids: re.Pattern[str]

    def of(self, *, with_quotes: bool) -> tuple[re.Pattern[str], ...]:
        """Return those to try on a block."""
        return self[1:] if with_quotes else self[:1]


class _Table:
    """The rows of blocks of lines: those without a quote as lines, the others as cells."""

    def __init__(self, blocks: Iterable[Block], delimiter: str, intake: Intake) -> None:
        self.delimiter = delimiter
        self._blocks = iter(blocks)
        self._intake = intake
        self._block = b""
        """The block, while none of its lines was taken."""
        self._is_split = True
        self._lines: list[str] = []
        """Those of the block, once it is split."""
        self._at = 0
        self._number = 1

    def ids(self) -> list[str] | None:
        """Return the lines of a whole block, if each is an ID and nothing else."""
        ids = plain_lines(self._block) if self._block else None
        if ids is not None:
            self._take_all(len(ids))
        return ids

    def matched(self, patterns: _Patterns) -> list[str] | None:
        """Return the IDs of a whole block, if each of its lines matches the same pattern."""
        if not self._block:
            return None
        text = self._block.decode("utf-8", "replace")
        with_quotes = b'"' in self._block
        pattern = next((each for each in patterns.of(with_quotes=with_quotes) if each.match(text)), None)
        ids: list[str] = [] if pattern is None else pattern.findall(text)
        if len(ids) != self._block.count(b"\n"):
            return None
        self._take_all(len(ids))
        return ids

    def plain(self) -> tuple[int, list[str]] | None:
        """Return the lines to the end of the block, with the number of the first, if none of them holds a quote."""
        lines = self._rest()
        has_quotes = b'"' in self._block if self._block else any('"' in line for line in lines)
        return None if has_quotes else (self._take_all(), lines)

    def column(self, layout: Layout) -> list[str] | None:
        """Return the cells of the column to the end of the block, if every line is a regular row with an ID."""
        lines = self._rest()
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
        lines = self._rest()
        try:
            with _large_cells():
                rows = list(csv.reader(lines, delimiter=self.delimiter, strict=True))
        except csv.Error:
            return None
        return None if len(rows) != len(lines) else (self._take_all(), rows)

    def _take_all(self, count: int | None = None) -> int:
        """Take the lines to the end of the block, and return the number of the first. Where it is split they are counted."""
        count = len(self._lines) - self._at if count is None else count
        number, self._number = self._number, self._number + count
        self._block, self._lines, self._at, self._is_split = b"", [], 0, True
        return number

    def _split(self) -> None:
        if not self._is_split:
            self._lines, self._at = self._block.decode("utf-8", "replace").split("\n")[:-1], 0
            self._is_split = True

    def _rest(self) -> list[str]:
        """Return the lines to the end of the block."""
        self._split()
        return self._lines[self._at :] if self._at else self._lines

    def rows(self) -> Iterator[Row]:
        """Yield the rows one by one, those of a block with quotes at least to its end."""
        while self.fill():
            self._split()
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
        while self._is_split and self._at == len(self._lines):
            block = next(self._blocks, None)
            if block is None:
                return False
            self._number, self._block = block
            self._is_split = False
        return True

    def _next(self) -> str:
        self._split()
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
    patterns = _patterns(table.delimiter, layout)
    while table.fill():
        if layout.width == 1 and (alone := table.ids()) is not None:
            ids = alone
        elif patterns is not None and (matched := table.matched(patterns)) is not None:
            ids = matched
        elif (lines := table.plain()) is not None:
            ids = _of_lines(*lines, table.delimiter, layout, intake)
        elif layout.owner is None and (values := table.column(layout)) is not None:
            ids = values
        elif (block := table.block()) is not None:
            ids = _of_cells(*block, table.delimiter, layout, intake)
        else:
            ids = ids_of_rows(_some(table, _CHUNK_ROWS), table.delimiter, layout, intake)
        if ids:
            yield ids


def _patterns(delimiter: str, layout: Layout) -> _Patterns | None:
    """Return what every line of a regular table matches; None where cells are looked at one by one."""
    if layout.width == 1 or layout.owner is not None:
        return None
    separator = re.escape(delimiter)
    plain = rf"[^{separator}\n]*+"
    quoted = rf'(?:"[^"\r\n]*+(?:""[^"\r\n]*+)*+"|[^"{separator}\r\n]*+)'

    def pattern(cell: str, id_cell: str) -> re.Pattern[str]:
        cells = [cell] * layout.width
        cells[layout.column] = id_cell
        return re.compile(rf"^{separator.join(cells)}\r?$", re.MULTILINE | re.ASCII)

    return _Patterns(
        pattern(plain, f"({COMMON_ID})"), pattern(quoted, f"({COMMON_ID})"), pattern(quoted, f'"({COMMON_ID})"')
    )


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
