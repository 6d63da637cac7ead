"""Room on the disk that is held before a request is paid, so that its answer can be written when the disk gets full."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from engagement_async.errors import JobDiskError

__all__ = ["Reserve"]

_CANNOT_ALLOCATE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Reserve:
    """A file that takes room, and gives it back when the journal needs it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0

    def hold(self, size: int) -> None:
        """Take that much room, if less is taken. Raise `JobDiskError` when there is not as much."""
        if size <= self.size:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                _allocate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.release()
            raise JobDiskError(
                f"{self._path.parent}: {error.strerror}: {size / 1e6:,.1f} MB must be free for the answers to requests that "
                "are sent at once: make room, and run it again"
            ) from None
        self.size = size

    def release(self) -> bool:
        """Give the room back; return whether any was taken."""
        held, self.size = self.size, 0
        with suppress(OSError):
            self._path.unlink()
        return held > 0


def _allocate(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in _CANNOT_ALLOCATE:
            raise
        os.lseek(descriptor, 0, os.SEEK_SET)
        block = bytes(2**16)
        for at in range(0, size, len(block)):
            os.write(descriptor, block[: size - at])
