"""`engagement backfill status`: how far a job is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from engagement_async._progress import WaitReason
from engagement_async.backfill.directory import JobDirectory, JobStatus
from engagement_async.backfill.journal_rows import query_document
from engagement_async.backfill.owners import OwnerStatus
from engagement_async.cli.backfill.common import job_argument, job_errors, json_option, text_of
from engagement_async.cli.progress import count, duration
from engagement_async.cli.streams import json_line, printable

__all__ = ["owner_fields", "owner_lines", "status"]

_LISTED_OWNERS = 10


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
    for name, text in _lines(job, found):
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


def owner_lines(owners: Mapping[str, OwnerStatus]) -> list[str]:
    """Return how many owners there are, and those with trouble, the worst first; nothing where there are none."""
    if not owners:
        return []
    done = sum(not its.pending for its in owners.values())
    lines = [f"{done:,} of {len(owners):,} done"]
    troubled = [(o, its) for o, its in owners.items() if its.error or its.outcomes.failed or its.outcomes.forbidden]
    for owner, its in troubled[:_LISTED_OWNERS]:
        numbers = its.outcomes._asdict() | {"pending": its.pending}
        counts = ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number)
        requests = count(its.requests, "request")
        lines.append(f"{its.error} ({counts}; {requests})" if its.error else f"owner {owner}: {counts}; {requests}")
    if len(troubled) > _LISTED_OWNERS:
        lines.append(f"and {len(troubled) - _LISTED_OWNERS:,} more with failed or forbidden Tweets")
    return lines


def _lines(job: Path, found: JobStatus) -> list[tuple[str, str]]:
    totals, query = found.totals, found.query
    done = totals.ids - totals.pending
    at_least = "" if found.requests_are_exact else "at least "
    lines = [
        ("job", text_of(job)),
        ("asks", f"{query.endpoint.name}: {', '.join(query.engagement_types)}"),
        *(("grouping", f"{name}: {', '.join(group_by)}") for name, group_by in query.groupings.items()),
        *([("from", f"{query.start} to {query.end}")] if query.start else []),
        ("state", found.state),
        ("IDs", f"{done:,} of {totals.ids:,} done ({done / totals.ids:.1%})"),
        *(("", f"{number:>12,} {name}") for name, number in totals.outcomes._asdict().items() if number),
        *([("", f"{totals.pending:>12,} pending")] if totals.pending else []),
        ("requests", f"{at_least}{found.requests:,} in {count(len(found.runs), 'run')}"),
    ]
    if totals.parts:
        lines.append(("parts", f"{count(totals.parts, 'answer')} to single spans of batches that are not complete"))
    if totals.rejected:
        lines.append(("rejected", f"{totals.rejected:,} lines of the input"))
    if found.windows is not None and not query.start:
        lines.append(
            ("windows", f"from {found.windows[0]} on to {found.windows[1]} on: answers are of different hours")
        )
    lines += [("" if place else "owners", text) for place, text in enumerate(owner_lines(found.owners))]
    if found.is_running and found.now:
        now = found.now
        if now["contract_per_minute"]:
            lines.append(
                ("rate", f"{now['requests_last_minute']:,} of {now['contract_per_minute']:,.0f} in the last minute")
            )
        if now["eta_s"] is not None:
            lines.append(("left", duration(now["eta_s"])))
        if now["waiting_for"]:
            reason = WaitReason(now["waiting_for"]).text
            lines.append(("waiting", f"{duration(now['waiting_s'])} for {reason}"))
        if trouble := now.get("trouble"):
            lines.append(("trouble", trouble))
    return lines
