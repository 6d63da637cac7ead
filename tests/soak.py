"""`make soak`: the whole suite again and again, in random order, with busy loops beside it.

A test that passes nine times in ten is found here and not by whoever changes something else. Each run prints its seed:
`pytest -p randomly --randomly-seed=SEED` plays its order again.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
"""Ends by itself when its parent is gone, however that ended."""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Keep `count` processors busy meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(seed: int, pytest_args: list[str]) -> int:
    """Run the suite in the order of `seed`; return pytest's exit code."""
    order = ["-p", "randomly", f"--randomly-seed={seed}", "--no-loadscope-reorder"]
    parallel = ["-n", "3", "--dist", "loadfile"]
    command = [sys.executable, "-m", "pytest", "-q", *order, *parallel, *pytest_args]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside the suite")
    parser.add_argument(
        "--seed", type=int, default=random.getrandbits(31), help="of the first run; the next has one more"
    )
    given, pytest_args = parser.parse_known_args()
    failed: list[int] = []
    with busy_loops(given.busy):
        for number in range(given.runs):
            seed = given.seed + number
            began = time.monotonic()
            code = run(seed, pytest_args)
            if code:
                failed.append(seed)
            print(
                f"soak: run {number + 1} of {given.runs}, seed {seed}: exit {code}, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    print(
        f"soak: {given.runs - len(failed)} of {given.runs} runs passed"
        + (f"; failed seeds: {failed}" if failed else "")
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
