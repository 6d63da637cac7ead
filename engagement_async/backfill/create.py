"""The start of a job: IDs and query into its directory, or held against what is there. Synchronous, run in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from engagement_async._core.query import Query
from engagement_async._core.unique_ids import UniqueIds
from engagement_async._ids.reading import Reject
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import Fingerprint, IdSource, SourceRecord
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.storage_errors import disk_errors
from engagement_async.backfill.totals import JobTotals
from engagement_async.errors import OtherJobError, UsageError

__all__ = ["CreateJob", "StartResult"]


@dataclass(frozen=True, slots=True)
class StartResult:
    """What a start found and did."""

    is_new: bool
    new_ids: int
    ids_read: int
    """0 when the input was known to be unchanged without being read."""
    rejected: int
    totals: JobTotals


class CreateJob:
    """One call of `BackfillJob.start`."""

    def __init__(
        self,
        directory: JobDirectory,
        query: Query | None,
        source: IdSource | None,
        *,
        extend: bool = False,
        options: Mapping[str, Any] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
    ) -> None:
        self._directory = directory
        self._query = query
        self._source = source
        self._options = dict(options or {})
        self._extend = extend
        self._on_reject = on_reject

    def __call__(self) -> StartResult:
        directory = self._directory
        directory.check()
        if not directory.is_started and (self._query is None or self._source is None):
            missing = "which Tweets" if self._query is not None else "what of which Tweets"
            raise UsageError(f"{directory.path}: no job was started here: say {missing} it is to ask")
        was_there = directory.path.exists()
        directory.make()
        try:
            with directory.locked():
                if directory.is_started:
                    return self._go_on()
                return self._begin()
        except BaseException:
            if not was_there:
                directory.remove_unstarted()
            raise

    def _begin(self) -> StartResult:
        assert self._query is not None and self._source is not None  # noqa: S101, PT018 - __call__ saw to it
        stamps = self._source.stamps()
        self._directory.discard_start()
        try:
            with (
                _Rejects(self._directory.rejects_path, self._on_reject, at=0) as rejects,
                Journal.create(self._directory.starting_path, self._query) as journal,
            ):
                record = self._add(journal, UniqueIds(), stamps, rejects)
                if not record.new_ids:
                    raise UsageError("there is no Tweet ID in the input")
                journal.publish(self._directory.journal_path)
                return StartResult(True, record.new_ids, record.ids_read, record.rejected, journal.totals)
        except BaseException:
            self._directory.discard_start()
            raise

    def _go_on(self) -> StartResult:
        with self._directory.open_journal() as journal:
            if self._query is not None and self._query != journal.query:
                raise OtherJobError(
                    f"{self._directory.path}: this job asks {journal.query!r}, not {self._query!r}: name another folder, or "
                    "leave the options out to go on with it"
                )
            totals = journal.totals
            if self._source is None:
                if self._extend:
                    raise UsageError("which Tweets is the job to be extended by? Give their IDs")
                self._remember_options(journal)
                return StartResult(False, 0, 0, 0, totals)
            inputs = journal.sources()
            stamps = self._source.stamps()
            if stamps and any(stamps == known.files for known in inputs):
                self._remember_options(journal)
                return StartResult(False, 0, 0, 0, totals)
            if not self._extend:
                return self._compare(journal, inputs)
            size = self._directory.rejects_path.stat().st_size if self._directory.rejects_path.exists() else 0
            with _Rejects(self._directory.rejects_path, self._on_reject, at=size) as rejects, journal.transaction():
                record = self._add(journal, journal.known_ids(), stamps, rejects, inputs)
            return StartResult(False, record.new_ids, record.ids_read, record.rejected, journal.totals)

    def _add(
        self,
        journal: Journal,
        known: UniqueIds[int],
        stamps: list[dict[str, Any]],
        rejects: _Rejects,
        inputs: Sequence[SourceRecord] = (),
    ) -> SourceRecord:
        assert self._source is not None  # noqa: S101 - the callers saw to it
        fingerprint, ids_read, new_ids = journal.add_ids(self._source.chunks(rejects), known)
        record = SourceRecord(fingerprint, ids_read, new_ids, rejects.count, stamps)
        if any(fingerprint == known_input.fingerprint for known_input in inputs):
            record = SourceRecord(fingerprint, ids_read, 0, 0, stamps)  # its rejects were counted before
            rejects.forget()
        journal.add_source(record, self._options)
        return record

    def _compare(self, journal: Journal, inputs: Sequence[SourceRecord]) -> StartResult:
        """Reads the input to see whether it is one of those that the job holds."""
        assert self._source is not None  # noqa: S101
        fingerprint = Fingerprint()
        for chunk in self._source.chunks(lambda _: None):
            fingerprint.update(chunk)
        digest = fingerprint.hexdigest()
        if all(digest != known.fingerprint for known in inputs):
            raise OtherJobError(
                f"{self._directory.path}: these are other IDs than the job was started with: they changed, or belong to "
                "another job. --extend (extend=True) adds the new ones; without any input it goes on with what it has"
            )
        self._remember_options(journal)
        return StartResult(False, 0, fingerprint.ids, 0, journal.totals)

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
