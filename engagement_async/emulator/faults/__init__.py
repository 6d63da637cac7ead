"""Faults by name: each is one way in which an answer may go wrong, over the real socket.

One file a kind, one registry, `FAULTS`. A fault is injected after the request was checked and counted against the limit,
as a real server's would be.
"""

# The kinds register their faults when they are imported; this order is that of the table.
from . import transport, timing, body, content, ids, values, status, rate  # noqa: F401, I001
from .exchange import Exchange, FaultSettings
from .plan import FaultPlan, Faults, parse_fault, random_faults
from .registry import FAULTS, Fault, FaultKind, Reaction, Requires, inject

__all__ = [
    "FAULTS",
    "Exchange",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultSettings",
    "Faults",
    "Reaction",
    "Requires",
    "inject",
    "parse_fault",
    "random_faults",
]
