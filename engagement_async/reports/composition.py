"""What a report says: its sections, out of what was read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from engagement_async._core.outcomes import Outcomes, worst_first_key
from engagement_async._core.spelling import did_you_mean
from engagement_async.backfill.directory import JobStatus
from engagement_async.backfill.traffic import Traffic
from engagement_async.reports.data_pictures import data_pictures, tweet_link
from engagement_async.reports.loaded import Loaded
from engagement_async.reports.page import Fact, Report, Section
from engagement_async.reports.picture import Picture, Table, seconds_text
from engagement_async.reports.run_pictures import outcomes_picture, owners_picture, traffic_pictures
from engagement_async.reports.runs import percentile_s
from engagement_async.reports.tally import GONE, PENDING, Tally

__all__ = ["NEEDS", "report_of", "why_there_is_no"]

NEEDS: Final = {
    "hours": ("data", "engagement by hour or by day"),
    "top": ("data", "engagement by Tweet"),
    "week": ("data", "engagement in single hours that were seen whole"),
    "half-life": ("data", "Tweets whose hours were seen from the first one on"),
    "outcomes": ("ids", "IDs"),
    "owners": ("ids", "Tweets of several owners"),
    "requests": ("run", "a job with a record of its requests"),
    "latency": ("run", "a job with a record of its requests"),
    "retries": ("run", "a job that recorded requests which were sent again or refused"),
}
"""Picture to the section that it is in, and to what there must be for it."""
_MOST_RUNS: Final = 50


def report_of(loaded: Loaded, *, made_at: datetime, title: str | None = None) -> Report:
    """Return the report of a source.

    Args:
        loaded: What was read of it.
        made_at: When, aware.
        title: What it is headed by; by default the kind of the source and its name.
    """
    sections = [_data_section(loaded), _ids_section(loaded)]
    if loaded.status is not None:
        sections.append(_run_section(loaded.status, loaded.traffic))
    about = f"{loaded.kind}. Report made {made_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return Report(title or f"Engagement of {loaded.name}", about, tuple(sections))


def why_there_is_no(picture: str, report: Report) -> str:
    """Return why a report has no picture of that name, and which ones it has."""
    names = list(report.pictures)
    text = f"this report has no picture {picture!r}{did_you_mean(picture, names)}: it has {', '.join(names) or 'none'}"
    if picture not in NEEDS:
        return text
    place, needed = NEEDS[picture]
    notes = [note for section in report.sections if section.name == place for note in section.notes]
    return " ".join([f"{text}. That picture needs {needed}.", *notes])


def _run_section(status: JobStatus, traffic: Traffic) -> Section:
    requests = f"{status.requests:,}" if status.requests_are_exact else f"≥ {status.requests:,}"
    seconds = sum(run.seconds for run in status.runs)
    facts = [
        Fact("Requests", requests, "" if status.requests_are_exact else "a run that was killed may have sent more"),
        Fact("Runs", f"{len(status.runs):,}", status.state.text),
        Fact("Time at work", _duration(seconds)),
    ]
    notes = []
    slots = traffic.slots
    if slots:
        counts = [slot.latencies for slot in slots if slot.latencies]
        if counts:
            middle, worst = (seconds_text(percentile_s(counts, percent)) for percent in (50, 99))
            facts.append(Fact("Time to response", middle, f"median; 99 percent within {worst}"))
        again = sum(slot.retries for slot in slots)
        limited = sum(slot.limited for slot in slots)
        facts.append(Fact("Sent again", f"{again:,}", f"refused for the rate (429): {limited:,}"))
        recorded = sum(slot.sent for slot in slots)
        if recorded < status.requests:
            notes.append(
                f"The job recorded when {recorded:,} of its {status.requests:,} requests were sent: earlier versions kept "
                "no such record, and of a run that was killed the last moments are missing."
            )
    elif status.requests:
        notes.append(
            "This job has no record of when its requests were sent, how long they took and which were sent again: it was "
            "run by an earlier version. New runs keep one."
        )
    runs = status.runs[-_MOST_RUNS:]
    rows = [
        (
            _instant(run.began_at),
            run.requests,
            run.ids,
            _duration(run.seconds),
            _ended(run.outcome, is_running=status.is_running and run is status.runs[-1]),
        )
        for run in runs
    ]
    table = Table(("run began (UTC)", "requests", "IDs", "time", "ended"), rows, len(status.runs) - len(runs))
    return Section(
        "run",
        "How it was fetched",
        facts,
        tuple(traffic_pictures(traffic)),
        (("Run by run", table),) if rows else (),
        notes,
    )


def _ids_section(loaded: Loaded) -> Section:
    tally = loaded.tally
    outcomes = {name: number for name, number in tally.outcomes.items() if number}
    total = sum(outcomes.values())
    pictures: list[Picture] = []
    if total:
        pictures.append(outcomes_picture(outcomes))
    if len(tally.by_owner) > 1:
        pictures.append(owners_picture(_worst_first(loaded), loaded.errors))
    facts = [Fact("Tweets", f"{total:,}", "distinct IDs")]
    facts += [
        Fact(name.capitalize(), f"{number:,}", _percent(number, total))
        for name, number in outcomes.items()
        if name in ("answered", GONE, "failed", "pending")
    ]
    return Section("ids", "What became of the IDs", facts, pictures, tuple(_gone(tally)), loaded.notes)


def _worst_first(loaded: Loaded) -> dict[str, Mapping[str, int]]:
    """Return owners and their outcomes: see `worst_first_key`."""

    def key(item: tuple[str, Mapping[str, int]]) -> tuple[object, ...]:
        owner, its = item
        outcomes = Outcomes(**{name: its.get(name, 0) for name in Outcomes._fields})
        return worst_first_key(loaded.errors.get(owner), outcomes, pending=its.get(PENDING, 0))

    return dict(sorted(loaded.tally.by_owner.items(), key=key))


def _gone(tally: Tally) -> Iterator[tuple[str, Table]]:
    if not tally.gone:
        return
    has_owners = any(owner for _, owner in tally.gone)
    columns = ("Tweet", "owner") if has_owners else ("Tweet",)
    rows = [(tweet_link(i), owner) if has_owners else (tweet_link(i),) for i, owner in tally.gone]
    yield "IDs that are gone", Table(columns, rows, max(0, tally.outcomes[GONE] - len(rows)))


def _data_section(loaded: Loaded) -> Section:
    tally = loaded.tally
    facts = [Fact(metric, f"{tally.sums[metric]:,}") for metric in tally.metrics if tally.sums[metric]]
    facts += loaded.facts
    notes = list(loaded.data_notes)
    if not any(tally.sums.values()):
        notes.append("There is no engagement in this data: no value is above 0.")
    return Section("data", "Engagement", facts, tuple(data_pictures(tally)), (), notes)


def _percent(number: int, total: int) -> str:
    return f"{100 * number / total:.1f} percent" if total else ""


def _ended(outcome: str | None, *, is_running: bool) -> str:
    return (outcome or ("runs" if is_running else "killed")).replace("_", " ")


def _instant(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60), seconds / 3600
    return f"{minutes} min" if minutes < 120 else f"{hours:.1f} h"
