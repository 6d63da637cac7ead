"""The contract of a command: who else spends it, on this machine or on others, and what keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import click

from engagement_async._core.rate_limit import RateLimit
from engagement_async._engine.scheduler import Scheduler
from engagement_async.cli.config import Settings
from engagement_async.cli.options import all_of
from engagement_async.cli.parameters import NAMED
from engagement_async.credential_store import CredentialFile
from engagement_async.credentials import Credentials
from engagement_async.distributed import MachineScheduler, RedisScheduler
from engagement_async.errors import UsageError

__all__ = ["Contract", "Given", "scheduler_options"]

MACHINE: Final = "machine"
PROCESS: Final = "process"

scheduler_options = all_of(
    click.option(
        "--scheduler",
        type=NAMED,
        metavar="machine|process|redis://…",
        help="Who shares the rate limit: all commands on this machine [default], this one alone, or all that use the same "
        "Redis or Valkey. Also ENGAGEMENT_SCHEDULER.",
    ),
    click.option(
        "--contract",
        type=NAMED,
        metavar="NAME",
        help="The name under which the rate limit is shared. Needed with Redis; on one machine the application's consumer "
        "key tells contracts apart. Also ENGAGEMENT_CONTRACT.",
    ),
    click.option(
        "--allow-plaintext-redis", is_flag=True, help="Allow redis:// to another machine, within a network you trust."
    ),
)


class Given(TypedDict, total=False):
    """What of a contract a client or a job is given: one of the two."""

    rate_limit: Sequence[RateLimit]
    scheduler: Scheduler


@dataclass(frozen=True, slots=True)
class Contract:
    """What a command knows of its contract. `of` checks it before anything is sent."""

    limits: tuple[RateLimit, ...]
    credentials: Credentials | CredentialFile
    base_url: str
    name: str | None
    scheduler: str
    redis: dict[str, Any]
    """How Redis is reached, beside the address."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        limits: tuple[RateLimit, ...],
        credentials: Credentials | CredentialFile,
        base_url: str,
        *,
        scheduler: str | None,
        contract: str | None,
        allow_plaintext_redis: bool,
    ) -> Contract:
        """Return the contract of the flags, or else of the settings. Raise `UsageError` for what cannot be."""
        given, name = settings.get("scheduler", scheduler) or MACHINE, settings.get("contract", contract)
        found = cls(
            limits,
            credentials,
            base_url,
            name,
            given,
            {
                "username": settings.get("redis_username"),
                "password": settings.get("redis_password"),
                "ca_file": settings.get("redis_ca_file"),
                "allow_plaintext": allow_plaintext_redis,
            },
        )
        if name is not None and "://" in name:
            raise UsageError("--contract takes a name, such as reports; an address goes in --scheduler")
        if given == PROCESS and name is not None:
            raise UsageError("--scheduler process shares the rate limit with nobody: leave out --contract")
        if given not in (MACHINE, PROCESS):
            _, is_address, rest = given.partition("://")
            if "@" in (rest.partition("/")[0] if is_address else given):
                raise UsageError(
                    "--scheduler has a user or password in it, which others can see: set ENGAGEMENT_REDIS_USERNAME and "
                    "ENGAGEMENT_REDIS_PASSWORD, or the same in the configuration file"
                )
            if not is_address:
                raise UsageError(f"--scheduler is machine, process, or an address as redis://localhost, not {given!r}")
            if name is None:
                raise UsageError(
                    "--scheduler with an address needs --contract NAME: all that share it give the same one"
                )
            found.redis_scheduler()
        return found

    def limits_of(self, endpoint: str) -> list[RateLimit]:
        """Return the limits that count the requests to an endpoint. Raise `UsageError` if there is none."""
        limits = [limit for limit in self.limits if limit.endpoint in (None, endpoint)]
        if not limits:
            raise UsageError(f"--limit has none for {endpoint}: add what the contract says of it, as --limit 300/min")
        return limits

    def redis_scheduler(self) -> RedisScheduler:
        return RedisScheduler(self.scheduler, self.limits, contract=self.name or "", **self.redis)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Given]:
        """Yield what a client or a job is given."""
        if self.scheduler == PROCESS:
            yield {"rate_limit": self.limits}
        elif self.scheduler == MACHINE:
            async with self._machine_scheduler() as machine:
                # Where no folder can be written, a job's own memory of its last minute counts.
                yield {"scheduler": machine} if machine.is_shared else {"rate_limit": self.limits}
        else:
            async with self.redis_scheduler() as redis:
                yield {"scheduler": redis}

    def _machine_scheduler(self) -> MachineScheduler:
        if self.name is not None:
            return MachineScheduler(self.limits, contract=self.name)
        return MachineScheduler(self.limits, credentials=self.credentials, base_url=self.base_url)
