"""What the faces of an answer cost beside `orjson.loads` of its body: `to_arrow`, `rows`, `to_response`."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import orjson

from benchmarks import report
from benchmarks.canned import LOADS, Load
from engagement_async import LAST_28_HOURS, TOTALS, Merger, Query
from engagement_async._core.parsing import ResponseParser

__all__ = ["measure", "tables"]

INNER = 20
LABELS = {
    "orjson.loads": "`orjson.loads`, for comparison",
    "to_arrow": "`to_arrow` (at most 2)",
    "to_response": "`to_response`",
    "rows": "`rows`, all of them (at most 3.5)",
    "wide rows": "`rows(wide=True)`, all of them",
    "first row": "`rows`, the first: lazy",
}


def measure(rounds: int = 31) -> dict[str, Any]:
    """Seconds of CPU each, one a round, by load; the rounds go through all in turn."""
    loads = {name: _cases(LOADS[name]) for name in ("28hr", "totals")}
    found: dict[str, dict[str, list[float]]] = {name: {case: [] for case in LABELS} for name in loads}
    gc.collect()
    for number in range(rounds + 1):
        for name, (_, cases) in loads.items():
            for label, case in cases.items():
                began = time.process_time()
                for _ in range(INNER):
                    case()
                if number:
                    found[name][label].append((time.process_time() - began) / INNER)
    return {
        "machine": report.machine(),
        "values": {name: values for name, (values, _) in loads.items()},
        "faces": found,
    }


def _cases(load: Load) -> tuple[int, dict[str, Callable[[], object]]]:
    """Return how many values one answer has, and what is done with it."""
    ids = load.chunks()[0]
    body = load.answer(ids)
    endpoint = LAST_28_HOURS if load.path.endswith("28hr") else TOTALS
    query = Query(endpoint, engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
    merger = Merger(query)
    merger.add(ResponseParser(query).parse(0, tuple(ids), 200, {}, body).answer)
    result = merger.result()
    return result.to_arrow("by_tweet").num_rows, {
        "orjson.loads": lambda: orjson.loads(body),
        "to_arrow": lambda: result.to_arrow("by_tweet"),
        "to_response": result.to_response,
        "rows": lambda: _read(result.rows("by_tweet")),
        "wide rows": lambda: _read(result.rows("by_tweet", wide=True)),
        "first row": lambda: next(iter(result.rows("by_tweet"))),
    }


def _read(rows: Iterable[object]) -> None:
    for _ in rows:
        pass


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    faces, values = results["faces"], results["values"]
    rows = [
        (label, *(cell for load in faces.values() for cell in _cells(load[name], load["orjson.loads"])))
        for name, label in LABELS.items()
    ]
    head = [
        cell
        for name, what in (("28hr", "28-hour answer"), ("totals", "answer of totals"))
        for cell in (f"CPU µs, one {what}, {values[name]:,} values", "ratio")
    ]
    return {"faces": report.table(("", *head), rows)}


def _cells(seconds: list[float], reference: list[float]) -> tuple[str, str]:
    return f"{median(seconds) * 1e6:,.0f}", f"{report.median_ratio(seconds, reference):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    given = parser.parse_args()
    results = measure(given.rounds)
    report.save("arrow", results)
    print(tables(results)["faces"])


if __name__ == "__main__":
    main()
