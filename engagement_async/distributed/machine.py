"""MachineScheduler: one contract for all processes, threads and event loops of a machine, without any server."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import platform
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engagement_async._core.rate_limit import Ledger, RateLimit
from engagement_async._engine.scheduler import Lane, LaneScheduler
from engagement_async.config import DEFAULT_BASE_URL, checked_base_url
from engagement_async.credentials import Credentials
from engagement_async.distributed.ledger_file import LedgerFile, boot_clock, make_private_folder
from engagement_async.errors import UsageError

__all__ = ["MachineScheduler", "default_state_dir"]

logger = logging.getLogger("engagement_async")

HEARTBEAT_S = 0.25


def default_state_dir() -> Path:
    """Return where this user's ledgers are: `ENGAGEMENT_STATE_DIR`, or `~/.local/state/engagement-async`."""
    given = os.environ.get("ENGAGEMENT_STATE_DIR")
    return Path(given) if given else Path.home() / ".local" / "state" / "engagement-async"


class MachineScheduler(LaneScheduler):
    """Keeps one contract for all processes of this machine and user: a `scheduler` for clients and jobs.

    >>> scheduler = MachineScheduler(RateLimit(300), credentials=credentials)
    >>> async with EngagementClient(credentials, scheduler=scheduler) as client: ...

    Which contract it is follows from the host of `base_url` and the application of the `credentials`; or name it with
    `contract`. Only a keyed hash of it is stored, as the name of a folder below `state_dir`. Processes are served in turns.
    What a killed one had in flight counts as aborted, and may arrive for as long as its `quarantine_s`, or its client's
    timeouts.

    Each event loop takes an object of its own: several of one process share the contract like several processes. Where
    no folder can be written, a warning says so, and the contract is kept within this object.
    """

    def __init__(
        self,
        limits: RateLimit | Sequence[RateLimit],
        *,
        credentials: Credentials | None = None,
        base_url: str = DEFAULT_BASE_URL,
        contract: str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        quarantine_s: float = 60.0,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        limits = tuple(Ledger(limits if isinstance(limits, Sequence) else [limits]).limits)
        self._file: LedgerFile | None = None
        folder = Path(state_dir) if state_dir is not None else default_state_dir()
        try:
            name = _folder_name(folder, credentials, base_url, contract)
            self._file = LedgerFile(
                folder / "contracts" / name, limits, quarantine_s=quarantine_s, clock=clock, wall_clock=wall_clock
            )
        except OSError as error:
            logger.warning(
                "the contract is kept within this process alone, because %s cannot be written (%s): name another folder "
                "with ENGAGEMENT_STATE_DIR",
                folder,
                error.strerror,
            )
        super().__init__(self._file or Ledger(limits), quarantine_s=quarantine_s, clock=clock)
        self._heartbeat: asyncio.TimerHandle | None = None

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        """Return a token, once the contract has one. A cancelled wait costs nothing."""
        token = await super().acquire(lane, retry=retry)
        if self._heartbeat is None and self._file is not None:
            self._heartbeat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)
        return token

    def close(self) -> None:
        """Leave the contract: what is in flight counts as aborted. A process that ends does so by itself."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._file is not None:
            self._file.close()

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._bind(loop)
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    def _beat(self) -> None:
        self._heartbeat = None
        if self._file is not None and self._loop is not None:
            now = self._clock()
            self._file.refresh(now)
            if self._file.is_active(now):
                self._heartbeat = self._loop.call_later(HEARTBEAT_S, self._beat)


def _folder_name(state_dir: Path, credentials: Credentials | None, base_url: str, contract: str | None) -> str:
    """Return a keyed hash of what the contract is."""
    if (credentials is None) == (contract is None):
        raise UsageError(
            "which contract is it? Give MachineScheduler the credentials that spend it, or a name as contract=..."
        )
    key = _machine_key(state_dir)
    if credentials is not None:
        fingerprint = getattr(credentials, "fingerprint", None)
        if fingerprint is None:
            raise UsageError("these credentials do not say whose they are: name the contract with contract=...")
        what = f"host {checked_base_url(base_url).authority} of {fingerprint(key)}"
    else:
        what = f"name {contract}"
    return hashlib.blake2b(what.encode(), key=key, digest_size=16).hexdigest()


def _machine_key(state_dir: Path) -> bytes:
    """Return a key that this machine and user have, and no other: folders that are shared by network do no harm."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    if not machine:
        machine = _stored_key(state_dir)
    return hashlib.blake2b(f"{machine} {platform.node()} {os.getuid()}".encode(), digest_size=32).digest()


def _stored_key(state_dir: Path) -> str:
    path = state_dir / "key"
    make_private_folder(state_dir)
    if not path.exists():
        made = state_dir / f"key.{secrets.token_hex(8)}"
        made.touch(mode=0o600)
        made.write_text(secrets.token_hex(16))
        with suppress(FileExistsError):
            os.link(made, path)  # the first one wins, and it is whole
        made.unlink()
    return path.read_text()
