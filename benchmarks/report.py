"""What all benchmarks share: where results are kept, the machine they were made on, and tables.

A benchmark writes benchmarks/results/NAME.json. The pages show those files through cog and benchmarks/figures.py; the prose
around the figures is written by hand.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import orjson

__all__ = ["RESULTS", "child", "cores", "load", "machine", "median_ratio", "rotated", "save", "table", "write_figures"]

_T = TypeVar("_T")

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = (
    "aiohttp",
    "msgspec",
    "orjson",
    "isal",
    "uvloop",
    "pyarrow",
    "polars",
    "pandas",
    "click",
    "httpx",
    "requests",
    "aiolimiter",
    "aiometer",
    "asynciolimiter",
    "limits",
    "pyrate-limiter",
    "throttled-py",
    "redis",
    "tenacity",
)


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that tells whose machine it is."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "cpu": found[1] if found else platform.machine(),
        "cores": len(cores()),
        "python": platform.python_version(),
        "system": platform.system(),
        "libraries": {name: at for name in LIBRARIES if (at := _version(name))},
    }


def cores() -> list[int]:
    """Return the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def child(*arguments: str) -> Any:
    """Run `python -m ARGUMENTS` in a process of its own, and return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"python -m {' '.join(arguments)} failed:\n{done.stderr.decode()[-2000:]}")
    return orjson.loads(done.stdout)


def rotated(plan: Sequence[_T], number: int, rounds: int) -> list[_T]:
    """Return the plan of one of several rounds: each begins at another place, so that nothing always follows the same."""
    turn = number * len(plan) // rounds
    return [*plan[turn:], *plan[:turn]]


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the ratios of one round each: what slows a whole round down cancels out."""
    return median(a / b for a, b in zip(over, under, strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def save(name: str, results: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (RESULTS / f"{name}.json").write_bytes(text)


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((RESULTS / f"{name}.json").read_bytes())
    return found


def write_figures() -> None:
    """Put the results into every page that shows some."""
    pages = [str(page) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))]
    subprocess.run([sys.executable, "-m", "cogapp", "-r", "-I", str(ROOT), *pages], cwd=ROOT, check=True)
