"""Tables that were saved, as rows: JSON lines, CSV, TSV and Parquet, long or wide."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from engagement_async._core.plots import ALL_METRICS
from engagement_async.errors import UsageError
from engagement_async.reports.levels import count_of, instant_of, is_id
from engagement_async.reports.tally import Tally, TweetValues

__all__ = ["add_rows", "rows_of"]

_KEYS: Final = frozenset(
    {
        "owner",
        "tweet_id",
        "engagement_type",
        "engagement_day",
        "engagement_hour",
        "engagement_hour_of_day",
        "observed_at",
        "state",
        "value",
        "delta",
        "observed_before",
    }
)
"""Columns that are no metrics of a wide table."""
_KINDS: Final = "a saved result is JSON, JSON lines, CSV, TSV or Parquet"


def rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a file. Raise `UsageError` for one that is no such table, or is damaged."""
    try:
        yield from _rows_of(path)
    except EOFError:
        raise UsageError("is cut short: copy it again, or save the result again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"is no whole gzip file ({error}): copy it again, or save the result again") from None
    except UnicodeDecodeError:
        raise UsageError("is no text in UTF-8: save it as UTF-8, as an export is") from None
    except csv.Error as error:
        raise UsageError(f"cannot be read as a table ({error}): name a file that an export wrote") from None


def _rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    if suffix not in (".jsonl", ".csv", ".tsv"):
        raise UsageError(f"no report can be made of this file: {_KINDS}, by its suffix")
    open_: Any = gzip.open if path.suffix == ".gz" else open
    with open_(path, "rt", encoding="utf-8-sig", newline="") as file:
        if suffix != ".jsonl":
            yield from csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
            return
        for number, line in enumerate(file, 1):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise UsageError(f"line {number} is no JSON object")
            yield row


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("Parquet needs pyarrow: pip install 'engagement-async[arrow]'") from None
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the disk's, and not what pyarrow says of the content
        raise UsageError(f"cannot be read as Parquet: {error}") from None


def add_rows(tally: Tally, rows: Iterable[Mapping[str, Any]]) -> None:
    """Count all rows: in memory Tweet by Tweet, as the order is not known. Raise `UsageError` for rows of another table."""
    found: dict[str, TweetValues] = {}
    owners: dict[str, str] = {}
    metrics: dict[str, None] = {}
    for row in rows:
        tweet_id = str(row.get("tweet_id") or "").strip("=\"'")  # as `--excel` writes them too
        its = found.get(tweet_id)
        if its is None:
            if tweet_id and not is_id(tweet_id):
                raise UsageError(f"tweet_id of the table is no Tweet ID: {tweet_id!r:.60}")
            its = found[tweet_id] = TweetValues(tweet_id, {}, {}, {})
        if row.get("owner"):
            owners[tweet_id] = str(row["owner"])
        at, is_day = _time_of(row)
        if row.get("state") == "partial" and at is not None:
            tally.cut.add(at)
        for metric, value in _values_of(row):
            metrics[metric] = None
            its.sums[metric] = its.sums.get(metric, 0) + value
            if at is not None:
                by_time = (its.days if is_day else its.hours).setdefault(metric, {})
                by_time[at] = by_time.get(at, 0) + value
    if not metrics:
        raise UsageError("the table has no values: a report is made of the columns that an export has")
    tally.metrics = tuple(metrics)
    for tweet_id, its in found.items():
        tally.add(its, owner=owners.get(tweet_id))
        for owner in (owners[tweet_id],) if tweet_id in owners else ():
            tally.by_owner[owner]["answered"] += 1
    tally.outcomes["answered"] = len(found.keys() - {""})


def _values_of(row: Mapping[str, Any]) -> list[tuple[str, int]]:
    try:
        if "value" in row:
            return [(str(row.get("engagement_type") or ALL_METRICS), count_of(row["value"]))]
        return [(name, count_of(value)) for name, value in row.items() if name not in _KEYS and value not in (None, "")]
    except (TypeError, ValueError):
        raise UsageError(f"a row of the table is none of an export: {dict(row)!r:.200}") from None


def _time_of(row: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Return the hour or the beginning of the day of a row, in hours since the epoch, and whether it is a day."""
    for name, is_day in (("engagement_hour", False), ("engagement_day", True)):
        value = row.get(name)
        if value is None or value == "":
            continue
        at = instant_of(value, f"{name} of the table")
        return int(at.timestamp() // 3600), is_day
    return None, False
