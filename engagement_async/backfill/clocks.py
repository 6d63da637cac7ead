"""Instants that another process understands, and the time between two of them, whatever became of the wall clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Instant", "elapsed_s", "instant_now"]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


_BOOT_ID = _boot_id()  # read once: it does not change, and event loops must not wait for files
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment by two clocks: one that counts from the machine's start, through its sleep, and the wall clock."""

    boot_id: str
    """Of the machine's start; empty where it is not known."""
    boot_s: float
    wall_s: float


def instant_now() -> Instant:
    """Return this moment."""
    return Instant(_BOOT_ID, time.clock_gettime(_BOOT_CLOCK), time.time())


def elapsed_s(earlier: Instant, now: Instant) -> float:
    """Return the seconds between two moments, never below 0.

    Within one start of one machine nobody sets the clock that counts. Between two of them, or two machines, only the wall
    clock is there; set back meanwhile, it says that no time has passed.
    """
    if earlier.boot_id and earlier.boot_id == now.boot_id:
        return max(0.0, now.boot_s - earlier.boot_s)
    return max(0.0, now.wall_s - earlier.wall_s)
