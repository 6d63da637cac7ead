"""EngagementClient: puts the parts together; nothing else."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from engagement_async import __version__
from engagement_async._core.batches import TweetIds, chunk
from engagement_async._core.endpoints import ENDPOINTS, HISTORICAL, LAST_28_HOURS, TOTALS, GroupBy, Metric
from engagement_async._core.merging import Merger
from engagement_async._core.query import Bound, Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.result import EngagementResult
from engagement_async._engine.coalescing import Coalescer
from engagement_async._engine.contracts import scheduler_for
from engagement_async._engine.scheduler import LocalScheduler, Scheduler
from engagement_async._engine.sender import Sender
from engagement_async._engine.source import Batches
from engagement_async._engine.stream import AnswerStream
from engagement_async._engine.transport import AiohttpTransport
from engagement_async._progress import WaitReason
from engagement_async.config import (
    DEFAULT_BASE_URL,
    DEFAULT_OUTAGE_TIMEOUT_S,
    SizeLimits,
    Timeouts,
    check_seconds,
    checked_base_url,
)
from engagement_async.credentials import Credentials
from engagement_async.errors import UsageError

__all__ = ["ClientStatus", "EngagementClient"]

logger = logging.getLogger("engagement_async")


Groupings = Mapping[str, Sequence[GroupBy | str]]


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """What the client is doing at this moment: `in_flight` is how many requests have no answer yet."""

    requests: int
    """Sent so far, retries included."""
    in_flight: int
    waiting_s: float
    """Seconds until the contract grants the next request, while somebody waits for one; else 0."""
    waiting_for: WaitReason | None
    """What it is `waiting_for`; None when nothing is waited for."""


class EngagementClient:
    """Fetch the engagement of any number of Tweets, and never exceed the contract. An async context manager.

    >>> async with EngagementClient(credentials, rate_limit=RateLimit(300, period=60)) as client:
    ...     result = await client.totals(
    ...         tweet_ids,
    ...         engagement_types=["favorites", "replies"],
    ...         groupings={"by_tweet": ["tweet.id", "engagement.type"]},
    ...     )

    `credentials` are `OAuth1Credentials`, or `BearerCredentials` for public metrics. `rate_limit` is what the contract says,
    one limit or several; it has no default, because a guess costs money. Give a `scheduler` instead to share one contract
    between clients. `concurrency` is how many requests may be in flight; calls that run at the same time share them, and
    each has one of its own beside them. `base_url` is where the API is: https, or http on this machine.
    `outage_timeout_s` is how many seconds an API that does not answer is waited for before Tweets are reported as failed.
    `timeouts` are those of one attempt, `size_limits` the largest response that is read, `tls` a context with CAs of your
    own. With `coalesce`, calls of a few Tweets with the same query that are made within so many seconds share requests.

    Raise `UsageError` for options that cannot be. The methods send each distinct ID once, and raise `UsageError` before the
    first request when a rule of the API is broken, `AuthError` when the credentials are refused, and another `APIError`
    when going on could only waste requests. Problems with single Tweets never raise: they are in the result.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        rate_limit: RateLimit | Sequence[RateLimit] | None = None,
        concurrency: int = 16,
        base_url: str = DEFAULT_BASE_URL,
        scheduler: Scheduler | None = None,
        outage_timeout_s: float = DEFAULT_OUTAGE_TIMEOUT_S,
        timeouts: Timeouts | None = None,
        size_limits: SizeLimits | None = None,
        tls: ssl.SSLContext | None = None,
        coalesce: float | None = None,
    ) -> None:
        if not hasattr(credentials, "signer"):
            raise UsageError("credentials is an OAuth1Credentials(...) or a BearerCredentials(...)")
        if (rate_limit is None) == (scheduler is None):
            raise UsageError(
                "rate_limit is what your contract says, as RateLimit(300, period=60); or give a scheduler instead of it"
            )
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise UsageError(f"concurrency is a whole number from 1 on, not {concurrency!r}")
        check_seconds("outage_timeout_s", outage_timeout_s)
        if coalesce is not None:
            check_seconds("coalesce", coalesce)
        for name, value, kind in (
            ("timeouts", timeouts, Timeouts),
            ("size_limits", size_limits, SizeLimits),
            ("tls", tls, ssl.SSLContext),
        ):
            if value is not None and not isinstance(value, kind):
                raise UsageError(f"{name} is a {kind.__name__}(...), not {value!r}")
        self._credentials = credentials
        self._base_url = checked_base_url(base_url)
        self._concurrency = concurrency
        self._outage_timeout_s = outage_timeout_s
        self._timeouts = timeouts or Timeouts()
        self._scheduler: Scheduler = scheduler or LocalScheduler(() if rate_limit is None else rate_limit)
        self._shares_contract = scheduler is None
        for limit in self._scheduler.limits:
            if limit.endpoint not in (None, *ENDPOINTS):
                raise UsageError(f"RateLimit has no endpoint {limit.endpoint!r}: name one of {', '.join(ENDPOINTS)}")
        self._size_limits = size_limits or SizeLimits()
        self._transport = AiohttpTransport(timeouts=self._timeouts, size_limits=self._size_limits, tls=tls)
        self._sender: Sender | None = None
        self._coalescer = None if coalesce is None else Coalescer(coalesce, self.stream_batches)

    def __repr__(self) -> str:
        return f"EngagementClient({str(self._base_url)!r}, concurrency={self._concurrency})"

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        if self._shares_contract:
            self._scheduler = scheduler_for(self._scheduler.limits, self._base_url, self._credentials)
        self._sender = Sender(
            transport=self._transport,
            scheduler=self._scheduler,
            credentials=self._credentials,
            base_url=self._base_url,
            concurrency=self._concurrency,
            outage_timeout_s=self._outage_timeout_s,
            quarantine_s=self._timeouts.total_s,
            json_depth=self._size_limits.json_depth,
            user_agent=f"engagement-async/{__version__}",
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._coalescer is not None:
            await self._coalescer.aclose()
        self._sender = None
        await self._transport.__aexit__(kind, error, trace)

    async def totals(
        self, tweet_ids: TweetIds, *, engagement_types: Iterable[Metric | str], groupings: Groupings
    ) -> EngagementResult:
        """Return the current totals (POST /insights/engagement/totals, 250 Tweets a request).

        `tweet_ids` is any iterable or async iterable of `str` or `int`. `engagement_types` are the metrics. `groupings` maps
        one to three names to lists of `tweet.id` and `engagement.type`, in the order of nesting. Raise `UsageError`,
        `AuthError` or another `APIError`: see `EngagementClient`. The rules:
        https://developer.twitter.com/en/docs/twitter-api/enterprise/engagement-api/api-reference/post-insights-engagement
        """
        return await self._fetch(Query(TOTALS, engagement_types=engagement_types, groupings=groupings), tweet_ids)

    async def last_28_hours(
        self, tweet_ids: TweetIds, *, engagement_types: Iterable[Metric | str], groupings: Groupings
    ) -> EngagementResult:
        """Return the last 28 hours (POST /insights/engagement/28hr, 25 Tweets a request).

        `tweet_ids` is any iterable or async iterable of `str` or `int`. `engagement_types` are the metrics. `groupings` maps
        one to three names to lists of `tweet.id`, `engagement.type`, `engagement.day` and `engagement.hour`, in the order of
        nesting; days and hours are UTC. Raise as `totals` does.
        """
        return await self._fetch(
            Query(LAST_28_HOURS, engagement_types=engagement_types, groupings=groupings), tweet_ids
        )

    async def historical(
        self,
        tweet_ids: TweetIds,
        *,
        engagement_types: Iterable[Metric | str],
        groupings: Groupings,
        start: Bound | None = None,
        end: Bound | None = None,
    ) -> EngagementResult:
        """Return any span since 2014-09-01 (POST /insights/engagement/historical, 25 Tweets and four weeks a request).

        `tweet_ids`, `engagement_types` and `groupings` are those of `last_28_hours`. `start` is inclusive, `end` exclusive:
        a date, a datetime (UTC when it is naive) or the API's own text; with neither, the last four weeks. A longer span is
        split into requests of at most four weeks, and merged. Raise as `totals` does.
        """
        query = Query(HISTORICAL, engagement_types=engagement_types, groupings=groupings, start=start, end=end)
        return await self._fetch(query, tweet_ids)

    def stream(self, query: Query, tweet_ids: TweetIds) -> AnswerStream:
        """Return a stream of the answers to `query` about `tweet_ids`, in order of arrival and in bounded memory.

        >>> async with client.stream(query, tweet_ids) as answers:
        ...     async for answer in answers:
        ...         ...

        `tweet_ids` is any iterable or async iterable of `str` or `int`. There is exactly one `Answer` per batch, with all of
        its IDs. Raise `UsageError` when these credentials may not send the query.
        """
        return self.stream_batches(query, chunk(tweet_ids, query.endpoint.ids_per_request))

    def stream_batches(self, query: Query, batches: Batches) -> AnswerStream:
        """Return a stream of the answers to `query`, one for each of `batches` that were made before, as a job has them.

        `batches` is an iterator or async iterator of `Batch`. Raise `UsageError` when these credentials may not send the
        query, or when no limit counts its endpoint.
        """
        check_query(query, self._credentials)
        query = _clipped(query)[0]
        if all(limit.endpoint not in (None, query.endpoint.name) for limit in self._scheduler.limits):
            raise UsageError(f"rate_limit has no limit for {query.endpoint.name}: add what the contract says of it")
        return AnswerStream(self._opened, query, batches)

    def status(self) -> ClientStatus:
        """Return what the client is doing at this moment: for a progress line."""
        sender = self._opened
        waiting_s = self._scheduler.waiting_s
        held_s = self._scheduler.held_s
        reason = None
        if sender.is_any_circuit_open:
            reason = WaitReason.OUTAGE
        elif held_s:
            reason = WaitReason.RATE_LIMITED
        elif waiting_s:
            reason = WaitReason.CONTRACT
        return ClientStatus(sender.requests, sender.in_flight, max(waiting_s, held_s), reason)

    @property
    def _opened(self) -> Sender:
        if self._sender is None:
            raise UsageError("the client is not open: use it in `async with EngagementClient(...) as client:`")
        return self._sender

    async def _fetch(self, query: Query, tweet_ids: TweetIds) -> EngagementResult:
        query, notes = _clipped(query)
        if self._coalescer is not None and self._opened and self._coalescer.takes(tweet_ids, query):
            check_query(query, self._credentials)
            return await self._coalescer.fetch(query, tweet_ids)
        merger = Merger(query, notes=notes)
        async with self.stream(query, tweet_ids) as answers:
            async for answer in answers:
                merger.add(answer)
        return merger.result()


def _clipped(query: Query) -> tuple[Query, tuple[str, ...]]:
    """Return the query without the future, which the API supports no `end` in, and a note if it had some."""
    clipped = query.clipped_to(datetime.now(UTC))
    if clipped is query:
        return query, ()
    note = f"end {query.end} is in the future, which the API has no values of: asked until {clipped.end}"
    logger.warning("%s", note)
    return clipped, (note,)


def check_query(query: Query, credentials: Credentials) -> None:
    """Raise `UsageError` when these credentials may not send this query."""
    if not credentials.is_app_only:
        return
    if not query.endpoint.public_metrics:
        raise UsageError(f"{query.endpoint.name} needs OAuth 1.0a of the Tweets' owner: give OAuth1Credentials")
    private = [metric for metric in query.engagement_types if metric not in query.endpoint.public_metrics]
    if private:
        raise UsageError(
            f"a Bearer token may ask public metrics alone, not {', '.join(private)}: take them out, or give "
            f"OAuth1Credentials of the Tweets' owner (public: {', '.join(query.endpoint.public_metrics)})"
        )
