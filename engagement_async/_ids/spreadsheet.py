"""Tweet IDs out of Excel workbooks: one column of each sheet that has one. Row by row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

from engagement_async._ids.report import Intake
from engagement_async._ids.rows import Layout, Row, choose_layout, ids_of_rows
from engagement_async.errors import UsageError

__all__ = ["spreadsheet_ids"]

_SAMPLE_ROWS = 50
_CHUNK_ROWS = 4096


def spreadsheet_ids(
    file: BinaryIO, intake: Intake, *, id_column: str | None, owner_column: str | None = None
) -> Iterator[list[str]]:
    """Yield the IDs of all sheets that have a column of them; of the others, count a notice each.

    Their owners go to `intake.owners` if `owner_column` names the column of these.

    Raise `UsageError` if no sheet has one. Numbers in cells have 15 digits: IDs must be formatted as text.
    """
    try:
        import openpyxl
    except ImportError:
        raise intake.refused(
            "Excel workbooks need a library: pip install 'engagement-async[xlsx]'; or save it as CSV, its ID column "
            "formatted as text"
        ) from None
    try:
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheets = _sheets(workbook, intake, id_column, owner_column)
        for rows, layout in sheets:
            rows = islice(rows, layout.header is not None, None)
            while chunk := list(islice(rows, _CHUNK_ROWS)):
                ids = ids_of_rows(chunk, "\t", layout, intake)
                if ids:
                    yield ids
    except UsageError:
        raise
    except Exception as error:
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise intake.refused(f"is not a whole Excel workbook: {text}") from None


def _sheets(
    workbook: Any, intake: Intake, id_column: str | None, owner_column: str | None
) -> list[tuple[Iterator[Row], Layout]]:
    """Return the rows of each sheet with a column of IDs, and where that is."""
    found: list[tuple[Iterator[Row], Layout]] = []
    problems: list[UsageError] = []
    for sheet in workbook.worksheets:
        rows = _rows(sheet)
        sample = list(islice(rows, _SAMPLE_ROWS))
        if not sample:
            continue
        try:
            layout = choose_layout(sample, id_column, intake, owner_column=owner_column)
        except UsageError as error:
            problems.append(error)
            continue
        if layout is None:  # a single row of IDs, which is a list
            layout = Layout(0, 1, None)
            sample = [Row(sample[0].line, [cell], ()) for cell in sample[0].cells if cell]
        found.append((chain(sample, rows), layout))
        intake.use_column(intake.report.column or layout.name)
    if problems and not found:
        raise problems[0]
    intake.report.notices += len(problems)
    return found


def _rows(sheet: Any) -> Iterator[Row]:
    """Yield the rows that are not empty."""
    for line, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        texts = [_text(cell) for cell in cells]
        if any(texts):
            yield Row(line, texts, ())


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= 2**53:
        return str(int(cell))
    return str(cell)
