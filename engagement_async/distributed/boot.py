"""The clock that all processes of a machine have in common: seconds since boot, through its sleep."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["boot_clock", "boot_id"]


def boot_clock() -> float:
    """Return the seconds since boot, the same in every process; a machine that sleeps is counted too, where it can be."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def boot_id() -> str:
    """Return what tells this boot of the machine from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # elsewhere than on Linux: the instant of the boot, to ten minutes
        return f"boot {round((time.time() - boot_clock()) / 600)}"
