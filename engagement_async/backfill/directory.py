"""The directory of a job: its files, its lock, and what they tell without running it. Synchronous."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from engagement_async._export.files import check_outside_jobs, sync
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.owners import OwnerStatus, worst_first
from engagement_async.backfill.status import JobStatus, RunReport
from engagement_async.backfill.storage_errors import disk_errors
from engagement_async.backfill.totals import JobTotals, Snapshot
from engagement_async.backfill.traffic import PREFIX, Traffic, read_traffic
from engagement_async.errors import JobLockedError, OtherJobError, UsageError

__all__ = ["JobDirectory", "JobStatus", "Look", "RunReport"]

_LOCK_ATTEMPTS, _LOCK_RETRY_S = 5, 0.02
_STATUS_ATTEMPTS = 10


class Look(NamedTuple):
    """A job at one moment."""

    journal: Journal
    """Open for reading."""
    snapshot: Snapshot
    status: JobStatus

    @property
    def traffic(self) -> Traffic:
        """What it sent over time, in all its runs; empty for a job of an earlier version."""
        return read_traffic(self.journal.documents(PREFIX))


class JobDirectory:
    """The directory of a job: `journal.sqlite`, `lock`, perhaps `rejects.jsonl`; its owner's alone.

    Making the object touches nothing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.journal_path = self.path / "journal.sqlite"
        self.starting_path = self.path / "starting.sqlite"
        self.rejects_path = self.path / "rejects.jsonl"
        self.reserve_path = self.path / "reserve"
        self._lock_path = self.path / "lock"
        paths = (self.journal_path, self.starting_path, self.rejects_path, self.reserve_path, self._lock_path)
        self._names = {path.name for path in paths}

    # --- where it is ---

    @property
    def is_started(self) -> bool:
        """Whether there is a job in it."""
        return self.journal_path.exists()

    def check(self) -> None:
        """Raise `UsageError` or `OtherJobError` where a job cannot be. Touches nothing."""
        if self.path.name in ("", "..") or self.path.parts[-1:] == ("..",):
            raise UsageError(f"{self.path}: name the job's folder itself, as jobs/totals-2026-05")
        with disk_errors(self.path):
            if not self.is_started:
                check_outside_jobs(self.path)
            if self.path.is_symlink() and not self.path.exists():
                raise UsageError(f"{self.path}: is a link to nothing")
            if self.path.exists() and not self.path.is_dir():
                raise OtherJobError(f"{self.path}: is a file: a job is a folder, name another")
            entries = sorted(self.path.iterdir()) if self.path.is_dir() else []
        for entry in entries:
            if not self._may_hold(entry.name):
                raise OtherJobError(
                    f"{self.path}: holds {entry.name!r}, which is no part of a job: name the folder of a job, or an "
                    "empty one for a new job"
                )
            if entry.name in self._names and entry.is_symlink():
                raise OtherJobError(f"{entry}: is a link: the files of a job are in its folder, name another")

    def _may_hold(self, name: str) -> bool:
        """Whether a file of that name may lie beside a job's own: copies of its journal, and what systems put everywhere."""
        return name in self._names or name.startswith((".", "journal.", "starting.")) or name == "lost+found"

    def must_exist(self) -> None:
        """Raise `UsageError` when no job was started here, `JobLockedError` while another process starts one."""
        self.check()
        if not self.is_started:
            if self.starting_path.exists() and self.is_locked and not self.is_started:
                raise JobLockedError(f"{self.path}: another process starts this job: it is reading the IDs")
            raise UsageError(f"{self.path}: no job was started here: `backfill run` starts one")

    def make(self) -> bool:
        """Make the directory, mode 0700, and those above it; return whether it was not there.

        Raise `OtherJobError` for a directory of another user, who could put links into it.
        """
        with disk_errors(self.path):
            made = [path for path in (self.path, *self.path.parents) if not path.exists()]
            for path in reversed(made):
                with suppress(FileExistsError):
                    path.mkdir(mode=0o700 if path == self.path else 0o777)
                    sync(path.parent)
            found = self.path.stat()
            if os.geteuid() not in (0, found.st_uid) and found.st_uid != 0:
                raise OtherJobError(f"{self.path}: belongs to another user: name a folder of your own")
            if not self.is_started and found.st_uid == os.geteuid() and found.st_mode & 0o077:
                self.path.chmod(0o700)
        return self.path in made

    def discard_start(self) -> None:
        """Remove what a start left behind that did not come to its end."""
        for path in (self.starting_path, self.starting_path.with_name(f"{self.starting_path.name}-journal")):
            with suppress(OSError):
                path.unlink()

    def remove_unstarted(self) -> None:
        """Remove a directory in which no job began. Call it with the lock held: nobody else begins one meanwhile."""
        self.discard_start()
        if not self.is_started:
            with suppress(OSError):
                self._lock_path.unlink(missing_ok=True)
                self.path.rmdir()

    # --- its lock ---

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the job for this process. Raise `JobLockedError` when another one has it.

        Two locks, of the directory itself, which nobody sweeps away as stale, and of a file in it, for file systems that
        lock no directories. flock, not lockf: POSIX locks are lost when any descriptor of the file is closed.
        """
        with ExitStack() as stack:
            with disk_errors(self.path):
                for attempt in range(_LOCK_ATTEMPTS):
                    if attempt:
                        time.sleep(_LOCK_RETRY_S)
                    if self._try_lock(stack):
                        break
                    stack.close()
                else:
                    raise JobLockedError(f"{self.path}: another process runs this job: let it finish, or stop it")
            yield

    def _try_lock(self, stack: ExitStack) -> bool:
        """Take both locks; a `status` of another process may hold one for a moment."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        stack.callback(os.close, file)
        if not (_flock(directory, fcntl.LOCK_EX, must_work=False) and _flock(file, fcntl.LOCK_EX, must_work=True)):
            return False
        try:  # a lock on a file that was swept away meanwhile keeps nobody out
            return os.path.samestat(os.fstat(file), os.stat(self._lock_path))
        except FileNotFoundError:
            return False

    @property
    def is_locked(self) -> bool:
        """Whether a process runs this job now."""
        for path, flags in ((self.path, os.O_DIRECTORY), (self._lock_path, os.O_NOFOLLOW)):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
            except OSError:
                continue
            try:
                if not _flock(descriptor, fcntl.LOCK_SH, must_work=False):
                    return True
            finally:
                os.close(descriptor)
        return False

    # --- its journal ---

    def open_journal(self, *, read_only: bool = False) -> Journal:
        """Open the job's journal."""
        return Journal.open(self.journal_path, read_only=read_only)

    def status(self) -> JobStatus:
        """Return how far the job is; also while another process runs it."""
        with self.looked_at() as look:
            return look.status

    @contextmanager
    def looked_at(self) -> Iterator[Look]:
        """Yield the job as it is at one moment, its answers too; also while another process runs it."""
        self.must_exist()
        with self.open_journal(read_only=True) as journal:
            is_running = self.is_locked
            for _ in range(_STATUS_ATTEMPTS):
                snapshot = journal.snapshot()
                was_running, is_running = is_running, self.is_locked
                if was_running == is_running:  # else a run began or ended between the looks
                    break
            status = _status_of(journal, journal.owners(), is_running=is_running)
            yield Look(journal, snapshot, status)

    def glance(self) -> JobStatus:
        """Return how far the job is by its totals alone, whatever its size: not held against its rows, without owners."""
        self.must_exist()
        is_running = self.is_locked
        with Journal.glance(self.journal_path) as journal:
            return _status_of(journal, {}, is_running=is_running)

    def owners(self) -> dict[str, OwnerStatus]:
        """Return what became of each owner so far, the worst first; nothing where the Tweets have none."""
        self.must_exist()
        with Journal.glance(self.journal_path) as journal:
            return worst_first(journal.owners())

    def options(self) -> dict[str, Any]:
        """Return the options that the job was last started with; none when it was not."""
        self.check()
        if not self.is_started:
            return {}
        with self.open_journal(read_only=True) as journal:
            return dict(journal.document("options") or {})

    def verify(self) -> JobTotals:
        """Read every row again, checksum by checksum. Raise `JobCorruptError`."""
        self.must_exist()
        with self.open_journal(read_only=True) as journal:
            return journal.verify()


def _status_of(journal: Journal, owners: Mapping[str, OwnerStatus], *, is_running: bool) -> JobStatus:
    documents = journal.documents("run ")
    runs = tuple(
        RunReport(
            began_at=run["began_at"],
            seen_at=run["seen_at"],
            # What was granted and not answered when a process was killed may have left it or not.
            requests=run["requests"] - (run.get("in_flight", 0) if run["outcome"] is None else 0),
            ids=run["ids"],
            outcome=run["outcome"],
        )
        for run in documents
    )
    # Between the lock and its first commit, a run has nothing to say of itself yet.
    is_at_work = is_running and runs and runs[-1].outcome is None
    now = documents[-1]["now"] if is_at_work else {}
    return JobStatus(journal.query, journal.totals, is_running, runs, now, worst_first(owners))


def _flock(descriptor: int, kind: int, *, must_work: bool) -> bool:
    """Try to lock; return whether nobody else holds it. Without `must_work`, a system that cannot lock it counts as well."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if must_work:
            text = f"{error.strerror}: this file system locks no files, and a job needs that: put it on another one"
            raise OSError(error.errno, text) from None
    return True
