"""Which request meets which fault. Pure: counts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..hashing import mix
from .exchange import FaultSettings
from .registry import FAULTS, Fault

__all__ = ["FaultPlan", "Faults", "parse_fault", "random_faults"]

Faults = Mapping[str, int] | Callable[[int], str | None] | None
"""`{name: every}`: each `every`-th request meets it; or a function of the request's number."""


class FaultPlan:
    """Says which request meets which fault: each name as often as ordered, never two on one request.

    A fault that does not fit (`close-reused` on a fresh connection, `null-leaf` on an error) waits for the next
    request.
    """

    def __init__(self, faults: Faults = None, settings: FaultSettings | None = None) -> None:
        self.settings = settings or FaultSettings()
        self._number = 0
        self._schedule: Callable[[int], str | None] | None = None
        self._every: dict[str, int] = {}
        self._due: dict[str, int] = {}
        if callable(faults):
            self._schedule = faults
        elif faults:
            for name, every in faults.items():
                _fault_named(name)
                if every < 1:
                    raise ValueError(f"fault {name!r}: every must be 1 or more, not {every}")
            self._every = dict(faults)
            self._due = dict(faults)

    def next(self, *, reused: bool, data: bool) -> Fault | None:
        """Return the fault of the next request.

        `reused`: its connection served a request before; `data`: its answer has data.
        """
        self._number += 1
        if self._schedule is not None:
            name = self._schedule(self._number)
            fault = None if name is None else _fault_named(name)
            return fault if fault is not None and fault.fits(reused=reused, data=data) else None
        for name in sorted(self._due, key=self._due.__getitem__):
            if self._due[name] > self._number:
                return None
            if FAULTS[name].fits(reused=reused, data=data):
                self._due[name] += self._every[name]
                return FAULTS[name]
        return None


def random_faults(rate: float, seed: int = 0, names: Sequence[str] | None = None) -> Callable[[int], str | None]:
    """Return a schedule for `faults=`: each request meets one of `names` with probability `rate` (0 to 1).

    The same seed gives the same schedule. Without `names`: every fault after which a good client still gets its data,
    except slow ones.
    """
    chosen = sorted(names if names is not None else (fault.name for fault in FAULTS.values() if fault.is_drawn))
    for name in chosen:
        _fault_named(name)

    def schedule(number: int) -> str | None:
        bits = mix(mix(seed) ^ number)
        return chosen[(bits & 0xFFFF) % len(chosen)] if (bits >> 16) / 2**48 < rate else None

    return schedule


def parse_fault(text: str) -> tuple[str, int]:
    """Parse `NAME:EVERY` of a command line. Raise `ValueError` when it is anything else."""
    name, colon, every = text.rpartition(":")
    if not colon or not every.isdecimal() or int(every) < 1:
        raise ValueError(f"{text!r} is not NAME:EVERY, such as 503:10 for every tenth request")
    return _fault_named(name).name, int(every)


def _fault_named(name: str) -> Fault:
    try:
        return FAULTS[name]
    except KeyError:
        raise ValueError(f"no fault is called {name!r}; there are: {', '.join(FAULTS)}") from None
