"""Rows as text: CSV, TSV and JSON lines, from rows or straight from a grouping. The same rows give the same bytes. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import BinaryIO

import orjson

from engagement_async._core.groupings import Grouping, hour_at

__all__ = ["Row", "RowText", "write_csv", "write_jsonl"]

Row = Mapping[str, object]
"""Column to value: str, int, date, aware datetime or None."""

_Keys = tuple[str, ...]
_REMEMBERED = 10_000
"""Texts of cells that are kept to be used again."""
_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BOM = b"\xef\xbb\xbf"
_FORMULA = ("=", "+", "-", "@", "\t")
"""What makes a spreadsheet run a text cell: OWASP, "CSV Injection"."""


def write_jsonl(file: BinaryIO, rows: Iterable[Row]) -> None:
    """One object a row. Dates are `2015-09-14`, instants `2015-09-14T17:00:00Z`."""
    file.writelines(orjson.dumps(row, option=_JSON) for row in rows)


def write_csv(
    file: BinaryIO,
    rows: Iterable[Row],
    columns: Sequence[str],
    *,
    kind: str = "csv",
    excel: bool = False,
    has_header: bool = True,
) -> None:
    """Write CSV or TSV, with a header unless it stands there already, and `\\n` after each row.

    A text that a spreadsheet would run as a formula gets a `'` in front. With `excel`, a byte order mark says that it is
    UTF-8, and Tweet IDs are formulas of a text, `="20"`: Excel takes digits for a number, and rounds it.
    """
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, delimiter=_DELIMITERS[kind], lineterminator="\n")
    if has_header:
        if excel:
            file.write(_BOM)
        writer.writerow(columns)
    cells = _excel_cell if excel else _cell
    writer.writerows([cells(row.get(column)) for column in columns] for row in rows)
    text.flush()
    text.detach()


_LEVELS_OF = {
    "owner": ("owner",),
    "tweet_id": ("tweet.id",),
    "engagement_type": ("engagement.type",),
    "engagement_day": ("engagement.day",),
    "engagement_hour": ("engagement.day", "engagement.hour"),
    "engagement_hour_of_day": ("engagement.hour",),
}
_TEXTS: dict[str, Callable[..., str]] = {
    "owner": str,
    "tweet_id": str,
    "engagement_type": str,
    "engagement_day": lambda day: date.fromisoformat(day).isoformat(),
    "engagement_hour": lambda day, hour: hour_at(day, hour).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "engagement_hour_of_day": lambda hour: str(int(hour)),
}


class RowText:
    """Rows as lines of JSONL, CSV or TSV: the bytes of `write_jsonl` and `write_csv`, at a fraction of their cost.

    What the rows of one path have in common becomes text once; a row then costs its last key and its number.
    """

    def __init__(self, kind: str, columns: Sequence[str]) -> None:
        self._is_json = kind == "jsonl"
        self._kind = kind
        self._columns = columns[:-1]
        self._owners: Mapping[str, str] | None = None
        self._delimiter = _DELIMITERS.get(kind, ",")
        self.header = b"" if self._is_json else (self._delimiter.join(columns) + "\n").encode()
        self._known: dict[_Keys, str] = {}
        self._leaves: dict[tuple[_Keys, _Keys, _Keys], list[str]] = {}

    def lines(self, grouping: Grouping, levels: _Keys, owners: Mapping[str, str] | None = None) -> bytes:
        """All rows of a grouping, in its order. `owners` are those of Tweets, whose level is the outermost one then."""
        self._owners = owners
        if owners is not None:
            self._columns = tuple(column for column in self._columns if column != "owner")
        places = [tuple(levels.index(level) for level in _LEVELS_OF[column]) for column in self._columns]
        out: list[str] = []
        self._gather(grouping, (), len(levels) - 1, places, out)
        return "".join(out).encode()

    def _gather(
        self, grouping: Grouping, path: _Keys, depth: int, places: list[tuple[int, ...]], out: list[str]
    ) -> None:
        if len(path) < depth:
            for key, inner in grouping.items():
                self._gather(inner, (*path, key), depth, places, out)
            return
        slot = next(index for index, place in enumerate(places) if depth in place)
        cells = [
            "" if index == slot else self._cell((self._columns[index], *(path[at] for at in place)))
            for index, place in enumerate(places)
        ]
        owner = "" if self._owners is None else self._cell(("owner", self._owners[path[0]])) + self._delimiter
        before = ("{" if self._is_json else "") + owner + "".join(f"{cell}{self._delimiter}" for cell in cells[:slot])
        after = "".join(f"{self._delimiter}{cell}" for cell in cells[slot + 1 :])
        after += ',"value":' if self._is_json else self._delimiter
        end = "}\n" if self._is_json else "\n"
        at_leaf = places[slot].index(depth)
        head = (self._columns[slot], *(path[at] for at in places[slot][:at_leaf]))
        tail = tuple(path[at] for at in places[slot][at_leaf + 1 :])
        keys = tuple(grouping)
        leaves = self._leaves.get((head, keys, tail))
        if leaves is None:
            leaves = [self._cell((*head, key, *tail)) for key in keys]
            if head[0] != "tweet_id" and len(self._leaves) < _REMEMBERED:
                self._leaves[head, keys, tail] = leaves
        out += [f"{before}{leaf}{after}{value}{end}" for leaf, value in zip(leaves, grouping.values(), strict=True)]

    def _cell(self, place: _Keys) -> str:
        column, *keys = place
        known = self._known.get(place)
        if known is not None:
            return known
        text = _TEXTS[column](*keys)
        if self._is_json:
            text = f'"{column}":{text if column == "engagement_hour_of_day" else orjson.dumps(text).decode()}'
        elif column != "tweet_id":
            text = _csv_cell(text, self._kind)
        if column != "tweet_id" and len(self._known) < _REMEMBERED:
            self._known[place] = text
        return text


def _csv_cell(text: str, kind: str) -> str:
    """Return one cell, by the rules of `write_csv`: quoted where it must be, and no formula."""
    file = io.BytesIO()
    write_csv(file, [{"cell": text, "value": 0}], ["cell", "value"], kind=kind, has_header=False)
    return file.getvalue().decode()[: -len(",0\n")]


def _excel_cell(value: object) -> object:
    is_id = isinstance(value, str) and value.isascii() and value.isdigit()
    return f'="{value}"' if is_id else _cell(value)


def _cell(value: object) -> object:
    if type(value) is int:
        return value
    if isinstance(value, str):
        text = value.replace(
            "\r", " "
        )  # the csv module quotes a CR from Python 3.13 on alone; readers end the row at it
        return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not _is_number(text) else text
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _is_number(text: str) -> bool:
    digits = text[1:] if text[0] in "+-" else text
    return digits.isascii() and digits.isdigit()
