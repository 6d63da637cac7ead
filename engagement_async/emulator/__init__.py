"""A local Engagement API, for tests and demonstrations: as strict as the documentation, with bad days on demand.

It shares nothing with the client but the table of endpoints. Names are loaded when they are first used, so that the
pytest plugin costs a test run nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auth import Credentials
    from .contract import Refusal
    from .faults import FAULTS, Fault, FaultSettings, random_faults
    from .log import Entry, RequestLog
    from .numbers import tweet_ids
    from .replies import Readings, World
    from .server import Emulator

_HOMES = {
    "Credentials": "auth",
    "Refusal": "contract",
    "FAULTS": "faults",
    "Fault": "faults",
    "FaultSettings": "faults",
    "random_faults": "faults",
    "Entry": "log",
    "RequestLog": "log",
    "tweet_ids": "numbers",
    "Readings": "replies",
    "World": "replies",
    "Emulator": "server",
}
__all__ = [
    "FAULTS",
    "Credentials",
    "Emulator",
    "Entry",
    "Fault",
    "FaultSettings",
    "Readings",
    "Refusal",
    "RequestLog",
    "World",
    "random_faults",
    "tweet_ids",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
