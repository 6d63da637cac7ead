"""Runs all benchmarks, keeps their results as JSON, and makes the tables of the pages from them.

`python -m benchmarks` runs all but the jobs and the shared contracts in under ten minutes; `python -m benchmarks throughput
imports` runs those two. `python -m benchmarks backfill` runs the jobs, which take as long again; `python -m benchmarks
contracts` four processes that spend one contract (six minutes, and redis-server). With `--tables` nothing is run, and the
tables are made from the results that are there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import (
    arrow,
    backfill,
    bursts,
    columns,
    contracts,
    costs,
    end_to_end,
    imports,
    lanes,
    limiters,
    neighbour,
    reading,
    report,
    simulate,
    throughput,
)


class Benchmark(NamedTuple):
    measure: Callable[[], dict[str, Any]]
    tables: Callable[[dict[str, Any]], dict[str, str]]


BENCHMARKS = {
    "throughput": Benchmark(throughput.measure, throughput.tables),
    "neighbour": Benchmark(neighbour.measure, neighbour.tables),
    "limiters": Benchmark(limiters.measure, limiters.tables),
    "bursts": Benchmark(bursts.measure, bursts.tables),
    "lanes": Benchmark(lanes.measure, lanes.tables),
    "simulate": Benchmark(simulate.measure, simulate.tables),
    "costs": Benchmark(costs.measure, costs.tables),
    "end_to_end": Benchmark(end_to_end.measure, end_to_end.tables),
    "arrow": Benchmark(arrow.measure, arrow.tables),
    "columns": Benchmark(columns.measure, columns.tables),
    "reading": Benchmark(reading.measure, reading.tables),
    "imports": Benchmark(imports.measure, imports.tables),
    "contracts": Benchmark(contracts.measure, contracts.tables),
    "backfill": Benchmark(backfill.measure, backfill.tables),
}
LONG = frozenset({"contracts", "backfill"})
"""Run when they are named."""


def _write_tables(names: list[str]) -> None:
    if "costs" in names:
        costs.draw_curve(report.load("costs"))
    report.write_figures()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--tables", action="store_true", help="make the tables from the results that are there")
    given = parser.parse_args()
    names = given.names or [name for name in BENCHMARKS if name not in LONG]
    if not given.tables:
        for name in names:
            print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
            began = time.perf_counter()
            report.save(name, BENCHMARKS[name].measure())
            print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    _write_tables(names)


if __name__ == "__main__":
    main()
