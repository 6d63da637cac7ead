"""Which files an output makes: its format by its suffix, one file or one for each grouping or a folder, and their names."""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engagement_async._core.tables import LONG, TableShape, check_shape
from engagement_async._export.files import check_duckdb_path, check_outside_jobs, is_stream
from engagement_async.errors import UsageError

__all__ = [
    "ARROW_FORMATS",
    "FORMATS",
    "GROUPING",
    "OUTCOMES",
    "SHEET_NAME_MAX",
    "TABLE_FORMATS",
    "OutputFormat",
    "TableLayout",
    "format_of",
    "utf16_length",
]

FORMATS: Final = ("json", "jsonl", "csv", "tsv", "parquet", "arrow", "duckdb", "xlsx")
TABLE_FORMATS: Final = ("jsonl", "csv", "tsv", "parquet", "arrow")
"""Formats that hold one table a file."""
ARROW_FORMATS: Final = ("parquet", "arrow", "duckdb")
"""Formats that are written from Arrow tables."""
TEXT_FORMATS: Final = ("json", "jsonl", "csv", "tsv")
"""Formats that may be compressed as a whole."""
GROUPING: Final = "{grouping}"
"""In a file's name: the place of the grouping's name."""
OUTCOMES: Final = "outcomes"
"""The table of IDs without all their values, where one file holds all tables."""

_SUFFIXES: Final = {
    "csv": "csv",
    "tsv": "tsv",
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "duckdb": "duckdb",
    "ddb": "duckdb",
    "db": "duckdb",
    "xlsx": "xlsx",
}
_COMPRESSIONS: Final = ("gz", "zst")
_OTHER_COMPRESSIONS: Final = ("bz2", "xz", "zip", "lz4", "br", "7z", "z", "zstd", "gzip", "tgz", "tar")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://?")
_COPIES: Final = {
    "s3": "`aws s3 cp`",
    "s3a": "`aws s3 cp`",
    "gs": "`gcloud storage cp`",
    "az": "`az storage blob upload`",
}
SHEET_NAME_MAX: Final = 31
"""UTF-16 units that the name of a sheet has at most, which is how Excel counts."""
_NO_SHEET = re.compile(r"[\[\]:*?/\\]|^'|'$")


class OutputFormat(NamedTuple):
    """A format of `FORMATS`, compressed (`gz`, `zst`) or as it is."""

    name: str
    compression: str | None = None

    @property
    def suffix(self) -> str:
        """The suffix of its files."""
        return f".{self.name}.{self.compression}" if self.compression else f".{self.name}"

    @property
    def is_text(self) -> bool:
        """Whether a terminal can show it."""
        return self.name in TEXT_FORMATS and self.compression is None


def format_of(path: str, named: str | None = None, *, default: str | None = None) -> OutputFormat:
    """Return the format that is named, else the one of the path's suffix, else the default of what has no suffix.

    A default is for streams and folders alone: a file must be what its name says. Raise `UsageError` for an unknown one.
    """
    _refuse_address(path)
    named = _SUFFIXES.get(named or "", named)
    suffixes = [suffix.removeprefix(".").lower() for suffix in Path(path).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in _COMPRESSIONS else None
    suffix = suffixes[-1] if suffixes else ""
    if suffix in _OTHER_COMPRESSIONS:
        raise UsageError(f"{path}: .{suffix} is not written: take one of .gz and .zst, as x.csv.gz")
    found = named or _SUFFIXES.get(suffix) or (None if compression or suffix else default)
    if found not in FORMATS:
        raise UsageError(
            f"{path}: which format? Let the name end in {_listed(f'.{known}' for known in FORMATS)} (text also with .gz or "
            ".zst), or name the format with --format"
        )
    if compression and found not in TEXT_FORMATS:
        raise UsageError(f"{path}: {found} is compressed already: leave out .{compression}")
    _need_libraries(found, compression)
    return OutputFormat(found, compression)


class TableLayout:
    """The files for the tables of one query. Raise `UsageError` where there cannot be such.

    Args:
        output: A file; `-`, the standard output; or a folder: one that exists, or a path that ends in `/`.
        format_: The format, if not the one of the suffix.
        groupings: The query's: name to `group_by`.
        shape: What the tables have beside their keys.
        excel: Whether CSV is written so that Excel keeps IDs.
        stream_format: The format for streams that are given none.
    """

    def __init__(
        self,
        output: str,
        format_: str | None,
        groupings: Mapping[str, Sequence[str]],
        *,
        shape: TableShape = LONG,
        excel: bool = False,
        stream_format: str | None = None,
    ) -> None:
        self.output = output
        _refuse_address(output)
        self.is_folder = output.endswith("/") or os.path.isdir(output)
        self.is_stream = output == "-" or (not self.is_folder and is_stream(output))
        if self.is_folder:
            self.format = format_of(_known_suffixes(output), format_, default="parquet")
        else:
            self.format = format_of(output, format_, default=stream_format if self.is_stream else None)
        self.groupings = tuple(groupings)
        self.shape = shape
        self.excel = excel
        if self.is_folder and self.format.name not in TABLE_FORMATS:
            raise UsageError(f"a folder holds {_listed(TABLE_FORMATS)}: name a file for {self.format.name}")
        self._check_shape(groupings)
        self._check_stream()
        self._check_names()

    @property
    def has_all_in_one(self) -> bool:
        """Whether one file holds all tables."""
        return self.format.name not in TABLE_FORMATS

    def file_of(self, grouping: str) -> str:
        """Return the path of one grouping's table."""
        if self.is_folder:
            return os.path.join(self.output, f"{grouping}{self.format.suffix}")
        return self.output.replace(GROUPING, grouping)

    def part_of(self, grouping: str, part: int) -> str:
        """Return the path of one part of a grouping's table, in a folder of parts."""
        return os.path.join(self.output, f"{grouping}-{part:05}{self.format.suffix}")

    def files(self) -> list[str]:
        """Return the paths of all files, of which no grouping has parts."""
        if self.has_all_in_one:
            return [self.output]
        return [self.file_of(name) for name in self.groupings]

    def check_folder(self) -> None:
        """Raise `UsageError` where there can be no folder, or must not be one."""
        folder = Path(self.output)
        check_outside_jobs(folder)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file: name a folder")
        if not folder.is_dir() and not folder.parent.is_dir():
            raise UsageError(f"{folder}: there is no folder {folder.parent}: make it first")

    def make_folder(self, parts: Iterable[tuple[str, int]] = ()) -> bool:
        """Make the folder, and return whether it was not there.

        Parts of another export beside these would be read with them: `UsageError`.
        """
        self.check_folder()
        folder = Path(self.output)
        is_new = not folder.is_dir()
        folder.mkdir(exist_ok=True)
        ours = {os.path.basename(self.part_of(*part)) for part in parts}
        pattern = re.compile(rf"(?:{'|'.join(map(re.escape, self.groupings))})-\d{{5,}}(?:\.\w+)+")
        for entry in sorted(folder.iterdir()) if ours else ():
            if pattern.fullmatch(entry.name) and entry.name not in ours:
                raise UsageError(f"{folder}: holds {entry.name}, a part of another export: name an empty folder")
        return is_new

    def _check_shape(self, groupings: Mapping[str, Sequence[str]]) -> None:
        if self.excel and self.format.name not in ("csv", "tsv"):
            raise UsageError(f"--excel is for csv and tsv; {self.format.name} needs no such care")
        if self.format.name == "json" and (self.shape.metrics or self.shape.has_observed_at):
            raise UsageError("json is the API's own format, which is neither wide nor has observed_at: take jsonl")
        for group_by in groupings.values():
            check_shape(group_by, self.shape)

    def _check_stream(self) -> None:
        if self.is_stream and self.format.name == "duckdb":
            raise UsageError(f"{self.output}: duckdb needs a file that can be read too: name one with --output")
        if self.format.name == "duckdb":
            check_duckdb_path(self.output)
        if self.output == "-" and not self.format.is_text and os.isatty(1):
            raise UsageError(f"{self.format.suffix[1:]} is no text for a terminal: name a file with --output")

    def _check_names(self) -> None:
        names, kind = self.groupings, self.format.name
        is_each = self.is_folder or GROUPING in self.output
        if self.has_all_in_one:
            self._check_names_in_one()
        elif len(names) > 1 and not is_each:
            raise UsageError(
                f"{kind} holds one grouping, and there are {len(names)}: write {GROUPING} into --output, as "
                f"{GROUPING}{self.format.suffix}, for a file of each; or take a folder, xlsx, duckdb or json"
            )
        if is_each or (self.has_all_in_one and kind != "json"):
            self._check_case(are_files=is_each)
        bad = [name for name in names if is_each and (name != os.path.basename(name) or name[0] == ".")]
        if bad:
            raise UsageError(f"the grouping {bad[0]!r} cannot be part of a file's name: take duckdb or json")

    def _check_case(self, *, are_files: bool) -> None:
        """Raise `UsageError` for names that are one to a workbook, a database, or the file system."""
        known: dict[str, str] = {}
        for name in self.groupings:
            other = known.setdefault(unicodedata.normalize("NFC", name.casefold()), name)
            if other != name and (not are_files or _ignores_case(Path(self.output))):
                raise UsageError(
                    f"the groupings {other!r} and {name!r} differ only in case, and would be one table of {self.output}: "
                    "name one of them otherwise, or take json"
                )

    def _check_names_in_one(self) -> None:
        names, kind = self.groupings, self.format.name
        if GROUPING in self.output:
            raise UsageError(f"{kind} holds all groupings in one file: leave {GROUPING} out of --output")
        if kind == "json":
            return
        if OUTCOMES in (name.casefold() for name in names):
            raise UsageError(f"a grouping is called {OUTCOMES}, as is a table of {kind}: name it otherwise")
        for name in names if kind == "xlsx" else ():
            if utf16_length(name) > SHEET_NAME_MAX or _NO_SHEET.search(name) or name.lower() == "history":
                raise UsageError(
                    f"the grouping {name!r} is no name of a sheet, which has at most {SHEET_NAME_MAX} characters "
                    r"(an emoji is two) and none of []:*?/\: name it otherwise"
                )


def utf16_length(text: str) -> int:
    """Return the length of a text as Excel counts it."""
    return len(text) + sum(character > "\uffff" for character in text)


def _ignores_case(path: Path) -> bool:
    """Return whether names that differ only in case are one file where this path is, as on macOS and Windows."""
    folder = next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())
    try:
        with tempfile.NamedTemporaryFile(prefix=".case-", dir=folder) as file:
            return os.path.exists(folder / Path(file.name).name.swapcase())
    except OSError:
        return True


def _refuse_address(path: str) -> None:
    """Raise `UsageError` for what is no path, as `s3://bucket/x`."""
    address = _ADDRESS.match(path)
    if address is not None:
        copy = _COPIES.get(address[1].lower(), "the tool of that store")
        raise UsageError(f"{path}: is no path of this machine: write a file or a folder here, and copy it with {copy}")


def _known_suffixes(folder: str) -> str:
    """Return a folder's name if it says a format, as `may.parquet/` does, otherwise nothing."""
    name = os.path.basename(folder.rstrip("/"))
    return name if Path(name.removesuffix(".gz").removesuffix(".zst")).suffix.lower()[1:] in _SUFFIXES else ""


def _need_libraries(name: str, compression: str | None) -> None:
    """Raise `UsageError` if a library is missing: before the first request, not after the last."""
    if name in ("parquet", "arrow", "duckdb"):
        _need("pyarrow", f"{name} needs pyarrow", "arrow")
    if name == "duckdb":
        _need("duckdb", "duckdb needs its library", "duckdb")
    if name == "xlsx":
        _need("xlsxwriter", "xlsx needs XlsxWriter", "xlsx")
    if compression == "zst":
        _need("zstandard", ".zst needs zstandard", "cli")


def _need(module: str, says: str, extra: str) -> None:
    try:
        __import__(module)
    except ImportError:
        raise UsageError(f"{says}: pip install 'engagement-async[{extra}]'") from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
