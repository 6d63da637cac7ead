"""Durable jobs of millions of IDs: where the IDs come from, how they are asked, and where the tables go.

Names are loaded when they are first used: reading IDs from a file needs no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engagement_async.backfill.errors import (
        JobCorruptError,
        JobDiskError,
        JobError,
        JobIncompleteError,
        JobLockedError,
        OtherJobError,
    )
    from engagement_async.backfill.job import BackfillJob, JobStatus, RunReport
    from engagement_async.backfill.journal import Tally
    from engagement_async.backfill.progress import Progress
    from engagement_async.backfill.sources import Reject, read_ids
    from engagement_async.backfill.starting import Started
    from engagement_async.backfill.stored import Counts

_HOMES = {
    "BackfillJob": "job",
    "Counts": "stored",
    "JobCorruptError": "errors",
    "JobDiskError": "errors",
    "JobError": "errors",
    "JobIncompleteError": "errors",
    "JobLockedError": "errors",
    "JobStatus": "job",
    "OtherJobError": "errors",
    "Progress": "progress",
    "Reject": "sources",
    "RunReport": "job",
    "Started": "starting",
    "Tally": "journal",
    "read_ids": "sources",
}
__all__ = [
    "BackfillJob",
    "Counts",
    "JobCorruptError",
    "JobDiskError",
    "JobError",
    "JobIncompleteError",
    "JobLockedError",
    "JobStatus",
    "OtherJobError",
    "Progress",
    "Reject",
    "RunReport",
    "Started",
    "Tally",
    "read_ids",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
