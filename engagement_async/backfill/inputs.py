"""Where the IDs of a job come from, and by what an input that was read before is recognized. Synchronous."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from engagement_async._core.batches import check_container, check_tweet_ids
from engagement_async._ids.reading import InputReport, Reject, read_id_chunks, read_ids
from engagement_async._ids.sources import files_of
from engagement_async.backfill.codec import pack_ids
from engagement_async.errors import UsageError

__all__ = [
    "FileSource",
    "Fingerprint",
    "GivenSource",
    "IdSource",
    "InputReport",
    "Reject",
    "SourceRecord",
    "file_stamp",
    "read_ids",
]

_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What the journal remembers of one input."""

    fingerprint: str
    """SHA-256 over the IDs as they came, duplicates and all."""
    ids_read: int
    new_ids: int
    rejected: int
    files: list[dict[str, Any]] = field(default_factory=list)
    """See `IdSource.stamps`."""


class IdSource(Protocol):
    """Where the IDs come from when a job is created or extended."""

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        """Yield the IDs in their order."""

    def stamps(self) -> list[dict[str, Any]]:
        """Return what proves the source unchanged without reading it; nothing when that cannot be known."""


class GivenSource:
    """IDs that a caller holds."""

    def __init__(self, tweet_ids: Iterable[str | int]) -> None:
        check_container(tweet_ids)
        self._tweet_ids = tweet_ids

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        rest = iter(self._tweet_ids)
        position = 0
        while given := list(islice(rest, _CHUNK)):
            yield map(int, check_tweet_ids(given, position=position))
            position += len(given)

    def stamps(self) -> list[dict[str, Any]]:
        return []


class FileSource:
    """IDs out of files: see `read_id_chunks`. With `strict` a line that is no ID is a `UsageError`."""

    def __init__(
        self,
        files: Sequence[str | Path],
        *,
        id_column: str | None = None,
        format: str | None = None,  # noqa: A002 - as `read_ids` calls it
        strict: bool = False,
        on_warning: Callable[[str], object] | None = None,
        on_input: Callable[[InputReport], object] | None = None,
    ) -> None:
        self._files = files
        self._id_column = id_column
        self._format = format
        self._strict = strict
        self._on_warning = on_warning
        self._on_input = on_input

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        for chunk in read_id_chunks(
            self._files,
            id_column=self._id_column,
            format=self._format,
            on_reject=None if self._strict else on_reject,
            on_warning=self._on_warning,
            on_input=self._on_input,
        ):
            yield map(int, chunk)

    def stamps(self) -> list[dict[str, Any]]:
        if any(str(file) == "-" for file in self._files):
            return []
        try:
            stamps = [file_stamp(Path(file).absolute()) for file in files_of(self._files)]
        except (OSError, UsageError):
            return []  # whoever reads it says what is wrong
        if not all("size" in stamp for stamp in stamps):
            return []
        # The same file by another column or format is another input.
        return [{**stamp, "id_column": self._id_column, "format": self._format} for stamp in stamps]


class Fingerprint:
    """SHA-256 over IDs as they come."""

    def __init__(self) -> None:
        self._sha256 = sha256()
        self.ids = 0

    def update(self, chunk: Iterable[int]) -> array[int]:
        """Take the IDs in, and return them as an array."""
        ids = array("q", chunk)
        self._sha256.update(pack_ids(ids))
        self.ids += len(ids)
        return ids

    def hexdigest(self) -> str:
        """Return the fingerprint of all IDs so far."""
        return self._sha256.hexdigest()


def file_stamp(path: str | Path) -> dict[str, Any]:
    """Return what proves a file unchanged without reading it: name, size, mtime, and ctime, which nobody can set."""
    found = os.stat(path)
    name = os.fsencode(path).decode("utf-8", "replace")
    if not stat.S_ISREG(found.st_mode):
        return {"name": name}
    return {"name": name, "size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
