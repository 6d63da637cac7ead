"""MachineScheduler: one contract for all processes, threads and event loops of a machine, without any server."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import platform
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from engagement_async._core.rate_limit import Ledger, RateLimit
from engagement_async._engine.scheduler import CLOSED, Lane, LaneScheduler, new_ledger_name
from engagement_async.config import DEFAULT_BASE_URL, parsed_base_url
from engagement_async.credential_store import CredentialFile
from engagement_async.credentials import Credentials
from engagement_async.distributed.boot import boot_clock
from engagement_async.distributed.ledger_file import HEARTBEAT_S, LedgerFile
from engagement_async.distributed.ledger_folder import OpenFile, make_private_folder
from engagement_async.errors import UsageError

__all__ = ["MachineScheduler", "default_state_dir"]

logger = logging.getLogger("engagement_async")

REOPEN_S = 0.5


def default_state_dir() -> Path:
    """Return where this user's ledgers are: `ENGAGEMENT_STATE_DIR`, or `~/.local/state/engagement-async`.

    A home that is somebody else's, as with `sudo` that keeps HOME, is not this user's: the one of the password database
    is taken. Raise `FileNotFoundError` when there is none.
    """
    given = os.environ.get("ENGAGEMENT_STATE_DIR", "").strip()
    return Path(given).expanduser() if given else _home() / ".local/state/engagement-async"


def _home() -> Path:
    from pwd import getpwuid

    try:
        home = Path.home()
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "this user has no home") from None
    with suppress(KeyError, FileNotFoundError):
        if home.stat().st_uid != os.geteuid():
            own = Path(getpwuid(os.geteuid()).pw_dir)
            if own.stat().st_uid == os.geteuid():
                return own
    if not home.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {home}")
    return home


class MachineScheduler(LaneScheduler):
    """Keeps one contract for all processes of this machine and user: a `scheduler` for clients and jobs.

    >>> async with (
    ...     MachineScheduler(RateLimit(300), credentials=credentials) as scheduler,
    ...     EngagementClient(credentials, scheduler=scheduler) as client,
    ... ):
    ...     ...

    `limits` are what the contract says. Which contract it is follows from the host of `base_url` and the application of the
    `credentials`; or name it with `contract`. Only a keyed hash of it is stored, as the name of a folder below `state_dir`
    (without it `ENGAGEMENT_STATE_DIR`, or `~/.local/state/engagement-async`). Processes are served in turns.

    What a killed process had in flight counts as aborted, and may arrive for `quarantine_s` seconds, or for its client's
    own timeout where that is known to be longer. `clock` gives the seconds since boot and `wall_clock` those since 1970:
    both must be the same in all processes.

    Each event loop takes an object of its own: several of one process share the contract like several processes. It can be
    pickled, if its credentials can: what comes of that is another scheduler of the same contract. Where
    no folder can be written, a warning says so, and the contract is kept within this object; where a folder that was in
    use is lost and cannot be made again, nothing is granted until it can. Raise `UsageError` for limits that a ledger
    cannot hold, or when it is not clear which contract is meant.
    """

    def __init__(
        self,
        limits: RateLimit | Sequence[RateLimit],
        *,
        credentials: Credentials | CredentialFile | None = None,
        base_url: str = DEFAULT_BASE_URL,
        contract: str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        quarantine_s: float = 60.0,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if (credentials is None) == (contract is None):
            raise UsageError(
                "which contract is it? Give MachineScheduler the credentials that spend it, or a name as contract=..."
            )
        if credentials is not None and getattr(credentials, "fingerprint", None) is None:
            raise UsageError("these credentials do not say whose they are: name the contract with contract=...")
        host = parsed_base_url(base_url).authority
        limits = Ledger(limits if isinstance(limits, Sequence) else [limits]).limits
        self._file = LedgerFile(limits, quarantine_s=quarantine_s, clock=clock, wall_clock=wall_clock)
        super().__init__(self._file, quarantine_s=quarantine_s, clock=clock)
        self._state_dir = Path(state_dir) if state_dir is not None else None
        self._again = partial(
            MachineScheduler,
            limits,
            credentials=credentials,
            base_url=base_url,
            contract=contract,
            state_dir=self._state_dir,
            quarantine_s=quarantine_s,
            clock=clock,
            wall_clock=wall_clock,
        )
        self._what = partial(_what, host, credentials, contract)
        self._time = clock
        self._opening: asyncio.Future[None] | None = None
        self._was_open = self._warned_of_folder = False
        self.is_shared = True
        """Whether other processes share the contract; no longer where no folder can be written."""
        self._beats_in: asyncio.AbstractEventLoop | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return self._again, ()  # raises what its credentials raise, where they hold secrets

    async def __aenter__(self) -> Self:
        """Open the ledger now, and not with the first request."""
        await self._open_soon()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def acquire(self, lane: Lane, *, retry: bool = False) -> Any:
        """Return a token, once the contract has one. A cancelled wait costs nothing.

        `lane` is this scheduler's; a `retry` goes before first attempts of its lane. Raise `UsageError` when another event
        loop uses this object, or after `close`.
        """
        loop = self.bind()
        if self._file.needs_opening and self.is_shared:
            await asyncio.shield(self._open_soon())
        if self._file.is_closed:
            raise UsageError(CLOSED)
        if self._beats_in is not loop and self.is_shared:
            self._beats_in = loop
            loop.call_later(HEARTBEAT_S, self._beat, loop)
        return await super().acquire(lane, retry=retry)

    def available(self, limit: RateLimit, *, since: Any = None) -> int:
        """Return how many requests of `limit` may be sent, the pace apart, `since` a token; 0 until the ledger is open."""
        if self._file.needs_opening and self.is_shared:
            self._open_soon()
        return super().available(limit, since=since)

    def close(self) -> None:
        """Leave the contract: what is in flight counts as aborted. A process that ends does so by itself.

        Raise `UsageError` in whoever still waits for a token.
        """
        self._beats_in = None
        self._file.close()
        self.fail_waiting(UsageError(CLOSED))

    def _open_soon(self) -> asyncio.Future[None]:
        """Open the ledger, in a thread: files may be slow."""
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening.get_loop() is not loop:
            self._opening = loop.create_task(self._open())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # told to who acquires
        return self._opening

    async def _open(self) -> None:
        try:
            file = await asyncio.to_thread(self._open_file)
        except OSError as error:
            # A process that may open no more files may do so again, and the others share the contract meanwhile.
            if not self._was_open and error.errno not in (errno.EMFILE, errno.ENFILE):
                self._keep_apart(error)
                return
            self._warn_of_folder(error)
            await asyncio.sleep(REOPEN_S)
        else:
            self._was_open, self._warned_of_folder = True, False
            self._file.install(file)
        finally:
            self._opening = None

    def _keep_apart(self, error: OSError) -> None:
        """Do without the others, before anything was granted."""
        self.is_shared = False
        ledger = Ledger(self.limits, name=new_ledger_name())
        for answered_at, endpoint in self._file.earlier:
            ledger.count_earlier(answered_at, self._time(), endpoint)
        self.replace_ledger(ledger)
        logger.warning(
            "the contract is kept within this process alone, because %s cannot be written (%s): name another folder "
            "with ENGAGEMENT_STATE_DIR",
            self._place,
            error.strerror,
        )

    def _warn_of_folder(self, error: OSError) -> None:
        """Warn that files are gone, or not to be had for now: a ledger apart would not know what others spend."""
        if not self._warned_of_folder:
            self._warned_of_folder = True
            logger.warning(
                "the ledger of this contract %s %s cannot be written (%s): nothing is granted until it can",
                "was lost, and" if self._was_open else "is not open:",
                self._place,
                error.strerror,
            )

    @property
    def _place(self) -> str:
        given = self._state_dir or os.environ.get("ENGAGEMENT_STATE_DIR", "").strip()
        return str(given or "~/.local/state/engagement-async")

    def _open_file(self) -> OpenFile:
        try:
            state_dir = default_state_dir() if self._state_dir is None else self._state_dir.expanduser()
        except RuntimeError:
            raise FileNotFoundError(errno.ENOENT, "this user has no home") from None
        key = _machine_key(state_dir)
        what = self._what(key).encode(errors="surrogateescape")  # a name that is given to a command is any bytes
        name = hashlib.blake2b(what, key=key, digest_size=16).hexdigest()
        return OpenFile(state_dir / "contracts" / name)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look after the file now and then, as long as others must know what this process spent."""
        if self._beats_in is not loop:
            return
        now = self._time()
        self._file.refresh(now)
        if self._file.needs_opening and self.is_shared:
            self._open_soon()
        if self._file.is_active(now):
            loop.call_later(HEARTBEAT_S, self._beat, loop)
        else:
            self._beats_in = None


def _what(host: str, credentials: Credentials | CredentialFile | None, contract: str | None, key: bytes) -> str:
    """Return what the contract is, to be hashed with that key."""
    if credentials is None:
        return f"name {contract}"
    return f"host {host} of {credentials.fingerprint(key)}"  # type: ignore[union-attr] # seen to be there


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
