"""One pull at a time: a lock beside the store, held from the first request to the commit, and freed by the kernel."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engagement_async._export.files import check_duckdb_path, check_outside_jobs
from engagement_async.errors import SeriesLockedError, UsageError

__all__ = ["check_place", "locked"]


def check_place(path: Path) -> None:
    """Raise `UsageError` where no store can be, or none may be made."""
    check_duckdb_path(path)
    if not path.exists():
        check_outside_jobs(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a store. Raise `SeriesLockedError` if another process, or another call, has it.

    The lock is a file of its own: to close any descriptor of the database would free the lock that DuckDB has on it.
    """
    try:
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: there is no folder {path.parent}: make it first") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeriesLockedError(
                f"{path}: another pull or fill is at work on this store: wait until it has ended"
            ) from None
        yield
    finally:
        os.close(descriptor)
