"""ZIP archives: the parts that may hold Tweet IDs, and their bytes. X's own archive is one."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from engagement_async._ids.formats import suffix_format
from engagement_async.errors import UsageError

__all__ = ["is_workbook", "is_zip", "open_zip", "part_pieces", "parts_of"]

_READ_BYTES = 256 * 1024
_LISTED = 8
_OF_ARCHIVE = re.compile(r"(?:.*/)?data/tweets?(?:-part[0-9]+)?\.js")
"""A person's Tweets in the archive that X hands out; beside them lie likes, messages and much else."""
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)
"""What zipfile raises for files that are cut, damaged, encrypted, or packed by a method that it does not know."""


def is_zip(head: bytes) -> bool:
    """Return whether a file begins as a ZIP archive does, an empty one too."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def open_zip(file: BinaryIO, source: str) -> zipfile.ZipFile:
    """Return the archive in a file that can be read from its end."""
    try:
        return zipfile.ZipFile(file)
    except _BROKEN as error:
        raise UsageError(f"{source}: the zip file is cut short or corrupt ({error}): fetch it again") from None


def is_workbook(archive: zipfile.ZipFile) -> bool:
    """Return whether an archive is an Excel workbook."""
    return "xl/workbook.xml" in archive.namelist()


def parts_of(archive: zipfile.ZipFile, source: str) -> list[zipfile.ZipInfo]:
    """Return the files that hold IDs, in order of their names: the Tweets of X's archive, the only file, or all tables.

    Raise `UsageError` if that is not clear.
    """
    names = {info.filename: info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)}
    found = sorted(filter(_OF_ARCHIVE.fullmatch, names)) or sorted(names)
    if "mimetype" in names and "content.xml" in names:
        raise UsageError(f"{source}: is a spreadsheet: format its ID column as text, and save it as CSV")
    if not found:
        raise UsageError(f"{source}: is a ZIP archive without a file")
    if len(found) > 1 and not all(suffix_format(name) or name.lower().endswith(".txt") for name in found):
        listed = ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")
        raise UsageError(f"{source}: which of its files hold IDs? Unpack it, and give those: {listed}")
    return [names[name] for name in found]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def part_pieces(archive: zipfile.ZipFile, part: zipfile.ZipInfo, source: str) -> Iterator[bytes]:
    """Yield the bytes of one file; its checksum is compared at the end."""
    try:
        with archive.open(part) as file:
            while piece := file.read(_READ_BYTES):
                yield piece
    except _BROKEN as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{source}: cannot be unpacked ({error}): unpack it yourself, or fetch it again") from None
