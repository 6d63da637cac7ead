"""A ledger that processes of one machine share: a small file, under a lock that a kill releases.

- **Killed at any instant.** A change is made in a copy of the block, the copy is written to the half of the file that is not
  in use, and one byte says which half is. The next process that is blocked by what a dead one had in flight counts that
  as aborted.
- **Swept, moved, cut short or replaced.** Whoever finds another block than it knew, or an older copy, grants nothing for one
  window, since what was spent is not known; each living process enters what it has in flight. That the contract was in
  use, a new process knows by the slots' files; where there are none, it waits for a moment, in which those that live come.
- **Rebooted.** Instants are those of a clock that runs since boot, the same in all processes. A file of another boot is
  translated by the wall clock, and what the disk may lack counts as spent.
- **A lock that is not to be had**, because its holder is stopped, makes nobody wait: what came back is entered later, in
  order, and nothing is granted until then. So it is before the file is open, and when it cannot be written: opening is the
  one thing that may take time, and whoever has an event loop does it in a thread.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.shared_block import SLOTS, block_bytes
from engagement_async._core.shared_ledger import SharedLedger, SharedToken
from engagement_async._core.shared_slots import check_limits
from engagement_async.distributed.boot import boot_clock
from engagement_async.distributed.ledger_folder import OpenFile
from engagement_async.errors import UsageError

__all__ = ["HEARTBEAT_S", "LedgerFile"]

logger = logging.getLogger("engagement_async")

T = TypeVar("T")

HEARTBEAT_S = 0.1
"""How often a process that has spent anything looks whether the file is still the one that others use."""
JOIN_S = 0.25
"""A new ledger grants nothing for so long: if it is in place of one that was swept away, whoever is alive comes."""
SPINS = 200
"""Tries at the lock, each some microseconds: who holds it does so for about thirty."""
BUSY_RETRY_S, LONGEST_RETRY_S = 0.001, 0.05
LOOK_FOR_DEAD_S = 0.25
TOUCH_S = 0.5
STUCK_S = 5.0

_all: weakref.WeakSet[LedgerFile] = weakref.WeakSet()


class LedgerFile:
    """This process's part in the ledger of a contract: what a `LaneScheduler` wants of a ledger.

    Nothing is granted before `install` was called with an `OpenFile`, and again where `needs_opening`.
    """

    def __init__(
        self,
        limits: Sequence[RateLimit],
        *,
        quarantine_s: float = 60.0,
        clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        check_limits(limits)
        self.limits = tuple(limits)
        self.shortest_window_s = min(limit.window_s for limit in limits)
        self.longest_window_s = max(limit.window_s for limit in limits)
        self.poll_s = min(0.25, self.shortest_window_s / 4)
        self.quarantine_s = quarantine_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._out: Counter[str | None] = Counter()  # in flight, as far as the block knows
        self._deferred: deque[tuple[Callable[[SharedLedger], object], Callable[[], object]]] = deque()
        self.earlier: list[tuple[list[float], str | None]] = []
        """When requests were answered that are to be counted, and of which endpoint: those that are not entered yet."""
        self._scratch = bytearray(block_bytes())
        self._copy = memoryview(self._scratch)
        self._ledger = SharedLedger(self.limits, self._scratch)
        self._used_bytes = self._ledger.used_bytes
        self._file: OpenFile | None = None
        self._slot_file = -1
        self._is_closed = False
        self._asked_at = self._used_at = self._touched_at = self._looked_for_dead_at = -math.inf
        self._installed_at = self._looked_at = -math.inf
        self._busy_since = math.inf
        self._retry_s = BUSY_RETRY_S
        self._warned_of_lock = self._warned_of_disk = False
        _all.add(self)

    # --- what a scheduler wants of a ledger ---

    def reserve(self, now: float, endpoint: str | None = None) -> SharedToken | float:
        """Return a token, or the instant to try again at."""
        self._asked_at = now
        token = self._enter(now, lambda ledger: self._reserve(ledger, now, endpoint))
        if token is None:
            self._retry_s = min(LONGEST_RETRY_S, 1.5 * self._retry_s)
            return now + self._retry_s
        self._retry_s = BUSY_RETRY_S
        if isinstance(token, SharedToken):
            self._out[endpoint] += 1
            self._used_at = now
        return token

    def _reserve(self, ledger: SharedLedger, now: float, endpoint: str | None) -> SharedToken | float:
        token = ledger.reserve(now, endpoint)
        if isinstance(token, float) and now >= self._looked_for_dead_at + LOOK_FOR_DEAD_S:
            self._looked_for_dead_at = now
            self._count_dead(ledger, now)
        return token

    @property
    def name(self) -> str:
        """The random number of the file's block; empty until that was seen, and holds what earlier processes sent."""
        return "" if self.earlier else _name_of(self._ledger.number)

    def count_earlier(
        self, answered_at: Iterable[float], now: float, endpoint: str | None = None, *, known_by: str = ""
    ) -> None:
        """Count requests of another ledger. The file remembers what processes of this machine sent: see `known_by`."""
        instants = list(answered_at)
        self.earlier.append((instants, endpoint))
        self._used_at = max(self._used_at, now)  # a file that is lost forgets them: then everybody waits

        def count(ledger: SharedLedger) -> None:
            if not known_by or _name_of(ledger.block.number) != known_by:
                ledger.count_earlier(instants, now, endpoint)

        self._do(now, count, self.earlier.clear)

    def settle(self, token: SharedToken, now: float) -> None:
        if self._mark_returned(token, now):
            self._do(now, lambda ledger: ledger.settle(token, now), self._one_less(token))

    def abandon(self, token: SharedToken, now: float, within_s: float) -> None:
        self.quarantine_s = max(self.quarantine_s, within_s)
        if self._mark_returned(token, now):
            self._do(now, lambda ledger: ledger.abandon(token, now, within_s), self._one_less(token))

    def refund(self, token: SharedToken) -> None:
        now = self._clock()
        if self._mark_returned(token, now):
            self._do(now, lambda ledger: ledger.refund(token, now), self._one_less(token))

    def abandon_all(self, now: float, within_s: float) -> None:
        """Count all that is in flight as aborted; whatever is done with a token of before changes nothing."""
        self.quarantine_s = max(self.quarantine_s, within_s)

        def rejoin(ledger: SharedLedger) -> None:
            ledger.note_quarantine(self.quarantine_s)
            ledger.join(ledger.slot, now, owner=new_owner())

        self._do(now, rejoin, self._out.clear)

    def hold_until(self, at: float) -> None:
        self._do(self._clock(), lambda ledger: ledger.hold_until(at))

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        if limit not in self.limits:
            raise ValueError(f"{limit} is not in this ledger")
        self._do(now, lambda ledger: ledger.cap(limit, remaining, now, until))

    def available(self, limit: RateLimit, now: float, *, since: SharedToken | None = None) -> int:
        return self._enter(now, lambda ledger: ledger.available(limit, now, since)) or 0

    def capped_until(self, now: float) -> float:
        at = self._enter(now, lambda ledger: ledger.capped_until(now))
        return -math.inf if at is None else at

    @property
    def held_until(self) -> float:
        at = self._enter(self._clock(), lambda ledger: ledger.held_until)
        return -math.inf if at is None else at

    # --- its life ---

    def is_active(self, now: float) -> bool:
        """Whether `refresh` should be called now and then: others must know what this process has spent."""
        return bool(self._deferred or +self._out) or now < max(self._asked_at, self._used_at) + self._remembered_s

    def refresh(self, now: float) -> None:
        """Enter what could not be entered, and see whether the file is still the one that others use."""
        self._enter(now, lambda _: None)

    def close(self) -> None:
        """Give the slot up. What is in flight counts as aborted."""
        if not self._is_closed:
            now = self._clock()
            self._do(now, lambda ledger: ledger.leave(now))
            self._is_closed = True
        self._close_files()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def needs_opening(self) -> bool:
        """Whether an `OpenFile` must be installed: the first one, or one in place of a file that was swept away."""
        return self._file is None and not self._is_closed

    def install(self, file: OpenFile) -> None:
        """Use that file from now on."""
        if self._is_closed:
            file.close()
            return
        self._close_files()
        self._file = file
        self._installed_at = self._clock()
        self.refresh(self._installed_at)

    def __del__(self) -> None:
        self._close_files()

    def _close_files(self) -> None:
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            file.close()
        slot_file, self._slot_file = getattr(self, "_slot_file", -1), -1
        if slot_file >= 0:
            os.close(slot_file)

    def start_anew(self) -> None:
        """Be another process: this one was forked off, and must not use the files of its parent."""
        self._close_files()
        self._out.clear()
        self._deferred.clear()
        self.earlier.clear()
        self._ledger = SharedLedger(self.limits, self._scratch)
        self._used_at = -math.inf

    # --- the lock ---

    def _do(
        self, now: float, change: Callable[[SharedLedger], object], after: Callable[[], object] = lambda: None
    ) -> None:
        """Make the change, or leave it for later when the ledger is not to be had: in order, and never lost.

        `after` is called when it was written.
        """
        if not self._is_closed:
            self._deferred.append((change, after))
            self.refresh(now)

    def _one_less(self, token: SharedToken) -> Callable[[], object]:
        return lambda: self._out.subtract((token.endpoint,))

    def _enter(self, now: float, ask: Callable[[SharedLedger], T]) -> T | None:
        """Return what the ledger answers, under the lock of all and with all that was deferred entered.

        None when it is not to be had now: nothing was changed then, and nothing granted.
        """
        file = self._lock(now)
        if file is None:
            return None
        try:
            self._load(file, now)
            for change, _ in self._deferred:
                change(self._ledger)
            answer = ask(self._ledger)
            self._store(file, now)
        except OSError as error:
            self._warn_of_disk(file, error)
            return None
        finally:
            file.unlock()
        self._warned_of_disk = False
        while self._deferred:
            self._deferred.popleft()[1]()
        return answer

    def _lock(self, now: float) -> OpenFile | None:
        file = self._file
        if file is None:
            return None
        for _ in range(SPINS):
            if file.lock():
                break
            os.sched_yield()
        else:
            self._warn_of_lock(file, now)
            return None
        self._busy_since = math.inf
        if file.is_deleted() or self._is_elsewhere(file, now):
            self._close_files()  # and their locks with them: the slot is in the same folder
            return None
        return file

    def _is_elsewhere(self, file: OpenFile, now: float) -> bool:
        """Return whether the file was moved.

        Looked for every `HEARTBEAT_S`, so that a move is noticed before a new file in its place grants anything (`JOIN_S`);
        at every request while this file may be so new that others are still joining it.
        """
        if now < self._looked_at + HEARTBEAT_S and now >= self._installed_at + 2 * JOIN_S:
            return False
        self._looked_at = now
        return file.is_elsewhere()

    def _load(self, file: OpenFile, now: float) -> None:
        """Read the half that is in use, and see that this process has a place in it."""
        ledger = self._ledger
        wall = self._wall_clock()
        is_whole = self._read(file)
        is_lost = False
        if not is_whole or not ledger.is_valid():
            ledger.begin(file.boot, now, wall, number=secrets.randbits(63) | 1)
            ledger.freeze_until(now + JOIN_S)
            is_lost = wall < file.used_at + self._remembered_s
        elif not ledger.is_of_boot(file.boot):
            ledger.cross_boot(file.boot, now, wall)
        is_another = ledger.is_another()
        if is_lost or (is_another and now < self._used_at + self._remembered_s):
            self._freeze(file, now)
        if is_another or self._slot_file < 0 or not ledger.has_slot:
            self._join(file, now)
        if self._must_touch(now):
            self._touched_at = now
            os.utime(self._slot_file)

    def _read(self, file: OpenFile) -> bool:
        """Read no more than is in use. Return whether all of it was there."""
        used = self._used_bytes
        is_whole = file.read(self._copy, used) == used
        if (now_used := self._ledger.used_bytes) > used:
            is_whole = file.read_on(self._copy, used, now_used) == now_used - used and is_whole
        return is_whole

    def _store(self, file: OpenFile, now: float) -> None:
        self._ledger.stamp(now, self._wall_clock())
        self._used_bytes = self._ledger.used_bytes
        file.write(self._copy[: self._used_bytes])
        self._ledger.note_seen()

    def _must_touch(self, now: float) -> bool:
        return now >= self._touched_at + TOUCH_S

    def _freeze(self, file: OpenFile, now: float) -> None:
        """Wait a window: the ledger was lost, and with it what others have spent."""
        self._ledger.freeze_until(now + self.longest_window_s)
        logger.warning(
            "the ledger of this contract was lost (%s): waiting %.0f s, since what was spent is not known",
            file.folder,
            self.longest_window_s,
        )

    def _warn_of_lock(self, file: OpenFile, now: float) -> None:
        self._busy_since = min(self._busy_since, now)
        if now > self._busy_since + STUCK_S and not self._warned_of_lock:
            self._warned_of_lock = True
            logger.warning(
                "another process has held the ledger of this contract for %.0f s (%s): nothing is granted until it goes on",
                STUCK_S,
                file.folder,
            )

    def _warn_of_disk(self, file: OpenFile, error: OSError) -> None:
        if not self._warned_of_disk:
            self._warned_of_disk = True
            logger.warning(
                "the ledger of this contract cannot be written (%s: %s): nothing is granted until it can",
                file.folder,
                error.strerror,
            )

    @property
    def _remembered_s(self) -> float:
        """Seconds for which what was done may count."""
        return self.longest_window_s + self.quarantine_s

    # --- slots ---

    def _join(self, file: OpenFile, now: float) -> None:
        """Enter this process, with what it has in flight: in the slot that it holds, or in the first that is free.

        Where another process has taken its slot over, that counts twice for a while.
        """
        ledger = self._ledger
        slot = ledger.slot
        if slot < 0 or self._slot_file < 0 or os.fstat(self._slot_file).st_nlink == 0:
            slot = self._take_slot(file)
        ledger.join(slot, now, owner=ledger.owner or new_owner(), in_flight=list((+self._out).items()))
        ledger.note_quarantine(self.quarantine_s)

    def _take_slot(self, file: OpenFile) -> int:
        if self._slot_file >= 0:
            os.close(self._slot_file)
            self._slot_file = -1
        taken = file.lock_any_slot()
        if taken is None:
            raise UsageError(f"{SLOTS} processes spend this contract on this machine already: no more can")
        slot, self._slot_file = taken
        return slot

    def _count_dead(self, ledger: SharedLedger, now: float) -> None:
        """Count as aborted what processes had in flight that are gone."""
        for slot in ledger.others_in_flight():
            descriptor = None if self._file is None else self._file.lock_slot(slot)
            if descriptor is not None:
                ledger.abandon_slot(slot, now)
                os.close(descriptor)

    def _mark_returned(self, token: SharedToken, now: float) -> bool:
        """Whether this token was out until now. A second way back would mint a token."""
        was_out, token.is_out = token.is_out, False
        if not was_out or token.owner != self._ledger.owner:
            return False
        self._used_at = now
        return True


def _name_of(number: int) -> str:
    return f"{number:016x}" if number else ""


def new_owner() -> int:
    """Return a number that no other owner of a slot has."""
    return secrets.randbits(63) | 1


def _start_anew_in_child() -> None:
    for file in list(_all):
        file.start_anew()


os.register_at_fork(after_in_child=_start_anew_in_child)
