"""What the faces of a 28 hour answer cost beside `orjson.loads` of it: `to_arrow`, `rows`, `to_response`."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import orjson

from benchmarks import report
from benchmarks.canned import LOADS
from engagement_async import LAST_28_HOURS, Merger, Query
from engagement_async._core.parsing import ResponseParser

__all__ = ["measure", "tables"]

INNER = 20


def measure(rounds: int = 31) -> dict[str, Any]:
    """Seconds of CPU each, one a round; the rounds go through all in turn."""
    load = LOADS["28hr"]
    ids = load.chunks()[0]
    body = load.answer(ids)
    query = Query(LAST_28_HOURS, engagement_types=load.engagement_types, groupings={"by_tweet": load.group_by})
    merger = Merger(query)
    merger.add(ResponseParser(query).parse(0, tuple(ids), 200, {}, body).answer)
    result = merger.result()
    cases: dict[str, Callable[[], object]] = {
        "orjson.loads": lambda: orjson.loads(body),
        "to_arrow": lambda: result.to_arrow("by_tweet"),
        "to_response": result.to_response,
        "rows": lambda: sum(1 for _ in result.rows("by_tweet")),
        "first row": lambda: next(iter(result.rows("by_tweet"))),
    }
    values = result.to_arrow("by_tweet").num_rows
    found: dict[str, list[float]] = {name: [] for name in cases}
    gc.collect()
    for number in range(rounds + 1):
        for name, case in cases.items():
            began = time.process_time()
            for _ in range(INNER):
                case()
            if number:
                found[name].append((time.process_time() - began) / INNER)
    return {"machine": report.machine(), "values": values, "faces": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The page's section."""
    faces = results["faces"]
    labels = {
        "orjson.loads": "`orjson.loads`, for comparison",
        "to_arrow": "`to_arrow` (at most 2)",
        "to_response": "`to_response`",
        "rows": "`rows`, all of them",
        "first row": "`rows`, the first: lazy",
    }
    rows = [
        (
            label,
            f"{median(faces[name]) * 1e6:,.0f}",
            f"{report.median_ratio(faces[name], faces['orjson.loads']):.2f}",
        )
        for name, label in labels.items()
    ]
    return {"faces": report.table((f"of one 28-hour answer, {results['values']:,} values", "CPU µs", "ratio"), rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    given = parser.parse_args()
    results = measure(given.rounds)
    report.save("arrow", results)
    print(tables(results)["faces"])


if __name__ == "__main__":
    main()
