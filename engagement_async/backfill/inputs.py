"""Where the IDs of a job come from, and by what an input that was read before is recognized. Synchronous."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from engagement_async._core.batches import check_container, check_tweet_ids
from engagement_async._core.owned_batches import TweetsByOwner, check_pair, pairs_of
from engagement_async._core.sorted_runs import to_integers
from engagement_async._ids.reading import InputReport, Reject, read_id_chunks, read_ids, read_owned_chunks
from engagement_async._ids.sources import STANDARD_INPUT, files_of
from engagement_async.backfill.codec import pack_ids
from engagement_async.errors import UsageError

__all__ = [
    "FileSource",
    "Fingerprint",
    "GivenSource",
    "IdSource",
    "InputReport",
    "OwnedChunk",
    "OwnedGivenSource",
    "OwnedIdSource",
    "Reject",
    "SourceRecord",
    "file_stamp",
    "is_proof",
    "path_of",
    "read_ids",
]

_CHUNK = 20_000
_NAMES = ("name", "raw_name")
"""Of a stamp: the path, and its bytes (percent-encoded) where it is no UTF-8, which JSON could not hold."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What the journal remembers of one input."""

    fingerprint: str
    """SHA-256 over the IDs as they came, duplicates and all."""
    ids_read: int
    new_ids: int
    rejected: int
    files: list[dict[str, Any]] = field(default_factory=list)
    """See `IdSource.stamps`: those of regular files."""


OwnedChunk = tuple[Sequence[str], Sequence[int]]
"""Owners, and at the same places their IDs."""


class IdSource(Protocol):
    """Where the IDs come from when a job is created or extended."""

    @property
    def owners(self) -> OwnedIdSource | None:
        """The same with the IDs' owners, where they have such."""

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        """Yield the IDs in their order."""

    def stamps(self) -> list[dict[str, Any]]:
        """Return stamps of its files, which prove it unchanged without reading it.

        If some input has no such proof (a pipe, stdin), only the names, which prove nothing.
        """


class OwnedIdSource(Protocol):
    """IDs with their owners. `first_owner` says whether an ID with two of them is no error."""

    first_owner: bool

    def owned_chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[OwnedChunk]:
        """Yield the IDs in their order, with their owners."""


class GivenSource:
    """IDs that a caller holds."""

    owners = None

    def __init__(self, tweet_ids: Iterable[str | int]) -> None:
        check_container(tweet_ids)
        self._tweet_ids = tweet_ids

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        rest = iter(self._tweet_ids)
        position = 0
        while given := list(islice(rest, _CHUNK)):
            yield to_integers(check_tweet_ids(given, position=position))
            position += len(given)

    def stamps(self) -> list[dict[str, Any]]:
        return []


class OwnedGivenSource:
    """IDs with owners that a caller holds: a mapping, or pairs."""

    def __init__(self, tweets: TweetsByOwner) -> None:
        if isinstance(tweets.source, AsyncIterable):
            raise UsageError("a job takes a mapping of owners to IDs, or an iterable of pairs: no async one")
        self._source = tweets.source
        self.first_owner = tweets.first_owner
        self.owners = self

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        for _, ids in self.owned_chunks(on_reject):
            yield ids

    def owned_chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[OwnedChunk]:
        rest = iter(pairs_of(self._source))
        position = 0
        while given := list(islice(rest, _CHUNK)):
            for offset, pair in enumerate(given):
                check_pair(pair, position + offset)
            ids = check_tweet_ids([tweet_id for _, tweet_id in given], position=position)
            yield [owner for owner, _ in given], list(map(int, ids))
            position += len(given)

    def stamps(self) -> list[dict[str, Any]]:
        return []


class FileSource:
    """IDs out of files: see `read_id_chunks`. With `strict` a line that is no ID is a `UsageError`.

    With an `owner_column` they have owners: see `read_owned_chunks`.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        *,
        id_column: str | None = None,
        format: str | None = None,  # noqa: A002 - as `read_ids` calls it
        strict: bool = False,
        owner_column: str | None = None,
        first_owner: bool = False,
        on_warning: Callable[[str], object] | None = None,
        on_input: Callable[[InputReport], object] | None = None,
    ) -> None:
        self._files = files
        self._owner_column = owner_column
        self.first_owner = first_owner
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
            yield to_integers(chunk)

    @property
    def owners(self) -> FileSource | None:
        return None if self._owner_column is None else self

    def owned_chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[OwnedChunk]:
        assert self._owner_column is not None  # noqa: S101 - else `owners` is None
        for owners, ids in read_owned_chunks(
            self._files,
            owner_column=self._owner_column,
            id_column=self._id_column,
            format=self._format,
            on_reject=None if self._strict else on_reject,
            on_warning=self._on_warning,
            on_input=self._on_input,
        ):
            yield owners, list(map(int, ids))

    def stamps(self) -> list[dict[str, Any]]:
        try:
            files = list(files_of(self._files))
            stamps = [file_stamp(Path(file).absolute()) for file in files if str(file) != STANDARD_INPUT]
        except (OSError, UsageError):
            return []  # whoever reads it says what is wrong
        regular = [stamp for stamp in stamps if is_proof([stamp])]
        if len(regular) < len(files):  # no export must write over the others all the same
            return [{key: value for key, value in stamp.items() if key in _NAMES} for stamp in regular]
        # The same file by another column or format is another input.
        options = {"id_column": self._id_column, "format": self._format}
        if self._owner_column is not None:
            options["owner_column"] = self._owner_column
        return [{**stamp, **options} for stamp in regular]


class Fingerprint:
    """SHA-256 over IDs as they come, and over their owners where they have such."""

    def __init__(self) -> None:
        self._sha256 = sha256()
        self._owners = sha256()
        self._has_owners = False
        self.ids = 0

    def update(self, chunk: Iterable[int]) -> array[int]:
        """Take the IDs in, and return them as an array."""
        ids = chunk if isinstance(chunk, array) else array("q", chunk)
        self._sha256.update(pack_ids(ids))
        self.ids += len(ids)
        return ids

    def update_owners(self, owners: Iterable[str]) -> None:
        """Take in the owners of the IDs."""
        self._has_owners = True
        self._owners.update("".join(f"{len(owner)} {owner}" for owner in owners).encode("utf-8", "surrogateescape"))

    def hexdigest(self) -> str:
        """Return the fingerprint of all IDs so far."""
        if self._has_owners:
            return sha256(self._sha256.digest() + self._owners.digest()).hexdigest()
        return self._sha256.hexdigest()


def file_stamp(path: str | Path) -> dict[str, Any]:
    """Return what proves a file unchanged without reading it: name, size, mtime, and ctime, which nobody can set."""
    found = os.stat(path)
    raw = os.fsencode(path)
    stamp: dict[str, Any] = {"name": raw.decode("utf-8", "replace")}
    if stamp["name"].encode() != raw:
        stamp["raw_name"] = quote_from_bytes(raw)
    if stat.S_ISREG(found.st_mode):
        stamp.update(size=found.st_size, mtime_ns=found.st_mtime_ns, ctime_ns=found.st_ctime_ns)
    return stamp


def is_proof(stamps: Sequence[dict[str, Any]]) -> bool:
    """Return whether stamps that are the same again prove that the input is."""
    return bool(stamps) and all("size" in stamp for stamp in stamps)


def path_of(stamp: dict[str, Any]) -> str:
    """Return the path of the file that a stamp is of."""
    raw = stamp.get("raw_name")
    return str(stamp["name"]) if raw is None else os.fsdecode(unquote_to_bytes(raw))
