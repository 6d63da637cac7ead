"""The status of a job: its state, its runs, how far it is, and all of it in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engagement_async._core.html import facts_html
from engagement_async._core.query import Query
from engagement_async._core.words import count, duration, owner_error_text, owner_text
from engagement_async._progress import RunOutcome, WaitReason
from engagement_async.backfill.owners import OwnerStatus
from engagement_async.backfill.totals import JobTotals

__all__ = ["JobState", "JobStatus", "RunReport", "job_facts", "job_html", "owner_lines"]

_LISTED_OWNERS = 10


class JobState(StrEnum):
    """What a job is doing."""

    RUNNING = "running"
    """A process runs it."""
    COMPLETE = "complete"
    """Every ID has its outcome."""
    STOPPED = "stopped"
    """IDs are pending, and no process runs it."""
    CREDENTIALS = "credentials"
    """Stopped, and its last run left only Tweets whose owners' credentials are unusable: it waits for new ones."""

    @property
    def text(self) -> str:
        """The state in words."""
        return "stopped: waits for credentials of some owners" if self is JobState.CREDENTIALS else self.value


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run used."""

    began_at: float
    """When it began, in seconds since the epoch."""
    seen_at: float
    """Its last sign of life, in seconds since the epoch."""
    requests: int
    """Requests that it sent, or if not `is_exact`, requests of which the journal knows that they were answered."""
    ids: int
    """IDs that got their outcome in it."""
    outcome: str | None
    """Why it ended: a `RunOutcome`, or the name of an error. None if it is running or was killed."""

    @property
    def is_exact(self) -> bool:
        """Whether `requests` are all that it sent: a run that was killed, or is at work, may have sent more."""
        return self.outcome is not None

    @property
    def seconds(self) -> float:
        """How long it was at work."""
        return max(0.0, self.seen_at - self.began_at)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as its journal knows it, from any process, at any time.

    `query` and `totals` are those of the job, `is_running` says whether a process runs it, `runs` are its runs so far.
    """

    query: Query
    """What it requests of each Tweet."""
    totals: JobTotals
    """Its IDs by outcome, and more."""
    is_running: bool
    """Whether a process runs it at this moment."""
    runs: tuple[RunReport, ...]
    """All runs, in order."""
    now: Mapping[str, Any] = field(default_factory=dict)
    """Of a run at work, as of its last sign of life: `requests_last_minute`, `contract_per_minute`, `eta_s`,
    `waiting_s`, `waiting_for`. Empty when none is."""
    owners: Mapping[str, OwnerStatus] = field(default_factory=dict)
    """Where the Tweets have owners, what became of those of each: the worst first."""

    @property
    def is_complete(self) -> bool:
        """Whether every ID has its outcome."""
        return not self.totals.pending

    @property
    def windows(self) -> tuple[str, str] | None:
        """The hours at which the windows of the first and of the last answers begin, where they are not the same."""
        return self.totals.windows_differ()

    @property
    def state(self) -> JobState:
        """What it is doing: a `JobState`."""
        if self.is_running:
            return JobState.RUNNING
        if self.is_complete:
            return JobState.COMPLETE
        waits = bool(self.runs) and self.runs[-1].outcome == RunOutcome.CREDENTIALS
        return JobState.CREDENTIALS if waits else JobState.STOPPED

    @property
    def requests(self) -> int:
        """Requests of all runs: all of them, or at least as many if not `requests_are_exact`."""
        return sum(run.requests for run in self.runs)

    @property
    def requests_are_exact(self) -> bool:
        """Whether no run was killed or is at work."""
        return all(run.is_exact for run in self.runs)

    @property
    def owner_requests_are_exact(self) -> bool:
        """Whether the `requests` of the owners are all that were sent: not after a kill, or runs of an older version."""
        return self.requests_are_exact and sum(its.requests for its in self.owners.values()) == self.requests

    def _repr_html_(self) -> str:
        """Return the status as a table, for notebooks."""
        return job_html(self, "JobStatus")


def job_facts(status: JobStatus) -> list[tuple[str, str]]:
    """Return the status in words: names and values. An empty name goes on with the one before."""
    totals, query = status.totals, status.query
    done = totals.ids - totals.pending
    at_least = "" if status.requests_are_exact else "at least "
    share = done / totals.ids if totals.ids else 1.0
    facts = [
        ("query", f"{query.endpoint.name}: {', '.join(query.engagement_types)}"),
        *(("grouping", f"{name}: {', '.join(group_by)}") for name, group_by in query.groupings.items()),
        *([("from", f"{query.start} to {query.end}")] if query.start else []),
        ("state", status.state.text),
        ("IDs", f"{done:,} of {totals.ids:,} done ({share:.1%})"),
        *(("", f"{number:>12,} {name}") for name, number in totals.outcomes._asdict().items() if number),
        *([("", f"{totals.pending:>12,} pending")] if totals.pending else []),
        ("requests", f"{at_least}{status.requests:,} in {count(len(status.runs), 'run')}"),
    ]
    if totals.parts:
        facts.append(("parts", f"{count(totals.parts, 'answer')} to single spans of batches that are not complete"))
    if totals.rejected:
        facts.append(("rejected", f"{totals.rejected:,} lines of the input"))
    if status.windows is not None and not query.start:
        first, last = status.windows
        facts.append(("windows", f"from {first} on to {last} on: answers are of different hours"))
    facts += [("" if place else "owners", text) for place, text in enumerate(owner_lines(status.owners))]
    return facts + (_facts_of_now(status.now) if status.is_running and status.now else [])


def job_html(status: JobStatus, title: str) -> str:
    """Return the status as an HTML table, for notebooks."""
    totals = status.totals
    return facts_html(title, job_facts(status), done=(totals.ids - totals.pending, totals.ids))


def _facts_of_now(now: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if now["contract_per_minute"]:
        facts.append(
            ("rate", f"{now['requests_last_minute']:,} of {now['contract_per_minute']:,.0f} in the last minute")
        )
    if now["eta_s"] is not None:
        facts.append(("left", duration(now["eta_s"])))
    if now["waiting_for"]:
        facts.append(("waiting", f"{duration(now['waiting_s'])} for {WaitReason(now['waiting_for']).text}"))
    if trouble := now.get("trouble"):
        facts.append(("trouble", trouble))
    return facts


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
        line = f"owner {owner_text(owner)}: {counts}; {requests}"
        if its.error:  # the numbers come first: a terminal cuts long lines
            line += f": {owner_error_text(owner, its.error)}"
        lines.append(line)
    if len(troubled) > _LISTED_OWNERS:
        lines.append(f"and {len(troubled) - _LISTED_OWNERS:,} more with failed or forbidden Tweets")
    return lines
