"""RedisScheduler: one contract for processes of many machines, kept in Redis or Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

from engagement_async._core.endpoints import ENDPOINTS
from engagement_async._core.rate_limit import Ledger, RateLimit
from engagement_async._engine.scheduler import CLOSED, Lane, LaneScheduler
from engagement_async.distributed.boot import boot_clock
from engagement_async.distributed.redis_ledger import MOST_WANTED, RedisLedger
from engagement_async.distributed.redis_link import RedisAddress, RedisLink
from engagement_async.errors import UsageError

__all__ = ["RedisScheduler"]


class RedisScheduler(LaneScheduler):
    """Keeps one contract for all processes that name it, on any number of machines: a `scheduler` for clients and jobs.

    >>> async with (
    ...     RedisScheduler("rediss://redis.example", RateLimit(300), contract="reports", password=...) as scheduler,
    ...     EngagementClient(credentials, scheduler=scheduler) as client,
    ... ):
    ...     ...

    `url` is `redis://`, `rediss://` (TLS, with the certificates of `ca_file` or of the system), `unix://`, or
    `rediss+sentinel://one,two/service`; `username` and `password` may stand in it or apart from it. Unencrypted connections
    are for this machine, unless `allow_plaintext`. All processes give the same `limits` and `contract`, a name.

    While Redis does not answer, nothing is granted, and a warning says so. Where it does not know what was spent before (it
    was flushed or restarted, another one took over, or it is asked for the first time), each limit waits for one window.
    A process that was not heard of for 15 s counts as gone: what it had in flight may arrive for `quarantine_s` seconds,
    or for its client's own timeout where that is known to be longer. Without a password it can be pickled: what comes of
    that is another scheduler of the same contract.

    Raise `UsageError` for an address or a name that cannot be, and when the extra `[redis]` is not installed; what Redis
    refuses (a wrong password, missing rights) is raised to those who wait.
    """

    def __init__(
        self,
        url: str,
        limits: RateLimit | Sequence[RateLimit],
        *,
        contract: str,
        username: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        allow_plaintext: bool = False,
        quarantine_s: float = 60.0,
    ) -> None:
        address = RedisAddress.of(
            url, username=username, password=password, ca_file=ca_file, allow_plaintext=allow_plaintext
        )
        RedisLink.check(contract)
        limits = Ledger(limits if isinstance(limits, Sequence) else [limits]).limits
        for limit in limits:
            if limit.endpoint not in (None, *ENDPOINTS):
                raise UsageError(f"RateLimit has no endpoint {limit.endpoint!r}: name one of {', '.join(ENDPOINTS)}")
        self._redis = RedisLedger(
            limits,
            connect=partial(RedisLink, address, contract),
            wanted=partial(self.count_waiting, MOST_WANTED),
            on_change=self.reconsider,
            on_error=self.fail_waiting,
            quarantine_s=quarantine_s,
            place=str(address),
        )
        super().__init__(self._redis, quarantine_s=quarantine_s, clock=boot_clock)
        self._again = None
        if address.password is None:
            self._again = partial(
                RedisScheduler,
                url,
                limits,
                contract=contract,
                username=username,
                ca_file=ca_file,
                allow_plaintext=allow_plaintext,
                quarantine_s=quarantine_s,
            )

    def __reduce__(self) -> tuple[object, ...]:
        if self._again is None:
            raise TypeError("RedisScheduler holds a password and is not pickled: make it anew in the other process")
        return self._again, ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        """Return a token, once the contract has one. A cancelled wait costs nothing.

        `lane` is this scheduler's; a `retry` goes before first attempts of its lane. Raise `UsageError` when another event
        loop uses this object, or after `aclose`.
        """
        if self._redis.is_closed:
            raise UsageError(CLOSED)
        return await super().acquire(lane, retry=retry)

    async def aclose(self) -> None:
        """Give everything back, if Redis answers, and close the connection. Raise `UsageError` in whoever still waits."""
        self.fail_waiting(UsageError(CLOSED))
        await self._redis.aclose()

    @property
    def exchanges(self) -> int:
        """Return how many exchanges with Redis there were."""
        return self._redis.exchanges
