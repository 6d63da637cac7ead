"""A job's answers as tables: files and folders of parts, each a pure function of the journal, whole or not there.

One pass over the journal feeds all files at once, and holds a few megabytes. No instant of time goes into a file: the
same job gives the same bytes, however often it was killed (of DuckDB databases, the same rows).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from engagement_async._core.answer import Answer
from engagement_async._core.groupings import Grouping
from engagement_async._core.merging import Merger, merge_into
from engagement_async._export.files import Row, atomic_file, write_csv, write_jsonl, write_parquet
from engagement_async._export.formats import Add, duckdb_sinks, new_file, parquet_sink, text_sink
from engagement_async._export.ordering import Shape
from engagement_async.backfill.journal import Folder, Journal
from engagement_async.errors import JobIncompleteError, JobLockedError, UsageError

__all__ = ["FORMATS", "PART_IDS", "Exported", "Exporter"]

FORMATS: Final = ("jsonl", "csv", "parquet", "duckdb", "json")
PART_IDS: Final = 100_000
"""IDs of one part, in a folder of parts."""
_PLACE: Final = "{grouping}"
_SUFFIXES = {"ndjson": "jsonl", "pq": "parquet", "db": "duckdb", "ddb": "duckdb"}
_CHUNK_BYTES = 1024 * 1024
"""Of answers' JSON that become one row group of Parquet, or one insert: some 50,000 to 100,000 rows."""
_JSON_BYTES = 256 * 1024 * 1024
"""Of answers' JSON, above which they are not merged in memory: as Python's dicts they take five times as much."""
_LOOK_EVERY_S = 1.0
_ACCOUNT = ("tweet_id", "state", "detail")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    files: tuple[str, ...]
    answered: int
    """IDs that the tables tell of."""
    pending: int
    """IDs that were still to be asked; 0 unless the export was partial."""


class Exporter:
    """Exports one job. Raises `UsageError` where the output cannot be, before anything is written.

    `output` is a file, or a folder of parts: an existing folder, or a path that ends in `/`. `{grouping}` in a file's
    name makes a file of each grouping; DuckDB and JSON hold all of them. `outcomes` is a second file (JSONL, CSV or
    Parquet) with every ID that is not plainly answered, its state and why. `partial` exports a job that is not complete.
    """

    def __init__(
        self,
        folder: Folder,
        output: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - the word of the command line
        outcomes: str | Path | None = None,
        partial: bool = False,
        part_ids: int = PART_IDS,
        stdout: BinaryIO | None = None,
        on_file: Callable[[str], object] | None = None,
    ) -> None:
        folder.must_exist()
        self._folder = folder
        self._output = str(output)
        self._is_parts = self._output.endswith("/") or os.path.isdir(self._output)
        self._format = _format_of(self._output, format or ("parquet" if self._is_parts else None))
        self._outcomes = "" if outcomes is None else str(outcomes)
        self._accounts_format = _format_of(self._outcomes, None) if self._outcomes else ""
        self._partial = partial
        self._part_ids = part_ids
        self._stdout = stdout
        self._on_file = on_file
        self._files: list[str] = []
        self._told = 0
        if self._accounts_format not in ("", "jsonl", "csv", "parquet"):
            raise UsageError(f"{self._outcomes}: outcomes are jsonl, csv or parquet")
        if self._is_parts and self._format not in ("jsonl", "csv", "parquet"):
            raise UsageError(f"parts are jsonl, csv or parquet: name a file for {self._format}")
        if self._output == "-" and (stdout is None or self._format in ("parquet", "duckdb")):
            raise UsageError(f"{self._format} needs a file: name it with --output")
        if part_ids < 1:
            raise UsageError(f"a part holds a whole number of IDs from 1 on, not {part_ids!r}")
        _need_libraries({self._format, self._accounts_format})

    def export(self) -> Exported:
        """Writes all files, and returns when they are in their places."""
        with Journal.open(self._folder, read_only=True) as journal:
            self._check_names(journal)
            if journal.tally.pending and not self._partial:
                raise JobIncompleteError(
                    f"{self._folder.path}: {journal.tally.pending:,} of {journal.tally.ids:,} IDs are still to be asked: "
                    "run it again, or export what is there with --partial"
                )
            self._write_accounts(journal)
            if self._is_parts:
                self._write_parts(journal)
            else:
                self._write_files(journal)
            self._tell()
            return Exported(tuple(self._files), journal.tally.counts.answered, journal.tally.pending)

    def follow(self) -> Exported:
        """Writes parts as they become complete, while another process runs the job, and the rest at its end.

        A part holds the answers as they were when it was written: IDs that failed and are asked again later are in no
        part but those of a new export. Raises `JobIncompleteError` when nobody runs the job any more.
        """
        if not self._is_parts:
            raise UsageError("--follow writes parts: name a folder with --output")
        with Journal.open(self._folder, read_only=True) as journal:
            self._check_names(journal)
            self._write_parts(journal, wait=self._wait_for)
            self._write_accounts(journal)
            return Exported(tuple(self._files), journal.tally.counts.answered, journal.tally.pending)

    def _wait_for(self, journal: Journal, end: int) -> None:
        """Until all batches before `end` are answered."""
        while True:
            is_running = self._folder.is_locked  # before the look: what it committed last is then seen
            answered = journal.answered_before(end)
            if answered == end:
                return
            if not is_running:
                pending = journal.refresh().pending
                raise JobIncompleteError(
                    f"{self._folder.path}: nobody runs the job, and {pending:,} IDs are still to be asked: run it again, "
                    "then follow it again"
                )
            time.sleep(_LOOK_EVERY_S)

    # --- the ways of writing ---

    def _write_files(self, journal: Journal) -> None:
        """One file, or one for each grouping."""
        revision = journal.tally.revision
        shapes = _shapes(journal)
        with ExitStack() as stack:
            if self._format == "json":
                self._write_json(journal, shapes, stack.enter_context(self._file(self._output)))
            else:
                if self._format == "duckdb":
                    self._files.append(self._output)
                    path = stack.enter_context(new_file(self._output))
                    add_account, sinks = stack.enter_context(duckdb_sinks(path, shapes, _ACCOUNT))
                    add_account(_outcomes(journal))
                else:
                    sinks = {
                        name: self._sink(stack, self._output.replace(_PLACE, name), shapes[name]) for name in shapes
                    }
                sums = self._feed(journal, shapes, sinks, 0, journal.tally.batches)
                _add_sums(sums, shapes, sinks)
            if journal.refresh().revision != revision:
                raise JobLockedError(f"{self._folder.path}: the job was changed meanwhile: export it again")

    def _write_parts(self, journal: Journal, wait: Callable[[Journal, int], None] | None = None) -> None:
        """A folder of parts: `<grouping>-00000.parquet` and on; sums over Tweets have one part, the last to be written."""
        revision = journal.tally.revision
        shapes = _shapes(journal)
        step = max(1, self._part_ids // journal.query.endpoint.ids_per_request)
        starts = range(0, journal.tally.batches, step)
        self._check_parts(shapes, len(starts))
        sums: dict[str, Grouping] = {}
        for part, first in enumerate(starts):
            end = min(first + step, journal.tally.batches)
            if wait is not None:
                wait(journal, end)
            with ExitStack() as stack:
                sinks = {
                    name: self._sink(stack, self._part(name, part), shape)
                    for name, shape in shapes.items()
                    if shape.is_by_tweet
                }
                for name, grouping in self._feed(journal, shapes, sinks, first, end).items():
                    merge_into(sums.setdefault(name, {}), grouping)
            self._tell()
        with ExitStack() as stack:
            sinks = {name: self._sink(stack, self._part(name, 0), shapes[name]) for name in sums}
            _add_sums(sums, shapes, sinks)
        self._tell()
        if journal.refresh().revision != revision:
            raise JobLockedError(f"{self._folder.path}: the job was changed meanwhile: export it again")

    def _feed(
        self, journal: Journal, shapes: Mapping[str, Shape], sinks: Mapping[str, Add], first: int, end: int
    ) -> dict[str, Grouping]:
        """One pass over batches: values by Tweet go to their sinks, sums over Tweets are returned."""
        sums: dict[str, Grouping] = {name: {} for name, shape in shapes.items() if not shape.is_by_tweet}
        for answers in _chunks(journal, first, end):
            for name, shape in shapes.items():
                if name in sums:
                    for answer in answers:
                        merge_into(sums[name], answer.groupings.get(name, {}))
                    continue
                chunk: Grouping = {}
                for answer in answers:
                    chunk.update(shape.by_tweet(answer))
                if chunk:
                    sinks[name](chunk, shape.levels_by_tweet)
        return sums

    def _write_json(self, journal: Journal, shapes: Mapping[str, Shape], file: BinaryIO) -> None:
        if journal.tally.size > _JSON_BYTES:
            raise UsageError(
                f"the answers are {journal.tally.size / 1e6:,.0f} MB of JSON, too much for one object in memory: export "
                "jsonl, parquet or duckdb"
            )
        merger = Merger(journal.query)
        for answers in _chunks(journal, 0, journal.tally.batches):
            for answer in answers:
                answer.groupings = {name: shape.ordered(answer) for name, shape in shapes.items()}
                merger.add(answer)
        result = merger.result()
        for name, shape in shapes.items():
            if not shape.is_by_tweet:
                result.groupings[name] = shape.order(result.groupings[name])
        file.write(orjson.dumps(result.to_response(), option=orjson.OPT_APPEND_NEWLINE))

    def _write_accounts(self, journal: Journal) -> None:
        if not self._outcomes:
            return
        self._files.append(self._outcomes)
        with atomic_file(self._outcomes) as file:
            if self._accounts_format == "jsonl":
                write_jsonl(file, _outcomes(journal))
            elif self._accounts_format == "csv":
                write_csv(file, _outcomes(journal), _ACCOUNT)
            else:
                from engagement_async._export.formats import text_tables

                write_parquet(file, text_tables(_outcomes(journal), _ACCOUNT))
        self._tell()

    # --- files ---

    def _sink(self, stack: ExitStack, path: str, shape: Shape) -> Add:
        file = stack.enter_context(self._file(path))
        if self._format == "parquet":
            return stack.enter_context(parquet_sink(file, shape))
        return stack.enter_context(text_sink(file, shape, self._format))

    @contextmanager
    def _file(self, path: str) -> Iterator[BinaryIO]:
        if path == "-" and self._stdout is not None:
            yield self._stdout
            self._stdout.flush()
            return
        self._files.append(path)
        with atomic_file(path) as file:
            yield file

    def _part(self, name: str, part: int) -> str:
        return os.path.join(self._output, f"{name}-{part:05}.{self._format}")

    def _tell(self) -> None:
        """Of files that are in their places."""
        if self._on_file is not None:
            for path in self._files[self._told :]:
                self._on_file(path)
            self._told = len(self._files)

    def _check_names(self, journal: Journal) -> None:
        names = list(journal.query.groupings)
        is_each = self._is_parts or _PLACE in self._output
        if self._format in ("json", "duckdb"):
            if _PLACE in self._output:
                raise UsageError(f"{self._format} holds all groupings in one file: leave {_PLACE} out of --output")
            if self._format == "duckdb" and "outcomes" in (name.lower() for name in names):
                raise UsageError("a grouping is called outcomes, as is a table of the database: export it otherwise")
        elif len(names) > 1 and not is_each:
            raise UsageError(
                f"{self._format} holds one grouping, and there are {len(names)}: write {_PLACE} into --output, as "
                f"{_PLACE}.{self._format}, for a file of each; or take a folder, duckdb or json"
            )
        bad = [name for name in names if is_each and (name != os.path.basename(name) or name[0] == ".")]
        if bad:
            raise UsageError(f"the grouping {bad[0]!r} cannot be part of a file's name: export duckdb or json")

    def _check_parts(self, shapes: Mapping[str, Shape], parts: int) -> None:
        """Parts of another export beside ours would be read with them."""
        folder = Path(self._output)
        if not folder.is_dir():
            if not folder.parent.is_dir():
                raise UsageError(f"{folder}: there is no folder {folder.parent}: make it first")
            folder.mkdir()
        ours = {
            os.path.basename(self._part(name, part))
            for name, shape in shapes.items()
            for part in range(parts if shape.is_by_tweet else 1)
        }
        pattern = re.compile(rf"(?:{'|'.join(map(re.escape, shapes))})-\d{{5,}}\.\w+")
        for entry in sorted(folder.iterdir()):
            if pattern.fullmatch(entry.name) and entry.name not in ours:
                raise UsageError(f"{folder}: holds {entry.name}, a part of another export: name an empty folder")


def _format_of(path: str, named: str | None) -> str:
    suffix = Path(path).suffix.removeprefix(".").lower()
    found = named or _SUFFIXES.get(suffix, suffix)
    if found not in FORMATS:
        raise UsageError(f"{path}: which format? Name one with --format: {', '.join(FORMATS)}")
    return found


def _need_libraries(formats: set[str]) -> None:
    if formats & {"parquet", "duckdb"}:
        try:
            import pyarrow  # noqa: F401 - before the first byte, not after the last
        except ImportError:
            raise UsageError("Parquet and DuckDB need pyarrow: pip install 'engagement-async[arrow]'") from None
    if "duckdb" in formats:
        try:
            import duckdb  # noqa: F401
        except ImportError:
            raise UsageError("DuckDB needs its library: pip install 'engagement-async[duckdb]'") from None


def _shapes(journal: Journal) -> dict[str, Shape]:
    return {name: Shape(journal.query, name) for name in journal.query.groupings}


def _chunks(journal: Journal, first: int, end: int) -> Iterator[list[Answer]]:
    """Answers in order, some megabytes at a time; where one ends follows from the answers alone."""
    chunk: list[Answer] = []
    size = 0
    for batch, stored in journal.answers(first, end):
        if stored is None:
            continue  # pending: the caller knows that there are such
        chunk.append(journal.decoded(stored, batch))
        size += stored.size
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _add_sums(sums: Mapping[str, Grouping], shapes: Mapping[str, Shape], sinks: Mapping[str, Add]) -> None:
    for name, grouping in sums.items():
        if grouping:
            ordered = shapes[name].order(grouping)
            sinks[name](ordered, shapes[name].levels)


def _outcomes(journal: Journal) -> Iterator[Row]:
    """Every ID that is not plainly answered, in input order: its state, and why."""
    types = journal.query.engagement_types
    for batch, stored in journal.answers():
        if stored is None:
            for tweet_id in batch.tweet_ids:
                yield _outcome_row(tweet_id, "pending", "")
            continue
        answer = journal.decoded(stored, batch)
        unavailable = frozenset(answer.unavailable_tweet_ids)
        forbidden = frozenset(answer.forbidden_tweet_ids)
        lacking: dict[str, list[str]] = {}
        for metric in types:
            for tweet_id in answer.unsupported_tweet_ids.get(metric, ()):
                lacking.setdefault(tweet_id, []).append(metric)
        for tweet_id in batch.tweet_ids:
            if tweet_id in answer.failed_tweet_ids:
                yield _outcome_row(tweet_id, "failed", answer.failed_tweet_ids[tweet_id])
            elif tweet_id in forbidden:
                yield _outcome_row(tweet_id, "forbidden", "")
            elif tweet_id in unavailable:
                yield _outcome_row(tweet_id, "unavailable", "")
            elif tweet_id in lacking:
                state = "unsupported" if len(lacking[tweet_id]) == len(types) else "answered"
                yield _outcome_row(tweet_id, state, f"no {', '.join(lacking[tweet_id])}")


def _outcome_row(tweet_id: str, state: str, detail: str) -> Row:
    return {"tweet_id": tweet_id, "state": state, "detail": detail}
