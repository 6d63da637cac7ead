"""EngagementResult, what a call returns, and its output formats: API-shaped JSON, tidy rows, an Arrow table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

from engagement_async._core.answer import Observation, Window
from engagement_async._core.groupings import Grouping, split_by_levels
from engagement_async._core.html import table_html
from engagement_async._core.outcomes import OwnerResult
from engagement_async._core.plots import plot_data
from engagement_async._core.query import OWNER, UNSUPPORTED_KEYS, Query
from engagement_async._core.tables import Observed, TableShape, table_columns, table_rows
from engagement_async.errors import FailedTweetsError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["EngagementResult"]

_SHOWN = 10
"""Rows of a grouping that a notebook shows."""
_COUNTED = 100_000
"""Further rows that are counted: of millions that would take seconds."""


@dataclass(eq=False, repr=False)
class EngagementResult:
    """One grouped result for all IDs, and the outcomes of every one of them.

    `groupings[name]` is nested in the order of its `group_by`, with `int` leaves. The lists of IDs are in input order.
    """

    query: Query
    """What was requested."""
    groupings: dict[str, Grouping]
    start: datetime | None
    """The beginning of the union of all windows (aware, UTC); None for totals."""
    end: datetime | None
    """The end of the union of all windows (aware, UTC; exclusive), as the API states it; None for totals."""
    windows: tuple[Window, ...]
    """The distinct windows that the batches answered for, in full hours, by `start`. More than one: the batches differ in
    time, as in a 28 hour run that crosses a full hour, or the span was requested in parts."""
    unavailable_tweet_ids: list[str]
    """Deleted, protected, or otherwise gone."""
    forbidden_tweet_ids: list[str]
    """Owned by somebody else."""
    unsupported_tweet_ids: dict[str, list[str]]
    """Metric to the IDs for which the API has no value of it."""
    failed_tweet_ids: dict[str, str]
    """ID to the reason, a `Failure` with its kind."""
    missing_metrics: dict[str, list[str]]
    """Metric to the answered IDs whose values of it are in no place of the API's answers, or only for a part of the span:
    that the number is zero is likely, and not known."""
    tweet_ids: list[str]
    """All distinct IDs of the input."""
    notes: tuple[str, ...] = field(default=())
    """Messages from the API's `errors` array that accompanied data and are not already reflected in the outcomes."""
    observations: tuple[Observation, ...] = field(default=())
    """When the IDs of each batch had their outcomes. `observed_at` has it by ID."""
    owners: dict[str, OwnerResult] = field(default_factory=dict)
    """What each owner came to, where a credential store signs for several: outcomes, requests, and the error, if any."""
    tweet_owners: dict[str, str] = field(default_factory=dict)
    """ID to its owner, where there are several."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.outcomes.items() if count)
        return f"<EngagementResult {self.query.endpoint.name}: {counts or 'no IDs'}>"

    @cached_property
    def _wholly_unsupported(self) -> frozenset[str]:
        lists = [frozenset(self.unsupported_tweet_ids.get(metric, ())) for metric in self.query.engagement_types]
        return frozenset.intersection(*lists)

    @cached_property
    def answered_tweet_ids(self) -> list[str]:
        """The IDs with at least one value."""
        out = self._wholly_unsupported.union(
            self.unavailable_tweet_ids, self.forbidden_tweet_ids, self.failed_tweet_ids
        )
        return [i for i in self.tweet_ids if i not in out] if out else list(self.tweet_ids)

    @cached_property
    def outcomes(self) -> dict[str, int]:
        """The number of IDs by outcome. The numbers always add up to the distinct IDs of the input.

        `unsupported` counts the IDs that are unsupported in every metric of the query.
        """
        return {
            "answered": len(self.answered_tweet_ids),
            "unavailable": len(self.unavailable_tweet_ids),
            "unsupported": len(self._wholly_unsupported),
            "forbidden": len(self.forbidden_tweet_ids),
            "failed": len(self.failed_tweet_ids),
        }

    def raise_for_failed(self) -> Self:
        """Return the result itself if no ID failed, for those who want all or an error.

        Deleted, protected, forbidden and unsupported Tweets did not fail: that is what the API says of them.

        Raises:
            FailedTweetsError: IDs failed. It says how many and why, and has them as `failed_tweet_ids`.
        """
        if self.failed_tweet_ids:
            reasons = Counter(self.failed_tweet_ids.values()).most_common(3)
            why = "; ".join(f"{count:,} x {reason}" for reason, count in reasons)
            failed, ids = len(self.failed_tweet_ids), len(self.tweet_ids)
            raise FailedTweetsError(f"{failed:,} of {ids:,} IDs failed: {why}", self.failed_tweet_ids)
        return self

    @cached_property
    def observed_at(self) -> dict[str, datetime]:
        """ID to the instant at which the response with its outcome was received (aware, UTC, by this machine's clock).

        Without the IDs that failed.
        """
        return {
            i: observation.later.get(i, observation.first_at)
            for observation in self.observations
            if observation.first_at is not None
            for i in observation.tweet_ids
            if i not in self.failed_tweet_ids
        }

    @property
    def first_observed_at(self) -> datetime | None:
        """When the first of all responses was received (aware, UTC); None when there was none."""
        return min((each.first_at for each in self.observations if each.first_at is not None), default=None)

    @property
    def last_observed_at(self) -> datetime | None:
        """When the last of all responses was received (aware, UTC); None when there was none."""
        return max((at for each in self.observations if (at := each.last_at) is not None), default=None)

    def to_response(self) -> dict[str, Any]:
        """Return the result as the API itself would write it: leaves are strings, empty lists of IDs are left out."""
        response: dict[str, Any] = {}
        if self.start is not None and self.end is not None:
            response["start"] = _api_time(self.start)
            response["end"] = _api_time(self.end)
        if self.unavailable_tweet_ids:
            response["unavailable_tweet_ids"] = list(self.unavailable_tweet_ids)
        for key, metrics in UNSUPPORTED_KEYS.items():
            ids = dict.fromkeys(i for metric in metrics for i in self.unsupported_tweet_ids.get(metric, ()))
            if ids:
                response[key] = list(ids)
        for name, grouping in self.groupings.items():
            response[name] = _stringified(grouping)
        return response

    def columns(self, grouping: str, *, wide: bool = False, observed_at: bool = False) -> tuple[str, ...]:
        """Return the names of the keys of `rows`, in order: a data engineer's names for the API's `group_by` values.

        Args:
            grouping: The name of a grouping of the query.
            wide: As for `rows`.
            observed_at: As for `rows`.

        Raises:
            UsageError: The query has no such grouping, or a wide table cannot be made of it.
        """
        columns = self._columns(grouping, self._shape(wide=wide, observed_at=observed_at))
        return ("owner", *columns) if self._gets_owners(grouping) else columns

    def rows(self, grouping: str, *, wide: bool = False, observed_at: bool = False) -> Iterator[dict[str, Any]]:
        """Yield tidy rows, one a value.

        Keys, as far as the grouping has them: `owner` (where there are several), `tweet_id`, `engagement_type`,
        `engagement_day` (a date) or `engagement_hour` (an aware UTC datetime, with its day), `value` (int).

        Hours that the API gave without days are `engagement_hour_of_day` (0 to 23).

        Args:
            grouping: The name of a grouping of the query.
            wide: Whether to yield one row for all metrics of a Tweet (of a day, an hour), with a key for each metric of the
                query in the place of `engagement_type` and `value`; None where there is no value.
            observed_at: Whether rows have `observed_at` too, when the response with the value was received (an aware UTC
                datetime); of sums over Tweets, when the last one was.

        Raises:
            UsageError: The query has no such grouping, or a wide table cannot be made of it.
            InvalidAnswerError: The API gave a day or an hour that is none.
        """
        shape = self._shape(wide=wide, observed_at=observed_at)
        self._columns(grouping, shape)  # what cannot be made is an error of this call, not of the first row
        observed = self._observed(grouping) if observed_at else None
        parts = self._parts(grouping)
        rows = chain.from_iterable(table_rows(levels, part, shape, observed) for levels, part in parts)
        if self._gets_owners(grouping):
            owner_of = self.tweet_owners.get
            return ({"owner": owner_of(row["tweet_id"]), **row} for row in rows)
        return rows

    def to_arrow(self, grouping: str, *, wide: bool = False, observed_at: bool = False) -> pa.Table:
        """Return the rows as a `pyarrow.Table` (extra `[arrow]`): `tweet_id` string, `engagement_type` dictionary,
        `engagement_day` date32 or `engagement_hour` timestamp in UTC, `value` and metrics int64, `observed_at` timestamp in
        UTC with microseconds.

        Args:
            grouping: The name of a grouping of the query.
            wide: As for `rows`.
            observed_at: As for `rows`.

        Raises:
            UsageError: The query has no such grouping, a wide table cannot be made of it, pyarrow is not installed, or a sum
                over batches does not fit into 64 bits.
            InvalidAnswerError: The API gave a day or an hour that is none.
        """
        shape = self._shape(wide=wide, observed_at=observed_at)
        columns = self._columns(grouping, shape)
        observed = self._observed(grouping) if observed_at else None
        from engagement_async._core.arrow import concat, shaped_table, with_owners

        tables = [shaped_table(part, levels, shape, observed) for levels, part in self._parts(grouping)]
        table = concat(tables).select(columns)
        return with_owners(table, self.tweet_owners) if self._gets_owners(grouping) else table

    def to_pandas(self, grouping: str, *, wide: bool = False, observed_at: bool = False) -> pd.DataFrame:
        """Return the rows as a `pandas.DataFrame` (pandas and the extra `[arrow]`), with the columns of `to_arrow`.

        Tweet IDs are text, `engagement_type` is categorical, and days are dates.

        Args:
            grouping: The name of a grouping of the query.
            wide: As for `rows`.
            observed_at: As for `rows`.

        Raises:
            UsageError: As for `to_arrow`.
            ImportError: pandas is not installed.
        """
        return self.to_arrow(grouping, wide=wide, observed_at=observed_at).to_pandas()

    def to_polars(self, grouping: str, *, wide: bool = False, observed_at: bool = False) -> pl.DataFrame:
        """Return the rows as a `polars.DataFrame` (Polars and the extra `[arrow]`), with the columns of `to_arrow`.

        Args:
            grouping: The name of a grouping of the query.
            wide: As for `rows`.
            observed_at: As for `rows`.

        Raises:
            UsageError: As for `to_arrow`.
            ImportError: Polars is not installed.
        """
        table = self.to_arrow(grouping, wide=wide, observed_at=observed_at)
        import polars as pl

        frame = pl.from_arrow(table)
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def plot(self, grouping: str, *, metrics: Iterable[str] | None = None, width: int = 640) -> Any:
        """Return a grouping as an altair chart (extra `[report]`), with a panel for each metric; notebooks show it.

        A grouping with hours or days is drawn over time (UTC), as sums over its Tweets, and what the edge of a window cuts
        is pale. One with hours of the day has a bar for each of them, one without time a bar for each Tweet, the 25 largest,
        or for each metric. `chart.save("hours.svg")` writes it.

        Args:
            grouping: The name of a grouping of the query.
            metrics: The panels, in order. None for all metrics of the query.
            width: Of the panels, in pixels.

        Raises:
            UsageError: The query has no such grouping or metric, there is no value in it, or altair is not installed.
            InvalidAnswerError: The API gave a day or an hour that is none.
        """
        columns = self.columns(grouping)
        wanted = self.query.engagement_types if metrics is None else tuple(metrics)
        if unknown := [metric for metric in wanted if metric not in self.query.engagement_types]:
            raise UsageError(
                f"no metric {', '.join(map(repr, unknown))} in this result: it has {', '.join(self.query.engagement_types)}"
            )
        from engagement_async._core import charts

        window = None
        if self.start is not None and self.end is not None:
            window = (
                self.start,
                min(self.end, self.first_observed_at or self.end),
            )  # an hour that was running then is cut
        data = plot_data(columns, self.rows(grouping), wanted, window)
        if not data.panels:
            raise UsageError(f"there is no value of {', '.join(wanted)} in {grouping!r}: there is nothing to plot")
        return charts.plot(data, width=width)

    def _repr_html_(self) -> str:
        """Return the outcomes and the first rows of each grouping, for notebooks."""
        outcomes = [{"outcome": state, "IDs": count} for state, count in self.outcomes.items() if count]
        tables = [table_html(f"EngagementResult: {self.query.endpoint.name}", ("outcome", "IDs"), outcomes)]
        for name in self.groupings:
            wide = "engagement.type" in self.query.groupings[name]
            rows = self.rows(name, wide=wide)
            first = list(islice(rows, _SHOWN))
            more = sum(1 for _ in islice(rows, _COUNTED))
            columns = self.columns(name, wide=wide)
            tables.append(table_html(name, columns, first, more=more, is_all=more < _COUNTED))
        return "".join(tables)

    def _shape(self, *, wide: bool, observed_at: bool) -> TableShape:
        return TableShape(self.query.engagement_types if wide else (), has_observed_at=observed_at)

    def _columns(self, grouping: str, shape: TableShape) -> tuple[str, ...]:
        """Return the columns without `owner`."""
        parts = [table_columns(levels, shape) for levels, _ in self._parts(grouping)]
        values = shape.value_columns
        keys = dict.fromkeys(name for columns in parts for name in columns[: -len(values)])
        return (*keys, *values)

    def _observed(self, grouping: str) -> Observed:
        group_by = self.query.groupings[grouping]
        if "tweet.id" in group_by:
            return self.observed_at
        if OWNER not in group_by:
            return self.last_observed_at
        last: dict[str, datetime] = {}
        for i, at in self.observed_at.items():
            owner = self.tweet_owners.get(i, "")
            last[owner] = max(last.get(owner, at), at)
        return last

    def _gets_owners(self, grouping: str) -> bool:
        """Whether rows get a column `owner` that is no level of the grouping."""
        group_by = self.query.groupings[grouping]
        return bool(self.owners) and "tweet.id" in group_by and group_by[0] != OWNER

    def _parts(self, name: str) -> list[tuple[tuple[str, ...], Grouping]]:
        if name not in self.groupings:
            raise UsageError(f"no grouping {name!r} in this result: it has {', '.join(self.groupings)}")
        return split_by_levels(self.query.groupings[name], self.groupings[name])


def _api_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stringified(grouping: Grouping) -> Grouping:
    return {k: _stringified(v) if isinstance(v, dict) else str(v) for k, v in grouping.items()}
