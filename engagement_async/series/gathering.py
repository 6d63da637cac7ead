"""Everything that one pull was answered, in memory and as Arrow tables, until it is committed at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from engagement_async.errors import UsageError

try:  # before anything that names the extra for Arrow alone
    import pyarrow as pa
except ImportError as error:  # pragma: no cover - the tests have it
    raise UsageError("a series needs duckdb and pyarrow: pip install 'engagement-async[series]'") from error

from engagement_async._core.answer import Answer
from engagement_async._core.arrow import grouping_table
from engagement_async._core.groupings import split_by_levels
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.owned_batches import Tweets
from engagement_async._core.query import Query
from engagement_async._display.reporting import ProgressOption, check_progress, reporting
from engagement_async._engine.call_meter import CallMeter
from engagement_async._engine.scheduler import loop_clock
from engagement_async.client import EngagementClient
from engagement_async.series.readings import Reading, TweetState, read_window, readings_of
from engagement_async.series.spans import Span

__all__ = ["GROUPING", "Gathered", "coverage_table", "gather", "shown"]

GROUPING = "series"
_INSTANT = pa.timestamp("us")
_VALUES = pa.schema([("tweet_id", pa.string()), ("engagement_type", pa.string()), ("value", pa.int64())])
_HOURS = _VALUES.append(pa.field("engagement_hour", _INSTANT))
_COVERAGE = pa.schema(
    [("owner", pa.string()), ("tweet_id", pa.string()), ("starts_at", _INSTANT), ("ends_at", _INSTANT)]
)
_LEFT_OUT = pa.schema([("tweet_id", pa.string()), ("engagement_type", pa.string()), ("endpoint", pa.string())])
_TWEETS = pa.schema(
    [
        *((name, pa.string()) for name in ("owner", "tweet_id", "endpoint", "state", "detail")),
        *(
            (name, _INSTANT)
            for name in (
                "observed_at",
                "starts_at",
                "ends_at",
                "whole_from",
                "whole_to",
                "edge",
                "asked_at",
                "wanted_from",
                "wanted_to",
            )
        ),
    ]
)


class Gathered:
    """What one pull was answered.

    Args:
        query: What is asked of each Tweet.
        began_at: When it began (aware, UTC).
        span: What a fill asks for; None for a pull.
    """

    def __init__(self, query: Query, began_at: datetime, span: Span | None = None) -> None:
        self.query = query
        self.began_at = began_at
        self.span = span
        self.requests = 0
        self.readings: list[Reading] = []
        self.failed: dict[str, str] = {}
        self._values: list[pa.Table] = []
        self._left_out: list[dict[str, str]] = []

    def add(self, answer: Answer) -> None:
        """Take in one answer."""
        self.requests += answer.requests
        window = read_window(answer, self.span) if self.query.endpoint.has_window else None
        self.readings += readings_of(answer, window)
        self.failed.update(answer.failed_tweet_ids)
        for metric, ids in answer.missing_metrics.items():
            endpoint = self.query.endpoint.name
            self._left_out += ({"tweet_id": i, "engagement_type": metric, "endpoint": endpoint} for i in ids)
        grouping = answer.groupings.get(GROUPING)
        if grouping:
            for levels, part in split_by_levels(self.query.groupings[GROUPING], grouping):
                self._values.append(self._plain(grouping_table(part, levels)))

    def fail_rest(self, tweets: Iterable[tuple[str, str]], failure: Failure) -> None:
        """Take those of the Tweets (owner, ID) that no answer was about for failed."""
        known = {(reading.owner, reading.tweet_id) for reading in self.readings}
        for owner, tweet_id in tweets:
            if (owner, tweet_id) not in known:
                self.readings.append(Reading(owner, tweet_id, TweetState.FAILED, str(failure), None, None))
                self.failed[tweet_id] = failure

    @property
    def has_refused_owners(self) -> bool:
        """Whether an owner's credentials were missing or refused."""
        return any(isinstance(each, Failure) and each.kind is FailureKind.CREDENTIALS for each in self.failed.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many Tweets there are in each state."""
        states = [reading.state for reading in self.readings]
        return {state.value: states.count(state) for state in TweetState}

    @property
    def window(self) -> Span | None:
        """From the first hour that is whole to the end of the last one, over all answers."""
        windows = [reading.window for reading in self.readings if reading.window is not None]
        if not windows:
            return None
        return Span(min(window.whole_from for window in windows), max(window.whole_to for window in windows))

    def tables(self) -> dict[str, pa.Table]:
        """Return what the statements of a merge read."""
        schema = _HOURS if self.query.endpoint.has_window else _VALUES
        values = pa.concat_tables(self._values) if self._values else schema.empty_table()
        return {
            "pulled_values": values.select(schema.names),
            "pulled_tweets": pa.Table.from_pylist([self._row(reading) for reading in self.readings], _TWEETS),
            "pulled_left_out": pa.Table.from_pylist(self._left_out, _LEFT_OUT),
        }

    def _plain(self, table: pa.Table) -> pa.Table:
        schema = _HOURS if self.query.endpoint.has_window else _VALUES
        return table.select(schema.names).cast(schema)

    def _row(self, reading: Reading) -> dict[str, Any]:
        window = reading.window
        row: dict[str, Any] = {
            "owner": reading.owner,
            "tweet_id": reading.tweet_id,
            "endpoint": self.query.endpoint.name,
            "state": reading.state.value,
            "detail": reading.detail,
            "observed_at": _naive(reading.observed_at),
            "asked_at": _naive(self.began_at),
        }
        if window is not None:
            for name in ("starts_at", "ends_at", "whole_from", "whole_to", "edge"):
                row[name] = _naive(getattr(window, name))
        if self.span is None:
            wanted = self.window if reading.state is TweetState.FAILED else window and Span(*window[2:4])
            if wanted:
                row["wanted_from"], row["wanted_to"] = map(_naive, wanted)
        return row


def coverage_table(rows: Sequence[tuple[str, str, datetime, datetime]]) -> pa.Table:
    """Return spans of Tweets (owner, ID, start, end) as a table."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, _COVERAGE, strict=True)], _COVERAGE)


def _naive(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None)


async def gather(
    client: EngagementClient, gathered: Gathered, tweets: Tweets, on_answer: Callable[[Answer], None] | None
) -> None:
    """Ask for the Tweets, and take in the answers."""
    async with client.stream(gathered.query, tweets) as answers:
        async for answer in answers:
            gathered.add(answer)
            if on_answer is not None:
                on_answer(answer)


@asynccontextmanager
async def shown(
    progress: ProgressOption,
    label: str,
    ids_total: int | None,
    client: EngagementClient,
    on_answer: Callable[[Answer], None] | None,
) -> AsyncIterator[Callable[[Answer], None] | None]:
    """Show how far the block is, by the answers that it gives to what this yields; that passes them on to `on_answer`."""
    check_progress(progress)
    if progress is False:
        yield on_answer
        return
    meter = CallMeter(ids_total, client.status, loop_clock())
    async with reporting(progress, label, meter.progress):
        yield meter.counting(on_answer or (lambda _: None))
