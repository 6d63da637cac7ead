"""What was read of a source, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engagement_async.backfill.directory import JobStatus
from engagement_async.backfill.traffic import Traffic
from engagement_async.reports.page import Fact
from engagement_async.reports.tally import Tally

__all__ = ["Loaded"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read of a source."""

    kind: str
    """What it is, for its readers: `Job`, `Series`, `Result`, `Table`."""
    name: str
    tally: Tally
    status: JobStatus | None = None
    """Of a job."""
    traffic: Traffic = field(default_factory=Traffic)
    errors: Mapping[str, str | None] = field(default_factory=dict)
    """Owner to why the credentials were of no use."""
    facts: tuple[Fact, ...] = ()
    """More numbers."""
    notes: tuple[str, ...] = ()
    """What a reader must know of IDs that are missing."""
    data_notes: tuple[str, ...] = ()
    """What a reader must know of values that are missing."""
