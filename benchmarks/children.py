"""What the process of one measurement shares with the others: one core, the extra [speed] or not, and its peak of memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

__all__ = ["PeakMemory", "run", "stay_on", "without_isal"]


def stay_on(core: int | None) -> None:
    """Keep this process on one core; on any if that is None."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def without_isal() -> None:
    """Make isal look as if the extra [speed] were not installed. To be called before the package is imported."""
    sys.modules["isal"] = None  # type: ignore[assignment]


def run(work: Coroutine[Any, Any, object], *, fast: bool) -> None:
    """Run a coroutine: on uvloop if `fast`, else on asyncio's own loop."""
    if fast:
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


class PeakMemory:
    """The largest resident set since it was entered, above what it was then, in bytes."""

    def __enter__(self) -> PeakMemory:
        # 5: the kernel forgets the peak so far (proc(5), clear_refs).
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status_kb("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = 1024 * (_status_kb("VmHWM") - self._before)


def _status_kb(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
