"""The files of a contract that processes of one machine share: `ledger`, with the numbers, and `slot-0`, `slot-1`...

Who holds the lock of a slot's file lives. Locks are `flock`'s, which end with their process. The ledger's file holds two
halves, and a byte that says which of them is in use.

The file is read and written, never mapped: one that is cut short, or a disk that is full, is an error to be handled, and
would be a SIGBUS in mapped memory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from contextlib import suppress
from pathlib import Path

from engagement_async._core.shared_block import SLOTS, block_bytes
from engagement_async.distributed.boot import boot_id

__all__ = ["OpenFile", "make_private_folder"]

HEAD = 4096
"""Bytes before the first half; a page, so that the byte that decides is on none with what it decides about."""


class OpenFile:
    """The file that is at the path now. Making it may take time; it raises `OSError` where it cannot be.

    `folder` is the contract's own. `used_at` is when somebody spent the contract last, by the wall clock and as far as the
    folder tells; 0 when nobody ever did.
    """

    def __init__(self, folder: Path) -> None:
        make_private_folder(folder)
        self.folder = folder
        self.boot = boot_id()
        self.used_at = max(
            (at for path in folder.glob("slot-*") if (at := _modified_at(path)) is not None), default=0.0
        )
        self._path = folder / "ledger"
        self._number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_open = True
        self._half = 0
        try:
            _check_lockable(self._number)
            self._reserve_room(HEAD + 2 * block_bytes())
        except OSError:
            self.close()
            raise

    def _reserve_room(self, size: int) -> None:
        """See now whether the disk has room, and not when a request was granted. Who has the lock has seen to it already."""
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if most != resource.RLIM_INFINITY and most < size:  # which no waiting changes
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if os.fstat(self._number).st_size >= size or not hasattr(os, "posix_fallocate") or not self.lock():
            return
        try:
            os.posix_fallocate(self._number, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # which say that this file system cannot
                raise
        finally:
            self.unlock()

    # --- the lock of all ---

    def lock(self) -> bool:
        """Take the lock; return whether it was to be had at once."""
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Release the lock."""
        fcntl.flock(self._number, fcntl.LOCK_UN)

    def is_deleted(self) -> bool:
        """Return whether the file has no name any more."""
        return os.fstat(self._number).st_nlink == 0

    def is_elsewhere(self) -> bool:
        """Return whether another file, or none, is where this one was: it, or a folder above it, was moved."""
        try:
            number = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return error.errno not in (errno.EMFILE, errno.ENFILE)  # without a descriptor it cannot be told
        try:
            there, mine = os.fstat(number), os.fstat(self._number)
            return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
        finally:
            os.close(number)

    # --- the two halves ---

    def read(self, into: memoryview, used: int) -> int:
        """Read the half that is in use, `used` bytes of it; return how many there were."""
        self._half = (os.pread(self._number, 1, 0) or b"\0")[0] & 1
        return self._read(into[:used], 0)

    def read_on(self, into: memoryview, begin: int, end: int) -> int:
        """Read more of that half; return how many bytes there were."""
        return self._read(into[begin:end], begin)

    def _read(self, into: memoryview, begin: int) -> int:
        return os.preadv(self._number, [into], HEAD + self._half * block_bytes() + begin)

    def write(self, block: memoryview) -> None:
        """Write the other half, and then the byte that says so: a kill in between changes nothing."""
        other = 1 - self._half
        at = HEAD + other * block_bytes()
        while block:
            written = os.pwrite(self._number, block, at)
            block, at = block[written:], at + written
        os.pwrite(self._number, bytes((other,)), 0)

    # --- slots ---

    def lock_slot(self, slot: int) -> int | None:
        """Return the descriptor of a slot's file, locked; None when its owner lives."""
        descriptor = os.open(self.folder / f"slot-{slot}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def lock_any_slot(self) -> tuple[int, int] | None:
        """Return the first slot whose owner is gone, and the descriptor of its file; None when all of them live."""
        for slot in range(SLOTS):
            descriptor = self.lock_slot(slot)
            if descriptor is not None:
                return slot, descriptor
        return None

    def close(self) -> None:
        """Close the file; a lock on it ends with that."""
        if self._is_open:
            self._is_open = False
            os.close(self._number)

    def __del__(self) -> None:
        if getattr(self, "_is_open", False):
            self.close()


def _check_lockable(descriptor: int) -> None:
    """Raise `OSError` on a file system that locks nothing; another process's lock is none of its business."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def make_private_folder(path: Path) -> None:
    """Make a folder that nobody else may look into, and those above it."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
