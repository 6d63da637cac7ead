"""Prometheus' text format: families of samples become lines. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

__all__ = ["Family", "Histogram", "Kind", "Sample", "exposition"]


class Kind(StrEnum):
    """What a family is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Sample(NamedTuple):
    """One number, and the labels that tell it from the others of its family."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""
    """Of the name, as the parts of a histogram have one."""


class Family(NamedTuple):
    """Samples of one name."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


class Histogram:
    """Counts values by size. `bounds` are the upper ends of the buckets, ascending."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        place = sum(bound < value for bound in self._bounds)
        self._counts[place] += 1
        self._sum += value

    def samples(self, labels: Mapping[str, str]) -> list[Sample]:
        """Return the samples of its family: each bucket counts what the ones below it do."""
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        counts = list(accumulate(self._counts))
        buckets = [
            Sample(count, {**labels, "le": bound}, "_bucket") for bound, count in zip(bounds, counts, strict=True)
        ]
        return [*buckets, Sample(self._sum, labels, "_sum"), Sample(counts[-1], labels, "_count")]


def exposition(families: Iterable[Family], labels: Mapping[str, str]) -> str:
    """Return the lines of these families; every sample has `labels` beside its own. Empty families are left out."""
    return "".join(
        f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.kind}\n"
        + "".join(_line(family.name, sample, labels) for sample in family.samples)
        for family in families
        if family.samples
    )


def _line(name: str, sample: Sample, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{_quoted(value)}"' for key, value in {**labels, **sample.labels}.items())
    return f"{name}{sample.suffix}{{{pairs}}} {_number(sample.value)}\n"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 6))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    valid = text.encode("utf-8", "replace").decode()
    return _escaped(valid).replace('"', '\\"')
