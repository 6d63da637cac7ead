"""The standard streams of the command line: there even if the parent closed them, and honest about what they took.

A container image may set PYTHONUNBUFFERED, under which Python writes as much as a pipe takes and drops the rest; a
supervisor may close a stream, or stop to read it. Output on stdout is written whole or an error is raised. What is said on
stderr may get lost, but never ends a run that is paid for.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from engagement_async._core.words import printable
from engagement_async._export.files import WholeWrites

__all__ = ["finish_streams", "json_line", "prepare_streams", "printable", "utc_now"]


def prepare_streams() -> None:
    """Replace the standard streams of this process. Call it before anything is written."""
    for descriptor in range(3):
        _open_if_closed(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = _text_stream(WholeWrites(1, closes=False), sys.stdout)
    sys.stderr = _text_stream(_LossyWrites(2, closes=False), sys.stderr)


def _open_if_closed(descriptor: int) -> None:
    """Open the null device in the place of a closed stream; not for writing as stdout, where output would get lost."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _text_stream(raw: io.RawIOBase, old: TextIO | None) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


class _LossyWrites(WholeWrites):
    """A descriptor that takes everything, and drops what cannot be written."""

    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


def finish_streams(exit_code: int, failed: int) -> int:
    """Write out what is buffered; return the exit code, or `failed` if stdout could not take all and the code was 0."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        exit_code = exit_code or failed
    with suppress(OSError):  # whatever is left must not raise while the interpreter ends
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    return exit_code


def json_line(value: object) -> bytes:
    """Return a value as JSON. Names of files that are not UTF-8 get replacement characters."""
    import orjson  # `engagement --help` needs none

    try:
        return orjson.dumps(value, default=str)
    except TypeError:
        return orjson.dumps(_valid(value), default=str)


def _valid(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_valid(key): _valid(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(inner) for inner in value]
    return value


def utc_now() -> str:
    """Return this instant as events show it: `2026-01-02T03:04:05.678Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
