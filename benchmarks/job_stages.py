"""Where the time of a durable job goes beside the client's: each stage of the journal and of the export, timed alone.

Microseconds of CPU a request of totals: the least of some rounds. What the client itself takes is in stages.py.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from benchmarks import children
from benchmarks.canned import LOADS
from engagement_async import TOTALS, Answer, Query
from engagement_async._core.parsing import ResponseBytes, ResponseParser
from engagement_async._core.struct_tables import struct_table
from engagement_async._core.tables import LONG
from engagement_async._engine.body import gunzip
from engagement_async._export.formats import write_parquet
from engagement_async.backfill.create import CreateJob
from engagement_async.backfill.directory import JobDirectory
from engagement_async.backfill.inputs import FileSource
from engagement_async.backfill.journal import Journal
from engagement_async.backfill.responses import ResponseReader
from engagement_async.backfill.work import PendingWork

__all__ = ["STAGES", "job_stages"]

STAGES = {
    "start": "start: the CSV file read, IDs checked, distinct, written as batches",
    "next": "run: the next batches read from the journal",
    "encode": "run: outcomes counted, account and response made a row",
    "write": "run: rows written, totals kept; a commit for 20 of them, without the disk's own time",
    "rows": "export: batches and answers read, checksums compared",
    "accounts": "export: what became of the IDs",
    "inflate": "export: responses unpacked",
    "structs": "export: JSON becomes structs, IDs compared",
    "tables": "export: structs become Arrow tables",
    "parquet": "export: Parquet, zstd",
}
_ROUNDS = 5
_GATHERED = 20
_CHUNK = 38

_T = TypeVar("_T")


class Timer:
    """The least seconds a request of each stage."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self.found: dict[str, float] = {}

    def __call__(self, name: str, stage: Callable[[], _T]) -> _T:
        began = time.thread_time()
        result = stage()
        spent = (time.thread_time() - began) / self._requests
        self.found[name] = min(self.found.get(name, spent), spent)
        return result


def job_stages() -> dict[str, float]:
    """Seconds a request of every stage."""
    # Loaded before the clock starts; pyarrow loads pandas with its first array, where it is installed.
    import pandas as pd  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    load = LOADS["totals"]
    query = Query(TOTALS, engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
    bodies = [load.answer(ids) for ids in load.chunks()]
    packed = [gzip.compress(body, 6) for body in bodies]
    timed = Timer(load.batches)
    for _ in range(_ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            ids = Path(name) / "ids.csv"
            ids.write_text("tweet_id,campaign\n" + "".join(f"{i},spring\n" for i in load.tweet_ids))
            folder = JobDirectory(Path(name) / "job")
            timed("start", CreateJob(folder, query, FileSource([ids])))
            with folder.open_journal() as journal:
                _run(journal, bodies, packed, timed)
            with folder.open_journal(read_only=True) as journal:
                _export(journal, timed)
    timed.found["structs"] -= timed.found["inflate"]  # which it does, too
    return timed.found


def _run(journal: Journal, bodies: list[bytes], packed: list[bytes], timed: Timer) -> None:
    work, parser = PendingWork(), ResponseParser(journal.query)
    batches = timed("next", lambda: [batch for page in iter(lambda: work.next_page(journal), []) for batch in page])

    def received(number: int, tweet_ids: tuple[str, ...]) -> Answer:
        response = ResponseBytes(lambda: packed[number], gunzip)
        return parser.parse(number, tweet_ids, 200, {}, bodies[number], response=response).answer

    answers = [received(batch.number, batch.tweet_ids) for batch in batches]
    encoded = timed("encode", lambda: list(map(journal.encode, answers)))

    def write() -> None:
        for at in range(0, len(encoded), _GATHERED):
            journal.write(encoded[at : at + _GATHERED], {"spent": {}})

    timed("write", write)


def _export(journal: Journal, timed: Timer) -> None:
    snapshot, reader = journal.snapshot(), ResponseReader(journal.query)
    rows = timed("rows", lambda: [(batch, kept) for batch, kept in journal.answers(snapshot) if kept is not None])
    answers = timed("accounts", lambda: [journal.decode(kept, batch) for batch, kept in rows])
    responses = [(kept.response or b"", batch.tweet_ids) for batch, kept in rows]
    timed("inflate", lambda: [gunzip(response) for response, _ in responses])
    wholes = timed("structs", lambda: [reader.whole(*response) for response in responses])

    def table(at: int) -> Any:
        ids = [i for answer in answers[at : at + _CHUNK] for i in answer.tweet_ids]
        structs = [s for whole in wholes[at : at + _CHUNK] for s in whole.groupings["by_tweet"].values()]
        return struct_table(ids, structs, journal.query.engagement_types, LONG)

    tables = timed("tables", lambda: list(map(table, range(0, len(answers), _CHUNK))))
    timed("parquet", lambda: write_parquet(io.BytesIO(), tables))


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds a request by stage of a durable job, as JSON.")
    parser.add_argument("--core", type=int)
    given = parser.parse_args()
    children.stay_on(given.core)
    print(orjson.dumps(job_stages()).decode())


if __name__ == "__main__":
    main()
