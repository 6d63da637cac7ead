"""What the subcommands share: the job's argument, errors as exit codes."""

from __future__ import annotations

from pathlib import Path

import click

from engagement_async._progress import Progress, RunOutcome
from engagement_async.backfill.totals import JobTotals
from engagement_async.cli.completion import complete_folders
from engagement_async.cli.exit_codes import (
    CORRUPT,
    CREDENTIALS,
    INCOMPLETE,
    LOCKED,
    OK,
    OTHER_JOB,
    RESOURCE,
    SOME_FAILED,
    errors_as_exit_codes,
)
from engagement_async.errors import (
    JobCorruptError,
    JobDiskError,
    JobError,
    JobIncompleteError,
    JobLockedError,
    OtherJobError,
)

__all__ = ["exit_code_of_job", "job_argument", "job_errors", "json_option", "outcome_counts", "text_of"]


_CODES: tuple[tuple[type[JobError], int], ...] = (
    (JobLockedError, LOCKED),
    (OtherJobError, OTHER_JOB),
    (JobCorruptError, CORRUPT),
    (JobDiskError, RESOURCE),
    (JobIncompleteError, INCOMPLETE),
)

job_argument = click.argument("job", type=click.Path(path_type=Path), shell_complete=complete_folders)
json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout.")


job_errors = errors_as_exit_codes(JobError, _CODES, otherwise=INCOMPLETE)
"""Turns what is wrong with a job directory into exit codes."""


def exit_code_of_job(progress: Progress) -> int:
    """Return the exit code of a run that ended."""
    if progress.outcome is RunOutcome.CREDENTIALS:
        return CREDENTIALS
    if progress.pending or progress.outcome is not RunOutcome.DONE:
        return INCOMPLETE
    return SOME_FAILED if progress.outcomes.failed or progress.rejected else OK


def outcome_counts(found: Progress | JobTotals) -> dict[str, int]:
    """Return where the IDs and the lines of a job are: the same words in events, status and texts."""
    return {**found.outcomes._asdict(), "pending": found.pending, "rejected": found.rejected}


def text_of(path: Path) -> str:
    """Return a path as people read it, also if it is not UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
