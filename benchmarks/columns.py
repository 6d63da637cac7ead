"""What answers with columns cost beside answers with dicts: memory of what is kept, CPU from a body to an Arrow table."""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

import pyarrow as pa

from benchmarks import report
from benchmarks.canned import LOADS, Load
from engagement_async import LAST_28_HOURS, TOTALS, Answer, ColumnarAnswer, Merger, Query
from engagement_async._core.column_parsing import ColumnParser
from engagement_async._core.columnar import to_columns
from engagement_async._core.parsing import ResponseParser

__all__ = ["measure", "tables"]

BATCHES = 40
LABELS = {"totals": "totals: 7 metrics a Tweet", "28hr": "28-hour answers: 290 values a Tweet"}


def measure(rounds: int = 15) -> dict[str, Any]:
    """Bytes an ID of answers that are kept, and seconds of CPU an answer to a table, by load and form."""
    found: dict[str, Any] = {}
    for name in LABELS:
        load = LOADS[name]
        endpoint = LAST_28_HOURS if load.path.endswith("28hr") else TOTALS
        query = Query(endpoint, engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
        bodies = [load.answer(ids) for ids in load.chunks()[:BATCHES]]
        ways = {"dicts": _dicts(query), "columns": _columns(query)}
        kept = {form: _bytes_an_id(read, load, bodies) for form, (read, _) in ways.items()}
        seconds: dict[str, list[float]] = {form: [] for form in ways}
        ids = tuple(load.chunks()[0])
        for number in range(rounds + 1):
            for form, (read, table) in ways.items():
                began = time.process_time()
                for _ in range(10):
                    table(read(0, ids, bodies[0]))
                if number:
                    seconds[form].append((time.process_time() - began) / 10)
        found[name] = {"bytes": kept, "seconds": seconds}
    return {"machine": report.machine(), "columns": found}


Read = Callable[[int, tuple[str, ...], bytes], Any]


def _dicts(query: Query) -> tuple[Read, Callable[[Any], object]]:
    parser = ResponseParser(query)

    def table(answer: Answer) -> object:
        merger = Merger(query)
        merger.add(answer)
        return merger.result().to_arrow("by_tweet")

    return lambda number, ids, body: parser.parse(number, ids, 200, {}, body).answer, table


def _columns(query: Query) -> tuple[Read, Callable[[Any], object]]:
    parser = ColumnParser(query)

    def table(answer: ColumnarAnswer) -> object:
        return answer.to_arrow("by_tweet")

    return lambda number, ids, body: to_columns(parser.parse(number, ids, 200, {}, body).answer, query), table


def _bytes_an_id(read: Read, load: Load, bodies: list[bytes]) -> float:
    """Return what kept answers take, with the texts of their IDs."""
    chunks = load.chunks()
    read(0, tuple(chunks[0]), bodies[0])  # caches are filled
    gc.collect()
    tracemalloc.start()
    arrow = pa.total_allocated_bytes()
    kept = [read(n, tuple(map("".join, map(list, chunks[n]))), body) for n, body in enumerate(bodies)]
    gc.collect()
    taken: int = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - arrow
    tracemalloc.stop()
    return taken / sum(len(answer.tweet_ids) for answer in kept)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    rows = []
    for name, label in LABELS.items():
        found = results["columns"][name]
        for form, of_form in (("dicts", "`Answer`"), ("columns", "`ColumnarAnswer`")):
            cpu = median(found["seconds"][form]) * 1e6
            ratio = report.median_ratio(found["seconds"][form], found["seconds"]["dicts"])
            rows.append((f"{label}, {of_form}", f"{found['bytes'][form]:,.0f}", f"{cpu:,.0f}", f"{ratio:.2f}"))
    head = ("kept answers", "bytes an ID", "CPU µs, body to Arrow table", "ratio")
    return {"columns": report.table(head, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    results = measure(parser.parse_args().rounds)
    report.save("columns", results)
    print(tables(results)["columns"])


if __name__ == "__main__":
    main()
