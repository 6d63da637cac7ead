"""A job's answers as tables: files and folders of parts, each a pure function of the journal, whole or not there.

One pass over the journal feeds all files at once, and holds a few megabytes. No instant of time goes into a file unless
that is wanted: the same job gives the same bytes, however often it was killed (of DuckDB databases, the same rows).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from engagement_async._core.answer import Answer
from engagement_async._core.groupings import Grouping
from engagement_async._core.merging import Merger, merge_into
from engagement_async._core.query import OWNER
from engagement_async._core.spelling import did_you_mean
from engagement_async._core.structs import WholeAnswer
from engagement_async._core.tables import TableShape
from engagement_async._engine.gc_pressure import relaxed_gc
from engagement_async._export.files import check_outputs, has_stream
from engagement_async._export.formats import Add, GroupingTable, StructTable, Table, TextTable, text_tables
from engagement_async._export.layout import ARROW_FORMATS, OUTCOMES, TABLE_FORMATS, TableLayout, format_of
from engagement_async._export.ordering import TableOrder
from engagement_async._export.outcomes import outcome_columns, outcome_row, outcome_rows
from engagement_async._export.outputs import open_output, open_table, open_tables, written_behind
from engagement_async._export.rows import Row
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import path_of
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
_ATTEMPTS = 5
"""Passes over a journal that changes meanwhile, before giving up."""


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
    name makes a file of each grouping; DuckDB, Excel and JSON hold all of them. `outcomes` is a second file with every ID
    that is not plainly answered, its state and why. `partial` exports a job that is not complete. `wide` tables have a
    column for each metric, `observed_at` adds when each value was received, `excel` writes CSV whose IDs Excel keeps.
    `only_owners` exports the Tweets of these owners alone.
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
        only_owners: Sequence[str] = (),
        wide: bool = False,
        observed_at: bool = False,
        excel: bool = False,
        on_file: Callable[[str], object] | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> None:
        directory.must_exist()
        with directory.open_journal(read_only=True) as journal:
            query = journal.query
            self._has_owners = journal.has_owners
            self._only = frozenset(only_owners)
            if self._only:
                _check_owners(self._only, journal)
            inputs = [path_of(stamp) for record in journal.sources() for stamp in record.files]
        shape = TableShape(query.engagement_types if wide else (), has_observed_at=observed_at)
        self._layout = TableLayout(str(output), format, query.groupings, shape=shape, excel=excel)
        self._types = query.engagement_types
        self._directory = directory
        self._outcomes_path = "" if outcomes is None else str(outcomes)
        self._outcome_columns = outcome_columns(has_observed_at=observed_at, has_owner=self._has_owners)
        self._partial = partial
        self._part_ids = part_ids
        self._on_file = on_file
        self._on_progress = on_progress
        self._files: list[str] = []
        self._reported: set[str] = set()
        if self._outcomes_path:
            self._outcomes_format = format_of(self._outcomes_path)
            if self._outcomes_format.name not in TABLE_FORMATS:
                raise UsageError(f"{self._outcomes_path}: outcomes are {', '.join(TABLE_FORMATS)}")
        if part_ids < 1:
            raise UsageError(f"a part holds a whole number of IDs from 1 on, not {part_ids!r}")
        self._check_places(inputs)

    def _check_places(self, inputs: Iterable[str]) -> None:
        """Raise `UsageError` for files that cannot or must not be written, before any is."""
        layout = self._layout
        files = [self._outcomes_path] if self._outcomes_path else []
        if layout.is_folder:
            layout.check_folder()
        else:
            files += layout.files()
        check_outputs(files, inputs)
        self._inputs = list(inputs)

    def export(self) -> Exported:
        """Write all files, and return when they are in their places.

        Begin again if the job changes meanwhile: a run may be about to complete a batch, or to add IDs. Raise
        `JobLockedError` if it goes on changing, or if rows are in a pipe by then.
        """
        with self._directory.open_journal(read_only=True) as journal, relaxed_gc():
            attempts = 1 if has_stream([*self._layout.files(), self._outcomes_path]) else _ATTEMPTS
            changed: JobLockedError | None = None
            for _ in range(attempts):
                self._files.clear()
                try:
                    return self._export(journal)
                except JobLockedError as error:
                    changed = error
                except JobIncompleteError as error:  # IDs were added meanwhile
                    raise changed or error from None
            assert changed is not None  # noqa: S101 - there is at least one attempt
            raise changed

    def _export(self, journal: Journal) -> Exported:
        snapshot = journal.snapshot()
        totals = snapshot.totals
        if totals.pending and not self._partial:
            self._check_complete(journal, totals)
        if self._layout.is_folder:
            self._make_folder(journal, snapshot)
        self._write_outcomes(journal, snapshot)
        if self._layout.is_folder:
            self._write_parts(journal, snapshot)
        elif self._layout.format.name == "json":
            self._write_json(journal, snapshot)
        else:
            self._write_tables(journal, snapshot)
        self._report()
        return self._exported(totals)

    def _check_complete(self, journal: Journal, totals: JobTotals) -> None:
        pending, ids = totals.pending, totals.ids
        if self._only:
            chosen = [its for owner, its in journal.owners().items() if owner in self._only]
            pending, ids = sum(its.pending for its in chosen), sum(its.ids for its in chosen)
        if pending:
            raise JobIncompleteError(
                f"{self._directory.path}: {pending:,} of {ids:,} IDs are still to be asked: run it again, or export what "
                "is there with --partial"
            )

    def follow(self) -> Exported:
        """Write parts as they become complete, while another process runs the job, and the rest at its end.

        A part holds the answers as they were when it was written: IDs that failed and are requested again later are in
        no part but those of a new export. Raise `JobIncompleteError` when nobody runs the job any more.
        """
        if not self._layout.is_folder:
            raise UsageError("--follow writes parts: name a folder with --output")
        with self._directory.open_journal(read_only=True) as journal:
            snapshot = journal.snapshot()
            self._make_folder(journal, snapshot)
            self._write_parts(journal, snapshot, wait=self._wait_for)
            snapshot = journal.snapshot()
            self._write_outcomes(journal, snapshot)
            self._report()
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
        empty = {name: self._empty_of(journal, name, order) for name, order in orders.items()}
        if self._layout.has_all_in_one:
            empty[OUTCOMES] = lambda: TextTable(self._outcome_columns)
        self._files += [path for path in self._layout.files() if path != "-"]
        with open_tables(self._layout, empty, types=self._types) as sinks:
            if OUTCOMES in empty:
                rows = self._outcome_rows(journal, snapshot, Audit(snapshot))
                for table in text_tables(rows, self._outcome_columns):
                    sinks[OUTCOMES](table)
            feed = self._feed(journal, orders)
            with self._written_behind(sinks, self._layout.files()) as feed.sinks:
                feed.add(self._chunks(journal, snapshot, audit))
                feed.add_sums(feed.sinks)
            self._check(journal, audit)

    def _feed(self, journal: Journal, orders: Mapping[str, TableOrder]) -> _Feed:
        by_owner = frozenset(name for name, group_by in journal.query.groupings.items() if group_by[0] == OWNER)
        feed = _Feed(orders, self._layout.shape, by_owner=by_owner, has_owners=self._has_owners)
        are_simple = all(order.levels == ("tweet.id", "engagement.type") for order in orders.values())
        if are_simple and self._layout.format.name in ARROW_FORMATS and not self._layout.shape.has_observed_at:
            feed.whole_answer, feed.metrics = journal.whole_answer, self._types
        return feed

    def _written_behind(
        self, sinks: Mapping[str, Add], files: Iterable[str]
    ) -> AbstractContextManager[Mapping[str, Add]]:
        """Return sinks that write on a thread of their own, where writing needs no interpreter."""
        return written_behind(sinks, files) if self._layout.format.name in ARROW_FORMATS else nullcontext(sinks)

    def _empty_of(self, journal: Journal, name: str, order: TableOrder) -> Callable[[], Table]:
        """Return a function that makes a table without rows."""
        has_owner = journal.query.groupings[name][0] == OWNER or (self._has_owners and order.is_by_tweet)
        prefix = (OWNER,) if has_owner else ()
        return lambda: GroupingTable({}, (*prefix, *order.levels), self._layout.shape)

    def _starts(self, journal: Journal, snapshot: Snapshot) -> range:
        """Return the first batch of each part."""
        return range(0, snapshot.totals.batches, max(1, self._part_ids // journal.query.endpoint.ids_per_request))

    def _make_folder(self, journal: Journal, snapshot: Snapshot) -> None:
        """Make the folder of the parts. Raise `UsageError` if a part must not be written, before anything is."""
        count = len(self._starts(journal, snapshot))
        orders = _orders(journal)
        self._layout.make_folder(
            (name, part) for name, order in orders.items() for part in range(count if order.is_by_tweet else 1)
        )
        parts = [self._layout.part_of(name, part) for name in orders for part in range(count or 1)]
        check_outputs([*parts, *([self._outcomes_path] if self._outcomes_path else [])], self._inputs)

    def _write_parts(
        self, journal: Journal, snapshot: Snapshot, wait: Callable[[Journal, int, int], Snapshot] | None = None
    ) -> None:
        """Write a folder of parts: `<grouping>-00000.parquet` and on; sums over Tweets have one, which is written last."""
        orders = _orders(journal)
        starts = self._starts(journal, snapshot)
        audit = Audit(snapshot)
        feed = self._feed(journal, orders)
        for part, first in enumerate(starts):
            end = min(first + starts.step, starts.stop)
            if wait is not None:
                snapshot = wait(journal, first, end)
            with ExitStack() as stack:
                sinks = {
                    name: self._part(stack, name, part, self._empty_of(journal, name, order))
                    for name, order in orders.items()
                    if order.is_by_tweet
                }
                feed.sinks = stack.enter_context(self._written_behind(sinks, ()))  # parts are files of our own
                feed.add(self._chunks(journal, snapshot, audit, first, end))
            if wait is not None:  # else all parts may be written again
                self._report()
        audit.against(snapshot)
        with ExitStack() as stack:
            empty = {name: self._empty_of(journal, name, orders[name]) for name in feed.sums}
            feed.add_sums({name: self._part(stack, name, 0, make) for name, make in empty.items()})
            self._check(journal, audit)
        self._report()

    def _part(self, stack: ExitStack, name: str, part: int, empty: Callable[[], Table]) -> Add:
        layout = self._layout
        path = layout.part_of(name, part)
        self._files.append(path)
        return stack.enter_context(open_table(path, layout.format, empty, types=self._types, excel=layout.excel))

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
            if order.is_by_tweet:
                continue
            grouping = result.groupings[name]
            if journal.query.groupings[name][0] == OWNER:
                result.groupings[name] = {owner: order.order(inner) for owner, inner in grouping.items()}
            else:
                result.groupings[name] = order.order(grouping)
        self._files += [path for path in self._layout.files() if path != "-"]
        with open_output(self._layout.output, self._layout.format.compression) as file:
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
            if encoded is None or (self._only and batch.owner not in self._only):
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
        self._files.append(self._outcomes_path)
        columns = self._outcome_columns
        with open_table(self._outcomes_path, self._outcomes_format, lambda: TextTable(columns)) as add:
            for table in text_tables(self._outcome_rows(journal, snapshot, audit), columns):
                add(table)
            self._check(journal, audit)

    def _outcome_rows(self, journal: Journal, snapshot: Snapshot, audit: Audit) -> Iterator[Row]:
        """Yield every ID without all its values, in input order: its state, and why."""
        for batch, encoded in journal.answers(snapshot):
            audit.add(batch, encoded)
            if self._only and batch.owner not in self._only:
                continue
            if encoded is None:
                yield from (outcome_row(tweet_id, "pending", owner=batch.owner) for tweet_id in batch.tweet_ids)
            else:
                yield from outcome_rows(journal.decode(encoded, batch), self._types, outage_is="pending")

    def _check(self, journal: Journal, audit: Audit) -> None:
        """Raise an error before a file gets its name, if what went into it is not what the journal holds."""
        now = journal.refresh()
        is_completed = now.completions != audit.totals.completions and audit.difference is not None
        if now.revision != audit.revision or is_completed:
            raise JobLockedError(f"{self._directory.path}: the job was changed meanwhile: export it again")
        journal.check(audit)

    def _report(self) -> None:
        """Name the files that are in their places."""
        if self._on_file is not None:
            for path in self._files:
                if path not in self._reported:
                    self._reported.add(path)
                    self._on_file(path)


def _orders(journal: Journal) -> dict[str, TableOrder]:
    query = journal.query.without_owners()
    return {name: TableOrder(query, name) for name in query.groupings}


def _check_owners(only: Iterable[str], journal: Journal) -> None:
    if not journal.has_owners:
        raise UsageError("the Tweets of this job have no owners: leave out --only-owner")
    known = journal.owners()
    for owner in only:
        if owner not in known:
            raise UsageError(f"the job has no Tweets of owner {owner!r}{did_you_mean(owner, list(known))}")


class _Feed:
    """Takes answers to the sinks of their tables; sums over Tweets wait for the last answer."""

    def __init__(
        self,
        orders: Mapping[str, TableOrder],
        shape: TableShape,
        *,
        by_owner: Set[str],
        has_owners: bool,
    ) -> None:
        self.sinks: Mapping[str, Add] = {}
        self._by_owner = by_owner
        self._has_owners = has_owners
        self.sums: dict[str, Grouping] = {name: {} for name, order in orders.items() if not order.is_by_tweet}
        self._orders = orders
        self._shape = shape
        self._last_observed_at: datetime | None = None
        self.whole_answer: Callable[[Answer], WholeAnswer | None] | None = None
        """Reads the response of an answer as structs, where tables are made of such."""
        self.metrics: Sequence[str] = ()

    def add(self, chunks: Iterable[list[Answer]]) -> None:
        """Make one pass over answers: values by Tweet go to their sinks."""
        for answers in chunks:
            wholes = self._wholes(answers)
            if wholes is not None:
                self._add_wholes(answers, wholes)
                continue
            observed = self._observed(answers) if self._shape.has_observed_at else None
            for name, order in self._orders.items():
                if name in self.sums:
                    for answer in answers:
                        self._add_sum(name, answer)
                    continue
                chunk: Grouping = {}
                for answer in answers:
                    chunk.update(order.by_tweet(answer))
                if chunk:
                    levels = order.levels_by_tweet
                    owners = _owners_of(answers) if self._has_owners else None
                    table = GroupingTable(chunk, levels, self._shape, observed, named=order.levels, owners=owners)
                    self.sinks[name](table)

    def _wholes(self, answers: Sequence[Answer]) -> list[WholeAnswer] | None:
        """Return the responses of these answers as structs, if their values are all there, and structs are wanted."""
        if self.whole_answer is None:
            return None
        wholes: list[WholeAnswer] = []
        for answer in answers:
            whole = self.whole_answer(answer)
            if whole is None:
                return None
            wholes.append(whole)
        return wholes

    def _add_wholes(self, answers: Sequence[Answer], wholes: Sequence[WholeAnswer]) -> None:
        owners = _owners_of(answers) if self._has_owners else None
        ids: list[str] = []
        for answer in answers:
            out = answer.unavailable_tweet_ids
            ids += (i for i in answer.tweet_ids if i not in out) if out else answer.tweet_ids
        for name in self._orders:
            structs: list[Any] = []
            for whole in wholes:
                grouping = whole.groupings[name]
                wanted = ids[len(structs) : len(structs) + len(grouping)]
                structs += grouping.values() if list(grouping) == wanted else map(grouping.__getitem__, wanted)
            self.sinks[name](StructTable(ids, structs, self.metrics, self._shape, owners))

    def _add_sum(self, name: str, answer: Answer) -> None:
        sums, part = self.sums[name], answer.groupings.get(name, {})
        if name not in self._by_owner:
            merge_into(sums, part)
        elif part:
            merge_into(sums.setdefault(answer.owner or "", {}), part)

    def add_sums(self, sinks: Mapping[str, Add]) -> None:
        """Write the sums over all answers."""
        for name, grouping in self.sums.items():
            if grouping:
                order = self._orders[name]
                if name in self._by_owner:
                    ordered = {owner: order.order(inner) for owner, inner in grouping.items()}
                    levels = (OWNER, *order.levels)
                else:
                    ordered, levels = order.order(grouping), order.levels
                sinks[name](GroupingTable(ordered, levels, self._shape, self._last_observed_at))

    def _observed(self, answers: Iterable[Answer]) -> dict[str, datetime]:
        observed: dict[str, datetime] = {}
        for answer in answers:
            observation = answer.observation
            if observation.first_at is not None and observation.last_at is not None:
                observed.update(dict.fromkeys(answer.tweet_ids, observation.first_at))
                observed.update(observation.later)
                self._last_observed_at = max(self._last_observed_at or observation.last_at, observation.last_at)
        return observed


def _owners_of(answers: Iterable[Answer]) -> dict[str, str]:
    return {tweet_id: answer.owner or "" for answer in answers for tweet_id in answer.tweet_ids}
