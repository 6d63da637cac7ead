"""`engagement series status`: how far a series is, and its gaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from engagement_async.cli.progress import count
from engagement_async.cli.series.common import series_errors, store_argument
from engagement_async.cli.streams import json_line, printable
from engagement_async.series import EngagementSeries, FillSpan, SeriesStatus
from engagement_async.series.reports import gap_text, series_facts

__all__ = ["status"]

_LISTED = 20
"""Gaps that are listed for people, the newest ones."""


@click.command(short_help="Show what STORE has, and every gap between pulls.")
@store_argument
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout, with all gaps.")
@series_errors
def status(store: Path, as_json: bool) -> None:
    """Show what STORE has: Tweets, hours, corrections, and every gap between pulls."""
    series = EngagementSeries(store)
    found = series.status()
    plan = series.fill_plan() if found.gaps else []
    if as_json:
        click.echo(json_line(_document(store, found, plan)))
        return
    for name, text in _lines(store, found, plan):
        click.echo(printable(f"{name:<13}{text}"))


def _document(store: Path, found: SeriesStatus, plan: list[FillSpan]) -> dict[str, Any]:
    gaps = [
        {
            "starts_at": gap.starts_at,
            "ends_at": gap.ends_at,
            "hours": gap.hours,
            "tweets": [{"owner": owner or None, "tweet_id": tweet_id} for owner, tweet_id in gap.tweets],
        }
        for gap in found.gaps
    ]
    return {
        "store": str(store),
        "metrics": dict(found.metrics),
        "tweets": dict(found.tweets),
        "hours": found.hours,
        "partial_hours": found.partial_hours,
        "totals": found.totals,
        "corrections": found.corrections,
        "left_out": found.left_out,
        "pulls": found.pulls,
        "last_pull_at": found.last_pull_at,
        "starts_at": found.starts_at,
        "ends_at": found.ends_at,
        "gap_hours": found.gap_hours,
        "fill_requests": sum(span.requests for span in plan),
        "gaps": gaps,
    }


def _lines(store: Path, found: SeriesStatus, plan: list[FillSpan]) -> Iterator[tuple[str, str]]:
    yield "store", str(store)
    yield from series_facts(found)
    if not found.gaps:
        yield "gaps", "none between pulls"
        return
    yield "gaps", f"{len(found.gaps):,}; engagement series fill takes {count(sum(s.requests for s in plan), 'request')}"
    for gap in found.gaps[-_LISTED:]:
        yield "", gap_text(gap)
    if len(found.gaps) > _LISTED:
        yield "", f"and {len(found.gaps) - _LISTED:,} older ones"
