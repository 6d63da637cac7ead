"""One contract is one number: clients of one process that spend the same contract share its ledger.

The same contract is the same host, the same application (its consumer key or Bearer token) and the same limits. Clients on
one event loop share a scheduler, so that they are as fair to each other as the calls of one client; loops of different
threads share the ledger under a lock. A client that is opened after another was closed finds what that one spent.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Hashable, Iterable
from time import monotonic

from yarl import URL

from engagement_async._core.rate_limit import Ledger, RateLimit, Token
from engagement_async._engine.scheduler import LaneScheduler, loop_clock, new_ledger_name
from engagement_async.credential_store import CredentialStore
from engagement_async.credentials import Credentials

__all__ = ["forget_contracts", "scheduler_for"]

POLL_S = 0.1
"""What other threads give back is seen after so long at the latest."""
QUARANTINE_S = 60.0
"""What a loop that was closed had in flight may still arrive for so long."""

_FINGERPRINT_KEY = secrets.token_bytes(16)


class _Share:
    """One scheduler's access to a ledger that schedulers of several threads use."""

    poll_s = POLL_S

    def __init__(self, ledger: Ledger, lock: threading.Lock) -> None:
        self._ledger = ledger
        self._lock = lock
        self._out: set[Token] = set()
        self.name = ledger.name
        self.limits = ledger.limits
        self.shortest_window_s = ledger.shortest_window_s

    @property
    def held_until(self) -> float:
        return self._ledger.held_until

    def reserve(self, now: float, endpoint: str | None = None) -> Token | float:
        with self._lock:
            token = self._ledger.reserve(now, endpoint)
            if isinstance(token, Token):
                self._out.add(token)
            return token

    def settle(self, token: Token, now: float) -> None:
        with self._lock:
            self._out.discard(token)
            self._ledger.settle(token, now)

    def abandon(self, token: Token, now: float, within_s: float) -> None:
        with self._lock:
            self._out.discard(token)
            self._ledger.abandon(token, now, within_s)

    def abandon_all(self, now: float, within_s: float) -> None:
        for token in list(self._out):
            self.abandon(token, now, within_s)

    def refund(self, token: Token) -> None:
        with self._lock:
            self._out.discard(token)
            self._ledger.refund(token)

    def count_earlier(
        self, answered_at: Iterable[float], now: float, endpoint: str | None = None, *, known_by: str = ""
    ) -> None:
        with self._lock:
            self._ledger.count_earlier(answered_at, now, endpoint, known_by=known_by)

    def hold_until(self, at: float) -> None:
        with self._lock:
            self._ledger.hold_until(at)

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        with self._lock:
            self._ledger.cap(limit, remaining, now, until)

    def available(self, limit: RateLimit, now: float, *, since: Token | None = None) -> int:
        with self._lock:
            return self._ledger.available(limit, now, since=since)

    def capped_until(self, now: float) -> float:
        with self._lock:
            return self._ledger.capped_until(now)


class _Contract:
    """A ledger, its clock, and a scheduler for each event loop that spends it."""

    def __init__(self, limits: tuple[RateLimit, ...], clock: Callable[[], float], *, has_own_time: bool) -> None:
        self._ledger = Ledger(limits, name=new_ledger_name())
        self._clock = clock
        self._has_own_time = has_own_time
        self._lock = threading.Lock()
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[_Share, LaneScheduler]] = {}

    def scheduler(self, loop: asyncio.AbstractEventLoop) -> LaneScheduler:
        if loop not in self._of_loops:
            share = _Share(self._ledger, self._lock)
            self._of_loops[loop] = share, LaneScheduler(share, clock=self._clock)
        return self._of_loops[loop][1]

    def leave_closed_loops(self) -> None:
        for loop in [loop for loop in self._of_loops if loop.is_closed()]:
            share, _ = self._of_loops.pop(loop)
            share.abandon_all(self._clock(), QUARANTINE_S)

    @property
    def is_forgettable(self) -> bool:
        """Whether nobody spends this contract, and nothing that was spent counts any more."""
        return not self._of_loops and (self._has_own_time or self._ledger.is_idle(self._clock()))


_contracts: dict[Hashable, _Contract] = {}
_lock = threading.Lock()


def scheduler_for(limits: tuple[RateLimit, ...], base_url: URL, application: Hashable) -> LaneScheduler:
    """Return the scheduler of this contract for the running event loop. `application` is what `application_of` returns."""
    loop = asyncio.get_running_loop()
    clock = loop_clock(loop)
    has_own_time = isinstance(loop, asyncio.BaseEventLoop) and type(loop).time is not asyncio.BaseEventLoop.time
    key = (
        str(base_url.origin()),
        application,
        limits,
        loop if has_own_time else None,  # whose instants say nothing to another loop
    )
    with _lock:
        for known, contract in list(_contracts.items()):
            contract.leave_closed_loops()
            if contract.is_forgettable:
                del _contracts[known]
        if key not in _contracts:
            _contracts[key] = _Contract(limits, clock if has_own_time else monotonic, has_own_time=has_own_time)
        return _contracts[key].scheduler(loop)


def application_of(credentials: Credentials | CredentialStore) -> Hashable:
    """Return what tells this application from others: credentials of another make are each their own."""
    fingerprint = getattr(credentials, "fingerprint", None)
    if fingerprint is not None:
        return str(fingerprint(_FINGERPRINT_KEY))
    return credentials if isinstance(credentials, Hashable) else id(credentials)


def forget_contracts() -> None:
    """Start afresh, as a new process does: for tests."""
    with _lock:
        _contracts.clear()
