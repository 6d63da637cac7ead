"""`--metrics-file`: the numbers of a run for Prometheus, in a file that is whole at every moment.

A node exporter reads it (its textfile collector). It is written when the command begins, every 15 seconds while it runs, and
at its end, however that comes: who watches sees a run that failed, one that hangs, and one that was killed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click

from engagement_async._engine.observing import observed_by
from engagement_async._export.files import atomic_file, check_outputs, is_stream, output_stream
from engagement_async._progress import Progress
from engagement_async.cli.app import Session
from engagement_async.cli.completion import complete_files
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.run_metrics import LAST_SUCCESS, RunMetrics
from engagement_async.errors import UsageError

__all__ = ["REFRESH_S", "MetricsFile", "metrics_option"]

REFRESH_S = 15.0
"""As often as Prometheus usually looks."""
_READER_TIMEOUT_S = 5.0
"""A pipe's reader that takes nothing for so long is gone, or stuck: the command must end all the same."""
_SUFFIX = ".prom"
"""Of files that a node exporter reads."""
_MODE = 0o644
"""A node exporter is another user, and nothing here is secret."""
_OURS = b"# HELP engagement_"
_LAST_SUCCESS = re.compile(rf"^{LAST_SUCCESS}(?:{{.*}})? ([0-9.]+)$", re.MULTILINE)

logger = logging.getLogger("engagement_async")


def metrics_option(command: Any) -> Any:
    """Add `--metrics-file`. It is known before the other options are looked at: one that is refused shows in it too."""
    option = click.option(
        "--metrics-file",
        type=NAMED,
        metavar="FILE.prom",
        is_eager=True,
        expose_value=False,
        callback=_remember,
        shell_complete=complete_files,
        help="Keep the numbers of this run in a file for Prometheus' node exporter (textfile collector).",
    )
    return option(command)


def _remember(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    session = ctx.find_object(Session)
    if path is not None and session is not None:
        session.metrics = MetricsFile(path, ctx.command_path.partition(" ")[2])


class MetricsFile:
    """The file of one run of a command."""

    def __init__(self, path: str, command: str, *, refresh_s: float = REFRESH_S) -> None:
        self.path = path
        """As it was given."""
        self._is_stream = is_stream(path)
        # A collector refuses two files with the same samples: the file's name tells them apart.
        task = {} if self._is_stream else {"task": Path(path).name.removesuffix(_SUFFIX)}
        self._labels = {**task, "command": command}
        self._run = RunMetrics()
        self._refresh_s = refresh_s
        self._is_begun = self._is_owner = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._open = ExitStack()

    def begin(self) -> str | None:
        """Write the file, and go on to do so. Raise `UsageError` where that cannot be.

        A file that another run keeps at this moment is left to that one, so that nothing is in the way of the work: then
        a warning is returned, as for a file that a node exporter would not read.
        """
        self._is_begun = True
        with ExitStack() as stack:
            if not self._is_stream:
                check_outputs([self.path], ())
                lock = _lock(self.path)
                if lock is None:
                    return (
                        f"{self.path}: another run keeps its metrics there, and those of this one are not written: give "
                        "each a --metrics-file of its own"
                    )
                stack.callback(lock.release)
                self._run.last_success_at = _last_success(self.path)
                try:
                    self._write()
                except OSError as error:
                    raise UsageError(f"{self.path}: --metrics-file cannot be written: {error.strerror}") from None
                self._thread = threading.Thread(target=self._refresh, name="engagement-metrics", daemon=True)
                self._thread.start()
                stack.callback(self._thread.join)
                stack.callback(self._stop.set)
            stack.enter_context(observed_by(self._run))
            self._is_owner = True
            self._open = stack.pop_all()
        if self._is_stream or self.path.endswith(_SUFFIX):
            return None
        return (
            f"{self.path}: a node exporter reads only files whose names end in {_SUFFIX}: name it so, as "
            f"--metrics-file {self.path}{_SUFFIX}"
        )

    def note(self, progress: Progress) -> None:
        """Take the outcomes of the IDs from this progress."""
        self._run.note(progress)

    def end(self, exit_code: int) -> str | None:
        """Write the file for the last time; return why that failed, if it did.

        For a command that was refused before it began, it is the first time too, with the warning of `begin`.
        """
        warning = None
        if not self._is_begun:
            try:
                warning = self.begin()
            except UsageError as error:
                return str(error)
        if not self._is_owner:
            return warning
        self._run.end(exit_code)
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._write()
        except (OSError, UsageError) as error:
            return self._trouble(error)
        finally:
            self._open.close()
        return warning

    def _refresh(self) -> None:
        has_failed = False
        while not self._stop.wait(self._refresh_s):
            try:
                self._write()
            except (OSError, UsageError) as error:
                if not has_failed:
                    logger.warning("%s", self._trouble(error))
                has_failed = True
            else:
                has_failed = False

    def _write(self) -> None:
        text = self._run.text(self._labels).encode()
        if self._is_stream:
            with output_stream(self.path, reader_timeout_s=_READER_TIMEOUT_S) as stream:
                stream.write(text)
            return
        is_new = not _check_is_ours(self.path)
        with atomic_file(self.path) as file:
            file.write(text)
            if is_new:
                os.fchmod(file.fileno(), _MODE)

    def _trouble(self, error: Exception) -> str:
        why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
        return why if isinstance(error, UsageError) else f"{self.path}: the metrics of this run are not written: {why}"


def _check_is_ours(path: str) -> bool:
    """Return whether there is a file. Raise `UsageError` if it is no file of metrics, which must not be written over."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(_OURS))
    except FileNotFoundError:
        return False
    if head and head != _OURS:
        raise UsageError(
            f"{path}: holds something else than the metrics of a run, and is not written over: give --metrics-file another "
            "name"
        )
    return True


def _last_success(path: str) -> float | None:
    try:
        found = _LAST_SUCCESS.search(Path(path).read_text(encoding="utf-8", errors="replace"))
        return None if found is None else float(found[1])
    except (OSError, ValueError):
        return None


class _Lock:
    """Held by whoever keeps a file; the kernel frees it when its process is killed."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others keep the file."""
        if self._descriptor is not None:
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)


def _lock(path: str) -> _Lock | None:
    """Return the lock of a file; None while another run has it. A folder in which none can be made goes without."""
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.running")
    while True:
        try:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return _Lock(beside, None)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # some file systems lock nothing
            return _Lock(beside, descriptor)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(beside)):
                return _Lock(beside, descriptor)
        os.close(descriptor)  # who had it removed it meanwhile
