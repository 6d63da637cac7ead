"""Which files an export makes: its format, one file or one for each grouping or a folder of parts, and their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from engagement_async.errors import UsageError

__all__ = ["FORMATS", "GROUPING", "TABLE_FORMATS", "TableLayout", "format_of", "need_libraries"]

FORMATS: Final = ("jsonl", "csv", "parquet", "duckdb", "json")
TABLE_FORMATS: Final = ("jsonl", "csv", "parquet")
"""Formats that hold one table a file."""
GROUPING: Final = "{grouping}"
"""In a file's name: the place of the grouping's name."""
_ALIASES = {"ndjson": "jsonl", "pq": "parquet", "db": "duckdb", "ddb": "duckdb"}


class TableLayout:
    """The files for the tables of one query. Raise `UsageError` where the format cannot hold its groupings.

    `output` is a file, or a folder of parts: an existing folder, or a path that ends in `/`.
    """

    def __init__(self, output: str, format_: str | None, groupings: Sequence[str]) -> None:
        self.output = output
        self.is_parts = output.endswith("/") or os.path.isdir(output)
        self.format = format_of(output, format_ or ("parquet" if self.is_parts else None))
        self.groupings = tuple(groupings)
        if self.is_parts and self.format not in TABLE_FORMATS:
            raise UsageError(f"parts are {_listed(TABLE_FORMATS)}: name a file for {self.format}")
        if output == "-" and self.format in ("parquet", "duckdb"):
            raise UsageError(f"{self.format} needs a file: name it with --output")
        self._check_names()

    def file_of(self, grouping: str) -> str:
        """Return the path of one grouping's table."""
        return self.output.replace(GROUPING, grouping)

    def part_of(self, grouping: str, part: int) -> str:
        """Return the path of one part of a grouping's table."""
        return os.path.join(self.output, f"{grouping}-{part:05}.{self.format}")

    def check_folder(self) -> None:
        """Raise `UsageError` where there can be no folder of parts."""
        folder = Path(self.output)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file: name a folder for the parts")
        if not folder.is_dir() and not folder.parent.is_dir():
            raise UsageError(f"{folder}: there is no folder {folder.parent}: make it first")

    def make_folder(self, parts: Iterable[tuple[str, int]]) -> None:
        """Make the folder of these parts. Parts of another export beside them would be read with them: `UsageError`."""
        self.check_folder()
        folder = Path(self.output)
        folder.mkdir(exist_ok=True)
        ours = {os.path.basename(self.part_of(*part)) for part in parts}
        pattern = re.compile(rf"(?:{'|'.join(map(re.escape, self.groupings))})-\d{{5,}}\.\w+")
        for entry in sorted(folder.iterdir()):
            if pattern.fullmatch(entry.name) and entry.name not in ours:
                raise UsageError(f"{folder}: holds {entry.name}, a part of another export: name an empty folder")

    def _check_names(self) -> None:
        names = self.groupings
        is_each = self.is_parts or GROUPING in self.output
        if self.format not in TABLE_FORMATS:
            if GROUPING in self.output:
                raise UsageError(f"{self.format} holds all groupings in one file: leave {GROUPING} out of --output")
            if self.format == "duckdb" and "outcomes" in (name.lower() for name in names):
                raise UsageError("a grouping is called outcomes, as is a table of the database: export it otherwise")
        elif len(names) > 1 and not is_each:
            raise UsageError(
                f"{self.format} holds one grouping, and there are {len(names)}: write {GROUPING} into --output, as "
                f"{GROUPING}.{self.format}, for a file of each; or take a folder, duckdb or json"
            )
        bad = [name for name in names if is_each and (name != os.path.basename(name) or name[0] == ".")]
        if bad:
            raise UsageError(f"the grouping {bad[0]!r} cannot be part of a file's name: export duckdb or json")


def format_of(path: str, named: str | None = None) -> str:
    """Return the format that is named, else the one of the path's suffix; `UsageError` if it is none."""
    suffix = Path(path).suffix.removeprefix(".").lower()
    found = named or _ALIASES.get(suffix, suffix)
    if found not in FORMATS:
        raise UsageError(f"{path}: which format? Name one with --format: {_listed(FORMATS)}")
    return found


def need_libraries(formats: Iterable[str]) -> None:
    """Raise `UsageError` if a library is missing: before the first byte, not after the last."""
    needed = frozenset(formats)
    if needed & {"parquet", "duckdb"}:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError("Parquet and DuckDB need pyarrow: pip install 'engagement-async[arrow]'") from None
    if "duckdb" in needed:
        try:
            import duckdb  # noqa: F401
        except ImportError:
            raise UsageError("DuckDB needs its library: pip install 'engagement-async[duckdb]'") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
