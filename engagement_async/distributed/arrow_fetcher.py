"""ArrowFetcher, the kernel of pipelines: tables of IDs in, tables of values and outcomes out, in any process."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from typing import TYPE_CHECKING, Any, Self

from engagement_async._core.owned_batches import TweetsByOwner
from engagement_async._core.query import Query
from engagement_async._core.rate_limit import RateLimit
from engagement_async._engine.scheduler import LocalScheduler
from engagement_async.client import EngagementClient
from engagement_async.credentials import BearerCredentials
from engagement_async.distributed.process_clients import ClientRecipe, ClientThread, client_thread
from engagement_async.distributed.references import Reference
from engagement_async.errors import UsageError
from engagement_async.proxy import Proxy

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowFetcher"]

_FUNCTION = "a function without parameters that can be imported by its name, and that returns {} there"
_FIX_CREDENTIALS = (
    "give EnvironmentCredentials(), a CredentialFile(path) whose file has the consumer pair, or "
    f"{_FUNCTION.format('the credentials')}"
)
_FIX_SCHEDULER = f"give a RedisScheduler(...) without its password, or {_FUNCTION.format('the scheduler')}"
_NOT_HERE = ("rate_limit", "scheduler", "coalesce")


class ArrowFetcher:
    """Fetches the values of a table of IDs as another table: a callable that can be sent to the processes of an engine.

    It takes a `pyarrow.Table` with a column `id` (or `tweet_id`; int64, uint64, text or a dictionary of those), and with
    `owner` where credentials are those of many owners. It returns a `pyarrow.Table` of `schema`: one row a value, and one
    of each ID without values, in input order, each distinct ID once. `state` says what came of an ID: `answered`,
    `unavailable`, `unsupported`, `forbidden`, `failed`, or `pending`, where the API answered nobody; `detail` says why.

    The copies of a fetcher in one process share a client, on one event loop in a thread of its own. They may be called from
    any number of threads and event loops, and after a fork.

    Nothing secret is pickled. Processes make their credentials and their scheduler themselves: pickle what says where
    they are, as `EnvironmentCredentials()`, a `CredentialFile`, and a `RedisScheduler` or `MachineScheduler`, or a function
    that can be imported by its name.

    Examples:
        >>> fetcher = ArrowFetcher(
        ...     Query(TOTALS, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}),
        ...     credentials=EnvironmentCredentials(),
        ...     scheduler=RedisScheduler("rediss://redis.example", RateLimit(300), contract="reports"),
        ... )
        >>> table = fetcher(pa.table({"id": ["1070059276213702656"]}))

    Args:
        query: What to request of each Tweet, with one grouping, by Tweet.
        credentials: As for `EngagementClient`, or a function without parameters that returns them.
        scheduler: What all processes that use the contract have in common, or a function without parameters that returns
            it. A `LocalScheduler` counts for one process.
        wide: Whether there is one row for all metrics of a Tweet (of a day, an hour), with a column for each.
        client_options: Further options of `EngagementClient`, such as `base_url`; or functions as above, as for `tls`.

    Raises:
        UsageError: An option is not what it must be, or pyarrow is not installed. When it is pickled: it holds what must not
            leave its process; the message names the fix.
    """

    def __init__(
        self, query: Query, *, credentials: Any, scheduler: Any, wide: bool = False, **client_options: Any
    ) -> None:
        from engagement_async.distributed import arrow_tables

        if not isinstance(query, Query):
            raise UsageError(f"query is a Query(...), not a {type(query).__name__}")
        if isinstance(scheduler, RateLimit):
            raise UsageError(
                "scheduler is a RedisScheduler(...), a MachineScheduler(...) or, for one process alone, a "
                "LocalScheduler(RateLimit(...)): each process would spend a RateLimit for itself"
            )
        self.query = query
        self.wide = wide
        self.schema: pa.Schema = arrow_tables.schema_of(query, wide=wide)
        """The columns of every table that it returns."""
        _check_options(client_options)
        self._recipe = ClientRecipe(
            uuid.uuid4().hex,
            Reference("credentials", credentials, _FIX_CREDENTIALS),
            Reference("scheduler", scheduler, _FIX_SCHEDULER),
            {
                name: Reference(name, _without_secrets(value), f"give {_FUNCTION.format('it')}")
                for name, value in client_options.items()
            },
        )

    def __repr__(self) -> str:
        return f"ArrowFetcher({self.query!r}{', wide=True' if self.wide else ''})"

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the values and outcomes of the IDs in `table`, as a table of `schema`. Blocks this thread alone.

        Raise `UsageError` for a table that is none of IDs, and what the methods of `EngagementClient` raise.
        """
        thread = client_thread()
        if thread.is_running_this():
            raise UsageError("this would wait for itself: use `await fetcher.fetch(table)` in coroutines")
        future = thread.submit(self._fetch(thread, table))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def fetch(self, table: pa.Table) -> pa.Table:
        """Return the values and outcomes of the IDs in `table`, as a table of `schema`; on any event loop.

        Raise `UsageError` for a table that is none of IDs, and what the methods of `EngagementClient` raise.
        """
        thread = client_thread()
        return await asyncio.wrap_future(thread.submit(self._fetch(thread, table)))

    async def _fetch(self, thread: ClientThread, table: pa.Table) -> pa.Table:
        from engagement_async.distributed import arrow_tables

        given, owners = arrow_tables.ids_of(table), arrow_tables.owners_of(table)
        if not given:
            return self.schema.empty_table()
        ids = list(dict.fromkeys(given))
        async with thread.client(self._recipe) as client:
            tweets: Any = ids if owners is None else TweetsByOwner(list(zip(owners, given, strict=True)))
            async with client.stream(self.query, tweets, columnar=True) as stream:
                answers = [answer async for answer in stream]
        return await asyncio.to_thread(arrow_tables.answers_table, answers, self.query, ids, wide=self.wide)

    # --- the end ---

    def close(self) -> None:
        """Close this process's client, once the calls that use it have ended; the end of the process does so too.

        A later call opens another one.
        """
        thread = client_thread()
        thread.submit(thread.close(self._recipe.token)).result()

    async def aclose(self) -> None:
        """Close as `close` does, and wait for it without blocking the event loop. Raises nothing itself."""
        thread = client_thread()
        await asyncio.wrap_future(thread.submit(thread.close(self._recipe.token)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _without_secrets(option: Any) -> Any:
    """Return a proxy that has a password as an object, which is not pickled, and one without as a text, which is."""
    if isinstance(option, Proxy) and not option.has_credentials:
        return str(option.url)
    return Proxy(option) if isinstance(option, str) and "@" in option else option


def _check_options(options: dict[str, Any]) -> None:
    """Raise `UsageError` for what no client takes: here, and not in the processes of an engine."""
    known = inspect.signature(EngagementClient).parameters
    for name in options:
        if name not in known or name in ("credentials", *_NOT_HERE):
            raise UsageError(
                f"an ArrowFetcher has no option {name!r}: it takes those of EngagementClient but {_NOT_HERE}"
            )
    values = {name: value for name, value in options.items() if not callable(value)}
    EngagementClient(BearerCredentials("none"), scheduler=LocalScheduler(RateLimit(1)), **values)
