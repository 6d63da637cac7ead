"""What reading IDs costs: CPU time an ID, out of files of a million, and making them distinct."""

from __future__ import annotations

import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report
from engagement_async._core.batches import chunk
from engagement_async._core.stepped_batches import SteppedBatches
from engagement_async._core.unique_ids import IdSet, UniqueIds
from engagement_async._ids.reading import read_id_chunks

__all__ = ["measure", "tables"]

IDS = 1_000_000
ROUNDS = 2
FILES: dict[str, tuple[str, Callable[[str], str]]] = {
    "ids.txt": ("", "{}\n".format),
    "one.csv": ("tweet_id\n", "{}\n".format),
    "three.csv": ("tweet_id,text,n\n", "{},hello world of tweets,7\n".format),
    "last.csv": ("n,text,tweet_id\n", "7,hello world of tweets,{}\n".format),
    "quoted.csv": ("tweet_id,text,n\n", '{},"hello, ""world"" of tweets",7\n'.format),
    "urls.txt": ("", "https://x.com/user/status/{}?s=20\n".format),
    "tweets.jsonl": ("", '{{"id_str":"{}","text":"hello world","n":7}}\n'.format),
}
LABELS = {
    "ids.txt": "text, an ID a line",
    "one.csv": "CSV of one column",
    "three.csv": "CSV of three columns, the first",
    "last.csv": "CSV of three columns, the last",
    "integers.parquet": "Parquet, integers",
    "strings.parquet": "Parquet, strings",
    "quoted.csv": "CSV with quotes",
    "urls.txt": "addresses of Tweets",
    "tweets.jsonl": "Tweets in JSON lines",
}


def measure() -> dict[str, Any]:
    """Seconds of CPU an ID by file: read alone, read and made distinct, and that without numpy; and bytes an ID."""
    source = random.Random(1)
    ids = [str(source.randrange(10**18, 2 * 10**18)) for _ in range(IDS)]
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in _files(Path(folder), ids):
            ways = {"read": _read, "distinct": _distinct}
            if path.name == "ids.txt":
                ways["without numpy"] = _without_numpy
            for number in range(ROUNDS + 1):
                for way, once in ways.items():
                    began = time.process_time()
                    assert once(path) == IDS
                    if number:
                        found.setdefault(path.name, {}).setdefault(way, []).append((time.process_time() - began) / IDS)
            path.unlink()
    return {"machine": report.machine(), "reading": found, "steps": _steps(ids), "bytes": _bytes_an_id(ids[: IDS // 4])}


def _files(folder: Path, ids: list[str]) -> Iterator[Path]:
    for name, (header, line) in FILES.items():
        path = folder / name
        path.write_text(header + "".join(map(line, ids)))
        yield path
    for name, column in (("integers", pa.array(map(int, ids))), ("strings", pa.array(ids))):
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table({"tweet_id": column, "n": pa.repeat(7, len(column))}), path)
        yield path


def _read(path: Path) -> int:
    return sum(map(len, read_id_chunks([path])))


def _distinct(path: Path) -> int:
    known: UniqueIds[str] = UniqueIds()
    return sum(len(known.add_new(chunk)) for chunk in read_id_chunks([path]))


def _without_numpy(path: Path) -> int:
    numpy = sys.modules.get("numpy")
    sys.modules["numpy"] = None  # type: ignore[assignment]
    try:
        return _distinct(path)
    finally:
        if numpy is not None:
            sys.modules["numpy"] = numpy


def _steps(ids: list[str]) -> dict[str, float]:
    """Return the seconds of CPU that a call with a list of these IDs takes before its first request, and of its steps."""
    steps = [0.0]
    source = chunk(ids, 250)
    assert isinstance(source, SteppedBatches)
    prepared = source.prepare()
    while not source.is_prepared:
        began = time.thread_time()
        next(prepared, None)
        steps.append(time.thread_time() - began)
    steps.sort()
    return {"all": sum(steps), "median": median(steps), "p99": steps[len(steps) * 99 // 100], "longest": steps[-1]}


def _bytes_an_id(ids: list[str]) -> dict[str, float]:
    """Return what remembering them takes: of chunks with numpy, and of single IDs."""
    found = {}
    for name, size in (("chunks", 20_000), ("single IDs", 250)):
        known: UniqueIds[str] | IdSet[str] = UniqueIds(0) if size > 1_000 else IdSet()
        tracemalloc.start()
        for at in range(0, len(ids), size):
            known.add_new(ids[at : at + size])
        found[name] = tracemalloc.get_traced_memory()[0] / len(ids)
        tracemalloc.stop()
    return found


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    reading = results["reading"]
    rows = [
        (LABELS[name], *(f"{median(reading[name][way]) * 1e6:.2f}" for way in ("read", "distinct"))) for name in LABELS
    ]
    slow = reading["ids.txt"]["without numpy"]
    rows.append((f"{LABELS['ids.txt']}; numpy is not installed", rows[0][1], f"{median(slow) * 1e6:.2f}"))
    head = ("CPU µs an ID, of a million", "read", "and made distinct")
    taken = ", ".join(f"{size:.1f} bytes an ID of {name}" for name, size in results["bytes"].items())
    steps = results["steps"]
    of_list = (
        f"A list of a million is checked in {steps['all'] * 1e3:,.0f} ms before the first request, in steps of "
        f"{steps['median'] * 1e3:.2f} ms (median), {steps['p99'] * 1e3:.1f} ms (99th percentile) and "
        f"{steps['longest'] * 1e3:.1f} ms (the longest)"
    )
    text = fill(f"Remembering them takes {taken}. {of_list}.", 125)
    return {"reading": f"{report.table(head, rows)}\n\n{text}"}


if __name__ == "__main__":
    results = measure()
    report.save("reading", results)
    print(tables(results)["reading"])
