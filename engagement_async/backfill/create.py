"""The start of a job: IDs and query into its folder, or held against what is there. Synchronous, run in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from engagement_async._core.batches import check_tweet_ids
from engagement_async._core.query import Query
from engagement_async._ids.reading import Reject, read_id_chunks, read_ids
from engagement_async.backfill.journal import Fingerprint, Folder, Input, Journal, Tally, file_stamp
from engagement_async.backfill.known_unavailable import KnownIds
from engagement_async.backfill.storage_errors import disk_errors
from engagement_async.errors import OtherJobError, UsageError

__all__ = ["FileIds", "GivenIds", "Reject", "Source", "Started", "Starting", "read_ids"]

_CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Started:
    """What `start` found and did."""

    is_new: bool
    new_ids: int
    ids_read: int
    """0 when the input was known to be unchanged without being read."""
    rejected: int
    tally: Tally


class Source(Protocol):
    """Where the IDs of a start come from."""

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        """The IDs in their order."""

    def stamps(self) -> list[dict[str, Any]]:
        """By what the source is known to be unchanged without being read; nothing when it cannot be known."""


class GivenIds:
    """IDs of a caller's own."""

    def __init__(self, tweet_ids: Iterable[str | int]) -> None:
        self._tweet_ids = tweet_ids

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        rest = iter(self._tweet_ids)
        position = 0
        while given := list(islice(rest, _CHUNK)):
            yield map(int, check_tweet_ids(given, position=position))
            position += len(given)

    def stamps(self) -> list[dict[str, Any]]:
        return []


class FileIds:
    """IDs out of files: see `read_id_chunks`."""

    def __init__(
        self,
        files: Sequence[str | Path],
        *,
        id_column: str | None = None,
        format: str | None = None,  # noqa: A002 - as `read_ids` calls it
        strict: bool = False,
        on_warning: Callable[[str], object] | None = None,
    ) -> None:
        self._files = files
        self._id_column = id_column
        self._format = format
        self._strict = strict
        self._on_warning = on_warning

    def chunks(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        for chunk in read_id_chunks(
            self._files,
            id_column=self._id_column,
            format=self._format,
            on_reject=None if self._strict else on_reject,
            on_warning=self._on_warning,
        ):
            yield map(int, chunk)

    def stamps(self) -> list[dict[str, Any]]:
        if any(str(file) == "-" for file in self._files):
            return []
        try:
            stamps = [file_stamp(Path(file).absolute()) for file in self._files]
        except OSError:
            return []  # whoever reads it says what is wrong
        return stamps if all("size" in stamp for stamp in stamps) else []


class Starting:
    """One call of `BackfillJob.start`."""

    def __init__(
        self,
        folder: Folder,
        query: Query | None,
        source: Source | None,
        *,
        extend: bool = False,
        options: Mapping[str, Any] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
    ) -> None:
        self._folder = folder
        self._query = query
        self._source = source
        self._options = dict(options or {})
        self._extend = extend
        self._on_reject = on_reject

    def __call__(self) -> Started:
        folder = self._folder
        folder.check()
        if not folder.is_started and (self._query is None or self._source is None):
            missing = "which Tweets" if self._query is not None else "what of which Tweets"
            raise UsageError(f"{folder.path}: no job was started here: say {missing} it is to ask")
        was_there = folder.path.exists()
        folder.make()
        try:
            with folder.locked():
                if folder.is_started:
                    return self._go_on()
                return self._begin()
        except BaseException:
            if not was_there:
                folder.remove_unstarted()
            raise

    def _begin(self) -> Started:
        assert self._query is not None and self._source is not None  # noqa: S101, PT018 - __call__ saw to it
        stamps = self._source.stamps()
        try:
            with (
                _Rejects(self._folder.rejects, self._on_reject, at=0) as rejects,
                Journal.create(self._folder, self._query) as journal,
            ):
                told = self._add(journal, KnownIds(), stamps, rejects)
                if not told.new_ids:
                    raise UsageError("there is no Tweet ID in the input")
                journal.publish()
                return Started(True, told.new_ids, told.ids_read, told.rejected, journal.tally)
        except BaseException:
            self._folder.discard()
            raise

    def _go_on(self) -> Started:
        with Journal.open(self._folder) as journal:
            if self._query is not None and self._query != journal.query:
                raise OtherJobError(
                    f"{self._folder.path}: this job asks {journal.query!r}, not {self._query!r}: name another folder, or "
                    "leave the options out to go on with it"
                )
            tally = journal.tally
            if self._source is None:
                if self._extend:
                    raise UsageError("which Tweets is the job to be extended by? Give their IDs")
                self._remember_options(journal)
                return Started(False, 0, 0, 0, tally)
            inputs = journal.inputs()
            stamps = self._source.stamps()
            if stamps and any(stamps == known.files for known in inputs):
                self._remember_options(journal)
                return Started(False, 0, 0, 0, tally)
            if not self._extend:
                return self._compare(journal, inputs)
            size = self._folder.rejects.stat().st_size if self._folder.rejects.exists() else 0
            with _Rejects(self._folder.rejects, self._on_reject, at=size) as rejects, journal.transaction():
                told = self._add(journal, journal.known_ids(), stamps, rejects, inputs)
            return Started(False, told.new_ids, told.ids_read, told.rejected, journal.tally)

    def _add(
        self,
        journal: Journal,
        known: KnownIds,
        stamps: list[dict[str, Any]],
        rejects: _Rejects,
        inputs: Sequence[Input] = (),
    ) -> Input:
        assert self._source is not None  # noqa: S101 - the callers saw to it
        fingerprint, ids_read, new_ids = journal.add_ids(self._source.chunks(rejects), known)
        told = Input(fingerprint, ids_read, new_ids, rejects.count, stamps)
        if any(fingerprint == known_input.fingerprint for known_input in inputs):
            told = Input(fingerprint, ids_read, 0, 0, stamps)  # its rejects were counted before
            rejects.forget()
        journal.add_input(told, self._options)
        return told

    def _compare(self, journal: Journal, inputs: Sequence[Input]) -> Started:
        """Reads the input to see whether it is one of those that the job holds."""
        assert self._source is not None  # noqa: S101
        fingerprint = Fingerprint()
        for chunk in self._source.chunks(lambda _: None):
            fingerprint.over(chunk)
        digest = fingerprint.hexdigest()
        if all(digest != known.fingerprint for known in inputs):
            raise OtherJobError(
                f"{self._folder.path}: these are other IDs than the job was started with: they changed, or belong to "
                "another job. --extend (extend=True) adds the new ones; without any input it goes on with what it has"
            )
        self._remember_options(journal)
        return Started(False, 0, fingerprint.ids, 0, journal.tally)

    def _remember_options(self, journal: Journal) -> None:
        known = journal.document("options") or {}
        if self._options and {**known, **self._options} != known:
            journal.write([], {"options": {**known, **self._options}})


class _Rejects:
    """Writes lines that are no IDs to a file, one JSON object each; as it was, when the block ends with an error."""

    def __init__(self, path: Path, on_reject: Callable[[Reject], object] | None, *, at: int) -> None:
        self._path = path
        self._on_reject = on_reject
        self._at = at
        self._file: BinaryIO | None = None
        self.count = 0

    def __call__(self, reject: Reject) -> None:
        self.count += 1
        with disk_errors(self._path):
            if self._file is None:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._file = os.fdopen(descriptor, "wb")
                self._file.truncate(self._at)
                self._file.seek(self._at)
            line = {"source": reject.source, "line": reject.line, "text": reject.text, "reason": reject.reason}
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if self._on_reject is not None:
            self._on_reject(reject)

    def forget(self) -> None:
        """What was written is not wanted."""
        self.count = 0
        if self._file is not None:
            with disk_errors(self._path):
                self._file.truncate(self._at)
                self._file.seek(self._at)

    def __enter__(self) -> _Rejects:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None:
            return
        try:
            with disk_errors(self._path):
                if kind is not None:
                    self._file.truncate(self._at)
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
            if kind is not None and not self._at:
                with suppress(OSError):
                    self._path.unlink()
