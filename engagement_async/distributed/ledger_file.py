"""A ledger that processes of one machine share: a small file, mapped into memory, under a lock that a kill releases.

A folder for each contract holds `ledger`, the file, and `slot-0`, `slot-1`...: who holds the lock of a slot's file lives.

- **Killed at any instant.** A change is made in a copy of the block, the copy is written to the half of the file that is not
  in use, and one byte says which half is. Locks are `flock`'s, which end with their process; the next one that is blocked
  by what a dead one had in flight counts that as aborted.
- **Swept.** Whoever finds the file gone makes a new one. What was spent is not known there, so nothing is granted for one
  window; each living process enters what it has in flight. That the contract was in use, a new process knows by the
  slots' files.
- **Rebooted.** Instants are those of a clock that runs since boot, the same in all processes. A file of another boot is
  translated by the wall clock.
- **A lock that is not to be had**, because its holder is stopped, makes nobody wait: what came back is entered later, in
  order, and nothing is granted until then. So it is before the file is open: opening is the one thing that may take time,
  and whoever has an event loop does it in a thread.
"""

from __future__ import annotations

import fcntl
import logging
import math
import mmap
import os
import secrets
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from engagement_async._core.rate_limit import RateLimit
from engagement_async._core.shared_ledger import SLOTS, SharedLedger, SharedToken, block_bytes, check_limits
from engagement_async.errors import UsageError

__all__ = ["LedgerFile", "OpenFile", "boot_clock", "boot_id", "make_private_folder"]

logger = logging.getLogger("engagement_async")

PAGE = 4096
SPINS = 200
"""Tries at the lock, each some microseconds: who holds it does so for about thirty."""
BUSY_RETRY_S = 0.001
LOOK_FOR_DEAD_S = 0.25
TOUCH_S = 1.0
STUCK_S = 5.0


def boot_clock() -> float:
    """Return the seconds since boot, the same in every process; a machine that sleeps is counted too, where it can be."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id() -> str:
    """Return what tells this boot of the machine from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # elsewhere than on Linux: the instant of the boot, to ten minutes
        return f"boot {round((time.time() - boot_clock()) / 600)}"


class OpenFile:
    """The file that is at the path now, mapped. Making it blocks; it raises `OSError` where it cannot be.

    `folder` is the contract's own. `used_at` is when somebody spent the contract last, by the wall clock and as far as the
    folder tells.
    """

    def __init__(self, folder: Path) -> None:
        make_private_folder(folder)
        self.folder = folder
        self.boot = boot_id()
        self.used_at = max(
            (at for path in folder.glob("slot-*") if (at := _modified_at(path)) is not None), default=0.0
        )
        self.number = os.open(folder / "ledger", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _check_lockable(self.number)
        except OSError:
            os.close(self.number)
            raise
        size = PAGE + 2 * block_bytes()
        if os.fstat(self.number).st_size < size:
            os.ftruncate(self.number, size)  # with zeros: no ledger yet
        self._map = mmap.mmap(self.number, size)
        self.head = memoryview(self._map)[:PAGE]
        self.halves = memoryview(self._map)[PAGE : PAGE + block_bytes()], memoryview(self._map)[PAGE + block_bytes() :]
        self._is_open = True

    @property
    def is_swept(self) -> bool:
        """Whether the file is at its path no longer."""
        return os.fstat(self.number).st_nlink == 0

    def close(self) -> None:
        """Close the file; a lock on it ends with that."""
        if self._is_open:
            self._is_open = False
            for view in (self.head, *self.halves):
                view.release()
            self._map.close()
            os.close(self.number)

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self.close()


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
        self._deferred: deque[tuple[Callable[[SharedLedger], object], SharedToken | None]] = deque()
        self._scratch = bytearray(block_bytes())
        self._copy = memoryview(self._scratch)
        self._ledger = SharedLedger(self.limits, self._scratch)
        self._file: OpenFile | None = None
        self._slot_file = -1
        self._was_swept = False
        self._is_closed = False
        self._asked_at = self._used_at = self._touched_at = self._looked_for_dead_at = -math.inf
        self._busy_since = math.inf
        self._warned_of_lock = False
        _all.add(self)

    # --- what a scheduler wants of a ledger ---

    def reserve(self, now: float, endpoint: str | None = None) -> SharedToken | float:
        """Return a token, or the instant to try again at."""
        self._asked_at = now
        with self._locked(now) as ledger:
            if ledger is None:
                return now + BUSY_RETRY_S
            token = ledger.reserve(now, endpoint)
            if isinstance(token, SharedToken):
                self._out[endpoint] += 1
                self._used_at = now
            elif now >= self._looked_for_dead_at + LOOK_FOR_DEAD_S:
                self._looked_for_dead_at = now
                self._count_dead(ledger, now)
            return token

    def count_earlier(self, answered_at: Iterable[float], now: float, endpoint: str | None = None) -> None:
        """Count nothing: the file remembers what earlier processes of this machine sent."""

    def settle(self, token: SharedToken, now: float) -> None:
        if self._mark_returned(token, now):
            self._do(now, lambda ledger: ledger.settle(token, now), token)

    def abandon(self, token: SharedToken, now: float, within_s: float) -> None:
        self.quarantine_s = max(self.quarantine_s, within_s)
        if self._mark_returned(token, now):
            self._do(now, lambda ledger: ledger.abandon(token, now, within_s), token)

    def refund(self, token: SharedToken) -> None:
        now = self._clock()
        if self._mark_returned(token, now):
            self._do(now, lambda ledger: ledger.refund(token, now), token)

    def abandon_all(self, now: float, within_s: float) -> None:
        """Count all that is in flight as aborted; whatever is done with a token of before changes nothing."""
        self.quarantine_s = max(self.quarantine_s, within_s)

        def rejoin(ledger: SharedLedger) -> None:
            self._out.clear()
            ledger.note_quarantine(self.quarantine_s)
            ledger.join(ledger.slot, now, owner=new_owner())

        self._do(now, rejoin)

    def hold_until(self, at: float) -> None:
        self._do(self._clock(), lambda ledger: ledger.hold_until(at))

    def cap(self, limit: RateLimit, remaining: int, now: float, until: float) -> None:
        if limit not in self.limits:
            raise ValueError(f"{limit} is not in this ledger")
        self._do(now, lambda ledger: ledger.cap(limit, remaining, now, until))

    def available(self, limit: RateLimit, now: float, *, since: SharedToken | None = None) -> int:
        with self._locked(now) as ledger:
            return 0 if ledger is None else ledger.available(limit, now, since)

    def capped_until(self, now: float) -> float:
        with self._locked(now) as ledger:
            return -math.inf if ledger is None else ledger.capped_until(now)

    @property
    def held_until(self) -> float:
        with self._locked(self._clock()) as ledger:
            return -math.inf if ledger is None else ledger.held_until

    # --- its life ---

    def is_active(self, now: float) -> bool:
        """Whether `refresh` should be called now and then: others must know what this process has spent."""
        return bool(self._deferred or +self._out) or now < max(self._asked_at, self._used_at) + self._remembered_s

    def refresh(self, now: float) -> None:
        """Enter what could not be entered, and see whether the file is still the one that others use."""
        with self._locked(now):
            pass

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
        self._close_file()
        self._file = file
        self.refresh(self._clock())

    def __del__(self) -> None:
        self._close_files()

    def _close_files(self) -> None:
        self._close_file()
        slot_file, self._slot_file = getattr(self, "_slot_file", -1), -1
        if slot_file >= 0:
            os.close(slot_file)

    def _close_file(self) -> None:
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            file.close()

    def start_anew(self) -> None:
        """Be another process: this one was forked off, and must not use the files of its parent."""
        self._close_files()
        self._out.clear()
        self._deferred.clear()
        self._ledger = SharedLedger(self.limits, self._scratch)
        self._used_at = -math.inf

    # --- the lock ---

    def _do(self, now: float, change: Callable[[SharedLedger], object], token: SharedToken | None = None) -> None:
        """Make the change, or leave it for later when the lock is not to be had: in order, and never lost."""
        if self._is_closed:
            return
        self._deferred.append((change, token))
        with self._locked(now):
            pass

    @contextmanager
    def _locked(self, now: float) -> Iterator[SharedLedger | None]:
        """Hold the lock, with all that was deferred entered; None when the lock is not to be had."""
        file = self._lock(now)
        if file is None:
            yield None
            return
        try:
            self._load(file, now)
            entered = len(self._deferred)
            for change, _ in self._deferred:
                change(self._ledger)
            yield self._ledger
            self._store(file, now)
            for _ in range(entered):
                _, token = self._deferred.popleft()
                if token is not None:
                    self._out[token.endpoint] -= 1
        finally:
            fcntl.flock(file.number, fcntl.LOCK_UN)

    def _lock(self, now: float) -> OpenFile | None:
        file = self._file
        if file is None:
            return None
        for _ in range(SPINS):
            try:
                fcntl.flock(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.sched_yield()
                continue
            self._busy_since = math.inf
            if not file.is_swept:
                return file
            self._was_swept = True
            self._close_file()  # and its lock with it
            return None
        self._busy_since = min(self._busy_since, now)
        if now > self._busy_since + STUCK_S and not self._warned_of_lock:
            self._warned_of_lock = True
            logger.warning(
                "another process has held the ledger of this contract for %.0f s (%s): nothing is granted until it goes on",
                STUCK_S,
                file.folder,
            )
        return None

    def _load(self, file: OpenFile, now: float) -> None:
        """Copy the half that is in use, and see that this process has a place in it."""
        self._copy[:] = file.halves[file.head[0] & 1]
        ledger = self._ledger
        wall = self._wall_clock()
        is_lost = self._was_swept and now < self._used_at + self._remembered_s
        self._was_swept = False
        if not ledger.is_valid():
            ledger.begin(file.boot, now, wall)
            is_lost |= wall < file.used_at + self._remembered_s
        elif not ledger.is_of_boot(file.boot):
            ledger.cross_boot(file.boot, now, wall)
        if is_lost:
            self._freeze(file, now)
        if not ledger.has_slot:
            self._join(file, now)
        if now >= self._touched_at + TOUCH_S:
            self._touched_at = now
            os.utime(self._slot_file)

    def _store(self, file: OpenFile, now: float) -> None:
        """Write the other half, and then the byte that says so: a kill in between changes nothing."""
        self._ledger.stamp(now, self._wall_clock())
        other, size = 1 - (file.head[0] & 1), self._ledger.used_bytes
        file.halves[other][:size] = self._copy[:size]
        file.head[0] = other

    def _freeze(self, file: OpenFile, now: float) -> None:
        """Wait a window: the ledger was lost, and with it what others have spent."""
        self._ledger.freeze_until(now + self.longest_window_s)
        logger.warning(
            "the ledger of this contract was lost (%s): waiting %.0f s, since what was spent is not known",
            file.folder,
            self.longest_window_s,
        )

    @property
    def _remembered_s(self) -> float:
        """Seconds for which what was done may count."""
        return self.longest_window_s + self.quarantine_s

    # --- slots ---

    def _join(self, file: OpenFile, now: float) -> None:
        """Enter this process: in the slot that it holds, or in the first one whose owner is gone."""
        ledger = self._ledger
        is_held = self._slot_file >= 0 and os.fstat(self._slot_file).st_nlink > 0
        if is_held and ledger.slot >= 0 and not ledger.is_taken(ledger.slot):
            # The block is new: what is in flight is entered there.
            ledger.join(ledger.slot, now, owner=ledger.owner, in_flight=list((+self._out).items()))
        else:
            self._out.clear()  # what was in flight in a slot that was lost counts as aborted
            ledger.join(self._take_slot(file), now, owner=new_owner())
        ledger.note_quarantine(self.quarantine_s)

    def _take_slot(self, file: OpenFile) -> int:
        if self._slot_file >= 0:
            os.close(self._slot_file)
            self._slot_file = -1
        for slot in range(SLOTS):
            descriptor = _lock_slot(file, slot)
            if descriptor is not None:
                self._slot_file = descriptor
                return slot
        raise UsageError(f"{SLOTS} processes spend this contract on this machine already: no more can")

    def _count_dead(self, ledger: SharedLedger, now: float) -> None:
        """Count as aborted what processes had in flight that are gone."""
        for slot in ledger.others_in_flight():
            descriptor = None if self._file is None else _lock_slot(self._file, slot)
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


def make_private_folder(path: Path) -> None:
    """Make a folder that nobody else may look into, and those above it."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def _check_lockable(descriptor: int) -> None:
    """Raise `OSError` on a file system that locks nothing; another process's lock is none of its business."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _lock_slot(file: OpenFile, slot: int) -> int | None:
    """Return the file of a slot, locked; None when its owner lives."""
    descriptor = os.open(file.folder / f"slot-{slot}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def new_owner() -> int:
    """Return a number that no other owner of a slot has."""
    return secrets.randbits(63) | 1


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _start_anew_in_child() -> None:
    for file in list(_all):
        file.start_anew()


os.register_at_fork(after_in_child=_start_anew_in_child)
