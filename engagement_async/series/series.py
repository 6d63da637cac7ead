"""`EngagementSeries`: pulls into a store, gaps filled, and tables out of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from engagement_async._core.answer import Answer
from engagement_async._core.endpoints import HISTORICAL, LAST_28_HOURS, TOTALS, Endpoint, Metric
from engagement_async._core.html import facts_html, note_html
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.owned_batches import Tweets
from engagement_async._core.query import HISTORY_ENDS_AT, Bound, Query
from engagement_async._core.words import count
from engagement_async._display.reporting import ProgressOption
from engagement_async._engine.call_meter import size_of
from engagement_async.client import EngagementClient
from engagement_async.errors import AccessRefusedError, AuthError, SeriesError, UsageError
from engagement_async.series.gathering import GROUPING, Gathered, gather, shown
from engagement_async.series.lock import check_place, locked
from engagement_async.series.reports import Gap, PullReport, SeriesStatus, series_facts
from engagement_async.series.spans import HISTORY_BEGINS_AT, HOUR, Span, cover, hour_of
from engagement_async.series.store import Store
from engagement_async.series.watcher import Schedule, Watcher

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EngagementSeries", "FillSpan"]

_Result = TypeVar("_Result")
_ROWS_AT_ONCE = 5_000_000
"""Of a fill: some hundred megabytes."""
_LEVELS = {
    TOTALS.name: ("tweet.id", "engagement.type"),
    LAST_28_HOURS.name: ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
    HISTORICAL.name: ("tweet.id", "engagement.type", "engagement.day", "engagement.hour"),
}


class FillSpan(NamedTuple):
    """A span of at most four weeks that a fill asks for, and the Tweets with a gap in it."""

    starts_at: datetime
    """The first hour (aware, UTC)."""
    ends_at: datetime
    """The end of the last one (aware, UTC; exclusive)."""
    tweets: tuple[tuple[str, str], ...]
    """As `(owner, tweet_id)`."""

    @property
    def requests(self) -> int:
        """How many requests it takes, when none has to be sent twice."""
        return -(-len(self.tweets) // HISTORICAL.ids_per_request)


class EngagementSeries:
    """A running series: a DuckDB file with one row for each Tweet, metric and hour, and when it was seen.

    Pulls may overlap, be repeated, and come in any order: a pull replaces an hour when it saw more of it, and never adds. A
    pull is one transaction. Needs the extra `[series]`.

    API: https://docs.x.com/x-api/enterprise-gnip-2.0/fundamentals/engagement-api

    Examples:
        >>> series = EngagementSeries("tweets.duckdb")
        >>> await series.pull(client, tweet_ids)
        >>> await series.fill(client)

    Args:
        path: The DuckDB file. The first pull makes it.
        now: Returns the present, as an aware datetime.
    """

    def __init__(self, path: str | Path, *, now: Callable[[], datetime] | None = None) -> None:
        self.path = Path(path)
        self._now = now or _utc_now
        self._store = Store(self.path)

    def __repr__(self) -> str:
        return f"<EngagementSeries {self.path}>"

    def _repr_html_(self) -> str:
        """Return how far the series is, for notebooks: without a look at every hour of every Tweet."""
        title = f"EngagementSeries {self.path}"
        try:
            status, with_gaps = self._store.glance()
        except (SeriesError, UsageError) as error:
            return note_html(title, str(error))
        gaps = f"in the hours of {count(with_gaps, 'Tweet')}: fill closes them" if with_gaps else "none between pulls"
        return facts_html(title, [*series_facts(status), ("gaps", gaps)])

    async def pull(
        self,
        client: EngagementClient,
        tweet_ids: Tweets | None = None,
        *,
        endpoint: Endpoint = LAST_28_HOURS,
        engagement_types: Iterable[Metric | str] | None = None,
        on_answer: Callable[[Answer], None] | None = None,
        progress: ProgressOption = False,
    ) -> PullReport:
        """Ask for the last 28 hours of Tweets, or for their totals, and merge the answers into the store.

        Killed or cancelled at any moment, the store is as before or as after. An ID that failed leaves a gap.

        Args:
            client: An open client.
            tweet_ids: The Tweets of this pull, as for `EngagementClient.stream`; None for all Tweets of the store.
            endpoint: `LAST_28_HOURS`, or `TOTALS` for a snapshot.
            engagement_types: Metrics, of the first pull of this endpoint; later pulls have the same. None for all.
            on_answer: Called with each answer.
            progress: As for `EngagementClient.totals`: a bar, or a function that gets a `CallProgress`.

        Returns:
            What it came to.

        Raises:
            UsageError: There are no Tweets, or the query breaks a rule of the API.
            SeriesLockedError: Another pull is at work, or another program has the store open.
            OtherSeriesError: The file is something else, its series has other metrics, or one of the two has owners and the
                other has none.
            EngagementError: What `EngagementClient.stream` raises; the store is as before.
        """
        if endpoint.takes_bounds:
            raise UsageError("a pull is of the last 28 hours or of totals: historical is what fill asks")
        given = None if engagement_types is None else tuple(engagement_types)
        if given is not None:
            _query(endpoint, given)  # its rules, before anything is made
        async with self._locked():
            metrics = await _whole(self._store.prepare, endpoint, given)
            await asyncio.to_thread(self._store.check_owners, have_owners=client.has_owners)
            tweets = tweet_ids if tweet_ids is not None else await self._tracked()
            gathered = Gathered(_query(endpoint, metrics), self._now())
            async with shown(progress, self.path.name, size_of(tweets), client, on_answer) as add:
                await gather(client, gathered, tweets, add)
            if not gathered.readings:
                raise UsageError("there is no Tweet to pull: give tweet_ids")
            return await _whole(self._store.commit, gathered, self._now())

    async def fill(
        self,
        client: EngagementClient,
        *,
        start: Bound | None = None,
        on_answer: Callable[[Answer], None] | None = None,
        progress: ProgressOption = False,
    ) -> list[PullReport]:
        """Close the gaps from `/historical`, in as few requests as there can be: spans of at most four weeks.

        Each span is one transaction, or several where there are many Tweets. Later readings of hours that are there already
        replace them, as those of a pull do.

        Args:
            client: An open client.
            start: Extend the series of all Tweets back to this hour (UTC, from 2014-09-01 on). None: what lies between
                pulls alone.
            on_answer: Called with each answer.
            progress: As for `pull`; a Tweet counts once for each span that it is asked for.

        Returns:
            What each transaction came to; nothing if there was no gap.

        Raises:
            UsageError: There is no store, or `start` is out of the API's reach.
            SeriesLockedError: Another pull is at work, or another program has the store open.
            OtherSeriesError: The Tweets of the series have owners and the client's credentials none, or the reverse.
            EngagementError: What `EngagementClient.stream` raises; the spans before are in the store.
        """
        reports: list[PullReport] = []
        async with self._locked():
            metrics = await asyncio.to_thread(self._store.metrics, LAST_28_HOURS.name)
            if metrics is None:
                raise UsageError(f"{self.path}: there are no hours to fill between: pull first")
            await asyncio.to_thread(self._store.check_owners, have_owners=client.has_owners)
            if start is not None:
                await _whole(self._store.want_from, self._start(start, metrics))
            plan = await asyncio.to_thread(self.fill_plan)
            total = sum(len(part.tweets) for part in plan)
            async with shown(progress, self.path.name, total, client, on_answer) as add:
                for part in plan:
                    span = Span(part.starts_at, part.ends_at)
                    for tweets in _in_memory(part.tweets, span.hours * len(metrics)):
                        gathered = Gathered(_query(HISTORICAL, metrics, span), self._now(), span)
                        try:
                            await gather(client, gathered, _as_tweets(tweets), add)
                        except (AuthError, AccessRefusedError) as error:
                            if not await asyncio.to_thread(self._has_others, gathered, tweets):
                                raise
                            gathered.fail_rest(tweets, Failure(str(error), kind=FailureKind.CREDENTIALS))
                        reports.append(await _whole(self._store.commit, gathered, self._now()))
        return reports

    def _has_others(self, gathered: Gathered, tweets: Sequence[tuple[str, str]]) -> bool:
        """Return whether owners were refused of whom the series has others, without a gap: these then failed alone."""
        owners = {owner for owner, _ in tweets}
        return gathered.has_refused_owners and any(owner not in owners for owner, _ in self._store.tracked())

    async def watch(
        self,
        client: EngagementClient,
        tweet_ids: Callable[[], Tweets | None] | None = None,
        *,
        every_s: float,
        jitter_s: float = 0.0,
        endpoint: Endpoint = LAST_28_HOURS,
        engagement_types: Iterable[Metric | str] | None = None,
        fills: bool = True,
        on_pull: Callable[[PullReport], None] | None = None,
    ) -> None:
        """Pull on a schedule, until it is cancelled: a pull that is being committed is then finished, any other left out.

        A pull whose time is over is made at once, as after the machine slept, and the gap is filled. What may pass (an
        outage, a locked store) is tried again after a growing pause.

        Args:
            client: An open client.
            tweet_ids: Called before each pull for its Tweets; None for all Tweets of the store.
            every_s: Seconds from one pull to the next.
            jitter_s: Up to so many seconds are added at random.
            endpoint: `LAST_28_HOURS` or `TOTALS`.
            engagement_types: As for `pull`.
            fills: Whether gaps are filled after a pull.
            on_pull: Called with what each pull and each filled span came to.

        Raises:
            UsageError: `every_s` or `jitter_s` is no number of seconds.
            EngagementError: The credentials or the request are refused, or the store is damaged.
        """
        schedule = Schedule(every_s, jitter_s)
        given = None if engagement_types is None else tuple(engagement_types)
        watcher = Watcher(self, client, schedule, endpoint=endpoint, engagement_types=given, fills=fills, now=self._now)
        await watcher.run(tweet_ids or (lambda: None), on_pull or (lambda _: None))

    def fill_plan(self, *, start: Bound | None = None) -> list[FillSpan]:
        """Return what a fill asks for: spans, and the Tweets with a gap in each.

        Args:
            start: As for `fill`.

        Raises:
            UsageError: There is no store, or `start` is out of the API's reach.
        """
        now = hour_of(self._now().astimezone(UTC))
        wanted_from = None if start is None else self._start(start, LAST_28_HOURS.metrics)
        gaps = [
            (Span(max(gap.starts_at, HISTORY_BEGINS_AT), min(gap.ends_at, now)), gap.tweets)
            for gap in self._store.gaps(wanted_from)
        ]
        gaps = [(span, tweets) for span, tweets in gaps if span.hours > 0]
        plan = []
        for whole in cover(span for span, _ in gaps):
            inside = {
                tweet: None
                for span, tweets in gaps
                if span.starts_at < whole.ends_at and span.ends_at > whole.starts_at
                for tweet in tweets
            }
            plan.append(FillSpan(*whole, tuple(inside)))
        return plan

    def status(self) -> SeriesStatus:
        """Return how far the series is: Tweets, hours, gaps, corrections.

        Raises:
            UsageError: There is no store.
        """
        return self._store.status()

    def gaps(self) -> list[Gap]:
        """Return the hours between pulls that no answer held whole, by time.

        From the first hour of each Tweet to the last hour of the last pull that asked for it. The hour that was running then
        is not among them, nor are Tweets that are gone or of other owners.
        """
        return self._store.gaps()

    def tracked(self) -> list[tuple[str, str]]:
        """Return the Tweets that a pull asks when it is given none, as `(owner, tweet_id)`: all but the forbidden ones."""
        return self._store.tracked()

    def select(self, sql: str) -> list[tuple[str, str]]:
        """Return the Tweets that a query on the store finds, as `(owner, tweet_id)`.

        Args:
            sql: A query of DuckDB on the tables `tweets`, `hours`, `totals`, whose column is `tweet_id`, or whose columns
                are `owner` and `tweet_id`.

        Raises:
            UsageError: DuckDB refuses it, or it has other columns.
        """
        return self._store.select(sql)

    def metrics(self, endpoint: Endpoint = LAST_28_HOURS) -> tuple[str, ...] | None:
        """Return the metrics of an `endpoint` in this series; None before its first pull."""
        return self._store.metrics(endpoint.name)

    def last_pull_at(self, endpoint: Endpoint = LAST_28_HOURS) -> datetime | None:
        """Return when the last pull of an `endpoint` began (aware, UTC); None before the first one."""
        return self._store.last_pull_at(endpoint.name)

    def to_arrow(
        self,
        table: str = "hours",
        *,
        by: str = "hour",
        time_zone: str = "UTC",
        wide: bool = False,
        observed_at: bool = False,
    ) -> pa.Table:
        """Return a table of the series as a `pyarrow.Table`.

        `hours` has `owner` (where there are several), `tweet_id`, `engagement_type`, `engagement_hour` (UTC) or
        `engagement_day`, `value`, and `state`: `complete`, or `partial` where hours are cut or missing.

        Args:
            table: `hours`, `totals` (snapshots, each with its `delta` from the one before) or `corrections`.
            by: `hour` or `day`.
            time_zone: Whose days they are, as `Europe/Berlin`. An hour belongs to the day in which it begins.
            wide: Whether there is a column for each metric.
            observed_at: Whether the last column says when the value was received.

        Raises:
            UsageError: There is no store, no such table, period or time zone, or they do not go together.
        """
        import pyarrow as pa

        from engagement_async.series.tables import pieces

        wanted = _wanted(table, by, time_zone, wide=wide, observed_at=observed_at)
        return pa.concat_tables(pieces(self.path, wanted, self.metrics() or ()))

    def export(
        self,
        output: str | Path,
        table: str = "hours",
        *,
        by: str = "hour",
        time_zone: str = "UTC",
        wide: bool = False,
        observed_at: bool = False,
        excel: bool = False,
        format: str | None = None,  # noqa: A002 - its name everywhere
    ) -> list[str]:
        """Write a table of the series, and return the paths of the files.

        Args:
            output: A file, whose suffix is the format, `-` for the standard output, or a folder.
            table: As for `to_arrow`.
            by: As for `to_arrow`.
            time_zone: As for `to_arrow`.
            wide: As for `to_arrow`.
            observed_at: As for `to_arrow`.
            excel: Whether CSV is written so that Excel keeps the IDs.
            format: The format, if not the one of the suffix.

        Raises:
            UsageError: As for `to_arrow`, or there can be no such file.
        """
        from engagement_async.series.exporter import export_series

        wanted = _wanted(table, by, time_zone, wide=wide, observed_at=observed_at)
        metrics = self.metrics(TOTALS if wanted.table is wanted.table.TOTALS else LAST_28_HOURS)
        return export_series(self.path, str(output), format, wanted, metrics or (), excel=excel)

    def _start(self, start: Bound, metrics: Sequence[str]) -> datetime:
        query = Query(
            HISTORICAL,
            engagement_types=metrics,
            groupings={GROUPING: _LEVELS[HISTORICAL.name]},
            start=start,
            end=HISTORY_ENDS_AT - HOUR,  # so that an error is about `start`, which alone was given
        )
        span = query.span
        assert span is not None  # noqa: S101 - it was given
        now = hour_of(self._now().astimezone(UTC))
        if span[0] >= now:
            raise UsageError(
                f"start {query.start} is not before the current hour ({now:%Y-%m-%dT%H:%M:%SZ}): start earlier"
            )
        return span[0]

    async def _tracked(self) -> Tweets:
        tweets = await asyncio.to_thread(self._store.tracked)
        if not tweets:
            raise UsageError(f"{self.path}: there are no Tweets in this series yet: give tweet_ids")
        return _as_tweets(tweets)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        await asyncio.to_thread(check_place, self.path)
        with ExitStack() as stack:
            await _whole(stack.enter_context, locked(self.path))
            yield


def _query(endpoint: Endpoint, metrics: Sequence[str], span: Span | None = None) -> Query:
    start, end = span or (None, None)
    levels = _LEVELS[endpoint.name]
    return Query(endpoint, engagement_types=metrics, groupings={GROUPING: levels}, start=start, end=end)


def _wanted(table: str, by: str, time_zone: str, *, wide: bool, observed_at: bool) -> Any:
    from engagement_async.series.tables import Period, SeriesTable, TableQuery

    for value, kind in ((table, SeriesTable), (by, Period)):
        if value not in list(kind):
            raise UsageError(f"{value!r} is none of {', '.join(kind)}")
    return TableQuery(SeriesTable(table), Period(by), time_zone, wide=wide, observed_at=observed_at)


def _in_memory(tweets: Sequence[tuple[str, str]], rows_each: int) -> Iterator[Sequence[tuple[str, str]]]:
    """Yield the Tweets in parts whose answers fit into memory together, and fill whole requests."""
    requests = max(1, _ROWS_AT_ONCE // (rows_each * HISTORICAL.ids_per_request))
    size = requests * HISTORICAL.ids_per_request
    for at in range(0, len(tweets), size):
        yield tweets[at : at + size]


def _as_tweets(tweets: Iterable[tuple[str, str]]) -> Tweets:
    """Return Tweets as a client takes them: with owners where there are any."""
    tweets = list(tweets)
    if any(owner for owner, _ in tweets):
        return cast("Tweets", tweets)
    return [tweet_id for _, tweet_id in tweets]


async def _whole(function: Callable[..., _Result], *args: Any) -> _Result:
    """Run a function in a thread to its end, also if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _utc_now() -> datetime:
    return datetime.now(UTC)
