"""EngagementClient: composition of the parts, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self, cast, overload

from engagement_async import __version__
from engagement_async._core.answer import Answer
from engagement_async._core.batches import TweetIds, check_container, check_tweet_ids, chunk
from engagement_async._core.endpoints import ENDPOINTS, HISTORICAL, LAST_28_HOURS, TOTALS, GroupBy, Metric
from engagement_async._core.merging import Merger, merge_parts
from engagement_async._core.outcomes import Failure, FailureKind
from engagement_async._core.owned_batches import OwnedIds, Tweets, chunk_by_owner, have_owners
from engagement_async._core.query import Bound, Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.result import EngagementResult
from engagement_async._display.reporting import ProgressOption, check_progress, reporting
from engagement_async._engine.call_meter import CallMeter, size_of
from engagement_async._engine.coalescing import Coalescer
from engagement_async._engine.contracts import application_of, scheduler_for
from engagement_async._engine.observing import observed_call
from engagement_async._engine.scheduler import LocalScheduler, Scheduler, loop_clock
from engagement_async._engine.sender import Sender
from engagement_async._engine.source import Batches
from engagement_async._engine.stream import AnswerStream, ColumnarStream
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
from engagement_async.credential_store import CredentialStore, Lookup, as_store
from engagement_async.credentials import Credentials
from engagement_async.errors import UsageError
from engagement_async.proxy import Proxy

__all__ = ["ClientStatus", "EngagementClient"]

logger = logging.getLogger("engagement_async")


Groupings = Mapping[str, Sequence[GroupBy | str]]


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """What the client is doing at this moment: `in_flight` is how many requests have no answer yet."""

    requests: int
    """Requests sent so far, retries included."""
    in_flight: int
    """Requests sent and not answered yet."""
    waiting_s: float
    """Seconds until the next request may be sent, while a call waits for that; otherwise 0."""
    waiting_for: WaitReason | None
    """Why requests wait; None if none does."""
    trouble: str | None = None
    """Why nothing is answered at the moment, as a name that is not found; None if there is no such trouble."""


class EngagementClient:
    """Fetches metrics of any number of Tweets, within the rate limit of your contract. An async context manager.

    Open one client and share it: concurrent calls share its connections and, fairly, its rate limit. Clients of one process
    with the same host, application and `rate_limit` share that limit too.

    API: https://docs.x.com/x-api/enterprise-gnip-2.0/fundamentals/engagement-api

    Examples:
        >>> async with EngagementClient(credentials, rate_limit=RateLimit(300, period=60)) as client:
        ...     result = await client.totals(
        ...         tweet_ids,
        ...         engagement_types=["favorites", "replies"],
        ...         groupings={"by_tweet": ["tweet.id", "engagement.type"]},
        ...     )

    Args:
        credentials: `OAuth1Credentials` of the Tweets' owner, or `BearerCredentials` for the public metrics of totals. For
            Tweets of many owners a credential store: a `CredentialFile`, a mapping of owners to their credentials, a
            function that returns an owner's, or a class of your own.
        rate_limit: The limit in your contract, or several. Has no default, because a wrong guess costs money.
        concurrency: Maximum requests in flight across concurrent calls. Each additional concurrent call may always have one
            request in flight beyond this limit.
        base_url: Address of the API: https, or http to a loopback address.
        proxy: The HTTP proxy between this machine and the API: its address, with `user:password@` if it wants them, or a
            `Proxy`. Used for https alone. None: no proxy, whatever the environment says.
        allow_http_to: The name of a host, or several, that `base_url` may reach by plain http, which shows the credentials
            to the network: for an emulator in another container.
        scheduler: Used instead of `rate_limit`, to share one contract between clients or processes.
        outage_timeout_s: Seconds to wait for an API that answers nobody, before Tweets are reported as failed.
        timeouts: Seconds for one attempt.
        size_limits: The largest response that is read.
        tls: A TLS context of your own, for example with a private certificate authority.
        coalesce: Seconds within which calls of a few Tweets with the same query share requests; None to share none.

    Raises:
        UsageError: An option is not what it must be. States the rule, the value and the fix.
    """

    def __init__(
        self,
        credentials: Credentials | CredentialStore | Mapping[str, Credentials] | Lookup,
        *,
        rate_limit: RateLimit | Sequence[RateLimit] | None = None,
        concurrency: int = 16,
        base_url: str = DEFAULT_BASE_URL,
        proxy: Proxy | str | None = None,
        allow_http_to: str | Iterable[str] = (),
        scheduler: Scheduler | None = None,
        outage_timeout_s: float = DEFAULT_OUTAGE_TIMEOUT_S,
        timeouts: Timeouts | None = None,
        size_limits: SizeLimits | None = None,
        tls: ssl.SSLContext | None = None,
        coalesce: float | None = None,
    ) -> None:
        store = as_store(credentials)
        if store is None and not hasattr(credentials, "signer"):
            raise UsageError(
                "credentials is an OAuth1Credentials(...) or a BearerCredentials(...); for many owners a "
                "CredentialFile(...), or a mapping of owners to their credentials"
            )
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
        self._credentials: Credentials | CredentialStore = store or cast("Credentials", credentials)
        self._store = store
        self._base_url = checked_base_url(base_url, allow_http_to)
        proxy = proxy if proxy is None or isinstance(proxy, Proxy) else Proxy(proxy)
        if proxy is not None and self._base_url.scheme != "https":
            raise UsageError("proxy is for https alone: over plain http it would read the credentials. Leave it out")
        self._concurrency = concurrency
        self._outage_timeout_s = outage_timeout_s
        self._timeouts = timeouts or Timeouts()
        self._scheduler: Scheduler = scheduler or LocalScheduler(() if rate_limit is None else rate_limit)
        self._shares_contract = scheduler is None
        for limit in self._scheduler.limits:
            if limit.endpoint not in (None, *ENDPOINTS):
                raise UsageError(f"RateLimit has no endpoint {limit.endpoint!r}: name one of {', '.join(ENDPOINTS)}")
        self._size_limits = size_limits or SizeLimits()
        self._transport = AiohttpTransport(timeouts=self._timeouts, size_limits=self._size_limits, tls=tls, proxy=proxy)
        self._sender: Sender | None = None
        self._coalescer = None if coalesce is None else Coalescer(coalesce, self.stream_batches)

    def __repr__(self) -> str:
        return f"EngagementClient({str(self._base_url)!r}, concurrency={self._concurrency})"

    @property
    def has_owners(self) -> bool:
        """Whether its credentials are a store of many owners', so that `tweet_ids` come with owners."""
        return self._store is not None

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        try:
            if self._shares_contract:
                self._scheduler = scheduler_for(self._scheduler.limits, self._base_url, await self._application())
        except BaseException:  # what cannot be opened now may be later
            await self._transport.aclose()
            raise
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

    async def _application(self) -> Hashable:
        if self._store is None:
            return application_of(self._credentials)
        return await asyncio.to_thread(application_of, self._credentials)  # a store may read a file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client and its connections: what the end of `async with` does. A second time it does nothing.

        Raises nothing itself; in calls that are still running it is a `UsageError`.
        """
        try:
            if self._coalescer is not None:
                await self._coalescer.aclose()
        finally:  # also when the wait for the calls is cancelled
            sender, self._sender = self._sender, None
            if sender is not None:
                sender.end_calls()
            await self._transport.aclose()
            if sender is not None:
                sender.close_circuits()

    async def totals(
        self,
        tweet_ids: Tweets,
        *,
        engagement_types: Iterable[Metric | str],
        groupings: Groupings,
        timeout: float | None = None,  # noqa: ASYNC109 - it returns what came
        progress: ProgressOption = False,
    ) -> EngagementResult:
        """Return the current totals: POST /insights/engagement/totals, 250 Tweets per request.

        Args:
            tweet_ids: Any iterable or async iterable of `str` or integers. Each distinct ID is requested once. With a
                credential store: a mapping of owners to IDs, pairs `(owner, tweet_id)`, or `TweetsByOwner`.
            engagement_types: Metrics of the endpoint, at least one.
            groupings: Maps one to three names of your choice to `group_by` lists. Their order is the nesting order.
            timeout: Seconds after which the result has what came by then; all other IDs failed with `FailureKind.TIMEOUT`.
            progress: True for a bar on the terminal or in the notebook, or a function that gets a `CallProgress`.

        Returns:
            One merged result in which every ID has an outcome. Problems with individual Tweets are in it and never raise.

        Raises:
            UsageError: The call breaks a documented rule of the API. Nothing was sent.
            AuthError: The credentials were refused.
            AccessRefusedError: The API refuses this application or account.
            RequestRefusedError: The API refuses the request, whatever its IDs.
            ServerRefusedError: The address or the set-up is wrong.
            ProxyError: The proxy refuses.
            RateLimitedError: The API refused for the rate, without end.
        """
        query = Query(TOTALS, engagement_types=engagement_types, groupings=groupings)
        return await self._fetch(query, tweet_ids, timeout, progress)

    async def last_28_hours(
        self,
        tweet_ids: Tweets,
        *,
        engagement_types: Iterable[Metric | str],
        groupings: Groupings,
        timeout: float | None = None,  # noqa: ASYNC109 - it returns what came
        progress: ProgressOption = False,
    ) -> EngagementResult:
        """Return the last 28 hours: POST /insights/engagement/28hr, 25 Tweets per request.

        Args:
            tweet_ids: Any iterable or async iterable of `str` or integers. Each distinct ID is requested once. With a
                credential store: a mapping of owners to IDs, pairs `(owner, tweet_id)`, or `TweetsByOwner`.
            engagement_types: Metrics of the endpoint, at least one.
            groupings: Maps one to three names of your choice to `group_by` lists. Their order is the nesting order.
            timeout: Seconds after which the result has what came by then; all other IDs failed with `FailureKind.TIMEOUT`.
            progress: True for a bar on the terminal or in the notebook, or a function that gets a `CallProgress`.

        Returns:
            One merged result in which every ID has an outcome. Problems with individual Tweets are in it and never raise.

        Raises:
            UsageError: The call breaks a documented rule of the API. Nothing was sent.
            AuthError: The credentials were refused.
            AccessRefusedError: The API refuses this application or account.
            RequestRefusedError: The API refuses the request, whatever its IDs.
            ServerRefusedError: The address or the set-up is wrong.
            ProxyError: The proxy refuses.
            RateLimitedError: The API refused for the rate, without end.
        """
        query = Query(LAST_28_HOURS, engagement_types=engagement_types, groupings=groupings)
        return await self._fetch(query, tweet_ids, timeout, progress)

    async def historical(
        self,
        tweet_ids: Tweets,
        *,
        engagement_types: Iterable[Metric | str],
        groupings: Groupings,
        start: Bound | None = None,
        end: Bound | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it returns what came
        progress: ProgressOption = False,
    ) -> EngagementResult:
        """Return any time range since 2014-09-01: POST /insights/engagement/historical, 25 Tweets per request.

        Ranges of more than four weeks are split and merged. Without `start` and `end`: the last four weeks.

        Args:
            tweet_ids: Any iterable or async iterable of `str` or integers. Each distinct ID is requested once. With a
                credential store: a mapping of owners to IDs, pairs `(owner, tweet_id)`, or `TweetsByOwner`.
            engagement_types: Metrics of the endpoint, at least one.
            groupings: Maps one to three names of your choice to `group_by` lists. Their order is the nesting order.
            start: Inclusive start in UTC: `2015-08-01`, `2015-07-01T12:24:00Z`, a `date` or an aware `datetime`.
            end: Exclusive end, likewise.
            timeout: Seconds after which the result has what came by then; all other IDs failed with `FailureKind.TIMEOUT`.
            progress: True for a bar on the terminal or in the notebook, or a function that gets a `CallProgress`.

        Returns:
            One merged result in which every ID has an outcome. Problems with individual Tweets are in it and never raise.

        Raises:
            UsageError: The call breaks a documented rule of the API. Nothing was sent.
            AuthError: The credentials were refused.
            AccessRefusedError: The API refuses this application or account.
            RequestRefusedError: The API refuses the request, whatever its IDs.
            ServerRefusedError: The address or the set-up is wrong.
            ProxyError: The proxy refuses.
            RateLimitedError: The API refused for the rate, without end.
        """
        query = Query(HISTORICAL, engagement_types=engagement_types, groupings=groupings, start=start, end=end)
        return await self._fetch(query, tweet_ids, timeout, progress)

    @overload
    def stream(self, query: Query, tweet_ids: Tweets, *, columnar: Literal[True]) -> ColumnarStream: ...

    @overload
    def stream(self, query: Query, tweet_ids: Tweets, *, columnar: bool = False) -> AnswerStream: ...

    def stream(self, query: Query, tweet_ids: Tweets, *, columnar: bool = False) -> AnswerStream:
        """Return the answers one by one, in order of arrival, in bounded memory. Exactly one `Answer` per batch.

        Examples:
            >>> async with client.stream(query, tweet_ids) as answers:
            ...     async for answer in answers:
            ...         print(answer.tweet_ids, answer.groupings)

        Args:
            query: What to request of each Tweet.
            tweet_ids: Any iterable or async iterable of `str` or integers, read only as it is needed. With a credential
                store: a mapping of owners to IDs, pairs `(owner, tweet_id)`, or `TweetsByOwner`.
            columnar: Whether values are columns instead of dicts, for those who make Arrow tables of them (extra
                `[arrow]`): each answer is a `ColumnarAnswer`, with `to_arrow`, and takes about a third of the memory.

        Raises:
            UsageError: These credentials may not send this query, the client is not open, or pyarrow is not installed and
                `columnar` wants it. Iterating raises what the other methods raise.
        """
        return self.stream_batches(query, self._batches(query, tweet_ids), columnar=columnar)

    def _batches(self, query: Query, tweet_ids: Tweets) -> Batches:
        size = query.endpoint.ids_per_request
        if self._store is not None:
            return chunk_by_owner(cast("OwnedIds", tweet_ids), size)
        if query.is_by_owner or have_owners(tweet_ids):
            raise UsageError(
                "there are owners, in tweet_ids or in a grouping, and credentials is one owner's: give a CredentialFile, "
                "or a mapping of owners to their credentials; or drop the owners (a column `owner`, `owner` in group_by)"
            )
        return chunk(cast("TweetIds", tweet_ids), size)

    @overload
    def stream_batches(self, query: Query, batches: Batches, *, columnar: Literal[True]) -> ColumnarStream: ...

    @overload
    def stream_batches(self, query: Query, batches: Batches, *, columnar: bool = False) -> AnswerStream: ...

    def stream_batches(self, query: Query, batches: Batches, *, columnar: bool = False) -> AnswerStream:
        """Return the answers as `stream` does, for batches that were made before, as a durable job has them.

        Args:
            query: What to request of each Tweet.
            batches: Distinct IDs, at most `query.endpoint.ids_per_request` in each; numbered from 0, in order.
            columnar: As for `stream`.

        Raises:
            UsageError: As for `stream`, or `rate_limit` has no limit for this endpoint.
        """
        if self._store is None:
            check_query(query, cast("Credentials", self._credentials))
        query = _clipped(query)[0]
        if all(limit.endpoint not in (None, query.endpoint.name) for limit in self._scheduler.limits):
            raise UsageError(f"rate_limit has no limit for {query.endpoint.name}: add what the contract says of it")
        if columnar:
            return ColumnarStream(self._opened, query, batches)
        return AnswerStream(self._opened, query.without_owners(), batches)

    def status(self) -> ClientStatus:
        """Return what the client is doing at this moment, for example for a progress line.

        Raise `UsageError` if the client is not open.
        """
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
        trouble = sender.trouble or self._transport.trouble
        if reason is None and (owner_trouble := sender.owner_trouble) is not None:
            reason, trouble = WaitReason.OUTAGE, trouble or owner_trouble
        return ClientStatus(sender.requests, sender.in_flight, max(waiting_s, held_s), reason, trouble)

    @property
    def _opened(self) -> Sender:
        if self._sender is None:
            raise UsageError("the client is not open: use it in `async with EngagementClient(...) as client:`")
        return self._sender

    async def _fetch(
        self, query: Query, tweet_ids: Tweets, timeout_s: float | None, progress: ProgressOption
    ) -> EngagementResult:
        if timeout_s is not None:
            check_seconds("timeout", timeout_s)
        if progress is False:
            return await self._gather(query, tweet_ids, timeout_s, None)
        check_progress(progress)
        meter = CallMeter(size_of(tweet_ids), self.status, loop_clock())
        async with reporting(progress, query.endpoint.name, meter.progress):
            return await self._gather(query, tweet_ids, timeout_s, meter)

    async def _gather(
        self, query: Query, tweet_ids: Tweets, timeout_s: float | None, meter: CallMeter | None
    ) -> EngagementResult:
        query, notes = _clipped(query)
        if self._coalescer is not None and self._store is None and self._opened:
            ids = cast("TweetIds", tweet_ids)
            if self._coalescer.takes(ids, query):
                check_query(query, cast("Credentials", self._credentials))
                check_container(ids)  # read once: the caller may change them meanwhile
                tweet_ids = distinct = tuple(dict.fromkeys(check_tweet_ids(list(ids))))
                if distinct:
                    result = await self._share(self._coalescer, query, distinct, timeout_s)
                    result.notes = (*notes, *result.notes)
                    if meter is not None:
                        meter.add_ids(len(result.tweet_ids))
                    return result
        merger = Merger(query, notes=notes)
        add: Callable[[Answer], None] = merger.add
        batches = self._batches(query, tweet_ids)
        if meter is not None:
            batches, add = meter.counted(batches), meter.counting(add)
        async with self.stream_batches(query, batches) as answers:
            if meter is not None:
                meter.stream = answers
            try:
                async with asyncio.timeout(timeout_s) as scope:
                    async for answer in answers:
                        add(answer)
            except TimeoutError:
                if not scope.expired():  # the source's own
                    raise
                await answers.give_up(self.why_timed_out(timeout_s or 0.0))
                async for answer in answers:
                    add(answer)
            is_read = answers.is_read
        result = merger.result()
        if not is_read:
            note = "the time was over before tweet_ids was read to its end: IDs that no batch had yet are in no list"
            result.notes = (*result.notes, note)
        return result

    async def _share(
        self, coalescer: Coalescer, query: Query, tweet_ids: tuple[str, ...], timeout_s: float | None
    ) -> EngagementResult:
        """Return the result of a call that may share requests."""
        self._opened.check_loop()
        with observed_call(self._opened.observe(query.endpoint, shares_requests=True)):
            return await self._share_unobserved(coalescer, query, tweet_ids, timeout_s)

    async def _share_unobserved(
        self, coalescer: Coalescer, query: Query, tweet_ids: tuple[str, ...], timeout_s: float | None
    ) -> EngagementResult:
        parts: list[Answer] = []
        try:
            async with asyncio.timeout(timeout_s) as scope:
                return await coalescer.fetch(query, tweet_ids, parts)
        except TimeoutError:
            if not scope.expired():
                raise
        known = {i for part in parts for i in part.tweet_ids}
        rest = tuple(i for i in tweet_ids if i not in known)
        late = Answer(0, rest, failed_tweet_ids=dict.fromkeys(rest, self.why_timed_out(timeout_s or 0.0)))
        merger = Merger(query)
        merger.add(merge_parts(0, tweet_ids, [*parts, late], query))
        return merger.result()

    def why_timed_out(self, timeout_s: float) -> Failure:
        """Return why IDs have no answer when the time of a call is over: for `AnswerStream.give_up`.

        Args:
            timeout_s: How many seconds it had.
        """
        status = self.status()
        why = status.trouble or (f"waiting for {status.waiting_for.text}" if status.waiting_for else "")
        return Failure(f"no answer within {timeout_s:g} s{f' ({why})' if why else ''}", kind=FailureKind.TIMEOUT)


def _clipped(query: Query) -> tuple[Query, tuple[str, ...]]:
    """Return the query without the future, which the API supports no `end` in, and a note if it had some."""
    clipped = query.clipped_to(datetime.now(UTC))
    if clipped is query:
        return query, ()
    note = f"end {query.end} is in the future, which the API has no values of: requested until {clipped.end}"
    logger.warning("%s", note)
    return clipped, (note,)


def check_query(query: Query, credentials: Credentials) -> None:
    """Raise `UsageError` if these credentials may not send this query."""
    if not credentials.is_app_only:
        return
    if not query.endpoint.public_metrics:
        raise UsageError(f"{query.endpoint.name} needs OAuth 1.0a of the Tweets' owner: give OAuth1Credentials")
    private = [metric for metric in query.engagement_types if metric not in query.endpoint.public_metrics]
    if private:
        raise UsageError(
            f"a Bearer token can request public metrics only, not {', '.join(private)}: take them out, or give "
            f"OAuth1Credentials of the Tweets' owner (public: {', '.join(query.endpoint.public_metrics)})"
        )
