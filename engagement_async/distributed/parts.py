"""A folder of Parquet parts that is its own ledger: which IDs are finished is known from the parts themselves.

A part is written under a hidden name, synced and renamed, so that it is there whole or not at all. One run at a time adds
parts: the run that began last, whoever else may still be at work after its driver was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engagement_async._core.query import Query
from engagement_async._export.files import atomic_file, publish
from engagement_async.distributed.arrow_tables import PENDING
from engagement_async.errors import JobCorruptError, JobDiskError, JobLockedError, OtherJobError

__all__ = ["PartWriter", "Written", "begin_run", "finished_ids", "finished_parts"]

_ABOUT = "_engagement.json"
"""Whose name begins so is no part to any reader of a folder of Parquet."""
_LOCK = "_engagement.lock"
_PART = re.compile(r"part-(\d{6,})\.parquet")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the IDs of one part: those that were not answered by anybody are in none."""

    tweet_ids: int
    pending: int


@dataclass(frozen=True, slots=True)
class PartWriter:
    """Writes the parts of one run, in any process that has its folder. It can be pickled."""

    folder: Path
    run: str
    first_number: int

    def path(self, number: int) -> Path:
        """Return where the run's part of that number is."""
        return self.folder / f"part-{self.first_number + number:06}.parquet"

    def write(self, number: int, table: pa.Table) -> Written:
        """Write a part, without its IDs that are pending: they are to be requested again. An empty one is not written.

        Raise `JobLockedError` when another run has begun, and `JobDiskError` when the disk is full or fails.
        """
        finished = table.filter(pc.not_equal(table["state"], PENDING))
        ids = _count(finished)
        if ids:
            self._put(self.path(number), finished)
        return Written(ids, _count(table) - ids)

    def written(self, number: int) -> int:
        """Return how many IDs the run's part of that number has; 0 if it was not written."""
        path = self.path(number)
        return _count(_read(path)) if path.exists() else 0

    def _put(self, target: Path, table: pa.Table) -> None:
        hidden = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.writing")
        try:
            pq.write_table(table, hidden, compression="zstd")
            with _locked(self.folder, fcntl.LOCK_SH):
                if _about(self.folder).get("run") != self.run:
                    raise JobLockedError(f"another run has taken over {self.folder}: this one adds nothing more")
                publish(hidden, target)
        except OSError as error:
            raise JobDiskError(f"{target} cannot be written: {error.strerror or error}") from None
        finally:
            hidden.unlink(missing_ok=True)


def begin_run(folder: str | os.PathLike[str], query: Query, *, wide: bool) -> PartWriter:
    """Return the writer of a new run, which alone may add parts to the folder from now on.

    Raise `OtherJobError` if the folder holds anything else than parts of this query, and `JobDiskError` if it cannot be
    written.
    """
    folder = Path(folder).absolute()
    what = {"version": _VERSION, "query": repr(query), "wide": wide}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, fcntl.LOCK_EX):
            _check(folder, what)
            for left in folder.glob(".part-*.writing"):  # by processes that were killed, or that will find out
                left.unlink(missing_ok=True)
            numbers = [int(_PART.fullmatch(path.name)[1]) for path in finished_parts(folder)]  # type: ignore[index]
            run = secrets.token_hex(8)
            with atomic_file(folder / _ABOUT) as file:
                file.write(json.dumps({**what, "run": run}).encode())
    except OSError as error:
        raise JobDiskError(f"{folder} cannot be written: {error.strerror or error}") from None
    return PartWriter(folder, run, max(numbers, default=-1) + 1)


def finished_parts(folder: Path) -> list[Path]:
    """Return the parts of a folder, in order."""
    return sorted(path for path in folder.iterdir() if _PART.fullmatch(path.name))


def finished_ids(folder: Path) -> Iterator[tuple[list[str], list[str | None]]]:
    """Yield the distinct IDs of each part, and their owners. Raise `JobCorruptError` for a part that cannot be read."""
    for path in finished_parts(folder):
        table = _read(path)
        owners = dict(zip(table["tweet_id"].to_pylist(), table["owner"].to_pylist(), strict=True))
        yield list(owners), list(owners.values())


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, columns=["tweet_id", "owner"], partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise JobCorruptError(
            f"{path} cannot be read ({type(error).__name__}): delete it, and its IDs are requested again"
        ) from None


def _count(table: pa.Table) -> int:
    return int(pc.count_distinct(table["tweet_id"]).as_py())


def _check(folder: Path, what: dict[str, Any]) -> None:
    """Raise `OtherJobError` unless the folder is empty, or holds parts of this query."""
    about = _about(folder)
    if not about:
        if others := sorted(path.name for path in folder.iterdir() if path.name != _LOCK):
            raise OtherJobError(f"{folder} holds {others[0]}, and no run has begun there: name an empty folder")
    elif {key: about.get(key) for key in what} != what:
        raise OtherJobError(
            f"{folder} holds the parts of another query, {about.get('query')} with wide={about.get('wide')}: name another "
            "folder"
        )


def _about(folder: Path) -> dict[str, Any]:
    """Return what the folder says of itself; nothing, if no run ever began."""
    try:
        found = json.loads((folder / _ABOUT).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OtherJobError(f"{folder / _ABOUT} was not written by this package: name another folder")
    return found


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
