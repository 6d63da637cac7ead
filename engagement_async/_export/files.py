"""Files that are whole or not there: written under a hidden name, synced, renamed into place."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from engagement_async.errors import UsageError

__all__ = ["atomic_file", "atomic_path", "publish", "sync"]


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well; else `path` is as it was.

    What is no regular file (`/dev/null`, a named pipe) is written to directly. Raise `UsageError` if the folder is
    missing or `path` is one.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    with atomic_path(path) as hidden, hidden.open("xb") as file:
        yield file


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield the path of a file to be made, by a library say, that takes the place of `path` when the block ends well."""
    target = Path(os.path.realpath(path))  # a link stays a link
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path}: is a folder: name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {target.parent}: make it first")
    hidden = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        yield hidden
        publish(hidden, target)
    except BaseException:
        for leftover in (hidden, hidden.with_name(f"{hidden.name}.wal")):  # DuckDB's own
            with suppress(OSError):
                leftover.unlink()
        raise


def publish(hidden: Path, target: Path) -> None:
    """Rename a finished file into place, so that after a power cut there is the old file or the whole new one."""
    sync(hidden)
    hidden.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Write a file, or a folder's list of files, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
