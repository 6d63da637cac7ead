"""What starting costs: `import engagement_async` beside `import aiohttp`, `engagement --help` beside `import click`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report

__all__ = ["measure", "tables"]

PYTHON = sys.executable
STARTS: dict[str, Sequence[str]] = {
    "python -c pass": (PYTHON, "-c", "pass"),
    "import aiohttp": (PYTHON, "-c", "import aiohttp"),
    "import engagement_async": (PYTHON, "-c", "import engagement_async"),
    "from engagement_async import EngagementClient": (
        PYTHON,
        "-c",
        "from engagement_async import EngagementClient",
    ),
    "import click": (PYTHON, "-c", "import click"),
    "engagement --help": (str(Path(PYTHON).with_name("engagement")), "--help"),
}
RATIOS = (
    ("import engagement_async", "import aiohttp", 1.25),
    ("from engagement_async import EngagementClient", "import aiohttp", 1.25),
    ("engagement --help", "import click", 1.5),
)
"""What, beside what, and the most that it may cost of it; both with the start of Python in them."""


def measure(rounds: int = 25) -> dict[str, Any]:
    """Seconds of wall clock by start, one each round; the rounds go through all in turn."""
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(rounds + 1):
        for name, command in STARTS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if number:  # the first round warms the files' cache
                found[name].append(time.perf_counter() - began)
    return {"machine": report.machine(), "starts": found}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Return the page's section."""
    starts = results["starts"]
    rows = []
    for name, seconds in starts.items():
        ratios = [
            f"{report.median_ratio(seconds, starts[beside]):.2f} of `{beside}` (at most {most})"
            for what, beside, most in RATIOS
            if what == name
        ]
        rows.append((f"`{name}`", f"{median(seconds) * 1000:.0f}", *(ratios or [""])))
    return {"imports": report.table(("start", "ms", "ratio"), rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    results = measure(given.rounds)
    report.save("imports", results)
    print(tables(results)["imports"])


if __name__ == "__main__":
    main()
