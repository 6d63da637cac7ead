"""The directory of a job: its files, its lock, and what they tell without running it. Synchronous."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engagement_async._core.query import Query
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.storage_errors import disk_errors
from engagement_async.backfill.totals import JobTotals
from engagement_async.errors import JobLockedError, OtherJobError, UsageError

__all__ = ["JobDirectory", "JobStatus", "RunReport"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run spent."""

    began_at: float
    """Epoch seconds, as `seen_at`, its last sign of life."""
    seen_at: float
    requests: int
    ids: int
    """IDs that it got answers for."""
    outcome: str | None
    """Why it ended: a `RunOutcome`, the name of an error, or None: it runs, or was killed."""

    @property
    def seconds(self) -> float:
        """How long it was at work."""
        return max(0.0, self.seen_at - self.began_at)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as its journal knows it, from any process, at any time."""

    query: Query
    totals: JobTotals
    is_running: bool
    runs: tuple[RunReport, ...]
    now: Mapping[str, Any] = field(default_factory=dict)
    """Of the last run, as of its last sign of life: `requests_last_minute`, `contract_per_minute`, `eta_s`,
    `waiting_s`, `waiting_for`."""

    @property
    def is_complete(self) -> bool:
        """Whether every ID has its outcome."""
        return not self.totals.pending


class JobDirectory:
    """The directory of a job: `journal.sqlite`, `lock`, perhaps `rejects.jsonl`; its owner's alone.

    Making the object touches nothing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.journal_path = self.path / "journal.sqlite"
        self.starting_path = self.path / "starting.sqlite"
        self.rejects_path = self.path / "rejects.jsonl"
        self._lock_path = self.path / "lock"
        self._names = {
            path.name for path in (self.journal_path, self.starting_path, self.rejects_path, self._lock_path)
        }

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
            if self.path.is_symlink() and not self.path.exists():
                raise UsageError(f"{self.path}: is a link to nothing")
            if self.path.exists() and not self.path.is_dir():
                raise OtherJobError(f"{self.path}: is a file: a job is a folder, name another")
            others = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
        others = [name for name in others if name not in self._names and not name.endswith("-journal")]
        if others:
            raise OtherJobError(f"{self.path}: holds {others[0]!r}, which is no part of a job: name an empty folder")

    def must_exist(self) -> None:
        """Raise `UsageError` when no job was started here."""
        self.check()
        if not self.is_started:
            raise UsageError(f"{self.path}: no job was started here: `backfill run` starts one")

    def make(self) -> None:
        """Make the directory, mode 0700, and those above it."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)

    def discard_start(self) -> None:
        """Remove what a start left behind that did not come to its end."""
        for path in (self.starting_path, self.starting_path.with_name(f"{self.starting_path.name}-journal")):
            with suppress(OSError):
                path.unlink()

    def remove_unstarted(self) -> None:
        """Remove a directory in which no job began."""
        self.discard_start()
        with suppress(OSError):
            if not self.is_started and not self.is_locked:
                self._lock_path.unlink(missing_ok=True)
                self.path.rmdir()

    # --- its lock ---

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the job for this process. Raise `JobLockedError` when another one has it.

        flock, not lockf: POSIX locks are lost when any descriptor of the file is closed.
        """
        with disk_errors(self._lock_path):
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobLockedError(f"{self.path}: another process runs this job: let it finish, or stop it") from None
            yield
        finally:
            os.close(descriptor)

    @property
    def is_locked(self) -> bool:
        """Whether a process runs this job now."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    # --- its journal ---

    def open_journal(self, *, read_only: bool = False) -> Journal:
        """Open the job's journal."""
        return Journal.open(self.journal_path, read_only=read_only)

    def status(self) -> JobStatus:
        """Return how far the job is; also while another process runs it."""
        self.must_exist()
        is_running = self.is_locked
        with self.open_journal(read_only=True) as journal:
            runs = journal.documents("run ")
            return JobStatus(
                journal.query,
                journal.totals,
                is_running,
                tuple(
                    RunReport(run["began_at"], run["seen_at"], run["requests"], run["ids"], run["outcome"])
                    for run in runs
                ),
                runs[-1]["now"] if runs else {},
            )

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
