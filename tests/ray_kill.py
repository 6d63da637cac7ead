"""`python -m tests.ray_kill --ids 500000`: a long run of Ray whose actor is killed, and then its driver; and run again.

It needs Ray and redis-server, and prints what came of it. `make engines` makes an environment that has Ray, and runs the
same with fewer IDs as a test.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from engagement_async import RateLimit
from tests.support.ray_local import kill_twice


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--ids", type=int, default=500_000)
    parser.add_argument("--requests", type=int, default=400, help="of the contract, in each period")
    parser.add_argument("--period", type=float, default=4.0, help="seconds")
    parser.add_argument("--ids-per-part", type=int, default=1_000)
    given = parser.parse_args()
    limit = RateLimit(given.requests, period=given.period)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        found = asyncio.run(kill_twice(folder, folder / "r", given.ids, limit, ids_per_part=given.ids_per_part))
    print(f"{given.ids:,} IDs, {found.files:,} files, {found.requests:,} requests, {found.seconds:.0f} s")
    print(f"the last run: {found.report}")
    print(f"wrong: {found.wrong[:5] or 'nothing'}")
    print(f"most requests in {given.period:g} s: {found.peak} of {given.requests}")
    print(f"IDs asked again: {found.asked_again:,} ({found.asked_again / given.ids:.2%})")
    return int(bool(found.wrong) or found.peak > given.requests)


if __name__ == "__main__":
    sys.exit(main())
