"""Tweet IDs out of files of any kind: what they are is seen by their content, and what was taken is reported.

Nothing here sends a request or prints: what is not an ID becomes a `Reject`, and the caller decides. No file is ever
completely in memory. A file that cannot be read at all is a `UsageError` that names the fix.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from engagement_async._ids.archives import HEAD_BYTES, as_utf8, peek, unpacked
from engagement_async._ids.columnar import columnar_ids
from engagement_async._ids.delimited import delimited_ids
from engagement_async._ids.formats import Format, detect, suffix_format
from engagement_async._ids.json_stream import json_ids
from engagement_async._ids.lines import line_blocks
from engagement_async._ids.report import InputReport, Intake, OnReject, Reject
from engagement_async._ids.sources import files_of, name_of, open_source
from engagement_async._ids.spreadsheet import spreadsheet_ids
from engagement_async._ids.suspicion import Suspicion
from engagement_async._ids.text import ids_of_line, text_ids
from engagement_async._ids.values import why_not_an_id
from engagement_async._ids.zips import is_workbook, is_zip, open_zip, part_pieces, parts_of
from engagement_async.errors import UsageError

__all__ = [
    "FORMATS",
    "InputReport",
    "Reject",
    "ids_of_argument",
    "read_id_chunks",
    "read_ids",
    "read_owned_chunks",
    "why_not_an_id",
]

FORMATS = tuple(each.value for each in Format)

_READ_BYTES = 512 * 1024
_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the caller said of all files."""

    id_column: str | None
    format: Format | None
    stdin: BinaryIO | None
    owner_column: str | None = None


@dataclass(frozen=True, slots=True)
class _Stream:
    """The bytes of one input, unpacked."""

    name: str
    packing: tuple[str, ...]
    pieces: Iterator[bytes]
    file: BinaryIO | None
    """The same bytes from their beginning, if they are a file as it is."""
    kind: Format | None = None
    """What they are, if that is known already."""


def read_ids(
    paths: Sequence[str | Path],
    *,
    id_column: str | None = None,
    format: str | None = None,  # noqa: A002 - the word of the command line
    on_reject: OnReject | None = None,
    on_warning: Callable[[str], object] | None = None,
    on_input: Callable[[InputReport], object] | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[str]:
    """Return the Tweet IDs of all files in order, duplicates included, one by one.

    What a file is, is seen by its content, and by its suffix where that leaves it open. Compressed files (gzip, bzip2, xz,
    zstd, zip) are recognized by their first bytes.

    Args:
        paths: Files of text, CSV, TSV, JSON, JSON lines, Parquet, Arrow or Excel; folders of such files; `-` is `stdin`.
        id_column: Name of the column or key, or the number of a column from 1. By default the best of those that are known,
            as `tweet_id`, `Post id`, `id_str` or `id`, or the only one.
        format: Format of all files, one of `FORMATS`.
        on_reject: Called with each line that is not an ID. Without it, the first such line is an error.
        on_warning: Called with a message if the IDs of a file look like something else: row numbers, or rounded numbers.
        on_input: Called at the end of each file with what was taken from it.
        stdin: Read for `-`; the process's own standard input by default.

    Raises:
        UsageError: A file cannot be read, lacks the column, or has a line that is not an ID (without `on_reject`).
    """
    chunks = read_id_chunks(
        paths,
        id_column=id_column,
        format=format,
        on_reject=on_reject,
        on_warning=on_warning,
        on_input=on_input,
        stdin=stdin,
    )
    return chain.from_iterable(chunks)


def read_id_chunks(
    paths: Sequence[str | Path],
    *,
    id_column: str | None = None,
    format: str | None = None,  # noqa: A002 - the word of the command line
    on_reject: OnReject | None = None,
    on_warning: Callable[[str], object] | None = None,
    on_input: Callable[[InputReport], object] | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[list[str]]:
    """Return the Tweet IDs of all files in order, in lists of up to about 30,000: millions per second from text.

    As `read_ids`.
    """
    wishes = _Wishes(id_column, _checked_format(format, id_column), stdin)
    for intake, chunks in _inputs(paths, wishes, on_reject, on_input):
        yield from _watched(chunks, intake, on_warning)


def read_owned_chunks(
    paths: Sequence[str | Path],
    *,
    owner_column: str,
    id_column: str | None = None,
    format: str | None = None,  # noqa: A002 - the word of the command line
    on_reject: OnReject | None = None,
    on_warning: Callable[[str], object] | None = None,
    on_input: Callable[[InputReport], object] | None = None,
    stdin: BinaryIO | None = None,
) -> Iterator[tuple[list[str], list[str]]]:
    """Return the Tweet IDs of all files in order, each with its owner: lists of owners, and of their IDs.

    `owner_column` is the name or number of the column of the owners; in JSON a key of the Tweet, or of what is around it,
    as `author_id`, or a path of keys, as `user.screen_name`. A line without an owner is a reject. Else as `read_ids`.
    """
    wishes = _Wishes(id_column, _checked_format(format, owner_column), stdin, owner_column)
    for intake, chunks in _inputs(paths, wishes, on_reject, on_input):
        for chunk in _watched(chunks, intake, on_warning):
            owners, intake.owners = intake.owners, []
            if len(owners) != len(chunk):  # a bug: IDs without owners must not be lost in silence
                raise RuntimeError(f"{intake.report.source}: {len(chunk):,} IDs were read with {len(owners):,} owners")
            yield owners, chunk


def _checked_format(format_: str | None, column: str | None) -> Format | None:
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}: one of {', '.join(FORMATS)}")
    if column is not None and format_ == Format.TEXT:
        raise UsageError("text has no columns: name its format (csv, tsv, json), or leave the column out")
    return Format(format_) if format_ else None


def _inputs(
    paths: Sequence[str | Path],
    wishes: _Wishes,
    on_reject: OnReject | None,
    on_input: Callable[[InputReport], object] | None,
) -> Iterator[tuple[Intake, Iterator[list[str]]]]:
    """Yield what counts the IDs of each input, with these IDs in chunks: to be read to their end before the next one."""
    for path in files_of(paths):
        with ExitStack() as stack:
            for stream in _streams(path, wishes, stack):
                intake = Intake(InputReport(stream.name, packing=stream.packing), on_reject)
                yield intake, _chunks(stream, wishes, intake)
                if on_input is not None:
                    on_input(intake.report)


def _watched(
    chunks: Iterator[list[str]], intake: Intake, on_warning: Callable[[str], object] | None
) -> Iterator[list[str]]:
    """Yield the chunks, count their IDs, and tell once if they are suspicious: early, or at the end."""
    suspicion = Suspicion()
    for chunk in chunks:
        intake.report.ids += len(chunk)
        finding = suspicion.add(chunk)
        if finding is not None and on_warning is not None:
            on_warning(f"{intake.source}: {finding}")
            suspicion = Suspicion.none()
        yield chunk
    finding = suspicion.end(intake.rounded_fractions, intake.fractions)
    if finding is not None and on_warning is not None:
        on_warning(f"{intake.source}: {finding}")


def ids_of_argument(text: str) -> list[str]:
    """Return the IDs of one argument of a command: one, or several with commas between. Raise `UsageError` for others."""
    rejects: list[Reject] = []
    ids = ids_of_line(text, 1, Intake(InputReport("arguments"), rejects.append))
    if rejects:
        raise UsageError(f"{rejects[0].text!r} {rejects[0].reason}")
    return ids


def _streams(path: str | Path, wishes: _Wishes, stack: ExitStack) -> Iterator[_Stream]:
    """Yield what a file holds: itself without its packing, or the parts of a ZIP archive one after the other."""
    name = name_of(path)
    file = stack.enter_context(open_source(path, wishes.stdin))
    packing, pieces = unpacked(iter(lambda: file.read(_READ_BYTES), b""), name)
    head, pieces = peek(pieces, HEAD_BYTES)
    if not is_zip(head):
        yield _Stream(name, packing, pieces, None if packing else file)
        return
    file = _seekable(_Stream(name, packing, pieces, None if packing else file), stack)
    archive = stack.enter_context(open_zip(file, name))
    if is_workbook(archive):
        file.seek(0)
        yield _Stream(name, packing, iter(()), file, Format.XLSX)
        return
    for part in parts_of(archive, name):
        inner = f"{name}/{part.filename}"
        more, pieces = unpacked(part_pieces(archive, part, inner), inner)
        yield _Stream(inner, (*packing, "zip", *more), pieces, None)


def _chunks(stream: _Stream, wishes: _Wishes, intake: Intake) -> Iterator[list[str]]:
    with ExitStack() as stack:
        encoding, pieces = as_utf8(stream.pieces)
        if encoding is not None:
            intake.report.packing += (encoding,)
        head, pieces = peek(pieces, _HEAD_BYTES)
        hint = suffix_format(stream.name)
        kind = stream.kind or _kind(head, hint, wishes, intake)
        intake.report.format = kind
        if kind in (Format.PARQUET, Format.ARROW):
            whole = _seekable(replace(stream, pieces=pieces), stack)
            yield from columnar_ids(
                whole, intake, kind=kind, id_column=wishes.id_column, owner_column=wishes.owner_column
            )
        elif kind is Format.XLSX:
            assert stream.file is not None  # noqa: S101 - `_streams` saw to it
            yield from spreadsheet_ids(
                stream.file, intake, id_column=wishes.id_column, owner_column=wishes.owner_column
            )
        elif kind in (Format.JSON, Format.JSONL):
            yield from json_ids(pieces, intake, id_column=wishes.id_column, owner_column=wishes.owner_column)
        elif kind is Format.TEXT:
            yield from text_ids(line_blocks(pieces, intake.reject), intake)
        else:
            lines = line_blocks(pieces, intake.reject)
            yield from delimited_ids(
                lines,
                intake,
                id_column=wishes.id_column,
                hint=wishes.format or hint,
                owner_column=wishes.owner_column,
            )


def _kind(head: bytes, hint: Format | None, wishes: _Wishes, intake: Intake) -> Format:
    """Return the format that the caller named, unless the content is certainly another; else the one that is seen."""
    if not head:
        return wishes.format or hint or Format.TEXT
    wanted = wishes.format
    if wanted in (None, Format.PARQUET, Format.ARROW, Format.XLSX):
        has_column = wishes.id_column is not None or wishes.owner_column is not None
        return detect(head, wanted or hint, intake.source, has_column=has_column)
    return wanted


def _seekable(stream: _Stream, stack: ExitStack) -> BinaryIO:
    """Return the same bytes as a file that can be read from its end: as it is, or a copy on the disk."""
    if stream.file is not None and stream.file.seekable():
        stream.file.seek(0)
        return stream.file
    copy: BinaryIO = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    for piece in stream.pieces:
        copy.write(piece)
    copy.seek(0)
    return copy
