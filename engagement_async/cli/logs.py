"""The log of a command: a line a request and what the engine warns of, into a file or on stderr. It holds no secrets."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from engagement_async._export.files import check_outside_jobs, is_stream
from engagement_async._ids.sources import files_of
from engagement_async.cli.app import Session, remember_flag
from engagement_async.cli.completion import complete_files
from engagement_async.cli.config import config_path, files_named_by_settings
from engagement_async.cli.parameters import NAMED
from engagement_async.cli.streams import json_line, printable, utc_now
from engagement_async.errors import UsageError

__all__ = ["LEVELS", "check_outputs_apart", "check_own_files", "log_options", "logging_as"]

LEVELS = ("debug", "info", "warning", "error")
_LOGGER = "engagement_async"
_FILES = {"files": "--ids", "credentials_path": "--credentials", "store": "STORE", "output": "--output"}
"""Parameters of commands that name files, and what they are called there."""
_STANDARD = {"--ids": 0, "--output": 1}
"""The descriptors that `-` stands for."""


def log_options(command: Any) -> Any:
    """Add `--log-level` and `--log-file`. They are no parameters of the command: `logging_as` finds them in the session."""
    level = click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        expose_value=False,
        callback=remember_flag,
        help="What to log: info has a line for each request. Default: info with --log-file, otherwise only warnings.",
    )
    file = click.option(
        "--log-file",
        type=NAMED,
        metavar="FILE",
        expose_value=False,
        callback=remember_flag,
        shell_complete=complete_files,
        help="Append the log to this file, which nobody else can read, instead of stderr.",
    )
    return level(file(command))


def check_own_files(session: Session, parameters: Mapping[str, Any]) -> None:
    """Raise `UsageError` if the log or the metrics would lie in a job, or be another file that this command names.

    What is there already may have been found out, but of a file that is new nobody would know.
    """
    named: list[tuple[str | int, str]] = []
    for name, option in _FILES.items():
        given = parameters.get(name) or ()
        paths = files_of(given) if isinstance(given, tuple) else (given,)
        named += [(_named_file(path, option), option) for path in paths]
    if (authorities := session.flags.get("ca_file")) is not None:
        named.append((authorities, "--ca-file"))
    if session.metrics is not None or session.flags.get("log_file") is not None:
        named += files_named_by_settings(os.environ, session.flags.get("profile")).items()
    _check_own_files(session, named, parameters.get("job"))  # perhaps one to be started


def check_outputs_apart(session: Session, outputs: Iterable[str]) -> None:
    """Raise `UsageError` if the log or the metrics would be one of the files that an output makes."""
    _check_own_files(session, [(_named_file(path, "--output"), "--output") for path in outputs], None)


def _check_own_files(session: Session, named: list[tuple[str | int, str]], job: str | Path | None) -> None:
    metrics = None if session.metrics is None else session.metrics.path
    for option, path in (("--metrics-file", metrics), ("--log-file", session.flags.get("log_file"))):
        if path is None or is_stream(path):
            continue
        try:
            _check_own_file(path, option, named, job)
        except UsageError:
            if option == "--metrics-file":
                session.metrics = None  # a command that is refused writes them too
            raise
        named.append((path, option))


def _check_own_file(path: str, option: str, named: list[tuple[str | int, str]], job: str | Path | None) -> None:
    for other, by in named:
        if _is_same_file(path, other):
            raise UsageError(f"{path}: is named by {by} and by {option}: give each a file of its own")
    config = config_path(os.environ)
    if config is not None and _is_same_file(path, str(config)):
        raise UsageError(f"{path}: is the configuration file: name another with {option}")
    check_outside_jobs(path)
    if job is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(job)):
        raise UsageError(f"{path}: lies in the folder of the job, which holds the job alone: name another place")


def _named_file(path: str | Path, option: str) -> str | int:
    """Return the path that an option names, or the descriptor that it means."""
    return _STANDARD.get(option, "-") if path == "-" else os.fspath(path)


def _is_same_file(path: str, other: str | int) -> bool:
    """Return whether both are one file: by what is there, which may have two names, else by where it would be."""
    with suppress(OSError):
        return os.path.samefile(path, other)
    return isinstance(other, str) and os.path.realpath(path) == os.path.realpath(other)


@contextmanager
def logging_as(session: Session) -> Iterator[None]:
    """Log as the options have it while the block runs. Raise `UsageError` if the file cannot be written."""
    path, level = session.flags.get("log_file"), session.flags.get("log_level")
    if path is None and level is None:
        yield
        return
    handler: logging.Handler = _Lines(is_json=session.json) if path is None else _file(path)
    number = logging.getLevelNamesMapping()[(level or "info").upper()]
    handler.setLevel(number)
    handler.setFormatter(_Formatter())
    log = logging.getLogger(_LOGGER)
    before = log.level
    log.setLevel(min(number, logging.WARNING))  # warnings go to stderr in any case
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
        handler.close()


def _file(path: str) -> logging.Handler:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, 0o600)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise UsageError(f"{path}: --log-file cannot be written: {error.strerror}") from None
    return _Quiet(open(descriptor, "a", encoding="utf-8", errors="backslashreplace"))


class _Quiet(logging.StreamHandler[Any]):
    """Writes lines. A full disk costs the log its lines, and not the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop the line."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            self.stream.close()
        super().close()


class _Lines(logging.Handler):
    """Writes lines or events to stderr; what is a warning there already is not written twice."""

    def __init__(self, *, is_json: bool) -> None:
        super().__init__()
        self._is_json = is_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        if record.levelno >= logging.WARNING:
            return
        line: str | bytes = self.format(record)
        if self._is_json:
            message = {"level": record.levelname.lower(), "message": record.getMessage()}
            line = json_line({"event": "log", "time": utc_now(), **message})
        with suppress(OSError):
            click.echo(line, err=True)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = printable(record.getMessage()).replace("\n", " ")
        return f"{utc_now()} {record.levelname} {text}"
