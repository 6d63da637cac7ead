"""Files that are whole or not there, and streams to which every byte is written.

A file grows beside its target under a hidden name, is synced, and renamed into place. A file that cannot be replaced (a
mount point, another user's in a sticky folder, one in a folder that is read-only) is written over once the new one is
whole. What is no regular file (a device, a named pipe, a descriptor of this process) is written to as a stream.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import secrets
import select
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from engagement_async.errors import UsageError

__all__ = [
    "FULL",
    "WholeWrites",
    "atomic_file",
    "atomic_path",
    "check_duckdb_path",
    "check_outputs",
    "check_outside_jobs",
    "check_target",
    "has_stream",
    "is_stream",
    "output_stream",
    "publish",
    "sync",
]

_NAME_BYTES = 255
_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/(?:self|\d+)/fd/(\d+)")
_IRREPLACEABLE = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where there is no room for a file."""
_NAMED_DESCRIPTORS = {"/dev/stdout": 1, "/dev/stderr": 2}


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well; else `path` is as it was.

    What is no regular file is written to directly. Raise `UsageError` if the folder is missing or `path` is one.
    """
    if is_stream(path):
        with output_stream(path) as stream:
            yield stream
        return
    with atomic_path(path) as hidden, hidden.open("xb") as file:
        yield file


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield the path of a file to be made, by a library say, that takes the place of `path` when the block ends well.

    It has the mode of the file that it replaces. What killed runs left beside it is removed.
    """
    target = check_target(path)
    if is_stream(path):
        raise UsageError(f"{path}: is no regular file, and this format needs one: name another")
    hidden, lock = _begin(target, path)
    try:
        with suppress(OSError):  # some file systems lock nothing
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield hidden
        _put(hidden, target)
    except BaseException:
        _remove(hidden)
        raise
    finally:
        with suppress(OSError):
            hidden.with_suffix(".lock").unlink()
        os.close(lock)


def _begin(target: Path, path: str | Path) -> tuple[Path, int]:
    """Return the hidden path for a target, and the descriptor of its lock file, having removed what killed runs left."""
    prefix = f".{_shortened(target.name)}."
    folders = [target.parent]
    if target.exists() and os.access(target, os.W_OK):
        folders.append(Path(tempfile.gettempdir()))  # for the files of a folder in which none can be made
    for folder in folders:
        _remove_leftovers(folder, prefix)
        hidden = folder / f"{prefix}{secrets.token_hex(4)}.part"
        try:
            lock = os.open(hidden.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _IRREPLACEABLE or folder is folders[-1]:
                # The hidden name means nothing to anybody.
                raise OSError(error.errno, error.strerror, str(path)) from None
        else:
            return hidden, lock
    raise AssertionError  # pragma: no cover - there is a folder


def _put(hidden: Path, target: Path) -> None:
    """Put a finished file in the place of another, with its mode; or over it, where it cannot be replaced."""
    with suppress(FileNotFoundError):
        hidden.chmod(stat.S_IMODE(target.stat().st_mode))
    try:
        publish(hidden, target)
    except OSError as error:
        if error.errno not in _IRREPLACEABLE or not target.is_file():
            raise
        with hidden.open("rb") as new, target.open("r+b") as old:
            _make_room(old, os.fstat(new.fileno()).st_size)
            shutil.copyfileobj(new, old, 2**20)
            old.truncate()
            old.flush()
            os.fsync(old.fileno())
        _remove(hidden)


def _make_room(file: BinaryIO, size: int) -> None:
    """Take the room for a file's new content before the old one is written over: a disk that is full must leave that."""
    before = os.fstat(file.fileno()).st_size
    if size <= before or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), before, size - before)
    except OSError as error:
        if error.errno in FULL:
            file.truncate(before)
            raise


def check_outputs(paths: Iterable[str], inputs: Iterable[str]) -> None:
    """Raise `UsageError` for files that cannot or must not be written: before anything is.

    They must not be named twice, be an input, or lie in the folder of a job.

    `-` is the standard output in the one and the standard input in the other.
    """
    read: list[tuple[str, os.stat_result]] = []
    for name in inputs:
        with suppress(OSError, ValueError):
            found = os.fstat(0) if name == "-" else os.stat(name)
            if stat.S_ISREG(found.st_mode):
                read.append(("the standard input" if name == "-" else f"the input {name}", found))
    targets: set[Path] = set()
    for path in paths:
        if has_stream([path]):
            continue
        target = check_target(path)
        if target in targets:
            raise UsageError(f"{path}: is named twice: each table needs a file of its own")
        targets.add(target)
        check_outside_jobs(path)
        with suppress(FileNotFoundError):
            found = os.stat(target)
            for name, of_input in read:
                if os.path.samestat(found, of_input):
                    raise UsageError(f"{path}: is the same file as {name}: name another")


def check_outside_jobs(path: str | Path) -> None:
    """Raise `UsageError` for a place in the folder of a job, however deep: a job with anything else in it is refused."""
    place = Path(os.path.realpath(path))
    if any(map(_is_job, (place, *place.parents))):
        raise UsageError(f"{path}: lies in the folder of a job, which holds the job alone: name another place")


def _is_job(folder: Path) -> bool:
    """Whether a folder holds the journal of a job."""
    try:
        with (folder / "journal.sqlite").open("rb") as file:
            head = file.read(72)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:] == b"ENGA"  # SQLite's application_id


def check_duckdb_path(path: str | Path) -> None:
    """Raise `UsageError` for a path that DuckDB cannot open: it knows names in UTF-8 alone."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: DuckDB opens only files whose names are UTF-8: name another") from None


def check_target(path: str | Path) -> Path:
    """Return where a file of that name would lie. Raise `UsageError` where none can: before anything is written."""
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        found = os.stat(target)
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {target.parent}: make it first") from None
        return target
    except NotADirectoryError:
        raise UsageError(f"{path}: lies in what is no folder: name another place") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{path}: the name is longer than this file system takes: name another") from None
        raise
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path}: is a folder: name a file in it")
    owners = (found.st_uid, (folder := os.stat(target.parent)).st_uid, 0)
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in owners and not os.access(target, os.W_OK):
        raise UsageError(f"{path}: belongs to another user, and only its owner may replace it here: name another file")
    return target


def publish(hidden: Path, target: Path) -> None:
    """Rename a finished file into place, so that after a power cut there is the old file or the whole new one."""
    sync(hidden)
    hidden.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Write a file, or a folder's list of files, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


# --- streams ---


def is_stream(path: str | Path) -> bool:
    """Whether that path is a descriptor of this process or no regular file."""
    if _descriptor_of(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def has_stream(paths: Iterable[str]) -> bool:
    """Whether one of the paths is stdout ("-") or a stream: what was written there cannot be taken back."""
    return any(path == "-" or is_stream(path) for path in paths)


@contextmanager
def output_stream(path: str | Path | int, *, reader_timeout_s: float | None = None) -> Iterator[BinaryIO]:
    """Open a device, a pipe, or a descriptor of this process, to which every byte is written or an `OSError` is raised.

    A reader is waited for. With `reader_timeout_s` a named pipe that nobody has open for reading is an `OSError` at once,
    and one that takes nothing for so many seconds is another.

    Python's own stdout may write a part of what it is given and say so in a number (unbuffered), or fail at a pipe that
    is full for a moment (non-blocking).
    """
    if isinstance(path, int):
        descriptor = os.dup(path)
    elif (inherited := _descriptor_of(path)) is not None:
        descriptor = os.dup(inherited)
    else:
        descriptor = _open_stream(path, waits=reader_timeout_s is None)
    stream = io.BufferedWriter(WholeWrites(descriptor, reader_timeout_s=reader_timeout_s))
    try:
        yield cast("BinaryIO", stream)
        stream.flush()
    finally:
        with suppress(OSError):  # what `flush` raised is on its way already
            stream.close()


def _open_stream(path: str | Path, *, waits: bool) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | (0 if waits else os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.ENXIO, "nobody reads this named pipe", str(path)) from None
        raise


class WholeWrites(io.RawIOBase):
    """A descriptor that takes all of what it is given; it waits for one that does not block."""

    def __init__(self, descriptor: int, *, closes: bool = True, reader_timeout_s: float | None = None) -> None:
        self._descriptor = descriptor
        self._closes = closes
        self._timeout_ms = None if reader_timeout_s is None else 1000 * reader_timeout_s
        self._written = 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        with memoryview(data).cast("B") as view:
            written = 0
            while written < len(view):
                try:
                    written += os.write(self._descriptor, view[written:])
                except BlockingIOError:
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    if not poll.poll(self._timeout_ms):
                        self._timeout_ms = 0  # closing the stream writes once more, and is not to wait as long again
                        raise TimeoutError(errno.ETIMEDOUT, "its reader takes nothing") from None
            self._written += written
            return written

    def tell(self) -> int:
        return self._written  # pyarrow asks, also where nothing can be sought

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._closes:
                os.close(self._descriptor)


def _descriptor_of(path: str | Path) -> int | None:
    """Return the number of the descriptor that a path names, as `/dev/stdout` and `>(gzip)` do."""
    text = os.fspath(path)
    for _ in range(8):
        if text in _NAMED_DESCRIPTORS:
            return _NAMED_DESCRIPTORS[text]
        match = _DESCRIPTOR.fullmatch(text)
        if match is not None:
            return int(match[1] or match[2])
        try:
            text = os.path.join(os.path.dirname(text), os.readlink(text))
        except OSError:
            return None
    return None


# --- leftovers ---


def _shortened(name: str) -> str:
    """Cut a name so that the hidden one, which is longer, is not too long for a file system."""
    raw = os.fsencode(name)[: _NAME_BYTES - len("..01234567.part.wal")]
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return os.fsdecode(raw)
    return raw.decode("utf-8", "ignore")  # but no half of a character


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove what runs that were killed left of earlier files for this target; those at work hold a lock."""
    with suppress(OSError):
        for part in folder.glob(f"{_escaped(prefix)}????????.part"):
            if not part.with_suffix(".lock").exists():  # which is there before the file, and as long as it
                _remove(part)
        for lock in folder.glob(f"{_escaped(prefix)}????????.lock"):
            with suppress(OSError):
                descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(lock.with_suffix(".part"))
                    lock.unlink()
                finally:
                    os.close(descriptor)


def _remove(hidden: Path) -> None:
    for leftover in (hidden, hidden.with_name(f"{hidden.name}.wal")):  # DuckDB's own
        with suppress(OSError):
            leftover.unlink()


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
