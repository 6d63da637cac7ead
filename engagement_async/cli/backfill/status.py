"""`engagement backfill status`: how far a job is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.journal_rows import query_document
from engagement_async.backfill.owners import OwnerStatus
from engagement_async.backfill.status import JobStatus, job_facts
from engagement_async.cli.backfill.common import job_argument, job_errors, json_option, text_of
from engagement_async.cli.streams import json_line, printable

__all__ = ["owner_fields", "status"]


@click.command()
@job_argument
@json_option
@job_errors
def status(job: Path, as_json: bool) -> None:
    """Show how far JOB is, also while another process runs it."""
    found = JobDirectory(job).status()
    if as_json:
        click.echo(json_line(_document(job, found)))
        return
    for name, text in ("job", text_of(job)), *job_facts(found):
        click.echo(printable(f"{name:<12}{text}"))


def _document(job: Path, found: JobStatus) -> dict[str, Any]:
    totals = found.totals
    last = found.runs[-1] if found.runs else None
    return {
        "job": text_of(job),
        "state": found.state,
        "query": query_document(found.query),
        "ids": totals.ids,
        "pending": totals.pending,
        "outcomes": totals.outcomes._asdict(),
        "rejected": totals.rejected,
        "requests": found.requests,
        "requests_are_exact": found.requests_are_exact,
        "runs": len(found.runs),
        "last_outcome": last.outcome if last else None,
        "seen_at": last.seen_at if last else None,
        "windows": found.windows,
        "now": dict(found.now) if found.is_running else None,
        **owner_fields(found.owners),
        **({"owner_requests_are_exact": found.owner_requests_are_exact} if found.owners else {}),
    }


def owner_fields(owners: Mapping[str, OwnerStatus]) -> dict[str, Any]:
    """Return what JSON says of owners; nothing where there are none."""
    fields = {
        owner: {
            "ids": its.ids,
            "pending": its.pending,
            "outcomes": its.outcomes._asdict(),
            "requests": its.requests,
            "error": its.error,
        }
        for owner, its in owners.items()
    }
    return {"owners": fields} if fields else {}
