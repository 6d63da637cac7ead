"""Processes that share one block of memory, without files, locks or clocks."""

from __future__ import annotations

from engagement_async import RateLimit
from engagement_async._core.shared_block import block_bytes
from engagement_async._core.shared_ledger import SharedLedger, SharedToken

__all__ = ["QUARANTINE_S", "ledgers", "taken"]

QUARANTINE_S = 3.0


def ledgers(*limits: list[RateLimit], boot: str = "boot") -> list[SharedLedger]:
    """Return processes that share one block, each with its limits."""
    memory = bytearray(block_bytes())
    made = [SharedLedger(mine, memory) for mine in limits]
    made[0].begin(boot, 0.0, 0.0, number=1)
    for number, ledger in enumerate(made):
        ledger.join(number, 0.0, owner=number + 1)
        ledger.note_quarantine(QUARANTINE_S)
    return made


def taken(ledger: SharedLedger, now: float, endpoint: str | None = None) -> SharedToken:
    token = ledger.reserve(now, endpoint)
    assert isinstance(token, SharedToken), f"not before {token}"
    return token
