"""The tables of a series as Arrow: hours or days, long or wide, totals with their deltas, corrections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa

from engagement_async._core.arrow import TYPES
from engagement_async.errors import UsageError
from engagement_async.series.database import Database, opened
from engagement_async.series.spans import HOUR, hour_after

__all__ = ["Period", "SeriesTable", "TableQuery", "pieces", "time_zone_of"]

_WAIT_S = 30.0
_ROWS = 50_000


class SeriesTable(StrEnum):
    """What of a series is exported."""

    HOURS = "hours"
    """Values by hour or day."""
    TOTALS = "totals"
    """Snapshots of totals, each with its difference from the one before."""
    CORRECTIONS = "corrections"
    """Hours that the API lowered after they were seen."""


class Period(StrEnum):
    """What a row of hours is of."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class TableQuery:
    """What is taken out of a store.

    Args:
        table: Which table.
        by: Of hours: a row for each hour, or sums by day.
        time_zone: Whose days they are.
        wide: Of hours: a column for each metric.
        observed_at: Whether the last column says when the value was received; of a sum, when the last part of it was.

    Raises:
        UsageError: These do not go together, or there is no such time zone.
    """

    table: SeriesTable = SeriesTable.HOURS
    by: Period = Period.HOUR
    time_zone: str = "UTC"
    wide: bool = False
    observed_at: bool = False

    def __post_init__(self) -> None:
        time_zone_of(self.time_zone)
        if self.table is not SeriesTable.HOURS and (self.wide or self.observed_at or self.by is Period.DAY):
            raise UsageError(f"{self.table} are as they are: days, wide and observed_at are for hours")
        if self.by is Period.HOUR and self.time_zone != "UTC":
            raise UsageError("hours are UTC: a time zone is for days, so export by day")

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels of the grouping that the API would give."""
        if self.table is SeriesTable.TOTALS:
            return "tweet.id", "engagement.type"
        hour = ("engagement.hour",) if self.by is Period.HOUR else ()
        return ("tweet.id", "engagement.type", "engagement.day", *hour)


def time_zone_of(name: str) -> tzinfo:
    """Return a time zone. Raise `UsageError` for a name that is none."""
    if name == "UTC":
        return UTC  # without reading a file
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"there is no time zone {name!r} on this machine: write a name as Europe/Berlin, or UTC; where the system has "
            "none at all, pip install tzdata"
        ) from None


def pieces(path: Path, wanted: TableQuery, metrics: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows, in order of Tweets, metrics and time; at least one piece, if without rows.

    Args:
        path: The store.
        wanted: Which rows.
        metrics: The columns of a wide table.
    """
    with opened(path, read_only=True, wait_s=_WAIT_S) as database:
        ((has_owners,),) = database.execute("SELECT count(*) > 0 FROM tweets WHERE owner != ''")
        owner = "owner, " if has_owners else ""
        if wanted.table is SeriesTable.TOTALS:
            sql = f"""SELECT {owner}tweet_id, engagement_type, observed_at, value, delta, observed_before
                FROM totals_deltas ORDER BY owner, tweet_id, engagement_type, observed_at"""  # noqa: S608 - ours
        elif wanted.table is SeriesTable.CORRECTIONS:
            sql = f"""SELECT {owner}tweet_id, engagement_type, engagement_hour, value_before, observed_before, value,
                    observed_at
                FROM corrections ORDER BY owner, tweet_id, engagement_type, engagement_hour, observed_at"""  # noqa: S608
        else:
            sql = _hours_sql(wanted, metrics, owner)
        days = _days(database, wanted.time_zone)
        with database.registered({"days_of_hours": days} if wanted.by is Period.DAY else {}):
            relation = database.connection.sql(sql)
            make: Callable[[int], pa.RecordBatchReader] = (
                getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
            )
            is_empty = True
            for batch in make(_ROWS):
                is_empty = False
                yield _typed(pa.Table.from_batches([batch]))
            if is_empty:
                yield _typed(database.arrow(f"SELECT * FROM ({sql}) LIMIT 0"))  # noqa: S608 - ours


def _hours_sql(wanted: TableQuery, metrics: Sequence[str], owner: str) -> str:
    at = "engagement_hour" if wanted.by is Period.HOUR else "engagement_day"
    observed = ", max(observed_at) AS observed_at" if wanted.observed_at else ""
    state = "CASE WHEN bool_or(is_partial) THEN 'partial' ELSE 'complete' END AS state"
    source = "hours"
    if wanted.by is Period.DAY:
        # A day is complete when each of its hours is: 23 or 25 of them where the clocks are changed.
        source = """(SELECT owner, tweet_id, engagement_type, engagement_day, sum(value)::BIGINT AS value,
                count(*) FILTER (NOT is_partial) < any_value(hours_of_day) AS is_partial, max(observed_at) AS observed_at
            FROM hours JOIN days_of_hours USING (engagement_hour)
            GROUP BY owner, tweet_id, engagement_type, engagement_day)"""
    if not wanted.wide:
        observed = ", observed_at" if wanted.observed_at else ""
        return f"""SELECT {owner}tweet_id, engagement_type, {at}, value,
                CASE WHEN is_partial THEN 'partial' ELSE 'complete' END AS state{observed}
            FROM {source} ORDER BY owner, tweet_id, engagement_type, {at}"""  # noqa: S608 - ours
    values = ", ".join(f"max(value) FILTER (engagement_type = '{metric}') AS {metric}" for metric in metrics)
    return f"""SELECT {owner}tweet_id, {at}, {values}, {state}{observed}
        FROM {source} GROUP BY owner, tweet_id, {at} ORDER BY owner, tweet_id, {at}"""  # noqa: S608 - ours


def _days(database: Database, time_zone: str) -> pa.Table:
    """Return the day of each hour in the store, in a time zone: the day in which the hour begins."""
    zone = time_zone_of(time_zone)
    hours = [row[0] for row in database.execute("SELECT DISTINCT engagement_hour FROM hours ORDER BY ALL")]
    days = [hour.replace(tzinfo=UTC).astimezone(zone).date() for hour in hours]
    lengths = {day: _hours_of(day, zone) for day in set(days)}
    return pa.table(
        {
            "engagement_hour": pa.array(hours, pa.timestamp("us")),
            "engagement_day": pa.array(days, pa.date32()),
            "hours_of_day": pa.array([lengths[day] for day in days], pa.int64()),
        }
    )


def _hours_of(day: date, zone: tzinfo) -> int:
    """Return how many hours (UTC) begin in a day."""
    first, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, day + timedelta(days=1)))
    return (hour_after(end) - hour_after(first)) // HOUR


def _typed(table: pa.Table) -> pa.Table:
    """Return the table with the types of `EngagementResult.to_arrow`: instants are in UTC."""
    for at, field in enumerate(table.schema):
        kind = TYPES.get(field.name) if field.name != "value" else None
        if pa.types.is_timestamp(field.type):
            kind = TYPES["engagement_hour" if field.name == "engagement_hour" else "observed_at"]
        if kind is None or field.type == kind:
            continue
        column = table.column(at)
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column
        table = table.set_column(at, field.name, column.cast(kind))
    return table
