"""The start of a job: IDs and query into its directory, or held against what is there. Synchronous, run in a thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from engagement_async._core.query import LONGEST_SPAN, Query
from engagement_async._core.unique_ids import UniqueIds
from engagement_async._ids.reading import Reject
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import Fingerprint, IdSource, OwnedChunk, OwnedIdSource, SourceRecord, is_proof
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.journal_rows import query_document
from engagement_async.backfill.storage_errors import disk_errors
from engagement_async.backfill.totals import JobTotals
from engagement_async.errors import JobDiskError, JobLockedError, OtherJobError, UsageError

__all__ = ["CreateJob", "StartResult", "pinned"]

_ATTEMPTS = 5
_IN_WORDS = {
    "endpoint": "the endpoint",
    "engagement_types": "metrics",
    "groupings": "groupings",
    "start": "start",
    "end": "end",
}


@dataclass(frozen=True, slots=True)
class StartResult:
    """What a start found and did.

    `is_new` says whether it made the job, `new_ids` how many IDs it added, `rejected` how many lines of the input are no
    IDs, `totals` what the job has now.
    """

    is_new: bool
    """Whether the job did not exist before."""
    new_ids: int
    """Distinct IDs that were added."""
    ids_read: int
    """IDs in the input, duplicates included; 0 if the input was known to be unchanged without being read."""
    rejected: int
    """Lines of this input that are not IDs."""
    totals: JobTotals
    """The totals of the job afterwards."""
    runs: int = 0
    """Runs before this start."""
    pinned: tuple[str | None, str | None] | None = None
    """The span that "the last four weeks" became, of a new job that asks for them."""


class CreateJob:
    """One call of `BackfillJob.start`. `on_read` is called now and then with the number of IDs that were read."""

    def __init__(
        self,
        directory: JobDirectory,
        query: Query | None,
        source: IdSource | None,
        *,
        extend: bool = False,
        options: Mapping[str, Any] | None = None,
        owner_weights: Mapping[str, int] | None = None,
        on_reject: Callable[[Reject], object] | None = None,
        on_read: Callable[[int], object] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._query = query
        self._source = source
        self._options = dict(options or {})
        self._owner_weights = owner_weights or {}
        self._extend = extend
        self._on_reject = on_reject
        self._on_read = on_read
        self._wall_clock = wall_clock

    def __call__(self) -> StartResult:
        directory = self._directory
        directory.check()
        if not directory.is_started and (self._query is None or self._source is None):
            missing = "IDs" if self._query is not None else "a query and IDs" if self._source is None else "a query"
            raise UsageError(f"{directory.path}: no job was started here: give {missing} to start one")
        with ExitStack() as stack:
            was_made = self._lock(stack)
            try:
                if directory.is_started:
                    return self._go_on()
                return self._begin()
            except BaseException:
                if was_made:
                    directory.remove_unstarted()
                raise

    def _lock(self, stack: ExitStack) -> bool:
        """Make the directory if there is none, and lock it; return whether it was made."""
        directory = self._directory
        for _ in range(_ATTEMPTS):
            was_made = directory.make()
            try:
                stack.enter_context(directory.locked())
            except JobDiskError:
                if directory.path.exists():
                    raise
                continue  # another start, that failed, removed it
            return was_made
        raise JobLockedError(f"{directory.path}: other processes start this job: let one of them do it")

    def _begin(self) -> StartResult:
        assert self._query is not None and self._source is not None  # noqa: S101, PT018 - __call__ saw to it
        stamps = self._source.stamps()
        self._directory.discard_start()
        query = pinned(self._query, datetime.fromtimestamp(self._wall_clock(), UTC))
        has_owners = self._source.owners is not None
        if query.is_by_owner and not has_owners:
            raise UsageError(
                "a grouping has owners, and the IDs have none: name their column (owner_column, --owner-column)"
            )
        try:
            with (
                _Rejects(self._directory.rejects_path, self._on_reject, at=0) as rejects,
                Journal.create(self._directory.starting_path, query, has_owners=has_owners) as journal,
            ):
                record = self._add(journal, stamps, rejects)
                if not record.new_ids:
                    raise UsageError("there is no Tweet ID in the input")
                is_pinned = query != self._query
                journal.put_document("pinned", is_pinned)
                journal.publish(self._directory.journal_path)
                span = (query.start, query.end) if is_pinned else None
                return StartResult(True, record.new_ids, record.ids_read, record.rejected, journal.totals, pinned=span)
        except BaseException:
            self._directory.discard_start()
            raise

    def _go_on(self) -> StartResult:
        with self._directory.open_journal() as journal:
            self._check_query(journal)
            if self._source is None:
                if self._extend:
                    raise UsageError("which Tweets is the job to be extended by? Give their IDs")
                self._remember_options(journal)
                return self._unchanged(journal)
            self._check_owners(journal)
            records = journal.sources()
            stamps = self._source.stamps()
            if is_proof(stamps) and any(stamps == record.files for record in records):
                self._remember_options(journal)
                return self._unchanged(journal)
            if not self._extend:
                return self._compare(journal, records)
            at = (journal.document("rejects") or {}).get("bytes", 0)
            with _Rejects(self._directory.rejects_path, self._on_reject, at=at) as rejects, journal.transaction():
                record = self._add(journal, stamps, rejects, records)
            runs = len(journal.documents("run "))
            return StartResult(False, record.new_ids, record.ids_read, record.rejected, journal.totals, runs)

    @staticmethod
    def _unchanged(journal: Journal, ids_read: int = 0) -> StartResult:
        return StartResult(False, 0, ids_read, 0, journal.totals, len(journal.documents("run ")))

    def _check_query(self, journal: Journal) -> None:
        """Raise `OtherJobError` if the job has another query."""
        query = journal.query
        if journal.document("pinned") and self._query is not None and self._query.start is None:
            query = replace_span(query, None, None)  # the last four weeks, which the start fixed
        if self._query is not None and self._query != query:
            raise OtherJobError(
                f"{self._directory.path}: this job has another query: {_difference(query, self._query)}. Name another "
                "folder, or leave the query out to go on with the job's own"
            )

    def _check_owners(self, journal: Journal) -> None:
        """Raise `OtherJobError` if the job has owners and the IDs have none, or the other way round."""
        assert self._source is not None  # noqa: S101 - the caller saw to it
        if journal.has_owners == (self._source.owners is not None):
            return
        text = (
            "the Tweets of this job have owners: name their column (owner_column, --owner-column)"
            if journal.has_owners
            else "the Tweets of this job have no owners: leave their column out, or name another folder"
        )
        raise OtherJobError(f"{self._directory.path}: {text}")

    def _add(
        self,
        journal: Journal,
        stamps: list[dict[str, Any]],
        rejects: _Rejects,
        records: Sequence[SourceRecord] = (),
    ) -> SourceRecord:
        assert self._source is not None  # noqa: S101 - the callers saw to it
        owners = self._source.owners
        if owners is not None:
            claims = journal.claims(first_owner=owners.first_owner)
            fingerprint, ids_read, new_ids = journal.add_owned_ids(self._read_owned(owners, rejects), claims)
        else:
            known: UniqueIds[int] = journal.known_ids()
            fingerprint, ids_read, new_ids = journal.add_ids(self._read(rejects), known)
        record = SourceRecord(fingerprint, ids_read, new_ids, rejects.count, stamps)
        if _is_known(records, fingerprint, rejects.count):
            record = SourceRecord(fingerprint, ids_read, 0, 0, stamps)  # its rejects were counted before
            rejects.forget()
        of_owners = {} if owners is None else {"owner_column": "owner"}  # whoever runs it knows that there are such
        journal.add_source(record, {**of_owners, **(journal.document("options") or {}), **self._options})
        if self._owner_weights:
            journal.put_document("weights", journal.owner_weights_with(self._owner_weights))
        journal.put_document("rejects", {"bytes": rejects.finish()})
        return record

    def _read(self, on_reject: Callable[[Reject], object]) -> Iterator[Iterable[int]]:
        """Yield the IDs of the source, and tell how many were read."""
        assert self._source is not None  # noqa: S101
        ids_read = 0
        for chunk in self._source.chunks(on_reject):
            ids = chunk if isinstance(chunk, Sized) else list(chunk)
            ids_read += len(ids)
            yield ids
            if self._on_read is not None:
                self._on_read(ids_read)

    def _read_owned(self, source: OwnedIdSource, on_reject: Callable[[Reject], object]) -> Iterator[OwnedChunk]:
        """Yield the IDs of the source with their owners, and tell how many were read."""
        ids_read = 0
        for owners, ids in source.owned_chunks(on_reject):
            ids_read += len(ids)
            yield owners, ids
            if self._on_read is not None:
                self._on_read(ids_read)

    def _compare(self, journal: Journal, records: Sequence[SourceRecord]) -> StartResult:
        """Read the input to see whether it is one of those that the job holds."""
        assert self._source is not None  # noqa: S101
        fingerprint, rejected = Fingerprint(), 0

        def on_reject(_: Reject) -> None:
            nonlocal rejected
            rejected += 1

        if self._source.owners is not None:
            for owners, ids in self._read_owned(self._source.owners, on_reject):
                fingerprint.update(ids)
                fingerprint.update_owners(owners)
        else:
            for chunk in self._read(on_reject):
                fingerprint.update(chunk)
        if not _is_known(records, fingerprint.hexdigest(), rejected):
            raise OtherJobError(
                f"{self._directory.path}: these are other IDs than the job was started with: they changed, or belong to "
                "another job. --extend (extend=True) adds the new ones; without any input it goes on with what it has"
            )
        self._remember_options(journal)
        return self._unchanged(journal, fingerprint.ids)

    def _remember_options(self, journal: Journal) -> None:
        """Remember options and weights that are others than before."""
        before = {"options": journal.document("options") or {}, "weights": journal.owner_weights}
        now = {
            "options": {**before["options"], **self._options},
            "weights": journal.owner_weights_with(self._owner_weights),
        }
        if changed := {name: value for name, value in now.items() if value != before[name]}:
            journal.write([], changed)


def _is_known(records: Sequence[SourceRecord], fingerprint: str, rejected: int) -> bool:
    """Return whether the job had this input before: the same IDs, and no more lines that are none.

    IDs that a spreadsheet ruined are such lines, and must not pass for an input that is known.
    """
    return any(known.fingerprint == fingerprint and rejected <= known.rejected for known in records)


def pinned(query: Query, now: datetime) -> Query:
    """Return the query with the span that "the last four weeks" means now: a job may take longer than an hour."""
    if not query.endpoint.takes_bounds or query.start is not None:
        return query
    end = now.replace(minute=0, second=0, microsecond=0)
    return replace_span(query, end - LONGEST_SPAN, end)


def replace_span(query: Query, start: datetime | None, end: datetime | None) -> Query:
    """Return the same query over another span of time."""
    return Query(
        query.endpoint, engagement_types=query.engagement_types, groupings=query.groupings, start=start, end=end
    )


def _difference(query: Query, other: Query) -> str:
    """Return what one query has and the other does not, in the words of both Python and the command line."""
    ours, theirs = query_document(query), query_document(other)
    return "; ".join(
        f"{_IN_WORDS[name]} {_in_words(ours[name])}, not {_in_words(theirs[name])}"
        for name in ours
        if ours[name] != theirs[name]
    )


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{name}={','.join(group_by)}" for name, group_by in value.items())
    return str(value) if isinstance(value, str) else "nothing" if value is None else ",".join(value)


class _Rejects:
    """Writes lines that are no IDs to a file, one JSON object each; as it was, when the block ends with an error.

    `at` is how much of the file belongs to the journal: what a killed start wrote beyond it is dropped.
    """

    def __init__(self, path: Path, on_reject: Callable[[Reject], object] | None, *, at: int) -> None:
        self._path = path
        self._on_reject = on_reject
        self._at = at
        self._file: BinaryIO | None = None
        self.count = 0

    def __call__(self, reject: Reject) -> None:
        self.count += 1
        line = {
            "source": reject.source.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "line": reject.line,
            "text": reject.text,
            "reason": reject.reason,
        }
        with disk_errors(self._path):
            self._open().write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if self._on_reject is not None:
            self._on_reject(reject)

    def _open(self) -> BinaryIO:
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb")
            self._at = min(self._at, os.fstat(self._file.fileno()).st_size)
            self._cut()
        return self._file

    def _cut(self) -> None:
        if self._file is not None:
            self._file.truncate(self._at)
            self._file.seek(self._at)

    def forget(self) -> None:
        """Drop what was written."""
        self.count = 0
        with disk_errors(self._path):
            self._cut()

    def finish(self) -> int:
        """Write all through to the disk, and return how long the file is: before the journal counts its lines."""
        if self._file is None:
            return self._at
        with disk_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def __enter__(self) -> _Rejects:
        if self._path.exists():
            with disk_errors(self._path):
                self._open()  # what a killed start left goes, even if this one rejects nothing
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None:
            return
        try:
            if kind is not None:
                with suppress(OSError, ValueError):
                    self._cut()
        finally:
            with suppress(OSError):  # after `finish` there is nothing left to write
                self._file.close()
            if kind is not None and not self._at:
                with suppress(OSError):
                    self._path.unlink()
