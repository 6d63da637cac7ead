"""`engagement backfill verify`: read a whole job again; save what is intact of a damaged one."""

from __future__ import annotations

from pathlib import Path

import click

from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.repair import repair
from engagement_async.cli.backfill.common import job_argument, job_errors, json_option, text_of
from engagement_async.cli.progress import count
from engagement_async.cli.streams import json_line

__all__ = ["verify"]


@click.command()
@job_argument
@click.option(
    "--repair",
    "wants_repair",
    is_flag=True,
    help="Build a new journal from what is intact, and keep the damaged one beside it.",
)
@json_option
@job_errors
def verify(job: Path, wants_repair: bool, as_json: bool) -> None:
    """Read all of JOB again, and compare every checksum. Exit code 13 if anything differs from what was written."""
    directory = JobDirectory(job)
    if wants_repair:
        _repair(job, directory, as_json=as_json)
        return
    totals = directory.verify()
    if as_json:
        found = {"job": text_of(job), "ok": True, "batches": totals.batches, "answers": totals.answers}
        click.echo(json_line(found))
    else:
        click.echo(f"{text_of(job)}: {count(totals.answers, 'answer')} of {totals.batches:,}: all is as it was written")


def _repair(job: Path, directory: JobDirectory, *, as_json: bool) -> None:
    done = repair(directory)
    if as_json:
        found = {"job": text_of(job), "ok": True, "answers": done.totals.answers, "kept_as": done.kept_as}
        lost = {name: getattr(done, name) for name in ("lost_answers", "lost_batches", "lost_ids", "lost_documents")}
        click.echo(json_line({**found, **lost}))
        return
    if done.kept_as is None:
        click.echo(f"{text_of(job)}: all is as it was written: there is nothing to repair")
        return
    click.echo(f"{text_of(job)}: saved {count(done.totals.answers, 'answer')}; the damaged journal is {done.kept_as}")
    if done.lost_answers:
        click.echo(f"{count(done.lost_answers, 'answer')} cannot be read: `backfill run` requests these IDs again")
    if done.lost_documents:
        click.echo("some of what was remembered of earlier runs, inputs or options cannot be read")
    again = f"`backfill run {text_of(job)} --extend --ids FILE`"
    if done.lost_ids is None:
        click.echo(f"how many IDs were lost, if any, is not known: add all of them again with {again}")
    elif done.lost_ids:
        click.echo(f"{count(done.lost_ids, 'ID')} lost: add them again with {again}")
