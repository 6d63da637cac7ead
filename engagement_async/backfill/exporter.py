"""A job's answers as tables: files and folders of parts, each a pure function of the journal, whole or not there.

One pass over the journal feeds all files at once, and holds a few megabytes. No instant of time goes into a file: the
same job gives the same bytes, however often it was killed (of DuckDB databases, the same rows).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from engagement_async._core.answer import Answer
from engagement_async._core.groupings import Grouping
from engagement_async._core.merging import Merger, merge_into
from engagement_async._core.outcomes import BatchOutcomes, is_outage
from engagement_async._export.files import atomic_file, atomic_path, check_target, is_stream, output_stream
from engagement_async._export.formats import (
    Add,
    duckdb_sinks,
    parquet_sink,
    text_sink,
    text_tables,
    write_parquet,
)
from engagement_async._export.layout import TABLE_FORMATS, TableLayout, format_of, need_libraries
from engagement_async._export.ordering import TableOrder
from engagement_async._export.rows import Row, write_csv, write_jsonl
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.totals import Audit, JobTotals, Snapshot
from engagement_async.errors import JobIncompleteError, JobLockedError, UsageError

__all__ = ["PART_IDS", "Exported", "Exporter"]

PART_IDS: Final = 100_000
"""IDs of one part, in a folder of parts."""
_CHUNK_BYTES = 1024 * 1024
"""Of answers' JSON that become one row group of Parquet, or one insert: some 50,000 to 100,000 rows."""
_JSON_BYTES = 256 * 1024 * 1024
"""Of answers' JSON, above which they are not merged in memory: as Python's dicts they take five times as much."""
_LOOK_EVERY_S = 1.0
_STDOUT = 1
_OUTCOME_COLUMNS = ("tweet_id", "state", "detail")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    files: tuple[str, ...]
    """Paths."""
    totals: JobTotals
    """The job at the moment that the tables are of."""

    @property
    def answered(self) -> int:
        """IDs with values in the tables."""
        return self.totals.outcomes.answered

    @property
    def pending(self) -> int:
        """IDs without an outcome; 0 unless the export was partial."""
        return self.totals.pending

    @property
    def windows(self) -> tuple[str, str] | None:
        """Where the first and the last of the answers' windows begin, if that is more than an hour apart."""
        return self.totals.windows_differ(by_s=3600.0)


class Exporter:
    """Exports one job. Raises `UsageError` where the output cannot be, before anything is written.

    `output` is a file, or a folder of parts: an existing folder, or a path that ends in `/`. `{grouping}` in a file's
    name makes a file of each grouping; DuckDB and JSON hold all of them. `outcomes` is a second file (JSONL, CSV or
    Parquet) with every ID that is not plainly answered, its state and why. `partial` exports a job that is not complete.
    """

    def __init__(
        self,
        directory: JobDirectory,
        output: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        outcomes: str | Path | None = None,
        partial: bool = False,
        part_ids: int = PART_IDS,
        on_file: Callable[[str], object] | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        directory.must_exist()
        with directory.open_journal(read_only=True) as journal:
            self._layout = TableLayout(str(output), format, tuple(journal.query.groupings))
            inputs = [stamp["name"] for record in journal.sources() for stamp in record.files]
        self._directory = directory
        self._outcomes_path = "" if outcomes is None else str(outcomes)
        self._outcomes_format = ""
        self._partial = partial
        self._part_ids = part_ids
        self._on_file = on_file
        self._on_progress = on_progress
        self._files: list[str] = []
        self._reported = 0
        if self._outcomes_path:
            self._outcomes_format = format_of(self._outcomes_path)
            if self._outcomes_format not in TABLE_FORMATS:
                raise UsageError(f"{self._outcomes_path}: outcomes are {', '.join(TABLE_FORMATS)}")
        if part_ids < 1:
            raise UsageError(f"a part holds a whole number of IDs from 1 on, not {part_ids!r}")
        need_libraries((self._layout.format, self._outcomes_format))
        self._check_places(inputs)

    def _check_places(self, inputs: Sequence[str]) -> None:
        """Raise `UsageError` for files that cannot or must not be written, before any is."""
        layout = self._layout
        files = [self._outcomes_path] if self._outcomes_path else []
        if layout.is_parts:
            layout.check_folder()
        else:
            files += dict.fromkeys(layout.file_of(name) for name in layout.groupings)
        if len({os.path.realpath(path) for path in files}) < len(files):
            raise UsageError(f"{files[0]}: is named twice: each table needs a file of its own")
        for path in (*files, *([layout.output] if layout.is_parts else [])):
            if path != "-" and self._directory.holds(path):
                raise UsageError(f"{path}: lies in the job's folder, which holds the job alone: name another place")
        for path in files:
            if path == "-" or is_stream(path):
                continue
            target = check_target(path)
            if any(os.path.exists(source) and os.path.realpath(source) == str(target) for source in inputs):
                raise UsageError(f"{path}: is an input of this job: name another file")

    def export(self) -> Exported:
        """Write all files, and return when they are in their places."""
        with self._directory.open_journal(read_only=True) as journal:
            snapshot = journal.snapshot()
            totals = snapshot.totals
            if totals.pending and not self._partial:
                raise JobIncompleteError(
                    f"{self._directory.path}: {totals.pending:,} of {totals.ids:,} IDs are still to be asked: run it "
                    "again, or export what is there with --partial"
                )
            self._write_outcomes(journal, snapshot)
            if self._layout.is_parts:
                self._write_parts(journal, snapshot)
            elif self._layout.format == "json":
                self._write_json(journal, snapshot)
            elif self._layout.format == "duckdb":
                self._write_duckdb(journal, snapshot)
            else:
                self._write_tables(journal, snapshot)
            self._report()
            return self._exported(totals)

    def follow(self) -> Exported:
        """Write parts as they become complete, while another process runs the job, and the rest at its end.

        A part holds the answers as they were when it was written: IDs that failed and are asked again later are in no
        part but those of a new export. Raise `JobIncompleteError` when nobody runs the job any more.
        """
        if not self._layout.is_parts:
            raise UsageError("--follow writes parts: name a folder with --output")
        with self._directory.open_journal(read_only=True) as journal:
            self._write_parts(journal, journal.snapshot(), wait=self._wait_for)
            snapshot = journal.snapshot()
            self._write_outcomes(journal, snapshot)
            return self._exported(snapshot.totals)

    def _exported(self, totals: JobTotals) -> Exported:
        return Exported(tuple(self._files), totals)

    def _wait_for(self, journal: Journal, first: int, end: int) -> Snapshot:
        """Return the journal once all batches from `first` up to `end` are answered."""
        while True:
            is_running = self._directory.is_locked  # before the look: what it committed last is then seen
            if journal.has_answers(first, end):
                return journal.snapshot()
            if not is_running:
                pending = journal.refresh().pending
                raise JobIncompleteError(
                    f"{self._directory.path}: nobody runs the job, and {pending:,} IDs are still to be asked: run it "
                    "again, then follow it again"
                )
            time.sleep(_LOOK_EVERY_S)

    # --- the ways of writing ---

    def _write_tables(self, journal: Journal, snapshot: Snapshot) -> None:
        """One file, or one for each grouping."""
        orders = _orders(journal)
        audit = Audit(snapshot)
        with ExitStack() as stack:
            sinks = {name: self._sink(stack, self._layout.file_of(name), orders[name]) for name in orders}
            _add_sums(_feed(self._chunks(journal, snapshot, audit), orders, sinks), orders, sinks)
            self._check(journal, audit)

    def _write_duckdb(self, journal: Journal, snapshot: Snapshot) -> None:
        orders = _orders(journal)
        audit = Audit(snapshot)
        self._files.append(self._layout.output)
        with (
            atomic_path(self._layout.output) as path,
            duckdb_sinks(path, orders, _OUTCOME_COLUMNS) as (add_outcomes, sinks),
        ):
            add_outcomes(_outcome_rows(journal, snapshot, Audit(snapshot)))
            _add_sums(_feed(self._chunks(journal, snapshot, audit), orders, sinks), orders, sinks)
            self._check(journal, audit)

    def _write_parts(
        self, journal: Journal, snapshot: Snapshot, wait: Callable[[Journal, int, int], Snapshot] | None = None
    ) -> None:
        """Write a folder of parts: `<grouping>-00000.parquet` and on; sums over Tweets have one, which is written last."""
        orders = _orders(journal)
        batches = snapshot.totals.batches
        step = max(1, self._part_ids // journal.query.endpoint.ids_per_request)
        starts = range(0, batches, step)
        self._layout.make_folder(
            (name, part) for name, order in orders.items() for part in range(len(starts) if order.is_by_tweet else 1)
        )
        audit = Audit(snapshot)
        sums: dict[str, Grouping] = {}
        for part, first in enumerate(starts):
            end = min(first + step, batches)
            if wait is not None:
                snapshot = wait(journal, first, end)
            with ExitStack() as stack:
                sinks = {
                    name: self._sink(stack, self._layout.part_of(name, part), order)
                    for name, order in orders.items()
                    if order.is_by_tweet
                }
                chunks = self._chunks(journal, snapshot, audit, first, end)
                for name, grouping in _feed(chunks, orders, sinks).items():
                    merge_into(sums.setdefault(name, {}), grouping)
            self._report()
        audit.against(snapshot)
        with ExitStack() as stack:
            sinks = {name: self._sink(stack, self._layout.part_of(name, 0), orders[name]) for name in sums}
            _add_sums(sums, orders, sinks)
            self._check(journal, audit)
        self._report()

    def _write_json(self, journal: Journal, snapshot: Snapshot) -> None:
        if snapshot.totals.size > _JSON_BYTES:
            raise UsageError(
                f"the answers are {snapshot.totals.size / 1e6:,.0f} MB of JSON, too much for one object in memory: export "
                "jsonl, parquet or duckdb"
            )
        orders = _orders(journal)
        audit = Audit(snapshot)
        merger = Merger(journal.query)
        for answers in self._chunks(journal, snapshot, audit):
            for answer in answers:
                answer.groupings = {name: order.ordered(answer) for name, order in orders.items()}
                merger.add(answer)
        result = merger.result()
        for name, order in orders.items():
            if not order.is_by_tweet:
                result.groupings[name] = order.order(result.groupings[name])
        with self._file(self._layout.output) as file:
            file.write(orjson.dumps(result.to_response(), option=orjson.OPT_APPEND_NEWLINE))
            self._check(journal, audit)

    def _chunks(
        self, journal: Journal, snapshot: Snapshot, audit: Audit, first: int = 0, end: int | None = None
    ) -> Iterator[list[Answer]]:
        """Yield answers in order, some megabytes at a time; where a chunk ends follows from the answers alone."""
        chunk: list[Answer] = []
        size = 0
        for batch, encoded in journal.answers(snapshot, first, end):
            audit.add(batch, encoded)
            if encoded is None:
                continue  # pending: the caller knows that there are such
            chunk.append(journal.decode(encoded, batch))
            size += encoded.size
            if size >= _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
                if self._on_progress is not None:
                    self._on_progress(batch.number + 1, snapshot.totals.batches)
        if chunk:
            yield chunk

    def _write_outcomes(self, journal: Journal, snapshot: Snapshot) -> None:
        if not self._outcomes_path:
            return
        audit = Audit(snapshot)
        rows = _outcome_rows(journal, snapshot, audit)
        with self._file(self._outcomes_path) as file:
            if self._outcomes_format == "jsonl":
                write_jsonl(file, rows)
            elif self._outcomes_format == "csv":
                write_csv(file, rows, _OUTCOME_COLUMNS)
            else:
                write_parquet(file, text_tables(rows, _OUTCOME_COLUMNS))
            self._check(journal, audit)
        self._report()

    def _check(self, journal: Journal, audit: Audit) -> None:
        """Raise an error before a file gets its name, if what went into it is not what the journal holds."""
        now = journal.refresh()
        is_completed = now.completions != audit.totals.completions and audit.difference is not None
        if now.revision != audit.revision or is_completed:
            raise JobLockedError(f"{self._directory.path}: the job was changed meanwhile: export it again")
        journal.check(audit)

    # --- files ---

    def _sink(self, stack: ExitStack, path: str, order: TableOrder) -> Add:
        file = stack.enter_context(self._file(path))
        if self._layout.format == "parquet":
            return stack.enter_context(parquet_sink(file, order))
        return stack.enter_context(text_sink(file, order, self._layout.format))

    @contextmanager
    def _file(self, path: str) -> Iterator[BinaryIO]:
        if path == "-":
            with output_stream(_STDOUT) as stream:
                yield stream
            return
        self._files.append(path)
        with atomic_file(path) as file:
            yield file

    def _report(self) -> None:
        """Name the files that are in their places."""
        if self._on_file is not None:
            for path in self._files[self._reported :]:
                self._on_file(path)
            self._reported = len(self._files)


def _orders(journal: Journal) -> dict[str, TableOrder]:
    return {name: TableOrder(journal.query, name) for name in journal.query.groupings}


def _feed(
    chunks: Iterable[list[Answer]], orders: Mapping[str, TableOrder], sinks: Mapping[str, Add]
) -> dict[str, Grouping]:
    """Make one pass over answers: values by Tweet go to their sinks, sums over Tweets are returned."""
    sums: dict[str, Grouping] = {name: {} for name, order in orders.items() if not order.is_by_tweet}
    for answers in chunks:
        for name, order in orders.items():
            if name in sums:
                for answer in answers:
                    merge_into(sums[name], answer.groupings.get(name, {}))
                continue
            chunk: Grouping = {}
            for answer in answers:
                chunk.update(order.by_tweet(answer))
            if chunk:
                sinks[name](chunk, order.levels_by_tweet)
    return sums


def _add_sums(sums: Mapping[str, Grouping], orders: Mapping[str, TableOrder], sinks: Mapping[str, Add]) -> None:
    for name, grouping in sums.items():
        if grouping:
            ordered = orders[name].order(grouping)
            sinks[name](ordered, orders[name].levels)


def _outcome_rows(journal: Journal, snapshot: Snapshot, audit: Audit) -> Iterator[Row]:
    """Yield every ID without all its values, in input order: its state, and why."""
    types = journal.query.engagement_types
    for batch, encoded in journal.answers(snapshot):
        audit.add(batch, encoded)
        if encoded is None:
            for tweet_id in batch.tweet_ids:
                yield _outcome_row(tweet_id, "pending", "")
            continue
        answer = journal.decode(encoded, batch)
        unavailable = frozenset(answer.unavailable_tweet_ids)
        forbidden = frozenset(answer.forbidden_tweet_ids)
        unsupported = BatchOutcomes.of(answer).without_any_value(types)
        lacking: dict[str, dict[str, None]] = {}
        for metric in types:
            for lists in (answer.unsupported_tweet_ids, answer.missing_metrics):
                for tweet_id in lists.get(metric, ()):
                    lacking.setdefault(tweet_id, {})[metric] = None
        for tweet_id in batch.tweet_ids:
            if is_outage(answer.failed_tweet_ids.get(tweet_id, "")):
                yield _outcome_row(tweet_id, "pending", "")
            elif tweet_id in answer.failed_tweet_ids:
                yield _outcome_row(tweet_id, "failed", answer.failed_tweet_ids[tweet_id])
            elif tweet_id in forbidden:
                yield _outcome_row(tweet_id, "forbidden", "")
            elif tweet_id in unavailable:
                yield _outcome_row(tweet_id, "unavailable", "")
            elif tweet_id in lacking:
                state = "unsupported" if tweet_id in unsupported else "answered"
                yield _outcome_row(tweet_id, state, f"no {', '.join(lacking[tweet_id])}")


def _outcome_row(tweet_id: str, state: str, detail: str) -> Row:
    return {"tweet_id": tweet_id, "state": state, "detail": detail}
