"""Journals that earlier versions made are read, go on where they were, and give the same tables."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engagement_async.backfill import BackfillJob
from engagement_async.backfill.repair import repair
from tests.support.journals import SAMPLES, STOPPED_AFTER, TWEETS, finish, make

KINDS = [pytest.param(2, False, id="schema 2"), pytest.param(3, True, id="schema 3, with owners")]


def job_of(schema: int, folder: Path) -> BackfillJob:
    """Return a job with the journal that a version of before left when it was stopped."""
    folder.mkdir(mode=0o700)
    shutil.copy(SAMPLES / f"schema-{schema}.sqlite", folder / "journal.sqlite")
    return BackfillJob(folder)


def schema_of(job: BackfillJob) -> int:
    with closing(sqlite3.connect(job.directory.journal_path)) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return found


async def tables(job: BackfillJob, folder: Path, partial: bool = False) -> dict[str, bytes]:
    folder.mkdir()
    await job.export(folder / "{grouping}.jsonl", outcomes=folder / "outcomes.csv", partial=partial)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("schema", "owned"), KINDS)
async def test_it_is_read_goes_on_and_exports_what_a_new_job_does(schema: int, owned: bool, tmp_path: Path) -> None:
    job = job_of(schema, tmp_path / "old")
    new = await make(tmp_path / "new", owned=owned)
    assert schema_of(new) == schema + 2
    assert (await job.verify()).ids == len(TWEETS)
    status, its = await job.status(), (await new.status()).totals
    assert (status.requests, status.totals.pending, status.totals.outcomes) == (
        STOPPED_AFTER,
        its.pending,
        its.outcomes,
    )
    half = await tables(job, tmp_path / "old-half", partial=True)
    assert half == await tables(new, tmp_path / "new-half", partial=True)

    await finish(job, owned=owned)
    await finish(new, owned=owned)

    assert (await job.verify()).pending == 0
    assert schema_of(job) == schema
    whole = await tables(job, tmp_path / "old-whole")
    assert whole == await tables(new, tmp_path / "new-whole")
    assert whole.keys() == half.keys() == {"days.jsonl", "all.jsonl", "outcomes.csv"}
    assert len(whole["days.jsonl"]) > len(half["days.jsonl"]) > 10_000


@pytest.mark.parametrize(("schema", "owned"), KINDS)
async def test_it_is_extended_and_repaired(schema: int, owned: bool, tmp_path: Path) -> None:
    job = job_of(schema, tmp_path / "old")
    more = {"acme": ["1", "2", "3"]} if owned else ["1", "2", "3"]
    added = await job.start(None, more, extend=True)
    assert (added.new_ids, schema_of(job)) == (3, schema)
    await finish(job, owned=owned)
    before = await tables(job, tmp_path / "before")
    with closing(sqlite3.connect(job.directory.journal_path)) as connection, connection:
        connection.execute("UPDATE answer SET answered = answered + 1 WHERE number = 1")
    connection.close()

    repaired = await asyncio.to_thread(repair, job.directory)

    assert (repaired.lost_answers, repaired.lost_batches, schema_of(job)) == (1, 0, schema + 2)
    await finish(job, owned=owned)
    assert await tables(job, tmp_path / "after") == before
