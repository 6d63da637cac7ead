"""How a source is read: a job, a series, a result, or a file that one of them was saved to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from engagement_async._core.answer import Answer, Window
from engagement_async._core.decoding import MAX_VALUE, MIN_VALUE
from engagement_async._core.groupings import Grouping, split_by_levels
from engagement_async._core.query import Query
from engagement_async._core.result import EngagementResult
from engagement_async.backfill.directory import JobDirectory
from engagement_async.errors import InvalidAnswerError, UsageError
from engagement_async.reports.levels import groupings_of, instant_of, is_id
from engagement_async.reports.loaded import Loaded
from engagement_async.reports.row_files import add_rows, rows_of
from engagement_async.reports.tally import GONE, PENDING, Choice, Tally, choose_groupings, values_of

__all__ = ["add_answer", "load_document", "load_job", "load_result", "load_rows", "load_source"]


def load_source(path: str | Path) -> Loaded:
    """Read a job's directory, a series store, or a saved result. Raise `UsageError` for anything else."""
    path = Path(path)
    if path.is_dir():
        directory = JobDirectory(path)
        if not directory.is_started:
            raise UsageError(
                f"{path}: is a folder without a job: name a job's directory, a series store, or a saved result"
            )
        return load_job(directory)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}: name a job's directory, a series store, or a saved result"
        ) from None
    if head[8:12] == b"DUCK":
        from engagement_async.reports.series_source import load_series

        return load_series(path)
    if head.lstrip().startswith(b"{") and path.suffix != ".jsonl":
        try:
            document = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError:
            pass  # lines, each with an object
        else:
            if "value" not in document:
                with _named(path):
                    return _checked(load_document(document, path.name))
    with _named(path):
        return _checked(load_rows(path))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an error of the block. A value that the API would not give is an error of the file."""
    try:
        yield
    except (UsageError, InvalidAnswerError) as error:
        raise UsageError(f"{path}: {error}") from None


def _checked(loaded: Loaded) -> Loaded:
    """Raise `UsageError` for sums that no picture can show."""
    for metric, total in loaded.tally.sums.items():
        if not MIN_VALUE <= total <= MAX_VALUE:
            raise UsageError(
                f"the values of {metric} add up to a number beyond 64 bits: name a file that an export wrote"
            )
    return loaded


def load_job(directory: JobDirectory) -> Loaded:
    """Read a job, also while it runs."""
    with directory.looked_at() as look:
        status, query = look.status, look.status.query
        traffic, tally = look.traffic, Tally(query.engagement_types)
        for batch, encoded in look.journal.answers(look.snapshot):
            if encoded is not None:
                add_answer(tally, look.journal.decode(encoded, batch), query)
    outcomes = status.totals.outcomes._asdict()
    tally.outcomes.update({**outcomes, PENDING: status.totals.pending})
    for owner, its in status.owners.items():
        tally.by_owner[owner].update({**its.outcomes._asdict(), PENDING: its.pending})
    errors = {owner: its.error for owner, its in status.owners.items()}
    return Loaded("Job", directory.path.resolve().name, tally, status, traffic, errors)


def add_answer(tally: Tally, answer: Answer, query: Query) -> None:
    """Count the answer to one batch."""
    seen = _seen(answer.windows, answer.observed_at)
    if seen is not None:
        tally.add_span(*seen)
    for tweet_id in answer.unavailable_tweet_ids:
        tally.add_gone(tweet_id, answer.owner)
    owners = {} if answer.owner is None else dict.fromkeys(answer.tweet_ids, answer.owner)
    _add_groupings(tally, _split(query, answer.groupings), owners, seen)


def load_result(result: EngagementResult, name: str = "result") -> Loaded:
    """Read a result in memory."""
    tally = Tally(result.query.engagement_types)
    seen = _seen(result.windows, result.last_observed_at)
    for window in result.windows:
        if (span := _seen((window,), result.last_observed_at)) is not None:
            tally.add_span(*span)
    _add_groupings(tally, _split(result.query, result.groupings), result.tweet_owners, seen)
    tally.outcomes.update(result.outcomes)
    for tweet_id in result.unavailable_tweet_ids:
        tally.add_gone(tweet_id, result.tweet_owners.get(tweet_id))
    for owner, its in result.owners.items():
        tally.by_owner[owner].update(its.outcomes._asdict())
    errors = {owner: its.error for owner, its in result.owners.items()}
    return Loaded("Result", name, tally, errors=errors, notes=tuple(result.notes))


def load_document(document: Mapping[str, Any], name: str) -> Loaded:
    """Read a result that was saved as JSON, in the API's own shape. Raise `UsageError` for another document."""
    groupings = groupings_of(document)
    metrics = _metrics_in(groupings)
    tally = Tally(metrics)
    seen = None
    if "start" in document and "end" in document:
        start, end = (instant_of(document[key], f"{key} of the result") for key in ("start", "end"))
        if start > end:
            raise UsageError("start of the result is later than its end")
        seen = start.timestamp(), end.timestamp()
        tally.add_span(*seen)
    parts = {f"{name}": [(levels, grouping)] for name, (levels, grouping) in groupings.items()}
    _add_groupings(tally, parts, {}, seen)
    gone = document.get("unavailable_tweet_ids", [])
    if not isinstance(gone, list) or not all(map(is_id, gone)):
        raise UsageError("unavailable_tweet_ids of the result is no list of Tweet IDs, which are strings")
    for tweet_id in gone:
        tally.add_gone(tweet_id)
    answered = {i for levels, grouping in groupings.values() for i in _ids_in(levels, grouping)}
    tally.outcomes.update({"answered": len(answered), GONE: len(gone)})
    note = "A saved JSON result does not say which IDs failed or were forbidden."
    return Loaded("Result", name, tally, notes=(note,))


def load_rows(path: Path) -> Loaded:
    """Read a table that was saved as JSON lines, CSV, TSV or Parquet. Raise `UsageError` for another file."""
    tally = Tally(())
    add_rows(tally, rows_of(path))
    note = "A table of values does not say which IDs are gone, failed or were forbidden."
    return Loaded("Table", path.name, tally, notes=(note,))


def _split(query: Query, groupings: Mapping[str, Grouping]) -> dict[str, list[tuple[tuple[str, ...], Grouping]]]:
    return {name: split_by_levels(query.groupings[name], grouping) for name, grouping in groupings.items()}


def _add_groupings(
    tally: Tally,
    parts: Mapping[str, list[tuple[tuple[str, ...], Grouping]]],
    owners: Mapping[str, str],
    seen: tuple[float, float] | None,
) -> None:
    """Count the groupings of one answer: of those that say the same, one."""
    choice = choose_groupings({name: its[0][0] for name, its in parts.items()})
    for name, add in _taken(choice):
        for levels, grouping in parts[name]:
            for values in values_of(levels, grouping):
                if add == "times":
                    tally.add_times(values)
                else:
                    tally.add(values, owner=owners.get(values.tweet_id), seen=seen)


def _taken(choice: Choice) -> list[tuple[str, str]]:
    has_sums = choice.tweets is not None
    found = [(choice.tweets, "tweets"), (choice.times, "times" if has_sums else "sums"), (choice.sums, "sums")]
    return [(name, what) for name, what in found if name is not None]


def _seen(windows: tuple[Window, ...], observed_at: datetime | None) -> tuple[float, float] | None:
    """Return from when until when an answer speaks of: the hour that was running when it came is not whole."""
    if not windows:
        return None
    start, end = min(window.start for window in windows), max(window.end for window in windows)
    return start.timestamp(), min(end, observed_at or end).timestamp()


def _metrics_in(groupings: Mapping[str, tuple[tuple[str, ...], Grouping]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for levels, grouping in groupings.values():
        if "engagement.type" in levels:
            found |= dict.fromkeys(metric for values in values_of(levels, grouping) for metric in values.sums)
    return tuple(found)


def _ids_in(levels: tuple[str, ...], grouping: Grouping) -> set[str]:
    return {values.tweet_id for values in values_of(levels, grouping)} - {""}
